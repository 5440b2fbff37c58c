"""The hot statements find what they need by an index, and cost the same however full the queue is."""

from __future__ import annotations

import re
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.store import (
    attempts,
    events,
    gates,
    keeping,
    lists,
    principals,
    schedules,
    spending,
    tasks,
    templates,
)  # fmt: skip
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Wanted, claiming, creating, settling
from tests.contract.desk import CLAUDE, Desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clock import Clock

pytestmark = pytest.mark.engines("sqlite")

LARGE = {"tasks", "bodies", "attempts", "events", "dependencies", "log_chunks", "artifacts", "questions", "task_tags"}
LISTS = {"UNTOUCHED", "IN_LINE", "queues", "wanted", "ids", "status", "closed", "accounts"}
# Each of these reads much on purpose: on a thread, or a little at a time in housekeeping.
READS_MUCH = {("lists", "COUNTS"), ("templates", "COUNTS"), ("keeping", "OLD_EVENTS"), ("keeping", "OLD_TEXTS")}
PLANS = {
    "NEXT_INSTANTS": ["tasks_due", "tasks_leases"],
    "DUE": ["tasks_due"],
    "EXPIRED": ["tasks_leases"],
    "TAKE_ANY": ["tasks_ready"],
    "TAKE_FROM_QUEUES": ["tasks_ready"],
    "TAKE_OF_TYPES": ["tasks_ready_by_type"],
    "TAKE_OF_TYPES_FROM_QUEUES": ["tasks_ready_by_type"],
    "TAKE_FOR_EXECUTORS": ["tasks_ready_by_executor"],
    "TAKE_FOR_EXECUTORS_FROM_QUEUES": ["tasks_ready_by_executor"],
    "UNTOUCHED": ["tasks_untouched"],
    "BY_CLAIM": ["tasks_one_per_claim"],
    "BY_KEY": ["tasks_one_per_key"],
    "IN_LINE": ["tasks_in_line"],
    "LINE_IS_BUSY": ["tasks_one_in_line"],
    "DEPENDANTS": ["dependencies_of"],
}
BY_ID = (
    "FETCH", "FETCH_BODY", "FETCH_LEASE", "TAKE_ONE", "MOVE", "SETTLE", "TOUCH", "READDRESS", "UNBLOCK",
    "RETARGET", "SET_BLOCKERS", "ONE_MORE_CHILD", "ONE_MORE_DESCENDANT",
)  # fmt: skip


def statements() -> list[tuple[str, str, str]]:
    """Every statement of the store that reads or changes rows: module, name, text."""
    found = []
    for module in (tasks, attempts, events, schedules, templates, principals, keeping, lists, gates, spending):
        for name, text in vars(module).items():
            if isinstance(text, str) and re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)\b", text) and "%s" not in text:
                found.append((module.__name__.rpartition(".")[2], name, text))
    return found


def plan_of(desk: Desk, sql: str) -> list[str]:
    database: Any = desk.queue.database
    text = database.dialect.render(sql)
    values: dict[str, Any] = dict.fromkeys(re.findall(r":(\w+)", text))
    values |= {name: '["a"]' for name in LISTS if name in values}
    rows = database._connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
    return [row[3] for row in rows]


def scanned(plan: list[str]) -> set[str]:
    return {step.split()[1] for step in plan if step.startswith("SCAN ")} & LARGE


async def test_every_statement_finds_its_rows_by_an_index(desk: Desk) -> None:
    told = statements()
    assert len(told) > 60
    for module, name, text in told:
        if (module, name) not in READS_MUCH:
            plan = plan_of(desk, text)
            assert not scanned(plan), (module, name, plan)


@pytest.mark.parametrize("name", list(PLANS))
async def test_a_hot_statement_uses_the_index_that_was_made_for_it(desk: Desk, name: str) -> None:
    plan = plan_of(desk, getattr(tasks, name))
    for index in PLANS[name]:
        assert any(f"INDEX {index} " in step + " " for step in plan), plan
    assert not any("tasks_by_status" in step for step in plan), plan


@pytest.mark.parametrize("name", BY_ID)
async def test_a_transition_goes_straight_to_its_row(desk: Desk, name: str) -> None:
    plan = plan_of(desk, getattr(tasks, name))
    assert any("USING INTEGER PRIMARY KEY (rowid=?)" in step for step in plan), plan
    assert not scanned(plan)


