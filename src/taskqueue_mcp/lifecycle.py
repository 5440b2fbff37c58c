"""What becomes of a task. Pure: no clock, no database, no chance; `taskqueue` writes what is decided here."""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue_mcp.errors import WrongStatus
from taskqueue_mcp.model import (
    FINAL,
    Completed,
    Failed,
    Micros,
    Outcome,
    Reason,
    Rejected,
    Returned,
    Standing,
    Status,
    Task,
)

HOUR = 3_600 * 1_000_000
HEAD_START = {"low": -HOUR, "medium": 0, "high": 24 * HOUR, "urgent": 30 * 24 * HOUR}
MOST_HANDBACKS = 20


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition writes; everything else of the task stays as it is."""

    status: Status
    reason: Reason | None
    run_at: Micros
    failures: int
    handbacks: int
    error: str | None = None
    question: str | None = None


def sort_at(run_at: Micros, priority: str) -> Micros:
    """Return the instant that orders ready tasks: priority is a head start, so nothing starves."""
    return run_at - HEAD_START[priority]


def place(*, run_at: Micros, now: Micros, blockers: int, needs_approval: bool) -> tuple[Status, Reason | None]:
    """Return where a new or released task stands before its serial line is looked at."""
    if needs_approval:
        return Status.WAITING, Reason.APPROVAL
    if blockers:
        return Status.PENDING, Reason.DEPENDENCY
    if run_at > now:
        return Status.PENDING, Reason.SCHEDULED
    return Status.READY, None


def settle(
    task: Task, outcome: Outcome | Rejected, now: Micros, retry_delay: int, longest_quota: Micros = 7 * 24 * HOUR
) -> Change:
    """Return what `task` becomes when its attempt ends in `outcome`; `retry_delay` is for its next failure.

    A usage limit that lasts for more than `longest_quota` is for a person to decide about.
    """
    match outcome:
        case Completed():
            return _change(task, Status.COMPLETED, None)
        case Failed(error=error, permanent=permanent):
            return _failed(task, error, now, retry_delay, permanent=permanent)
        case Rejected(error=error):
            had_its_repair = task.verdict == Standing.REJECTED
            return _failed(task, error, now, 0, permanent=had_its_repair)
        case Returned(kind=Reason.QUOTA, why=why, resume_at=resume_at) if (resume_at or now) - now > longest_quota:
            return _ask_about_quota(task, why, longest_quota)
        case Returned(kind=kind, why=why, resume_at=resume_at):
            return _hand_back(task, kind, max(resume_at or now, now), why)


def lose(task: Task, now: Micros, retry_delay: int) -> Change:
    """Return what `task` becomes when its lease ran out: a claim never confirmed costs no failure."""
    if not task.confirmed:
        return _hand_back(task, None, now, "its claim was never confirmed")
    return _failed(task, f"{task.worker or task.lease_principal} went silent", now, retry_delay, permanent=False)


def ask(task: Task, question: str, reason: Reason = Reason.QUESTION) -> Change:
    """Return what `task` becomes when its worker, or its budget, asks a person."""
    return _change(task, Status.WAITING, reason, question=question)


def hold(task: Task, question: str) -> Change:
    """Return what `task` becomes when a person has to approve it before it runs."""
    return _change(task, Status.WAITING, Reason.APPROVAL, question=question)


def cancel(task: Task, why: str) -> Change:
    """Return the cancelled task.

    Raises:
        WrongStatus: it is final already.
    """
    if task.status in FINAL:
        raise WrongStatus(f"T-{task.id} is already {task.status}; nothing is left to cancel", status=task.status.value)
    return _change(task, Status.CANCELLED, None, error=why or None)


def reopen(task: Task, now: Micros) -> Change:
    """Return a failed or cancelled task with a fresh set of attempts, to run at once.

    Raises:
        WrongStatus: only `failed` and `cancelled` can be retried.
    """
    if task.status not in {Status.FAILED, Status.CANCELLED}:
        raise WrongStatus(
            f"T-{task.id} is {task.status}; only a failed or cancelled task can be retried",
            status=task.status.value,
        )
    return Change(Status.PENDING, Reason.SCHEDULED, now, failures=0, handbacks=0)


def hasten(task: Task, now: Micros) -> Change:
    """Return a task that waits for a time, to run now.

    Raises:
        WrongStatus: it does not wait for a time.
    """
    if task.status is not Status.PENDING or task.reason in {Reason.DEPENDENCY, Reason.SERIAL}:
        why = f" ({task.reason})" if task.reason else ""
        raise WrongStatus(
            f"T-{task.id} is {task.status}{why}; run_now is for tasks that wait for a time",
            status=task.status.value,
        )
    return Change(Status.PENDING, Reason.SCHEDULED, min(task.run_at, now), task.failures, task.handbacks, task.error)


def approve(task: Task) -> Change:
    """Return an approved task; the caller places it.

    Raises:
        WrongStatus: it does not wait for an approval.
    """
    if task.status is not Status.WAITING or task.reason is not Reason.APPROVAL:
        raise _not_waiting(task, "approval")
    return Change(Status.PENDING, Reason.SCHEDULED, task.run_at, task.failures, task.handbacks)


def reject(task: Task, why: str) -> Change:
    """Return a rejected task: it ends as cancelled, with the reason.

    Raises:
        WrongStatus: it does not wait for a person.
    """
    if task.status is not Status.WAITING:
        raise _not_waiting(task, "a person")
    return _change(task, Status.CANCELLED, None, error=f"rejected: {why}" if why else "rejected")


def answered(task: Task, now: Micros) -> Change:
    """Return a task whose question was answered: it goes on as a new attempt.

    Raises:
        WrongStatus: it does not wait for an answer.
    """
    if task.status is not Status.WAITING or task.reason is Reason.APPROVAL:
        raise _not_waiting(task, "an answer")
    return Change(Status.PENDING, Reason.SCHEDULED, now, task.failures, handbacks=0)


def dependency_ended(task: Task, name: str, ended: Status) -> Change:
    """Return a task that cannot run because what it depends on did not complete."""
    return _change(task, Status.FAILED, None, error=f"{name}, which it depends on, ended {ended}")


def _not_waiting(task: Task, what: str) -> WrongStatus:
    why = f" ({task.reason})" if task.reason else ""
    return WrongStatus(f"T-{task.id} is {task.status}{why} and does not wait for {what}", status=task.status.value)


def _failed(task: Task, error: str, now: Micros, retry_delay: int, *, permanent: bool) -> Change:
    failures = task.failures + 1
    if permanent or failures >= task.max_attempts:
        return Change(Status.FAILED, None, task.run_at, failures, task.handbacks, error)
    return Change(Status.PENDING, Reason.RETRY, now + retry_delay, failures, task.handbacks, error)


def _hand_back(task: Task, reason: Reason | None, run_at: Micros, why: str) -> Change:
    handbacks = task.handbacks + 1
    if handbacks > MOST_HANDBACKS:
        question = (
            f"Handed back {MOST_HANDBACKS} times without a result (last: {why or reason or 'released'}). "
            "Answer to try again, or reject to cancel it."
        )
        return Change(Status.WAITING, Reason.QUESTION, task.run_at, task.failures, handbacks, task.error, question)
    return Change(Status.PENDING, reason or Reason.SNOOZE, run_at, task.failures, handbacks, task.error)


LONG_LIMIT = "A usage limit lasts"


def is_about_quota(task: Task) -> bool:
    """Whether a person was asked about a usage limit that lasts for too long."""
    return task.reason is Reason.QUESTION and (task.question or "").startswith(LONG_LIMIT)


def _ask_about_quota(task: Task, why: str, longest: Micros) -> Change:
    question = (
        f"{LONG_LIMIT} limit lasts for more than {longest / (24 * HOUR):g} days ({why or 'no reason was given'}). "
        "Answer to try again, or reject to cancel it."
    )
    return Change(Status.WAITING, Reason.QUESTION, task.run_at, task.failures, task.handbacks + 1, task.error, question)


def _change(
    task: Task,
    status: Status,
    reason: Reason | None,
    *,
    error: str | None = None,
    question: str | None = None,
) -> Change:
    return Change(status, reason, task.run_at, task.failures, task.handbacks, error, question)
