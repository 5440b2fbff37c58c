"""A task handed back without its worker: its database has moved, and the worker's lease stayed behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp import lifecycle
from taskqueue_mcp.errors import WrongStatus
from taskqueue_mcp.model import Returned, Status
from taskqueue_mcp.store import attempts, events, tasks
from taskqueue_mcp.taskqueue import accounting, moving

if TYPE_CHECKING:
    from taskqueue_mcp.model import Task
    from taskqueue_mcp.store import Transaction

WHY = "the database was moved while this attempt was under way"


def hand_back(transaction: Transaction, task: Task) -> Task:
    """End the open attempt of a task as released: it costs no failure, and the old lease writes nothing more.

    Raises:
        WrongStatus: nobody holds the task any more.
    """
    change = lifecycle.settle(task, Returned(None, WHY, None), transaction.now, 0)
    after = tasks.move(transaction, task, change) if task.status is Status.IN_PROGRESS else None
    if after is None:
        raise WrongStatus(f"T-{task.id} is not held any more")
    attempts.end(transaction, task.id, task.attempt, "released", error=WHY)
    accounting.lose(transaction, task, after)
    kind = "asked" if after.status is Status.WAITING else "released"
    events.record(transaction, after, kind, events.SYSTEM, {"why": WHY})
    return moving.follow(transaction, task, after)
