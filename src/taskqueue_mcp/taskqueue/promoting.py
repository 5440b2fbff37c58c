"""Time passes: due tasks become ready, schedules fire, lost leases are taken back. Any process may do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp import lifecycle
from taskqueue_mcp.store import events, schedules, tasks
from taskqueue_mcp.taskqueue import firing, gating, moving, paying

if TYPE_CHECKING:
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

BATCH = 100
PROMOTED = "promoted"


def promote(transaction: Transaction, rules: Rules) -> int:
    """Do what the clock asks for, at most `BATCH` of each kind; return how many tasks moved."""
    due_at, expires_at, payable_at, is_gated = tasks.next_instants(transaction)
    if is_gated:
        transaction.marks.add(gating.GATED)
    moved = 0
    if expires_at is not None and expires_at < transaction.now:
        moved += reap(transaction, rules)
    if payable_at is not None and payable_at <= transaction.now:
        moved += paying.ripen(transaction, BATCH)
    if due_at is not None and due_at <= transaction.now:
        moved += ripen(transaction, rules)
    return moved


def promote_once(transaction: Transaction, rules: Rules) -> None:
    """Do so unless another work of the same commit has: no time passes between them."""
    if PROMOTED not in transaction.marks:
        promote(transaction, rules)
        transaction.marks.add(PROMOTED)


def reap(transaction: Transaction, rules: Rules) -> int:
    """Take back tasks whose lease ran out; their holders can then write no more."""
    lost = tasks.expired(transaction, BATCH)
    for task in lost:
        delay = rules.backoff.delay(task.failures + 1, rules.chance())
        change = lifecycle.lose(task, transaction.now, delay)
        moving.move(transaction, task, change, "lease_lost", events.SYSTEM, {"worker": task.worker})
    return len(lost)


def ripen(transaction: Transaction, rules: Rules) -> int:
    """Make due tasks ready; a due occurrence of a schedule fires."""
    moved = 0
    for found in tasks.due(transaction, BATCH):
        task = moving.fetch(transaction, found.id)
        if task.seq != found.seq:
            continue  # an occurrence that fired before it in this batch has moved it
        if task.schedule_id is not None and task.due_at is not None and task.attempt == 0:
            # Who changes a schedule locks it before its run, so to wait for it here could be a deadlock.
            free = schedules.by_id_if_free(transaction, task.schedule_id)
            schedule = free or schedules.by_id(transaction, task.schedule_id)
            if schedule is not None and schedule.standing_task_id == task.id:
                if free is not None:
                    firing.fire(transaction, rules, free, task)
                    moved += 1
                continue
        moving.admit(transaction, task)
        moved += 1
    return moved


def raise_alarms(transaction: Transaction) -> int:
    """Record an event for each run that fired and was not claimed in time; return how many there were."""
    late = [task for task in schedules.alarms(transaction) if schedules.unwatch(transaction, task.id)]
    for task in late:
        if task.attempt == 0 and task.status in moving.IN_THE_WAY and task.schedule_id is not None:
            events.record_other(
                transaction,
                "schedule",
                task.schedule_id,
                "unclaimed",
                events.SYSTEM,
                {"task": f"T-{task.id}"},
            )
    return len(late)
