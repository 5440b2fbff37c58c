"""Queues that are paused hand nothing out; queues that drain take nothing new."""

from __future__ import annotations

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, WrongStatus
from taskqueue_mcp.model import Reason, Status
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk


async def test_a_paused_queue_hands_nothing_out_and_still_takes_work(desk: Desk) -> None:
    first = await desk.create("first", queue="night")
    await desk.queue.set_queue_state(OWNER, "night", "paused")
    await desk.create("second", queue="night")
    assert await desk.claim() is None
    assert await desk.claim(queues=("night",)) is None
    assert await desk.ready() == []
    with pytest.raises(WrongStatus, match="'night', which is paused"):
        await desk.take(task_id=first.id)
    await desk.queue.set_queue_state(OWNER, "night", "open")
    assert (await desk.take()).task.id == first.id


@pytest.mark.parametrize("types", [(), ("task",), ("executor:claude",)])
async def test_other_queues_go_on_meanwhile(desk: Desk, types: tuple[str, ...]) -> None:
    await desk.create("first", queue="night")
    day = await desk.create("second", queue="day")
    await desk.queue.set_queue_state(OWNER, "night", "paused")
    assert (await desk.take(task_types=types)).task.id == day.id
    assert await desk.claim(task_types=types, queues=("night", "day")) is None


async def test_what_is_in_progress_in_a_paused_queue_may_finish(desk: Desk) -> None:
    claim = await desk.start()
    await desk.queue.set_queue_state(OWNER, "default", "paused")
    await desk.update(claim, progress=50)
    assert (await desk.complete(claim)).status is Status.COMPLETED


async def test_time_passes_in_a_paused_queue(desk: Desk) -> None:
    task = await desk.create(run_at="in 1 minute")
    await desk.queue.set_queue_state(OWNER, "default", "paused")
    await desk.pass_time(61)
    assert (await desk.task(task)).status is Status.READY
    assert await desk.claim() is None


async def test_a_draining_queue_takes_nothing_new_and_empties(desk: Desk) -> None:
    first = await desk.create("first")
    await desk.queue.set_queue_state(OWNER, "default", "draining")
    before = await desk.snapshot()
    with pytest.raises(Forbidden, match="'default' is draining and takes no new work"):
        await desk.create("second")
    assert await desk.snapshot() == before
    claim = await desk.take()
    assert claim.task.id == first.id
    child = await desk.create("child", by=CLAUDE, lease=claim.lease)  # it belongs to accepted work
    await desk.complete(claim)
    await desk.finish(child)
    assert (await desk.create("elsewhere", queue="day")).status is Status.READY


async def test_a_queue_can_be_paused_before_it_was_ever_used(desk: Desk) -> None:
    await desk.queue.set_queue_state(OWNER, "night", "paused")
    task = await desk.create(queue="night")
    assert await desk.claim() is None
    await desk.queue.set_queue_state(OWNER, "night", "open")
    assert (await desk.take()).task.id == task.id


async def test_queues_are_counted(desk: Desk) -> None:
    await desk.create("one", queue="day")
    await desk.create("two", queue="day", run_at="in 1 hour")
    await desk.finish(await desk.create("three", queue="night"))
    counts = {count.name: count for count in await desk.queue.counts(OWNER)}
    assert (counts["day"].open_tasks, counts["day"].counts) == (2, {"ready": 1, "pending": 1})
    assert (counts["night"].open_tasks, counts["night"].counts) == (0, {"completed": 1})


async def test_only_the_owner_changes_a_queue(desk: Desk) -> None:
    with pytest.raises(Forbidden, match="admin"):
        await desk.queue.set_queue_state(GEMINI, "default", "paused")
    with pytest.raises(InvalidInput, match="state"):
        await desk.queue.set_queue_state(OWNER, "default", "closed")
    with pytest.raises(InvalidInput, match="queue"):
        await desk.queue.set_queue_state(OWNER, "two words", "paused")


async def test_a_line_is_not_blocked_by_what_waits_for_its_time(desk: Desk) -> None:
    later = await desk.create("later", options={"serial_key": "till"}, run_at="in 1 hour")
    now = await desk.create("now", options={"serial_key": "till"})
    assert (now.status, later.reason) == (Status.READY, Reason.SCHEDULED)
