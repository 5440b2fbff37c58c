"""The same key gives the same task, whatever has become of it; another body is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Conflict
from taskqueue_mcp.model import Status
from taskqueue_mcp.taskqueue import Limits
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock


async def test_a_repeated_create_returns_the_first_task(desk: Desk) -> None:
    first = await desk.ask_for("Count", idempotency_key="k1", params={"a": 1})
    before = await desk.snapshot()
    again = await desk.ask_for("Count", idempotency_key="k1", params={"a": 1})
    assert (first.created, again.created) == (True, False)
    assert again.task == first.task
    assert await desk.snapshot() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "Count again"},
        {"instructions": "Twice."},
        {"params": {"a": 2}},
        {"priority": "high"},
        {"queue": "night"},
        {"tags": ("x",)},
        {"run_at": "in 5 minutes"},
        {"requires_approval": True},
        {"requested_by": "Ann"},
        {"depends_on": ("T-1",)},
        {"options": {"max_attempts": 5}},
    ],
)
async def test_the_same_key_with_another_body_is_a_conflict(desk: Desk, changed: dict[str, Any]) -> None:
    await desk.create("first of all")
    asked: dict[str, Any] = {"title": "Count", "params": {"a": 1}, "idempotency_key": "k1"}
    first = await desk.create(**asked)
    before = await desk.snapshot()
    with pytest.raises(Conflict, match=f"T-{first.id}") as refused:
        await desk.create(**{**asked, **changed})
    assert refused.value.facts["task"] == f"T-{first.id}"
    assert await desk.snapshot() == before


async def test_the_same_key_of_another_principal_is_another_task(desk: Desk) -> None:
    mine = await desk.ask_for(idempotency_key="k1", by=GEMINI)
    theirs = await desk.ask_for(idempotency_key="k1", by=OWNER)
    assert theirs.created
    assert theirs.task.id != mine.task.id


async def test_a_key_that_was_used_answers_with_what_became_of_the_task(desk: Desk, clock: Clock) -> None:
    task = await desk.create(idempotency_key="k1")
    await desk.finish(task, "All there.")
    clock.advance(86_400)
    again = await desk.ask_for(idempotency_key="k1")
    assert not again.created
    assert (again.task.id, again.task.status, again.task.result_summary) == (task.id, Status.COMPLETED, "All there.")


async def test_a_time_given_as_a_wait_is_the_same_body_later(desk: Desk, clock: Clock) -> None:
    first = await desk.create(run_at="in 1 hour", idempotency_key="k1")
    clock.advance(30)
    assert await desk.create(run_at="in 1 hour", idempotency_key="k1") == first


async def test_a_repeated_create_is_answered_when_the_limits_are_reached_and_the_lease_is_over(
    open_queue: Any, clock: Clock
) -> None:
    desk = Desk(open_queue(limits=Limits(children=1, open_tasks_per_queue=2)), clock)
    parent = await desk.start()
    child = await desk.create("child", by=CLAUDE, lease=parent.lease, idempotency_key="k1")
    assert await desk.create("child", by=CLAUDE, lease=parent.lease, idempotency_key="k1") == child
    await desk.complete(parent)
    await desk.queue.set_queue_state(OWNER, "default", "draining")
    assert await desk.create("child", by=CLAUDE, lease=parent.lease, idempotency_key="k1") == child


async def test_many_creates_of_one_key_at_once_make_one_task(desk: Desk, open_queue: Any, clock: Clock) -> None:
    desks = [desk, *(Desk(open_queue(), clock) for _ in range(3))]
    made = []

    async def one(which: Desk) -> None:
        made.append(await which.ask_for(idempotency_key="k1"))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                for which in desks:
                    group.start_soon(one, which)
    assert {result.task.id for result in made} == {made[0].task.id}
    assert sum(result.created for result in made) == 1
    assert await desk.rows("SELECT count(*) FROM tasks") == [(1,)]
