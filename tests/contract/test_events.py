"""What happened, once, in order: gapless for each task, written with the transition, legal by the diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import TaskQueueError
from tests.contract.desk import CODEX, OWNER, Desk
from tests.contract.stories import FOLLOWS, illegal_step, tell

if TYPE_CHECKING:
    from tests.clock import Clock
    from tests.conftest import OpenQueue


async def test_every_event_of_a_long_life_has_its_number(desk: Desk) -> None:
    task = await desk.create(requires_approval=True, options={"max_attempts": 2})
    await desk.decide(task, "approve")
    claim = await desk.take(worker="w1")
    claim = await desk.take(worker="w1")
    await desk.update(claim, progress=10)
    await desk.update(claim, log="no event")
    await desk.update(claim, question="Which shop?")
    await desk.decide(task, "answer", "Bonn.")
    await desk.fail(await desk.take(), kind="snooze")
    await desk.decide(task, "run_now")
    await desk.fail(await desk.take(), kind="release")
    await desk.fail(await desk.take())
    await desk.pass_time(100)
    await desk.update(await desk.take())
    await desk.pass_time(901)
    await desk.decide(task, "retry")
    await desk.finish(task)
    events = await desk.events(task)
    assert [event.kind for event in events] == [
        "created", "approved", "ready", "claimed", "redelivered", "progress", "asked", "answered", "ready", "claimed",
        "snoozed", "hastened", "ready", "claimed", "released", "ready", "claimed", "retry", "ready", "claimed",
        "lease_lost", "reopened", "ready", "claimed", "completed",
    ]  # fmt: skip
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].seq == (await desk.task(task)).seq
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert illegal_step(events) is None


async def test_an_event_says_who_and_which_attempt(desk: Desk, clock: Clock) -> None:
    claim = await desk.start(by=CODEX)
    clock.advance(3)
    await desk.complete(claim, by=CODEX)
    created, claimed, completed = await desk.events(claim)
    assert (created.principal, created.attempt) == ("gemini", None)
    assert (claimed.principal, claimed.attempt) == ("codex", 1)
    assert (completed.principal, completed.attempt, completed.at) == ("codex", 1, clock.micros)


async def test_a_transition_that_is_refused_leaves_no_event(desk: Desk) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    for call in (
        desk.complete(claim, by=CODEX),
        desk.complete("T-1.1." + "a" * 26),
        desk.decide(claim, "retry"),
        desk.decide(claim, "approve"),
        desk.create(depends_on=(99,)),
    ):
        with pytest.raises(TaskQueueError):
            await call
    assert await desk.snapshot() == before


async def test_events_are_paged_by_their_number(desk: Desk) -> None:
    claim = await desk.start()
    for percent in range(5):
        await desk.update(claim, progress=percent)
    page = await desk.queue.history(OWNER, claim.task.id, after=2, limit=3)
    assert [event.seq for event in page] == [3, 4, 5]


@pytest.mark.parametrize("number", range(20))
async def test_random_stories_are_gapless_and_legal(
    open_queue: OpenQueue, clock: Clock, seed: int, number: int
) -> None:
    desk = Desk(open_queue(), clock)
    told: Any = await tell(desk, seed + number, steps=60)
    for task in told:
        events = await desk.events(task)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].seq == (await desk.task(task)).seq
        assert illegal_step(events) is None, [event.kind for event in events]
    assert set(FOLLOWS)
