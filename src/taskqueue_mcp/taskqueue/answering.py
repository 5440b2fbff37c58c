"""What a person, or an agent with the scope, decides: approve, reject, answer, retry, run now, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp import checks, lifecycle
from taskqueue_mcp.errors import InvalidInput, WrongStatus
from taskqueue_mcp.model import FINAL, Reason, Status, Task
from taskqueue_mcp.store import attempts, spending, tasks
from taskqueue_mcp.taskqueue import approving, gating, moving, paying, rights, scheduling

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

ACTIONS = ("approve", "reject", "answer", "retry", "run_now")
LONGEST_ANSWER = 20_000


def answer(transaction: Transaction, rules: Rules, caller: Caller, task_id: int, action: str, text: str | None) -> Task:
    """Do what was decided about a task that waits, failed, or waits for a time.

    Raises:
        InvalidInput: the action is unknown or an answer is missing.
        WrongStatus: the task does not wait for this.
        Forbidden: an agent may not decide about what it created or works on.
    """
    if action not in ACTIONS:
        raise InvalidInput(f"action: {action!r} is not one of {', '.join(ACTIONS)}")
    said = checks.text("answer", text or "", LONGEST_ANSWER).strip()
    if action == "approve":
        return _approve(transaction, rules, caller, task_id, said)
    if action == "retry":
        return _retry(transaction, rules, caller, task_id, said)
    schedule = None if action != "run_now" else scheduling.standing_for(transaction, moving.fetch(transaction, task_id))
    task = moving.locked(transaction, task_id)
    if task.reason is Reason.BUDGET and action in {"reject", "answer"}:
        approving.check_impartial(transaction, rules, caller, task)
        return paying.decide(transaction, caller, task, action, said)
    match action:
        case "reject":
            change = lifecycle.reject(task, said)
            approving.check_impartial(transaction, rules, caller, task)
            kind = "rejected"
        case "answer":
            if not said:
                raise InvalidInput("answer: is empty; say what the worker should know")
            change = lifecycle.answered(task, transaction.now)
            approving.check_impartial(transaction, rules, caller, task)
            kind = "answered"
        case _:
            change, kind = lifecycle.hasten(task, transaction.now), "hastened"
            if schedule is not None:
                raise WrongStatus(
                    f"T-{task.id} stands for the next run of schedule {schedule.name!r}; "
                    "use manage_schedule with action run_now for a run of its own"
                )
    _let_try(transaction, task, action)
    if action in {"reject", "answer"}:
        attempts.answer(transaction, task.id, said or action, caller.name)
    return moving.move(transaction, task, change, kind, caller.name, {"answer": said} if said else None)


def _approve(transaction: Transaction, rules: Rules, caller: Caller, task_id: int, said: str) -> Task:
    """Let a task run as the open question shows it; where that has changed meanwhile, ask anew."""
    approving.lock_schedule(transaction, task_id)
    task = moving.locked(transaction, task_id)
    if task.reason is Reason.BUDGET:
        approving.check_impartial(transaction, rules, caller, task)
        return paying.decide(transaction, caller, task, "approve", said)
    change = lifecycle.approve(task)
    approving.check_impartial(transaction, rules, caller, task)
    changed = approving.lapsed(transaction, rules, task)
    if changed is not None:
        return approving.ask(transaction, task, changed, "what would run has changed since it was asked")
    told = {"approves": approving.grant(transaction, task), **({"answer": said} if said else {})}
    attempts.answer(transaction, task.id, said or "approve", caller.name)
    return moving.move(transaction, task, change, "approved", caller.name, told)


def _retry(transaction: Transaction, rules: Rules, caller: Caller, task_id: int, said: str) -> Task:
    """Open a task again; one that needs an approval and has none for what would run now waits for it."""
    task = moving.locked(transaction, task_id)
    change = lifecycle.reopen(task, transaction.now)
    rights.check_retry(transaction, rules, caller, task)
    task = _recount(transaction, task)
    after = moving.move(transaction, task, change, "reopened", caller.name, {"answer": said} if said else None)
    return approving.hold(transaction, rules, after) or after


def cancel(transaction: Transaction, rules: Rules, caller: Caller, task_id: int, why: str | None) -> Task:
    """Cancel a task that is not final; whoever holds it can write no more.

    Raises:
        WrongStatus: it is final already.
    """
    reason = checks.text("reason", why or "", 2_000).strip()
    schedule = scheduling.standing_for(transaction, moving.fetch(transaction, task_id))
    task = moving.locked(transaction, task_id)
    change = lifecycle.cancel(task, reason)
    after = moving.move(transaction, task, change, "cancelled", caller.name, {"reason": reason} if reason else None)
    if schedule is not None:
        scheduling.skip_cancelled(transaction, rules, schedule, after, caller.name)
    return after


def _let_try(transaction: Transaction, task: Task, action: str) -> None:
    """A task that waits for a usage limit, and that a person wants to go on, passes the gate once."""
    if action in {"answer", "run_now"} and (task.reason is Reason.QUOTA or lifecycle.is_about_quota(task)):
        spending.let_go(transaction, task.id)
        gating.let_through(transaction, task)


def _recount(transaction: Transaction, task: Task) -> Task:
    """Count what a task that is retried still waits for.

    Raises:
        WrongStatus: it cannot do without a task that did not complete.
    """
    others = tasks.depends_on(transaction, task.id)
    if not others:
        return task
    found = tasks.statuses(transaction, tuple(others))
    dead = [f"T-{other}" for other in others if found.get(other) in {Status.FAILED, Status.CANCELLED}]
    if dead and tasks.fetch_body(transaction, task.id).on_dependency_failure == "fail":
        raise WrongStatus(f"T-{task.id} depends on {', '.join(dead)}, which did not complete; retry that first")
    open_ = [other for other in others if other in found and found[other] not in FINAL]
    return tasks.set_blockers(transaction, task, len(open_))