@pytest.mark.parametrize("name", ["DUE", "EXPIRED", "IN_LINE"])
async def test_what_is_due_next_is_read_in_order_and_not_sorted(desk: Desk, name: str) -> None:
    assert not any("TEMP B-TREE" in step for step in plan_of(desk, getattr(tasks, name)))


# --- the cost, in steps of SQLite's machine: the same on every computer


def steps(desk: Desk, call: Callable[[], object]) -> int:
    database: Any = desk.queue.database
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    database._connection.set_progress_handler(count, 1)
    try:
        call()
    finally:
        database._connection.set_progress_handler(None, 1)
    return counted


FILL = """
INSERT INTO tasks (title, task_type, executor, queue, priority, status, reason, run_at, sort_at, max_attempts,
                   created_by, created_at, {more})
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT 'filler', 'report', 'report', 'queue' || (n % :queues), 'medium', :status, :reason, :at + n, :at + n, 3,
       'gemini', :at, {values} FROM numbers
"""


def fill(
    desk: Desk,
    count: int,
    at: int,
    status: str = "ready",
    reason: str | None = None,
    queues: int = 3,
    lease: int | None = None,
) -> None:
    more, values = "depth", "0"
    if lease is not None:
        more, values = "lease_hash, lease_principal, lease_expires_at", "'x', 'codex', :lease"
    statement = FILL.replace("{more}", more).replace("{values}", values)
    bound = {"count": count, "at": at, "status": status, "reason": reason, "queues": queues, "lease": lease}
    database = desk.queue.database

    def work(transaction: Any) -> None:
        transaction.run(statement, bound)
        transaction.run(
            "INSERT OR IGNORE INTO bodies (task_id, instructions, on_dependency_failure)"
            " SELECT id, '', 'fail' FROM tasks"
        )
        if lease is not None:
            transaction.run(
                "INSERT INTO attempts (task_id, attempt, principal, salt, lease_hash, claimed_at)"
                " SELECT id, attempt, 'codex', '', 'x', 0 FROM tasks WHERE lease_hash = 'x'"
            )
        for number in range(queues):
            transaction.run("INSERT OR IGNORE INTO queues (name) VALUES (:name)", {"name": f"queue{number}"})
        transaction.run("UPDATE queues SET open_tasks = 1000000 WHERE name LIKE 'queue%'")

    database.write_now(work)


REQUESTS: dict[str, dict[str, Any]] = {
    "any": {},
    "one queue": {"queues": ("queue1",)},
    "two queues": {"queues": ("queue0", "queue2")},
    "a type": {"task_types": ("report",)},
    "a type of a queue": {"task_types": ("report",), "queues": ("queue1",)},
    "two types": {"task_types": ("report", "count")},
    "an executor": {"task_types": ("executor:report",)},
    "an executor of a queue": {"task_types": ("executor:report",), "queues": ("queue1",)},
    "a type that is absent": {"task_types": ("essay",)},
    "a queue that is absent": {"queues": ("nowhere",)},
}


def claim_steps(desk: Desk, request: dict[str, Any]) -> int:
    work = partial(claiming.claim, rules=desk.queue.rules, caller=CLAUDE, request=ClaimRequest(**request))
    return steps(desk, lambda: desk.queue.database.write_now(work))


@pytest.mark.parametrize("request_", list(REQUESTS))
async def test_a_claim_costs_the_same_with_few_and_with_many_ready_tasks(
    desk: Desk, clock: Clock, request_: str
) -> None:
    fill(desk, 60, clock.micros - 10_000_000)
    few = claim_steps(desk, REQUESTS[request_])
    fill(desk, 20_000, clock.micros - 9_000_000)
    many = claim_steps(desk, REQUESTS[request_])
    assert many <= 1.25 * few + 50, (few, many)


async def test_a_claim_costs_the_same_with_many_tasks_not_yet_due(desk: Desk, clock: Clock) -> None:
    fill(desk, 60, clock.micros - 10_000_000)
    few = claim_steps(desk, {})
    fill(desk, 20_000, clock.micros + 10_000_000, "pending", "scheduled")
    fill(desk, 20_000, clock.micros - 10_000_000, "pending", "paused")
    many = claim_steps(desk, {})
    assert many <= 1.25 * few + 50, (few, many)


