"""What goes on behind the work: retention, the search index, alarms, and claims nobody received."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.errors import NotFound
from taskqueue_mcp.scheduler import Scheduler
from taskqueue_mcp.store import events
from taskqueue_mcp.store.lists import Filter
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewSchedule, NewTask, Wanted

if TYPE_CHECKING:
    from taskqueue_mcp.model import Task
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.clock import Clock

OWNER = local_person()
DAY = 86_400


async def finished(queue: TaskQueue, title: str) -> Task:
    task = (await queue.create(OWNER, NewTask(Wanted(title=title)))).task
    claim = await queue.claim(OWNER, ClaimRequest(task_id=task.id))
    assert claim is not None
    return (await queue.complete(OWNER, Completion(claim.lease, "a summary"))).task


async def found(queue: TaskQueue, words: str) -> list[int]:
    page = await queue.list_tasks(OWNER, Filter(search=words), None, 10)
    return [task.id for task in page.tasks]


async def test_finished_tasks_go_after_their_time_and_open_ones_stay(queue: TaskQueue, clock: Clock) -> None:
    old = await finished(queue, "ancient history")
    open_ = (await queue.create(OWNER, NewTask(Wanted(title="ancient but open")))).task
    clock.advance(29 * DAY)
    recent = await finished(queue, "recent history")
    clock.advance(2 * DAY)
    await queue.keep_house()
    with pytest.raises(NotFound):
        await queue.get(OWNER, old.id)
    assert (await queue.get(OWNER, open_.id)).task.status == "ready"
    assert await found(queue, "history") == [recent.id]
    assert await found(queue, "ancient") == [open_.id]


async def test_the_history_of_a_task_outlives_it_and_goes_after_its_own_time(queue: TaskQueue, clock: Clock) -> None:
    old = await finished(queue, "gone")
    clock.advance(31 * DAY)
    await queue.keep_house()

    async def kept() -> list[str]:
        rows = await queue.database.read(lambda transaction: events.following(transaction, events.START, 100)[0])
        return [row.kind for row in rows if row.subject_id == old.id]

    assert await kept() == ["created", "claimed", "completed"]
    clock.advance(365 * DAY)
    await queue.keep_house()
    assert await kept() == []


async def test_what_an_open_task_depends_on_is_kept_for_it(queue: TaskQueue, clock: Clock) -> None:
    first = await finished(queue, "the input")
    waiting = NewTask(Wanted(title="much later"), depends_on=(first.id,), run_at="2100-01-01T00:00:00Z")
    await queue.create(OWNER, waiting)
    clock.advance(40 * DAY)
    await queue.keep_house()
    assert (await queue.get(OWNER, first.id)).task.result_summary == "a summary"


async def test_ids_are_not_used_again_after_their_task_has_gone(queue: TaskQueue, clock: Clock) -> None:
    old = await finished(queue, "gone")
    clock.advance(31 * DAY)
    await queue.keep_house()
    assert (await queue.create(OWNER, NewTask(Wanted(title="new")))).task.id == old.id + 1


async def test_a_search_sees_what_was_committed_a_moment_ago(queue: TaskQueue) -> None:
    assert await found(queue, "brandnew") == []
    task = (await queue.create(OWNER, NewTask(Wanted(title="A brandnew thing")))).task
    assert await found(queue, "brandnew") == [task.id]
    assert await found(queue, "brandn*") == [task.id]


async def test_a_run_that_nobody_claims_in_time_leaves_an_event(queue: TaskQueue, clock: Clock) -> None:
    await queue.put_schedule(OWNER, NewSchedule("hourly", "@hourly", Wanted(title="Run"), timezone="UTC"))
    clock.advance(3_601)
    assert await queue.tick() == 1
    clock.advance(899)
    await queue.tick()
    assert "unclaimed" not in await _schedule_events(queue)
    clock.advance(2)
    await queue.tick()
    await queue.tick()
    assert (await _schedule_events(queue)).count("unclaimed") == 1


async def test_a_run_that_is_claimed_in_time_raises_no_alarm(queue: TaskQueue, clock: Clock) -> None:
    await queue.put_schedule(OWNER, NewSchedule("hourly", "@hourly", Wanted(title="Run"), timezone="UTC"))
    clock.advance(3_601)
    claim = await queue.claim(OWNER, ClaimRequest())
    assert claim is not None
    clock.advance(1_000)
    await queue.tick()
    assert "unclaimed" not in await _schedule_events(queue)


async def _schedule_events(queue: TaskQueue) -> list[str]:
    rows = await queue.database.read(lambda transaction: events.following(transaction, events.START, 1_000)[0])
    return [row.kind for row in rows if row.subject == "schedule"]


async def test_a_claim_whose_caller_goes_before_the_answer_is_handed_back_at_once(queue: TaskQueue) -> None:
    task = (await queue.create(OWNER, NewTask(Wanted(title="Nobody received me")))).task
    asking = asyncio.ensure_future(queue.claim_or_release(OWNER, ClaimRequest(worker="w")))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        while (await queue.get(OWNER, task.id)).task.attempt == 0:
            await asyncio.sleep(0)
        while (await queue.get(OWNER, task.id)).task.status != "ready":
            await asyncio.sleep(0)
    seen = (await queue.get(OWNER, task.id)).task
    assert (seen.failures, seen.attempt) == (0, 1)


async def test_the_scheduler_goes_on_after_a_failed_tick(queue: TaskQueue, caplog: pytest.LogCaptureFixture) -> None:
    ticks: list[int] = []

    class Stumbling(Scheduler):
        async def tick(self) -> None:
            ticks.append(len(ticks))
            if len(ticks) == 1:
                raise OSError("the disk hiccuped")
            await super().tick()

    running = asyncio.ensure_future(Stumbling(queue).run())
    async with asyncio.timeout(10):
        while len(ticks) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    queue.waiters.detach()
    assert "a tick failed" in caplog.text


@pytest.mark.engines("sqlite")
async def test_on_a_disk_that_is_almost_full_new_work_is_refused_and_held_work_is_finished(open_queue: object) -> None:
    queue = open_queue(least_free_bytes=1 << 60)  # type: ignore[operator]  # the fixture is a factory
    task = (await queue.create(OWNER, NewTask(Wanted(title="Accepted before")))).task
    claim = await queue.claim(OWNER, ClaimRequest())
    await queue.keep_house()
    with pytest.raises(Exception, match="disk is almost full"):
        await queue.create(OWNER, NewTask(Wanted(title="Too late")))
    assert (await queue.complete(OWNER, Completion(claim.lease))).task.id == task.id
