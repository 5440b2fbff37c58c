"""Tasks with one serial key go one after the other, and every way out lets the next one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import WrongStatus
from taskqueue_mcp.model import Reason, Status
from tests.contract.desk import CODEX, Desk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from taskqueue_mcp.model import Task
    from taskqueue_mcp.taskqueue import Claim
    from tests.clock import Clock

LINE = {"serial_key": "till"}


async def line(desk: Desk, count: int, **asked: Any) -> list[Task]:
    return [await desk.create(f"task {number}", options=LINE, **asked) for number in range(count)]


async def test_only_the_head_of_a_line_is_ready(desk: Desk) -> None:
    first, second, third = await line(desk, 3)
    assert first.status is Status.READY
    assert [(task.status, task.reason) for task in (second, third)] == [(Status.PENDING, Reason.SERIAL)] * 2
    await desk.take()
    assert await desk.claim(by=CODEX) is None


async def test_a_line_goes_in_the_order_it_formed(desk: Desk, clock: Clock) -> None:
    made = []
    for _ in range(4):
        made += [task.id for task in await line(desk, 1)]
        clock.advance(1)
    done = []
    for _ in made:
        claim = await desk.take()
        done.append(claim.task.id)
        await desk.complete(claim)
    assert done == made


async def test_priority_is_a_head_start_in_a_line_too(desk: Desk) -> None:
    await line(desk, 2)
    urgent = await desk.create("urgent", options=LINE, priority="urgent")
    assert (await desk.task(urgent)).reason is Reason.SERIAL  # whoever is ready stays the head
    await desk.complete(await desk.take())
    assert (await desk.take()).task.id == urgent.id


async def test_lines_of_other_keys_and_tasks_without_one_go_on(desk: Desk) -> None:
    await line(desk, 2)
    await desk.take()
    other = await desk.create("other", options={"serial_key": "door"})
    free = await desk.create("free")
    assert {(await desk.take()).task.id, (await desk.take()).task.id} == {other.id, free.id}


async def test_a_line_spans_queues(desk: Desk) -> None:
    first = await desk.create("first", options=LINE, queue="day")
    second = await desk.create("second", options=LINE, queue="night")
    assert (await desk.task(second)).reason is Reason.SERIAL
    await desk.finish(first)
    assert (await desk.take(queues=("night",))).task.id == second.id


WAYS_OUT: dict[str, Callable[[Desk, Claim], Awaitable[Any]]] = {
    "completed": lambda desk, claim: desk.complete(claim),
    "failed for good": lambda desk, claim: desk.fail(claim, kind="permanent"),
    "to be tried again": lambda desk, claim: desk.fail(claim),
    "snoozed": lambda desk, claim: desk.fail(claim, kind="snooze"),
    "out of quota": lambda desk, claim: desk.fail(claim, kind="quota"),
    "asked a person": lambda desk, claim: desk.update(claim, question="Which till?"),
    "cancelled": lambda desk, claim: desk.cancel(claim.task),
}


@pytest.mark.parametrize("way", list(WAYS_OUT))
async def test_every_way_out_lets_the_next_one_go(desk: Desk, way: str) -> None:
    _, second, third = await line(desk, 3)
    claim = await desk.take()
    await WAYS_OUT[way](desk, claim)
    assert await desk.ready() == [second.id]
    assert (await desk.task(third)).reason is Reason.SERIAL


async def test_a_lease_that_ran_out_lets_the_next_one_go(desk: Desk) -> None:
    _, second, _ = await line(desk, 3)
    await desk.update(await desk.take())
    await desk.pass_time(901)
    assert await desk.ready() == [second.id]


async def test_the_end_of_a_ready_head_lets_the_next_one_go(desk: Desk) -> None:
    first, second, _ = await line(desk, 3)
    await desk.cancel(first)
    assert await desk.ready() == [second.id]


async def test_a_head_that_is_released_goes_behind_those_before_it(desk: Desk) -> None:
    first, second, third = await line(desk, 3)
    await desk.fail(await desk.take(), kind="release")
    claim = await desk.take()
    assert claim.task.id == second.id
    await desk.complete(claim)
    assert {first.id, third.id} >= set(await desk.ready())
    assert len(await desk.ready()) == 1


async def test_a_line_of_one_that_is_released_is_ready_again(desk: Desk) -> None:
    (only,) = await line(desk, 1)
    await desk.fail(await desk.take(), kind="release")
    assert await desk.ready() == [only.id]


async def test_whoever_comes_back_later_waits_in_line_again(desk: Desk) -> None:
    first, second = await line(desk, 2)
    await desk.fail(await desk.take())  # to be tried again in a while
    claim = await desk.take()
    assert claim.task.id == second.id
    await desk.pass_time(60)
    after = await desk.task(first)
    assert (after.status, after.reason) == (Status.PENDING, Reason.SERIAL)
    await desk.complete(claim)
    assert await desk.ready() == [first.id]


async def test_a_task_that_becomes_due_joins_the_line(desk: Desk) -> None:
    later = await desk.create("later", options=LINE, run_at="in 1 minute")
    assert later.reason is Reason.SCHEDULED
    (now,) = await line(desk, 1)
    await desk.pass_time(61)
    assert (await desk.task(later)).reason is Reason.SERIAL
    await desk.finish(now)
    assert await desk.ready() == [later.id]


async def test_tasks_of_one_key_that_become_due_together_form_a_line(desk: Desk) -> None:
    made = [(await desk.create(f"{number}", options=LINE, run_at="in 1 minute")).id for number in range(4)]
    await desk.pass_time(61)
    done = []
    while (claim := await desk.claim()) is not None:
        assert await desk.claim(by=CODEX) is None
        done.append(claim.task.id)
        await desk.complete(claim)
    assert done == made


async def test_tasks_that_are_unblocked_together_form_a_line(desk: Desk) -> None:
    first = await desk.create("first")
    made = [(await desk.create(f"{number}", options=LINE, depends_on=(first.id,))).id for number in range(3)]
    await desk.finish(first)
    assert await desk.ready() == made[:1]


async def test_an_approved_and_an_answered_task_wait_in_line(desk: Desk) -> None:
    approved = await desk.create("approved", options=LINE, requires_approval=True)
    (head,) = await line(desk, 1)
    assert (await desk.decide(approved, "approve")).reason is Reason.SERIAL
    claim = await desk.take()
    assert claim.task.id == head.id
    await desk.update(claim, question="Which till?")
    assert await desk.ready() == [approved.id]
    assert (await desk.decide(head, "answer", "The left one.")).reason is Reason.SERIAL


async def test_a_task_that_is_opened_again_waits_in_line(desk: Desk) -> None:
    first, second = await line(desk, 2)
    await desk.fail_for_good(first)
    assert await desk.ready() == [second.id]
    assert (await desk.decide(first, "retry")).reason is Reason.SERIAL
    await desk.finish(second)
    assert await desk.ready() == [first.id]


async def test_one_that_waits_in_line_can_be_cancelled_but_not_hastened(desk: Desk) -> None:
    _, second, third = await line(desk, 3)
    with pytest.raises(WrongStatus, match=r"pending \(serial\)"):
        await desk.decide(second, "run_now")
    await desk.cancel(second)
    await desk.complete(await desk.take())
    assert await desk.ready() == [third.id]


async def test_a_task_that_waited_for_the_head_joins_the_line_behind_those_in_it(desk: Desk) -> None:
    first, second = await line(desk, 2)
    freed = await desk.create("freed", options=LINE, depends_on=(first.id,))
    await desk.finish(first)
    assert await desk.ready() == [second.id]
    assert (await desk.task(freed)).reason is Reason.SERIAL
    await desk.finish(second)
    assert await desk.ready() == [freed.id]
