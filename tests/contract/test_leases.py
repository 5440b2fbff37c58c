"""Every write of an attempt is made under its lease; a lease that is not valid changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, LeaseLost, NotFound
from taskqueue_mcp.model import Status
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk, forged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.clock import Clock

Write = "Callable[[Desk, str, Any], Awaitable[Any]]"

WRITES: dict[str, Any] = {
    "progress": lambda desk, lease, by: desk.update(lease, progress=50, by=by),
    "heartbeat": lambda desk, lease, by: desk.update(lease, by=by),
    "log": lambda desk, lease, by: desk.update(lease, log="a line", by=by),
    "artifact": lambda desk, lease, by: desk.update(lease, artifact="stock.csv", by=by),
    "usage": lambda desk, lease, by: desk.update(lease, usage={"cost_usd": 1}, by=by),
    "question": lambda desk, lease, by: desk.update(lease, question="Which shop?", by=by),
    "complete": lambda desk, lease, by: desk.complete(lease, by=by),
    "fail": lambda desk, lease, by: desk.fail(lease, by=by),
    "release": lambda desk, lease, by: desk.fail(lease, kind="release", by=by),
    "child": lambda desk, lease, by: desk.create("child", lease=lease, by=by),
}


@pytest.fixture(params=list(WRITES))
def write(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Any]]:
    """Each thing that can be written under a lease."""
    made: Callable[..., Awaitable[Any]] = WRITES[request.param]
    return made


async def refused(desk: Desk, write: Callable[..., Awaitable[Any]], lease: str, by: Any = CLAUDE) -> LeaseLost:
    before = await desk.snapshot()
    with pytest.raises(LeaseLost, match=r"lease_lost: .* nothing was changed") as lost:
        await write(desk, lease, by)
    assert await desk.snapshot() == before
    assert lost.value.facts["stop"] is True
    return lost.value


async def test_the_holder_may_write(desk: Desk, write: Callable[..., Awaitable[Any]]) -> None:
    claim = await desk.start()
    await write(desk, claim.lease, CLAUDE)


async def test_a_forged_lease_writes_nothing(desk: Desk, write: Callable[..., Awaitable[Any]]) -> None:
    claim = await desk.start()
    error = await refused(desk, write, forged(claim.lease))
    assert "holder" not in str(error)
    assert "attempt" not in error.facts


async def test_the_right_lease_in_another_principals_hands_writes_nothing(
    desk: Desk, write: Callable[..., Awaitable[Any]]
) -> None:
    claim = await desk.start()
    await refused(desk, write, claim.lease, CODEX)


async def test_the_secret_of_another_task_writes_nothing(desk: Desk, write: Callable[..., Awaitable[Any]]) -> None:
    one, two = await desk.start("one"), await desk.start("two")
    head, _, _ = one.lease.rpartition(".")
    _, _, secret = two.lease.rpartition(".")
    await refused(desk, write, f"{head}.{secret}")


async def test_an_earlier_attempts_lease_writes_nothing_and_says_who_holds_the_task(
    desk: Desk, clock: Clock, write: Callable[..., Awaitable[Any]]
) -> None:
    first = await desk.start()
    clock.advance(901)
    second = await desk.take(by=CODEX)
    error = await refused(desk, write, first.lease)
    assert "attempt 2 holds the task now" in str(error)
    assert (error.facts["attempt"], error.facts["task"]) == (2, f"T-{first.task.id}")
    await desk.complete(second, by=CODEX)


async def test_an_earlier_secret_with_the_new_attempts_number_writes_nothing(
    desk: Desk, clock: Clock, write: Callable[..., Awaitable[Any]]
) -> None:
    first = await desk.start()
    clock.advance(901)
    await desk.take()
    await refused(desk, write, first.lease.replace(".1.", ".2."))


async def test_the_new_secret_with_an_earlier_attempts_number_writes_nothing(
    desk: Desk, clock: Clock, write: Callable[..., Awaitable[Any]]
) -> None:
    await desk.start()
    clock.advance(901)
    second = await desk.take()
    await refused(desk, write, second.lease.replace(".2.", ".1."))


async def test_a_lease_that_was_taken_back_writes_nothing(desk: Desk, write: Callable[..., Awaitable[Any]]) -> None:
    claim = await desk.start()
    await desk.update(claim)
    await desk.pass_time(901)
    await refused(desk, write, claim.lease)


async def test_a_lease_of_a_cancelled_task_writes_nothing_and_says_so(
    desk: Desk, write: Callable[..., Awaitable[Any]]
) -> None:
    claim = await desk.start()
    await desk.cancel(claim, "no longer needed")
    error = await refused(desk, write, claim.lease)
    assert "cancelled (no longer needed)" in str(error)
    assert error.facts["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["progress", "heartbeat", "log", "artifact", "usage", "question", "child"])
async def test_a_finished_attempt_writes_no_more(desk: Desk, kind: str) -> None:
    claim = await desk.start()
    await desk.complete(claim)
    await refused(desk, WRITES[kind], claim.lease)


@pytest.mark.parametrize(
    "text",
    ["", "T-1", "T-1.1", "T-1.1.short", "t-1.1." + "a" * 26, "T-1.1." + "A" * 26, "T-1.1." + "a" * 27, "\0", "\ud800"],
)
async def test_what_does_not_look_like_a_lease_is_refused(
    desk: Desk, write: Callable[..., Awaitable[Any]], text: str
) -> None:
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=r"^lease: "):
        await write(desk, text, CLAUDE)
    assert await desk.snapshot() == before


async def test_a_lease_of_a_task_that_does_not_exist_is_refused(
    desk: Desk, write: Callable[..., Awaitable[Any]]
) -> None:
    with pytest.raises(NotFound, match="T-999"):
        await write(desk, "T-999.1." + "a" * 26, CLAUDE)


async def test_blanks_around_a_lease_do_no_harm(desk: Desk) -> None:
    claim = await desk.start()
    assert (await desk.complete(f" {claim.lease}\n")).status is Status.COMPLETED


async def test_a_caller_without_the_scope_writes_nothing_even_with_a_lease(
    desk: Desk, write: Callable[..., Awaitable[Any]]
) -> None:
    claim = await desk.start()
    with pytest.raises(Forbidden):
        await write(desk, claim.lease, GEMINI)


# --- soft expiry


async def test_a_late_holder_may_finish_until_the_task_was_taken_back(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(86_400)
    task = await desk.complete(claim)
    assert (task.status, task.attempt, task.failures) == (Status.COMPLETED, 1, 0)


async def test_a_late_holder_may_heartbeat_and_then_holds_the_task_again(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(86_400)
    await desk.update(claim)
    assert await desk.claim(by=CODEX) is None
    assert (await desk.complete(claim)).status is Status.COMPLETED


async def test_a_lease_is_valid_up_to_its_very_end(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(900)
    await desk.queue.tick()
    assert await desk.claim(by=CODEX) is None
    clock.advance(0.000_001)
    assert (await desk.take(by=CODEX)).task.id == claim.task.id


async def test_only_leases_that_ran_out_are_taken_back(desk: Desk, clock: Clock) -> None:
    first = await desk.start("first")
    clock.advance(0.000_001)
    second = await desk.start("second")
    clock.advance(900)
    await desk.queue.tick()
    assert (await desk.task(first)).status is Status.READY
    assert (await desk.complete(second)).status is Status.COMPLETED


async def test_after_it_was_taken_back_a_late_holder_never_finishes(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(901)
    assert await desk.claim(task_types=("another",), by=CODEX) is None  # looking is enough to take it back
    assert (await desk.task(claim)).status is Status.READY
    await refused(desk, WRITES["complete"], claim.lease)
    clock.advance(-901)
    await refused(desk, WRITES["complete"], claim.lease)


async def test_looking_at_what_is_ready_takes_back_what_was_lost(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(901)
    assert await desk.ready() == [claim.task.id]


async def test_an_update_never_shortens_a_lease(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    before = claim.task.lease_expires_at
    assert (await desk.update(claim, extend_seconds=1)).task.lease_expires_at == before
    clock.advance(-3_600)
    assert (await desk.update(claim)).task.lease_expires_at == before


async def test_a_clock_that_jumps_back_takes_no_lease_away(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(-365 * 86_400)
    await desk.queue.tick()
    assert await desk.claim(by=CODEX) is None
    assert (await desk.complete(claim)).status is Status.COMPLETED


async def test_a_clock_that_jumps_ahead_completes_nothing_twice(desk: Desk, clock: Clock) -> None:
    first = await desk.start()
    clock.advance(365 * 86_400)
    second = await desk.take(by=CODEX)
    await desk.complete(second, "by the second", by=CODEX)
    await refused(desk, WRITES["complete"], first.lease)
    assert (await desk.task(first)).result_summary == "by the second"


async def test_a_person_with_every_scope_needs_the_lease_too(desk: Desk, write: Callable[..., Awaitable[Any]]) -> None:
    claim = await desk.start()
    await refused(desk, write, claim.lease, OWNER)
