"""What follows from a transition, in its transaction: the event, the line behind it, those that waited for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_mcp import lifecycle
from taskqueue_mcp.errors import NotFound, WrongStatus
from taskqueue_mcp.lifecycle import Change
from taskqueue_mcp.model import FINAL, Reason, Status, Task
from taskqueue_mcp.store import attempts, events, queues, tasks
from taskqueue_mcp.taskqueue import accounting

if TYPE_CHECKING:
    from taskqueue_mcp.store import Transaction

IN_THE_WAY = frozenset({Status.READY, Status.IN_PROGRESS})


def fetch(transaction: Transaction, task_id: int) -> Task:
    """Return a task.

    Raises:
        NotFound: there is none.
    """
    task = tasks.fetch(transaction, task_id)
    if task is None:
        raise NotFound(f"there is no task T-{task_id}; list_tasks shows those that exist")
    return task


def locked(transaction: Transaction, task_id: int) -> Task:
    """Return a task to be changed: until this work is committed nobody else changes it.

    Raises:
        NotFound: there is none.
    """
    task = tasks.fetch_locked(transaction, task_id)
    if task is None:
        raise NotFound(f"there is no task T-{task_id}; list_tasks shows those that exist")
    return task


def move(
    transaction: Transaction, task: Task, change: Change, kind: str, principal: str,
    data: dict[str, Any] | None = None,
) -> Task:  # fmt: skip
    """Write a transition that needs no lease, with everything that follows from it.

    Raises:
        WrongStatus: the task has moved meanwhile.
    """
    after = tasks.move(transaction, task, change)
    if after is None:
        raise WrongStatus(f"T-{task.id} has moved on meanwhile; look at it again with get_task")
    if task.status is Status.IN_PROGRESS:
        attempts.end(transaction, task.id, task.attempt, _ending(task, kind), error=change.error)
        accounting.lose(transaction, task, after)
    events.record(transaction, after, kind, principal, data)
    return follow(transaction, task, after)


def follow(transaction: Transaction, before: Task, after: Task) -> Task:
    """Do what a written transition entails and return the task as it stands then."""
    if after.status is Status.WAITING and after.question is not None and after.reason is not Reason.APPROVAL:
        kind = "budget" if after.reason is Reason.BUDGET else "question"
        attempts.ask(transaction, after, kind, after.question)
    if after.serial_key is not None and before.status in IN_THE_WAY and after.status not in IN_THE_WAY:
        head = tasks.next_in_line(transaction, after.serial_key)
        if head is not None:
            _make_ready(transaction, head)
    if after.status in FINAL and before.status not in FINAL:
        if before.status is not Status.IN_PROGRESS:
            accounting.forget(transaction, before)
        queues.leave(transaction, after.queue)
        _release_dependants(transaction, after)
    elif before.status in FINAL and after.status not in FINAL:
        queues.reenter(transaction, after.queue)
    if _is_due(after, transaction.now):
        return admit(transaction, after)
    return after


def admit(transaction: Transaction, task: Task) -> Task:
    """Make a pending task whose time has come ready, or put it into its serial line."""
    if task.blockers:
        return _place(transaction, task, Status.PENDING, Reason.DEPENDENCY, "blocked")
    if task.serial_key is not None and tasks.line_is_busy(transaction, task.serial_key):
        return _place(transaction, task, Status.PENDING, Reason.SERIAL, "queued")
    return _make_ready(transaction, task)


def is_timed(task: Task) -> bool:
    """Whether the task becomes ready when its `run_at` has come."""
    return task.status is Status.PENDING and task.reason in {
        Reason.SCHEDULED,
        Reason.RETRY,
        Reason.SNOOZE,
        Reason.QUOTA,
    }


def _is_due(task: Task, now: int) -> bool:
    # What was to run at once is due, though another server's clock or transaction was a little ahead of this one's.
    return is_timed(task) and task.run_at <= max(now, task.created_at)


def _make_ready(transaction: Transaction, task: Task) -> Task:
    ready = _place(transaction, task, Status.READY, None, "ready")
    transaction.signal("queue", ready.queue)
    return ready


def _place(transaction: Transaction, task: Task, status: Status, reason: Reason | None, kind: str) -> Task:
    change = Change(status, reason, task.run_at, task.failures, task.handbacks, task.error, task.question)
    after = tasks.move(transaction, task, change)
    if after is None:
        raise WrongStatus(f"T-{task.id} has moved on meanwhile; look at it again with get_task")
    events.record(transaction, after, kind, events.SYSTEM)
    return after


def _release_dependants(transaction: Transaction, ended: Task) -> None:
    """Count `ended` off every task that waits for it; a failure ends those that cannot do without it."""
    work = [ended]
    while work:
        cause = work.pop()
        for task, on_failure in tasks.dependants(transaction, cause.id):
            if cause.status is Status.COMPLETED or on_failure == "run":
                _unblock(transaction, task)
                continue
            change = lifecycle.dependency_ended(task, f"T-{cause.id}", cause.status)
            failed = tasks.move(transaction, task, change)
            if failed is not None:
                events.record(transaction, failed, "failed", events.SYSTEM, {"dependency": f"T-{cause.id}"})
                queues.leave(transaction, failed.queue)
                accounting.forget(transaction, task)
                work.append(failed)


def _unblock(transaction: Transaction, task: Task) -> None:
    # Counted anew, for what has just ended may have been opened again after it was counted off before.
    left = tasks.open_dependencies(transaction, task.id)
    free = left == 0 and task.reason is Reason.DEPENDENCY
    status, reason = (Status.PENDING, Reason.SCHEDULED) if free else (task.status, task.reason)
    after = tasks.unblock(transaction, task, left, status, reason)
    if after is None or not free:
        return
    events.record(transaction, after, "unblocked", events.SYSTEM)
    if _is_due(after, transaction.now):
        admit(transaction, after)


def _ending(task: Task, kind: str) -> str:
    if kind == "lease_lost":
        return "lost" if task.confirmed else "unconfirmed"
    if kind == "approval_asked":
        return "released"
    return "cancelled"
