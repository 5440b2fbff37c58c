"""Tasks that wait for others: never early, and never for ever."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.errors import InvalidInput, WrongStatus
from taskqueue_mcp.model import Reason, Status
from tests.contract.desk import CLAUDE, Desk

if TYPE_CHECKING:
    from tests.clock import Clock

RUN = {"on_dependency_failure": "run"}


async def test_a_task_waits_for_what_it_depends_on(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(f"T-{first.id}",))
    assert (second.status, second.reason, second.blockers) == (Status.PENDING, Reason.DEPENDENCY, 1)
    assert await desk.ready() == [first.id]
    claim = await desk.take()
    assert await desk.claim() is None
    await desk.complete(claim)
    after = await desk.task(second)
    assert (after.status, after.blockers) == (Status.READY, 0)
    assert await desk.kinds(second) == ["created", "unblocked", "ready"]


async def test_it_waits_for_all_of_them(desk: Desk) -> None:
    others = [await desk.create(f"other {number}") for number in range(3)]
    last = await desk.create("last", depends_on=tuple(task.id for task in others))
    for left, other in zip((2, 1, 0), others, strict=True):
        await desk.finish(other)
        after = await desk.task(last)
        assert after.blockers == left
        assert (after.status is Status.READY) == (left == 0)


async def test_naming_one_twice_is_naming_it_once(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id, f"T-{first.id}", str(first.id)))
    assert second.blockers == 1
    await desk.finish(first)
    assert (await desk.task(second)).status is Status.READY


async def test_what_is_completed_already_is_not_waited_for(desk: Desk) -> None:
    first = await desk.create("first")
    await desk.finish(first, "Ten.")
    second = await desk.create("second", depends_on=(first.id,))
    assert second.status is Status.READY
    claim = await desk.take()
    assert [(given.task.id, given.task.result_summary) for given in claim.inputs] == [(first.id, "Ten.")]


async def test_the_results_are_handed_to_the_task_that_waited(desk: Desk) -> None:
    one, two = await desk.create("one"), await desk.create("two")
    last = await desk.create("last", depends_on=(one.id, two.id))
    await desk.complete(await desk.take(), "One.", result_data='{"rows": 1}', result_path="one.csv")
    await desk.complete(await desk.take(), "Two.")
    claim = await desk.take()
    assert claim.task.id == last.id
    assert [
        (given.task.id, given.task.result_summary, given.task.result_path, given.result_data) for given in claim.inputs
    ] == [
        (one.id, "One.", "one.csv", '{"rows": 1}'),
        (two.id, "Two.", None, None),
    ]


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_a_failure_fails_what_depends_on_it_down_the_whole_chain(desk: Desk, ending: str) -> None:
    chain = [await desk.create("link 0")]
    for number in range(1, 6):
        chain.append(await desk.create(f"link {number}", depends_on=(chain[-1].id,)))
    if ending == "failed":
        await desk.fail_for_good(chain[0])
    else:
        await desk.cancel(chain[0])
    for before, link in pairwise(chain):
        after = await desk.task(link)
        cause = ending if before is chain[0] else "failed"
        assert (after.status, after.failures) == (Status.FAILED, 0)
        assert after.error == f"T-{before.id}, which it depends on, ended {cause}"
        assert await desk.kinds(link) == ["created", "failed"]
    assert await desk.rows("SELECT open_tasks FROM queues") == [(0,)]


async def test_a_failure_is_no_obstacle_to_a_task_that_can_do_without(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,), options=RUN)
    third = await desk.create("third", depends_on=(second.id,))
    await desk.fail_for_good(first)
    assert (await desk.task(second)).status is Status.READY
    assert (await desk.task(third)).status is Status.PENDING
    claim = await desk.take()
    assert [given.task.status for given in claim.inputs] == [Status.FAILED]
    await desk.complete(claim)
    assert (await desk.task(third)).status is Status.READY


async def test_a_diamond_is_counted_right(desk: Desk) -> None:
    top = await desk.create("top")
    left = await desk.create("left", depends_on=(top.id,))
    right = await desk.create("right", depends_on=(top.id,))
    bottom = await desk.create("bottom", depends_on=(left.id, right.id), options=RUN)
    await desk.fail_for_good(top)
    assert (await desk.task(left)).status is (await desk.task(right)).status is Status.FAILED
    after = await desk.task(bottom)
    assert (after.status, after.blockers) == (Status.READY, 0)


async def test_an_attempt_that_is_tried_again_releases_nothing(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,))
    await desk.fail(await desk.take())
    assert (await desk.task(second)).reason is Reason.DEPENDENCY
    await desk.pass_time(60)
    await desk.finish(first)
    assert (await desk.task(second)).status is Status.READY


async def test_a_task_with_a_time_waits_for_both(desk: Desk, clock: Clock) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,), run_at="in 1 hour")
    await desk.finish(first)
    after = await desk.task(second)
    assert (after.status, after.reason, after.blockers) == (Status.PENDING, Reason.SCHEDULED, 0)
    clock.advance(3_599)
    assert await desk.claim() is None
    clock.advance(1)
    assert (await desk.take()).task.id == second.id


async def test_its_time_alone_does_not_make_it_ready(desk: Desk, clock: Clock) -> None:
    first = await desk.create("first", queue="slow")
    second = await desk.create("second", depends_on=(first.id,), run_at="in 1 hour", queue="quick")
    clock.advance(7_200)
    assert await desk.claim(queues=("quick",)) is None
    await desk.finish(first)
    assert (await desk.take(queues=("quick",))).task.id == second.id


@pytest.mark.parametrize("action", ["answer", "question"])
async def test_a_question_to_a_person_is_not_an_end(desk: Desk, action: str) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,))
    await desk.update(await desk.take(), question="Which shop?")
    assert (await desk.task(second)).reason is Reason.DEPENDENCY
    if action == "answer":
        await desk.decide(first, "answer", "The one in Bonn.")
        assert (await desk.task(second)).reason is Reason.DEPENDENCY


async def test_a_task_that_does_not_exist_cannot_be_waited_for(desk: Desk) -> None:
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=r"there is no task T-7, T-9"):
        await desk.create(depends_on=("T-7", "T-9"))
    assert await desk.snapshot() == before


async def test_a_task_cannot_wait_for_itself(desk: Desk) -> None:
    first = await desk.create()
    with pytest.raises(InvalidInput, match="neither itself nor in a circle"):
        await desk.create(depends_on=(first.id + 1,))


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_what_did_not_complete_is_not_waited_for(desk: Desk, ending: str) -> None:
    first = await desk.create("first")
    await (desk.fail_for_good(first) if ending == "failed" else desk.cancel(first))
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"T-{first.id} did not complete"):
        await desk.create("second", depends_on=(first.id,))
    assert await desk.snapshot() == before
    second = await desk.create("second", depends_on=(first.id,), options=RUN)
    assert second.status is Status.READY


async def test_a_task_that_is_tried_again_counts_anew_what_it_waits_for(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,))
    await desk.fail_for_good(first)
    before = await desk.snapshot()
    with pytest.raises(WrongStatus, match=f"depends on T-{first.id}, which did not complete; retry that first"):
        await desk.decide(second, "retry")
    assert await desk.snapshot() == before
    await desk.decide(first, "retry")
    after = await desk.decide(second, "retry")
    assert (after.status, after.reason, after.blockers) == (Status.PENDING, Reason.DEPENDENCY, 1)
    assert await desk.ready() == [first.id]
    await desk.finish(first)
    assert (await desk.task(second)).status is Status.READY


async def test_a_cancelled_task_that_is_tried_again_after_the_others_ended_runs(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second", depends_on=(first.id,))
    await desk.cancel(second)
    await desk.finish(first)
    after = await desk.decide(second, "retry")
    assert (after.status, after.blockers) == (Status.READY, 0)


async def test_a_child_may_wait_for_its_siblings(desk: Desk) -> None:
    parent = await desk.start("parent")
    one = await desk.create("one", by=CLAUDE, lease=parent.lease)
    two = await desk.create("two", by=CLAUDE, lease=parent.lease, depends_on=(one.id,))
    await desk.complete(parent)
    await desk.finish(one)
    assert (await desk.take()).task.id == two.id


async def test_many_that_wait_for_one_are_released_together(desk: Desk) -> None:
    first = await desk.create("first")
    waiting = [(await desk.create(f"task {number}", depends_on=(first.id,))).id for number in range(120)]
    await desk.finish(first)
    assert [row[0] for row in await desk.rows("SELECT id FROM tasks WHERE status = 'ready' ORDER BY id")] == waiting


async def test_what_was_opened_again_and_ended_once_more_is_not_counted_twice(desk: Desk) -> None:
    dead, other = await desk.create("dead"), await desk.create("other")
    await desk.cancel(dead)
    task = await desk.create("task", depends_on=(dead.id, other.id), options=RUN)
    assert task.blockers == 1
    await desk.decide(dead, "retry")
    await desk.cancel(dead)
    after = await desk.task(task)
    assert (after.status, after.blockers) == (Status.PENDING, 1)
    await desk.decide(dead, "retry")
    await desk.finish(other)
    assert (await desk.task(task)).blockers == 1  # it waits for what is open when another ends
    await desk.finish(dead)
    assert (await desk.task(task)).status is Status.READY