async def test_a_claim_costs_the_same_with_many_tasks_in_progress_and_finished(desk: Desk, clock: Clock) -> None:
    fill(desk, 60, clock.micros - 10_000_000)
    few = claim_steps(desk, {"worker": "w1", "claim_id": "c1"})
    fill(desk, 20_000, clock.micros - 10_000_000, "in_progress", lease=clock.micros + 10**9)
    many = claim_steps(desk, {"worker": "w1", "claim_id": "c2"})
    assert many <= 1.25 * few + 50, (few, many)


async def test_a_claim_takes_back_lost_leases_a_bounded_number_at_a_time(desk: Desk, clock: Clock) -> None:
    fill(desk, 60, clock.micros - 10_000_000)
    fill(desk, 2_000, clock.micros - 10_000_000, "in_progress", lease=clock.micros - 1)
    claim_steps(desk, {})
    left = (await desk.rows("SELECT count(*) FROM tasks WHERE status = 'in_progress' AND lease_hash = 'x'"))[0][0]
    assert 1_800 <= left < 2_000


async def test_the_other_transitions_cost_the_same_with_many_tasks(desk: Desk, clock: Clock) -> None:
    database, rules = desk.queue.database, desk.queue.rules

    async def costs() -> list[int]:
        create = partial(creating.create, rules=rules, caller=CLAUDE, new=NewTask(Wanted(title="x", queue="other")))
        created = steps(desk, lambda: database.write_now(create))
        claim = await desk.take(queues=("other",))
        update = partial(settling.update, rules=rules, caller=CLAUDE, update=settling.Update(claim.lease, progress=1))
        updated = steps(desk, lambda: database.write_now(update))
        complete = partial(settling.complete, rules=rules, caller=CLAUDE, completion=Completion(claim.lease))
        return [created, updated, steps(desk, lambda: database.write_now(complete))]

    fill(desk, 60, clock.micros - 10_000_000)
    few = await costs()
    fill(desk, 20_000, clock.micros - 10_000_000)
    many = await costs()
    for before, after in zip(few, many, strict=True):
        assert after <= 1.25 * before + 50, (few, many)


async def test_a_page_costs_the_same_with_many_tasks(desk: Desk, clock: Clock) -> None:
    fill(desk, 300, clock.micros - 10_000_000)
    database: Any = desk.queue.database

    def cost(**narrowed: Any) -> int:
        def work(transaction: Any) -> None:
            lists.page(transaction, lists.Filter(**narrowed), 1 << 62, 20)

        return steps(desk, lambda: database.write_now(work))

    asked: list[dict[str, Any]] = [
        {},
        {"status": ("ready",)},
        {"queue": "queue1"},
        {"task_type": "report"},
        {"created_by": "gemini"},
    ]
    few = [cost(**narrowed) for narrowed in asked]
    fill(desk, 20_000, clock.micros - 10_000_000)
    many = [cost(**narrowed) for narrowed in asked]
    for narrowed, before, after in zip(asked, few, many, strict=True):
        assert after <= 1.25 * before + 50, (narrowed, before, after)


@pytest.mark.parametrize("asked", [(None, None), ("queue1", None), (None, "report"), ("queue1", "report")])
@pytest.mark.parametrize("deep", [False, True])
async def test_a_look_at_what_is_ready_costs_the_same_with_many_ready_tasks(
    desk: Desk, clock: Clock, asked: tuple[str | None, str | None], deep: bool
) -> None:
    fill(desk, 300, clock.micros - 10_000_000)
    after = (clock.micros - 10_000_000 + 150, 0) if deep else None

    def cost() -> int:
        return steps(desk, lambda: desk.queue.database.write_now(lambda t: lists.ready(t, *asked, after, 20)))

    few = cost()
    fill(desk, 20_000, clock.micros - 9_000_000)
    assert cost() <= 1.25 * few + 50


async def test_housekeeping_with_nothing_to_do_costs_the_same_with_many_events(desk: Desk, clock: Clock) -> None:
    database: Any = desk.queue.database

    def add(count: int) -> None:
        database.write_now(
            lambda t: t.run(
                "INSERT INTO events (subject, subject_id, seq, kind, principal, at)"
                " WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)"
                " SELECT 'queue', 0, n + (SELECT count(*) FROM events), 'open', 'x', :at FROM n",
                {"count": count, "at": clock.micros},
            )
        )

    def cost() -> int:
        return steps(desk, lambda: database.write_now(lambda t: keeping.delete_history(t, 10**12, 200)))

    add(500)
    few = cost()
    add(20_000)
    assert cost() <= 1.25 * few + 50
    assert isinstance(tasks, ModuleType)
