"""A new task: what it starts as, what is refused, who its parents are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.checks import task_id
from taskqueue_mcp.errors import Forbidden, InvalidInput, LeaseLost, NotFound, TaskQueueError
from taskqueue_mcp.model import Reason, Scope, Status
from tests.clock import micros
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk, forged, without

if TYPE_CHECKING:
    from tests.clock import Clock


async def test_a_task_is_ready_at_once_and_knows_who_made_it(desk: Desk, clock: Clock) -> None:
    made = await desk.ask_for("Count the stock", instructions="All of it.")
    task = made.task
    assert made.created
    assert (task.status, task.reason, task.attempt, task.failures) == (Status.READY, None, 0, 0)
    assert (task.created_by, task.created_at, task.run_at) == ("gemini", clock.micros, clock.micros)
    assert (task.queue, task.priority, task.task_type, task.executor) == ("default", "medium", "task", "claude")
    assert (task.parent_id, task.root_id, task.depth) == (None, None, 0)
    assert (await desk.detail(task)).body.instructions == "All of it."


async def test_ids_are_never_used_again(desk: Desk) -> None:
    first = await desk.create()
    await desk.cancel(first)
    await desk.queue.database.write(lambda t: t.run("DELETE FROM tasks WHERE id = :id", {"id": first.id}))
    assert (await desk.create()).id > first.id


@pytest.mark.parametrize("written", ["T-7", "t-7", "7", " T-7 "])
def test_an_id_is_read_with_and_without_its_letter(written: str) -> None:
    assert task_id(written) == 7


@pytest.mark.parametrize("written", ["", "T-", "T-0", "T-07", "-7", "7.0", "T-7;", "seven", "9" * 30, "T-\u0667"])
def test_what_is_no_id_is_refused_by_name(written: str) -> None:
    with pytest.raises(InvalidInput, match="task_id"):
        task_id(written)


async def test_a_task_of_a_later_time_waits_for_it(desk: Desk, clock: Clock) -> None:
    task = await desk.create(run_at="2026-01-15T12:30:00Z")
    assert (task.status, task.reason) == (Status.PENDING, Reason.SCHEDULED)
    clock.set("2026-01-15T12:29:59.999999Z")
    assert await desk.claim() is None
    clock.set("2026-01-15T12:30:00Z")
    assert (await desk.take()).task.id == task.id


async def test_only_tasks_whose_time_has_come_are_ready(desk: Desk, clock: Clock) -> None:
    first = await desk.create(run_at="2026-01-15T12:30:00Z")
    second = await desk.create(run_at="2026-01-15T12:30:00.000001Z")
    clock.set("2026-01-15T12:30:00Z")
    assert await desk.ready() == [first.id]
    assert (await desk.task(second)).reason is Reason.SCHEDULED


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("in 10 minutes", 600), ("10m", 600), ("+90s", 90), ("2 hours", 7_200), ("in 1 day", 86_400), ("0s", 0)],
)
async def test_a_time_may_be_a_wait(desk: Desk, clock: Clock, written: str, seconds: int) -> None:
    assert (await desk.create(run_at=written)).run_at == clock.micros + seconds * 1_000_000


async def test_a_time_without_an_offset_is_read_in_the_default_zone(open_queue: Any, clock: Clock) -> None:
    berlin = Desk(open_queue(zone="Europe/Berlin"), clock)
    assert (await berlin.create(run_at="2026-07-01T09:00:00")).run_at == micros("2026-07-01T07:00:00Z")
    assert (await berlin.create(run_at="2026-07-01T09:00:00+09:00")).run_at == micros("2026-07-01T00:00:00Z")


@pytest.mark.parametrize(
    "written",
    [
        "tomorrow",
        "",
        "2026-13-01",
        "10 fortnights",
        "1999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+14:00",
    ],
)
async def test_a_time_that_is_none_is_refused_by_name(desk: Desk, written: str) -> None:
    with pytest.raises(InvalidInput, match=r"^run_at: "):
        await desk.create(run_at=written)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"title": ""}, "title"),
        ({"title": "   \n"}, "title"),
        ({"title": None}, "title"),
        ({"task_type": "two words"}, "task_type"),
        ({"queue": "../etc"}, "queue"),
        ({"queue": "q" * 101}, "queue"),
        ({"priority": "highest"}, "priority"),
        ({"params": "{"}, "params"),
        ({"params": "[1]"}, "params"),
        ({"params": '{"a": NaN}'}, "params"),
        ({"params": {"a": float("inf")}}, "params"),
        ({"params": '{"a": 1e999}'}, "params"),
        ({"params": {"a": object()}}, "params"),
        ({"variables": "nothing"}, "variables"),
        ({"options": '{"colour": "red"}'}, "options"),
        ({"options": {"max_attempts": 0}}, r"options\.max_attempts"),
        ({"options": {"max_attempts": 101}}, r"options\.max_attempts"),
        ({"options": {"max_attempts": "many"}}, r"options\.max_attempts"),
        ({"options": {"timeout_seconds": 0}}, r"options\.timeout_seconds"),
        ({"options": {"budget_usd": 0}}, r"options\.budget_usd"),
        ({"options": {"budget_usd": "NaN"}}, r"options\.budget_usd"),
        ({"options": {"on_dependency_failure": "ignore"}}, r"options\.on_dependency_failure"),
        ({"options": {"output": "xlsx"}}, r"options\.output"),
        ({"options": {"output": {"colour": "red"}}}, r"options\.output"),
        ({"options": {"plan": "maybe"}}, r"options\.plan"),
        ({"options": {"serial_key": ""}}, r"options\.serial_key"),
        ({"options": {"executor": "rm -rf"}}, r"options\.executor"),
        ({"tags": ("",)}, "tags"),
        ({"tags": ("two\nlines",)}, "tags"),
        ({"requested_by": ""}, "requested_by"),
        ({"idempotency_key": " "}, "idempotency_key"),
        ({"idempotency_key": "k" * 201}, "idempotency_key"),
        ({"depends_on": ("nothing",)}, "depends_on"),
    ],
)
async def test_a_bad_argument_is_refused_by_name_and_changes_nothing(
    desk: Desk, asked: dict[str, Any], named: str
) -> None:
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"^{named}: .+") as refused:
        await desk.create(**{"title": "Count the stock", **asked})
    assert "\n" not in str(refused.value)
    assert await desk.snapshot() == before


async def test_what_is_rare_comes_in_options(desk: Desk) -> None:
    options = {
        "executor": "shell",
        "timeout_seconds": 60,
        "budget_usd": "2.50",
        "max_attempts": 5,
        "serial_key": "stock",
        "on_dependency_failure": "run",
        "notify": ["mail"],
        "plan": "approve",
        "metadata": {"ticket": 7},
        "output": {"format": "xlsx"},
    }
    task = await desk.create(options=json.dumps(options), tags=("stock", "weekly"), requested_by="Ann", by=OWNER)
    detail = await desk.detail(task)
    assert (task.executor, task.max_attempts, task.serial_key) == ("shell", 5, "stock")
    body = detail.body
    assert (body.timeout_seconds, body.budget_usd, body.on_dependency_failure) == (60, 2.5, "run")
    assert (body.plan, body.requested_by, body.tags) == ("approve", "Ann", ("stock", "weekly"))
    assert json.loads(body.metadata or "") == {"ticket": 7}
    assert json.loads(body.output or "") == {"format": "xlsx"}
    assert json.loads(body.notify or "") == ["mail"]


@pytest.mark.parametrize(
    ("task_type", "executor"),
    [
        ("report_generation", "report"),
        ("query_execution", "query"),
        ("cli", "shell"),
        ("shell", "shell"),
        ("essay", "claude"),
    ],
)
async def test_the_type_says_which_executor_does_the_work(desk: Desk, task_type: str, executor: str) -> None:
    assert (await desk.create(task_type=task_type, by=OWNER)).executor == executor


async def test_a_caller_without_the_scope_creates_nothing(desk: Desk) -> None:
    before = await desk.snapshot()
    with pytest.raises(Forbidden, match="codex lacks the scope enqueue"):
        await desk.create(by=CODEX)
    with pytest.raises(Forbidden):
        await desk.create(by=without(OWNER, Scope.ENQUEUE))
    assert await desk.snapshot() == before


async def test_an_unknown_template_or_procedure_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no template 'weekly'"):
        await desk.create(template="weekly")
    with pytest.raises(NotFound, match="sop"):
        await desk.create(sop="inventory/count.md")


async def test_a_child_takes_its_parent_root_and_depth_from_the_lease(desk: Desk) -> None:
    root = await desk.start("root")
    child = await desk.create("child", by=CLAUDE, lease=root.lease)
    assert (child.parent_id, child.root_id, child.depth) == (root.task.id, root.task.id, 1)
    held = await desk.take(task_id=child.id)
    grandchild = await desk.create("grandchild", by=CLAUDE, lease=held.lease)
    assert (grandchild.parent_id, grandchild.root_id, grandchild.depth) == (child.id, root.task.id, 2)
    assert grandchild.created_by == "claude"
    counted = await desk.rows("SELECT id, children, descendants FROM tasks ORDER BY id")
    assert counted == [(root.task.id, 1, 2), (child.id, 1, 0), (grandchild.id, 0, 0)]


async def test_a_child_needs_a_lease_that_is_valid_and_ones_own(desk: Desk) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    for caller, lease in ((CLAUDE, forged(claim.lease)), (CODEX, claim.lease)):
        with pytest.raises(LeaseLost):
            await desk.create("child", by=caller, lease=lease)
    with pytest.raises(InvalidInput, match=r"^lease: "):
        await desk.create("child", by=CLAUDE, lease="T-1")
    assert await desk.snapshot() == before
    await desk.complete(claim)
    with pytest.raises(LeaseLost):
        await desk.create("child", by=CLAUDE, lease=claim.lease)


async def test_an_agent_cannot_say_who_the_parent_is_without_a_lease(desk: Desk) -> None:
    claim = await desk.start()
    task = await desk.create("unrelated", by=OWNER)
    assert (task.parent_id, task.root_id, task.depth) == (None, None, 0)
    await desk.complete(claim)


@pytest.mark.parametrize(
    "field", ["queue", "template", "task_type", "requested_by", "idempotency_key", "sop", "run_at"]
)
@pytest.mark.parametrize("poison", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_no_argument_carries_what_cannot_be_stored(desk: Desk, field: str, poison: str) -> None:
    before = await desk.snapshot()
    with pytest.raises(TaskQueueError):
        await desk.ask_for("Count the stock", by=GEMINI, **{field: poison})
    assert await desk.snapshot() == before
