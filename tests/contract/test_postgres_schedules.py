"""Schedules on several servers: a due time ends as one row, and whoever changes a schedule finds what is left."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import NotFound, WrongStatus
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.taskqueue import NewSchedule, Wanted, answering, promoting, scheduling
from tests.contract.desk import GEMINI, Desk
from tests.contract.interleaving import Meanwhile, while_uncommitted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg

    from taskqueue_mcp.store import Database, Transaction

    Work = Callable[[Transaction], Any]
    Meet = Callable[[Work, Callable[[], Awaitable[Any]]], Awaitable[Meanwhile]]

pytestmark = pytest.mark.engines("postgres")

HOUR = 3_600
HOURLY = NewSchedule("hourly", "0 * * * *", Wanted(title="count"), timezone="UTC")


@pytest.fixture
def meet(wire: psycopg.Connection[Any], rival: Database) -> Meet:
    """Let a call come while the other server's work is uncommitted."""
    return partial(while_uncommitted, wire, rival)


@pytest.fixture
async def due(desk: Desk) -> Work:
    """The tick of the other server, when a run of the schedule `hourly` is due."""
    await desk.queue.put_schedule(GEMINI, HOURLY)
    desk.clock.advance(HOUR)
    return partial(promoting.promote, rules=desk.queue.rules)


async def fates(desk: Desk) -> list[str]:
    return [each.fate.value for each in await desk.ledger("hourly")]


async def runs(desk: Desk) -> list[tuple[Status, Reason | None]]:
    page = await desk.page()
    return [(task.status, task.reason) for task in reversed(page.tasks)]


STANDS = (Status.PENDING, Reason.SCHEDULED)
FIRED = (Status.READY, None)


async def test_a_schedule_that_is_made_twice_at_once_is_one(desk: Desk, meet: Meet) -> None:
    work = partial(scheduling.put, rules=desk.queue.rules, caller=GEMINI, new=HOURLY)
    again = (await meet(work, lambda: desk.queue.put_schedule(GEMINI, HOURLY))).answer()
    assert not again.created
    assert await runs(desk) == [STANDS]


async def test_two_servers_fire_a_due_time_once(desk: Desk, due: Work, meet: Meet) -> None:
    assert (await meet(due, desk.queue.tick)).answer() == 0
    assert (await fates(desk), await runs(desk)) == (["fired"], [FIRED, STANDS])


async def test_a_schedule_that_is_edited_while_it_fires_has_fired(desk: Desk, due: Work, meet: Meet) -> None:
    edited = (await meet(due, lambda: desk.plan("hourly", "30 * * * *", title="count"))).answer()
    assert (await fates(desk), await runs(desk)) == (["fired"], [FIRED, STANDS])
    standing = await desk.task(edited.schedule.standing_task_id or 0)
    assert standing.due_at == edited.schedule.next_due_at == desk.clock() + HOUR // 2 * 1_000_000


async def test_a_schedule_that_is_paused_while_it_fires_has_fired(desk: Desk, due: Work, meet: Meet) -> None:
    (await meet(due, lambda: desk.queue.pause_schedule(GEMINI, "hourly"))).answer()
    assert (await fates(desk), await runs(desk)) == (["fired"], [FIRED, (Status.PENDING, Reason.PAUSED)])


async def test_a_schedule_that_is_deleted_while_it_fires_has_fired(desk: Desk, due: Work, meet: Meet) -> None:
    (await meet(due, lambda: desk.queue.delete_schedule(GEMINI, "hourly"))).answer()
    assert (await fates(desk), await runs(desk)) == (["fired"], [FIRED, (Status.CANCELLED, None)])


async def test_a_run_that_is_cancelled_while_it_fires_is_cancelled(desk: Desk, due: Work, meet: Meet) -> None:
    (standing,) = (await desk.page()).tasks
    (await meet(due, lambda: desk.cancel(standing))).answer()
    assert (await fates(desk), await runs(desk)) == (["fired"], [(Status.CANCELLED, None), STANDS])


async def test_a_run_that_is_cancelled_while_its_schedule_is_deleted_is_final_already(desk: Desk, meet: Meet) -> None:
    await desk.queue.put_schedule(GEMINI, HOURLY)
    (standing,) = (await desk.page()).tasks
    work = partial(scheduling.delete, rules=desk.queue.rules, caller=GEMINI, name="hourly")
    with pytest.raises(WrongStatus, match="already cancelled"):
        (await meet(work, lambda: desk.cancel(standing))).answer()
    assert await fates(desk) == []


async def test_a_schedule_that_is_paused_while_its_run_is_cancelled_is_paused(desk: Desk, meet: Meet) -> None:
    await desk.queue.put_schedule(GEMINI, HOURLY)
    (standing,) = (await desk.page()).tasks
    work = partial(answering.cancel, rules=desk.queue.rules, caller=GEMINI, task_id=standing.id, why=None)
    (await meet(work, lambda: desk.queue.pause_schedule(GEMINI, "hourly"))).answer()
    assert await fates(desk) == ["skipped"]
    assert await runs(desk) == [(Status.CANCELLED, None), (Status.PENDING, Reason.PAUSED)]


async def test_a_schedule_runs_now_or_is_not_there_any_more(desk: Desk, meet: Meet) -> None:
    await desk.queue.put_schedule(GEMINI, HOURLY)
    work = partial(scheduling.delete, rules=desk.queue.rules, caller=GEMINI, name="hourly")
    with pytest.raises(NotFound):
        (await meet(work, lambda: desk.queue.run_schedule_now(GEMINI, "hourly"))).answer()
    assert await runs(desk) == [(Status.CANCELLED, None)]
