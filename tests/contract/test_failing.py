"""The end of an attempt that did not complete: what it costs, when it goes on, when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Conflict, InvalidInput, WrongStatus
from taskqueue_mcp.lifecycle import MOST_HANDBACKS
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.retries import Backoff
from tests.clock import micros
from tests.contract.desk import CODEX, Desk

if TYPE_CHECKING:
    from tests.clock import Clock
    from tests.conftest import OpenQueue

SECOND = 1_000_000


async def test_a_failure_is_tried_again_after_a_while(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    task = await desk.fail(claim, "The shop was closed.")
    assert (task.status, task.reason, task.failures, task.handbacks) == (Status.PENDING, Reason.RETRY, 1, 0)
    assert task.error == "The shop was closed."
    assert task.run_at == clock.micros + round(11.25 * SECOND)  # 10 s, and half of a quarter more
    assert await desk.kinds(claim) == ["created", "claimed", "retry"]
    clock.set(task.run_at - 1)
    assert await desk.claim() is None
    clock.set(task.run_at)
    again = await desk.take()
    assert (again.task.id, again.task.attempt) == (task.id, 2)
    (earlier,) = again.earlier
    assert (earlier.outcome, earlier.error, earlier.attempt) == ("failed", "The shop was closed.", 1)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (0.999, 1.249_75)])
async def test_each_failure_doubles_the_wait_within_its_jitter(
    open_queue: OpenQueue, clock: Clock, chance: float, factor: float
) -> None:
    backoff = Backoff(first_seconds=10, longest_seconds=60)
    desk = Desk(open_queue(chance=lambda: chance, backoff=backoff), clock)
    await desk.create(options={"max_attempts": 10})
    for seconds in (10, 20, 40, 60, 60):
        task = await desk.fail(await desk.take())
        assert task.run_at - clock.micros == round(seconds * factor * SECOND)
        clock.set(task.run_at)


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_a_task_fails_when_its_attempts_are_used_up(desk: Desk, most: int) -> None:
    task = await desk.create(options={"max_attempts": most})
    for number in range(most):
        assert (await desk.task(task)).status is Status.READY
        await desk.fail(await desk.take(), f"error {number}")
        await desk.pass_time(4_000)
    after = await desk.task(task)
    assert (after.status, after.failures, after.error) == (Status.FAILED, most, f"error {most - 1}")
    assert after.finished_at is not None
    assert (await desk.kinds(task))[-1] == "failed"
    assert await desk.claim() is None


async def test_a_permanent_failure_is_not_tried_again(desk: Desk) -> None:
    task = await desk.fail(await desk.start(), "No such shop.", kind="permanent")
    assert (task.status, task.failures, task.error) == (Status.FAILED, 1, "No such shop.")
    (attempt,) = (await desk.detail(task)).attempts
    assert attempt.outcome == "permanent"


@pytest.mark.parametrize(
    ("kind", "reason", "seconds", "event"),
    [("quota", Reason.QUOTA, 3_600, "quota"), ("snooze", Reason.SNOOZE, 900, "snoozed")],
)
async def test_quota_and_snooze_wait_without_costing_a_failure(
    desk: Desk, clock: Clock, kind: str, reason: Reason, seconds: int, event: str
) -> None:
    claim = await desk.start()
    task = await desk.fail(claim, "Later.", kind=kind)
    assert (task.status, task.reason, task.failures, task.handbacks) == (Status.PENDING, reason, 0, 1)
    assert task.run_at == clock.micros + seconds * SECOND
    assert (await desk.kinds(claim))[-1] == event
    await desk.pass_time(seconds)
    assert (await desk.take()).task.attempt == 2


@pytest.mark.parametrize("kind", ["quota", "snooze", "release"])
async def test_a_task_that_was_handed_back_goes_on_when_it_was_asked_to(desk: Desk, clock: Clock, kind: str) -> None:
    task = await desk.fail(await desk.start(), kind=kind, resume_at="2026-01-15T18:00:00Z")
    assert task.run_at == micros("2026-01-15T18:00:00Z")
    clock.set("2026-01-15T17:59:59Z")
    assert await desk.claim() is None
    clock.set("2026-01-15T18:00:00Z")
    assert (await desk.take()).task.id == task.id


async def test_a_time_to_resume_that_has_passed_means_now(desk: Desk) -> None:
    task = await desk.fail(await desk.start(), kind="snooze", resume_at="2026-01-14T12:00:00Z")
    assert task.status is Status.READY


async def test_a_released_task_is_ready_for_the_next_at_once(desk: Desk) -> None:
    claim = await desk.start()
    task = await desk.fail(claim, "I am shutting down.", kind="release")
    assert (task.status, task.failures, task.handbacks) == (Status.READY, 0, 1)
    assert await desk.kinds(claim) == ["created", "claimed", "released", "ready"]
    assert (await desk.take(by=CODEX)).task.attempt == 2


@pytest.mark.parametrize("kind", ["quota", "snooze", "release"])
async def test_after_twenty_hand_backs_a_person_is_asked(desk: Desk, clock: Clock, kind: str) -> None:
    made = await desk.create()
    for number in range(MOST_HANDBACKS):
        task = await desk.fail(await desk.take(), "Not now.", kind=kind)
        assert (task.status in {Status.PENDING, Status.READY}, task.handbacks) == (True, number + 1)
        clock.set(max(task.run_at, clock.micros))
    task = await desk.fail(await desk.take(), "Not now.", kind=kind)
    assert (task.status, task.reason, task.failures) == (Status.WAITING, Reason.QUESTION, 0)
    assert "20 times" in (task.question or "")
    (asked,) = (await desk.detail(made)).questions
    assert (asked.kind, asked.text) == ("question", task.question)
    assert await desk.claim() is None
    await desk.decide(task, "answer", "Try the other door.")
    again = await desk.take()
    assert (again.task.attempt, again.task.handbacks) == (MOST_HANDBACKS + 2, 0)
    assert again.questions[-1].answer == "Try the other door."


async def test_claims_that_nobody_confirms_end_with_a_person_too(desk: Desk) -> None:
    made = await desk.create()
    for _ in range(MOST_HANDBACKS + 1):
        await desk.take(claim_id="c1")
        await desk.pass_time(61)
    task = await desk.task(made)
    assert (task.status, task.reason, task.failures) == (Status.WAITING, Reason.QUESTION, 0)
    assert len((await desk.detail(made)).questions) == 1


async def test_a_confirmed_lease_that_ran_out_costs_one_failure(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    await desk.update(claim, message="I have it")
    await desk.pass_time(901)
    task = await desk.task(claim)
    assert (task.status, task.reason, task.failures, task.handbacks) == (Status.PENDING, Reason.RETRY, 1, 0)
    assert task.run_at > clock.micros
    assert task.error == "claude went silent"
    (attempt,) = (await desk.detail(claim)).attempts
    assert attempt.outcome == "lost"
    assert (await desk.kinds(claim))[-1] == "lease_lost"


async def test_a_lease_that_was_never_confirmed_costs_none_and_goes_on_at_once(desk: Desk) -> None:
    claim = await desk.start()
    await desk.pass_time(901)
    task = await desk.task(claim)
    assert (task.status, task.failures, task.handbacks) == (Status.READY, 0, 1)
    (attempt,) = (await desk.detail(claim)).attempts
    assert attempt.outcome == "unconfirmed"


async def test_leases_that_run_out_use_the_attempts_up(desk: Desk) -> None:
    made = await desk.create()
    for _ in range(3):
        claim = await desk.take(worker="w1")
        await desk.update(claim)
        await desk.pass_time(4_000)
        await desk.pass_time(4_000)
    task = await desk.task(made)
    assert (task.status, task.failures, task.error) == (Status.FAILED, 3, "w1 went silent")
    assert await desk.found("silent") == [made.id]


async def test_the_same_failure_again_is_fine(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    first = await desk.fail(claim, "It broke.")
    before = await desk.snapshot()
    clock.advance(3)
    assert await desk.fail(claim, "It broke.") == first
    assert await desk.snapshot() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"error_log": "Something else."},
        {"kind": "permanent"},
        {"kind": "snooze"},
        {"kind": "release"},
    ],
)
async def test_another_failure_under_the_same_lease_is_a_conflict(desk: Desk, changed: dict[str, Any]) -> None:
    claim = await desk.start()
    await desk.fail(claim, "It broke.")
    before = await desk.snapshot()
    with pytest.raises(Conflict):
        await desk.fail(claim, **{"error_log": "It broke.", **changed})
    assert await desk.snapshot() == before


async def test_another_time_to_resume_under_the_same_lease_is_a_conflict(desk: Desk) -> None:
    claim = await desk.start()
    await desk.fail(claim, "Later.", kind="snooze", resume_at="in 1 hour")
    assert (await desk.fail(claim, "Later.", kind="snooze", resume_at="in 1 hour")).status is Status.PENDING
    with pytest.raises(Conflict):
        await desk.fail(claim, "Later.", kind="snooze", resume_at="in 2 hours")


async def test_repeating_a_failure_after_the_next_attempt_began_changes_nothing(desk: Desk) -> None:
    first = await desk.start()
    await desk.fail(first)
    await desk.pass_time(60)
    second = await desk.take(by=CODEX)
    before = await desk.snapshot()
    assert (await desk.fail(first)).attempt == 2
    assert await desk.snapshot() == before
    await desk.complete(second, by=CODEX)


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        ({"kind": "explosion"}, "kind"),
        ({"kind": "error", "resume_at": "in 1 hour"}, "resume_at"),
        ({"kind": "permanent", "resume_at": "in 1 hour"}, "resume_at"),
        ({"kind": "snooze", "resume_at": "whenever"}, "resume_at"),
        ({"error_log": "a\0b"}, "error_log"),
        ({"usage": "{"}, "usage"),
    ],
)
async def test_a_bad_argument_of_a_failure_is_refused_by_name(desk: Desk, failure: dict[str, Any], named: str) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        await desk.fail(claim, **failure)
    assert await desk.snapshot() == before


async def test_a_long_error_keeps_its_beginning_and_its_end(desk: Desk) -> None:
    task = await desk.fail(await desk.start(), "begin" + "x" * 100_000 + "end")
    assert (task.error or "").startswith("beginx")
    assert (task.error or "").endswith("xend")
    assert len(task.error or "") < 66_000


async def test_a_failure_without_a_word_says_so(desk: Desk) -> None:
    assert (await desk.fail(await desk.start(), "")).error == "failed without saying why"


async def test_a_failure_is_not_forgotten_by_a_hand_back(desk: Desk) -> None:
    task = await desk.fail(await desk.start(), "It broke.")
    await desk.pass_time(60)
    task = await desk.fail(await desk.take(), "Not now.", kind="release")
    assert (task.failures, task.handbacks, task.error) == (1, 1, "It broke.")


async def test_a_failed_task_takes_no_further_answer_but_retry(desk: Desk) -> None:
    task = await desk.fail(await desk.start(), kind="permanent")
    for action in ("approve", "reject", "answer", "run_now"):
        with pytest.raises(WrongStatus):
            await desk.decide(task, action, "Go on.")
