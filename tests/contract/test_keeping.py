"""What goes after a while, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.desk import OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock

DAY = 86_400


async def test_a_finished_task_is_kept_for_thirty_days_and_its_events_for_longer(desk: Desk, clock: Clock) -> None:
    done = await desk.complete(await desk.start("sprocket", tags=("a",)), artifacts=("a.csv",))
    clock.advance(30 * DAY)
    await desk.queue.keep_house()
    assert (await desk.task(done)).title == "sprocket"
    clock.advance(1)
    await desk.queue.keep_house()
    for table in ("tasks", "bodies", "attempts", "artifacts", "task_tags"):
        assert await desk.rows(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - our own names
    assert len(await desk.rows("SELECT * FROM events")) == 3
    assert await desk.found("sprocket") == []


@pytest.mark.parametrize("stands", ["pending", "ready", "in_progress", "waiting"])
async def test_an_open_task_is_kept_for_ever(desk: Desk, clock: Clock, stands: str) -> None:
    asked: dict[str, dict[str, Any]] = {"pending": {"run_at": "in 900 days"}, "waiting": {"requires_approval": True}}
    task = await desk.create(**asked.get(stands, {}))
    if stands == "in_progress":
        await desk.take()
    clock.advance(800 * DAY)
    await desk.queue.keep_house()
    assert (await desk.task(task)).status.value == stands


async def test_what_an_open_task_waits_for_is_kept(desk: Desk, clock: Clock) -> None:
    done = await desk.create("done")
    other = await desk.create("other", run_at="in 60 days")
    waiting = await desk.create("waiting", depends_on=(done.id, other.id))
    await desk.finish(done, "Ten.")
    clock.advance(60 * DAY)
    await desk.queue.keep_house()
    await desk.finish(other)
    claim = await desk.take()
    assert claim.task.id == waiting.id
    assert [given.task.result_summary for given in claim.inputs] == ["Ten.", "Done."]


async def test_logs_go_first(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    await desk.update(claim, log="a line")
    await desk.complete(claim)
    clock.advance(7 * DAY)
    await desk.queue.keep_house()
    assert len(await desk.queue.logs(OWNER, claim.task.id)) == 1
    clock.advance(1)
    await desk.queue.keep_house()
    assert await desk.queue.logs(OWNER, claim.task.id) == []


async def test_events_go_after_a_year(desk: Desk, clock: Clock) -> None:
    await desk.finish(await desk.create())
    clock.advance(365 * DAY)
    await desk.queue.keep_house()
    assert len(await desk.rows("SELECT * FROM events")) == 3
    clock.advance(1)
    await desk.queue.keep_house()
    assert await desk.rows("SELECT * FROM events") == []


async def test_many_old_things_go_at_once(desk: Desk, clock: Clock) -> None:
    for number in range(450):
        task = await desk.create(f"task {number}")
        await desk.cancel(task)
    clock.advance(400 * DAY)
    await desk.queue.keep_house()
    assert await desk.rows("SELECT count(*) FROM tasks") == [(0,)]
    assert await desk.rows("SELECT count(*) FROM events") == [(0,)]
    assert await desk.rows("SELECT open_tasks FROM queues") == [(0,)]
