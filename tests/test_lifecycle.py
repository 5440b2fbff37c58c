"""The diagram, pair by pair: what each transition makes of a task wherever it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp import lifecycle
from taskqueue_mcp.errors import WrongStatus
from taskqueue_mcp.lifecycle import HEAD_START, HOUR, MOST_HANDBACKS, Change, place, sort_at
from taskqueue_mcp.model import FINAL, Completed, Failed, Priority, Reason, Returned, Status, Task

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_000_000_000
LATER = NOW + 3_600_000_000
DELAY = 10_000_000

TASK = Task(
    id=142, title="Count", task_type="task", executor="claude", queue="default", priority="medium",
    status=Status.READY, reason=None, run_at=NOW - 5, attempt=2, failures=1, handbacks=3, max_attempts=3, blockers=0,
    serial_key=None, worker=None, lease_principal=None, lease_expires_at=None, lease_seconds=900, confirmed=True,
    claim_id=None, claimed_at=None, parent_id=None, root_id=None, depth=0, schedule_id=None, due_at=None,
    created_by="gemini", created_at=NOW - 10, finished_at=None, progress=None, message=None, question=None,
    result_summary=None, result_path=None, error="It broke before.", expects=False, verdict=None, seq=7,
)  # fmt: skip

STANDS = {
    "scheduled": (Status.PENDING, Reason.SCHEDULED),
    "dependency": (Status.PENDING, Reason.DEPENDENCY),
    "retry": (Status.PENDING, Reason.RETRY),
    "snooze": (Status.PENDING, Reason.SNOOZE),
    "quota": (Status.PENDING, Reason.QUOTA),
    "serial": (Status.PENDING, Reason.SERIAL),
    "paused": (Status.PENDING, Reason.PAUSED),
    "ready": (Status.READY, None),
    "in_progress": (Status.IN_PROGRESS, None),
    "approval": (Status.WAITING, Reason.APPROVAL),
    "question": (Status.WAITING, Reason.QUESTION),
    "budget": (Status.WAITING, Reason.BUDGET),
    "completed": (Status.COMPLETED, None),
    "failed": (Status.FAILED, None),
    "cancelled": (Status.CANCELLED, None),
}
OPEN = set(STANDS) - {"completed", "failed", "cancelled"}
TIMED = {"scheduled", "retry", "snooze", "quota", "paused"}

DECISIONS: dict[str, tuple[Callable[[Task], Change], set[str], Status, Reason | None]] = {
    "cancel": (lambda task: lifecycle.cancel(task, "why"), OPEN, Status.CANCELLED, None),
    "reopen": (lambda task: lifecycle.reopen(task, NOW), {"failed", "cancelled"}, Status.PENDING, Reason.SCHEDULED),
    "hasten": (lambda task: lifecycle.hasten(task, NOW), TIMED, Status.PENDING, Reason.SCHEDULED),
    "approve": (lifecycle.approve, {"approval"}, Status.PENDING, Reason.SCHEDULED),
    "reject": (
        lambda task: lifecycle.reject(task, "why"), {"approval", "question", "budget"}, Status.CANCELLED, None,
    ),
    "answered": (
        lambda task: lifecycle.answered(task, NOW), {"question", "budget"}, Status.PENDING, Reason.SCHEDULED,
    ),
}  # fmt: skip


def standing(where: str) -> Task:
    status, reason = STANDS[where]
    return TASK._replace(status=status, reason=reason)


@pytest.mark.parametrize("where", list(STANDS))
@pytest.mark.parametrize("decision", list(DECISIONS))
def test_each_decision_is_allowed_where_the_diagram_has_it_and_nowhere_else(decision: str, where: str) -> None:
    decide, allowed, status, reason = DECISIONS[decision]
    task = standing(where)
    if where in allowed:
        change = decide(task)
        assert (change.status, change.reason) == (status, reason)
    else:
        with pytest.raises(WrongStatus, match=r"^T-142 is ") as refused:
            decide(task)
        assert refused.value.facts["status"] == task.status.value
        assert "\n" not in str(refused.value)


def test_every_status_and_reason_is_in_the_table() -> None:
    assert {status for status, _ in STANDS.values()} == set(Status)
    assert {reason for _, reason in STANDS.values()} - {None} == set(Reason)
    assert {STANDS[where][0] for where in set(STANDS) - OPEN} == FINAL


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "run_at", "failures", "handbacks", "error"),
    [
        (Completed("Done."), Status.COMPLETED, None, NOW - 5, 1, 3, None),
        (Failed("It broke."), Status.PENDING, Reason.RETRY, NOW + DELAY, 2, 3, "It broke."),
        (Failed("It broke.", permanent=True), Status.FAILED, None, NOW - 5, 2, 3, "It broke."),
        (Returned(Reason.QUOTA, "spent", LATER), Status.PENDING, Reason.QUOTA, LATER, 1, 4, "It broke before."),
        (Returned(Reason.SNOOZE, "", LATER), Status.PENDING, Reason.SNOOZE, LATER, 1, 4, "It broke before."),
        (Returned(Reason.SNOOZE, "", NOW - 1), Status.PENDING, Reason.SNOOZE, NOW, 1, 4, "It broke before."),
        (Returned(None, "stopping"), Status.PENDING, Reason.SNOOZE, NOW, 1, 4, "It broke before."),
    ],
)
def test_an_outcome_says_what_becomes_of_the_task(
    outcome: Completed | Failed | Returned, status: Status, reason: Reason | None, run_at: int, failures: int,
    handbacks: int, error: str | None,
) -> None:  # fmt: skip
    change = lifecycle.settle(standing("in_progress"), outcome, NOW, DELAY)
    assert change == Change(status, reason, run_at, failures, handbacks, error)


@pytest.mark.parametrize(("failures", "status"), [(0, Status.PENDING), (1, Status.PENDING), (2, Status.FAILED)])
def test_the_last_failure_is_the_one_that_uses_the_attempts_up(failures: int, status: Status) -> None:
    task = standing("in_progress")._replace(failures=failures)
    assert lifecycle.settle(task, Failed("It broke."), NOW, DELAY).status is status
    assert lifecycle.lose(task, NOW, DELAY).status is status


def test_a_confirmed_lease_that_ran_out_is_a_failure() -> None:
    task = standing("in_progress")._replace(worker="w1")
    assert lifecycle.lose(task, NOW, DELAY) == Change(Status.PENDING, Reason.RETRY, NOW + DELAY, 2, 3, "w1 went silent")


def test_a_claim_that_was_never_confirmed_is_a_hand_back() -> None:
    task = standing("in_progress")._replace(confirmed=False)
    change = lifecycle.lose(task, NOW, DELAY)
    assert (change.status, change.run_at, change.failures, change.handbacks) == (Status.PENDING, NOW, 1, 4)


@pytest.mark.parametrize("outcome", [Returned(Reason.QUOTA), Returned(Reason.SNOOZE), Returned(None)])
def test_twenty_hand_backs_are_free_and_the_next_one_asks_a_person(outcome: Returned) -> None:
    last = standing("in_progress")._replace(handbacks=MOST_HANDBACKS - 1)
    assert lifecycle.settle(last, outcome, NOW, DELAY).status is Status.PENDING
    over = last._replace(handbacks=MOST_HANDBACKS)
    change = lifecycle.settle(over, outcome, NOW, DELAY)
    assert (change.status, change.reason, change.failures) == (Status.WAITING, Reason.QUESTION, 1)
    assert "20 times" in (change.question or "")
    assert lifecycle.lose(over._replace(confirmed=False), NOW, DELAY).status is Status.WAITING


def test_a_question_waits_for_a_person() -> None:
    change = lifecycle.ask(standing("in_progress"), "Which shop?")
    assert (change.status, change.reason, change.question) == (Status.WAITING, Reason.QUESTION, "Which shop?")
    assert (change.failures, change.handbacks) == (1, 3)


def test_an_answer_gives_new_hand_backs_and_forgives_no_failure() -> None:
    change = lifecycle.answered(standing("question")._replace(handbacks=21), NOW)
    assert (change.run_at, change.failures, change.handbacks) == (NOW, 1, 0)


def test_a_retry_starts_with_a_fresh_count() -> None:
    change = lifecycle.reopen(standing("failed")._replace(failures=3, handbacks=9), NOW)
    assert (change.run_at, change.failures, change.handbacks, change.error) == (NOW, 0, 0, None)


def test_running_now_is_never_later_than_before() -> None:
    assert lifecycle.hasten(standing("retry")._replace(run_at=LATER), NOW).run_at == NOW
    assert lifecycle.hasten(standing("retry")._replace(run_at=NOW - 9), NOW).run_at == NOW - 9


def test_an_approval_keeps_the_time() -> None:
    assert lifecycle.approve(standing("approval")._replace(run_at=LATER)).run_at == LATER


@pytest.mark.parametrize(
    ("needs_approval", "blockers", "run_at", "stands"),
    [
        (True, 2, LATER, "approval"),
        (True, 0, NOW, "approval"),
        (False, 2, LATER, "dependency"),
        (False, 1, NOW, "dependency"),
        (False, 0, NOW + 1, "scheduled"),
        (False, 0, NOW, "ready"),
        (False, 0, NOW - 1, "ready"),
    ],
)
def test_a_new_task_stands_where_it_has_to_wait_longest(
    needs_approval: bool, blockers: int, run_at: int, stands: str
) -> None:
    assert place(run_at=run_at, now=NOW, blockers=blockers, needs_approval=needs_approval) == STANDS[stands]


def test_priorities_are_head_starts_in_their_order() -> None:
    assert set(HEAD_START) == set(Priority)
    assert [sort_at(NOW, priority) - NOW for priority in ("low", "medium", "high", "urgent")] == [
        HOUR, 0, -24 * HOUR, -30 * 24 * HOUR,
    ]  # fmt: skip


@pytest.mark.parametrize("where", sorted(OPEN - {"ready", "in_progress"}))
def test_a_dependency_that_did_not_complete_fails_the_task_at_no_cost(where: str) -> None:
    change = lifecycle.dependency_ended(standing(where), "T-7", Status.CANCELLED)
    assert (change.status, change.failures) == (Status.FAILED, 1)
    assert change.error == "T-7, which it depends on, ended cancelled"
