"""Reading: one task whole, pages of tasks, what a cursor means."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp import checks
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.store import attempts, events, gates, lists, spending, tasks
from taskqueue_mcp.taskqueue import accounting, moving

if TYPE_CHECKING:
    from taskqueue_mcp.budgets import Account
    from taskqueue_mcp.model import Artifact, Attempt, Body, Event, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.store.attempts import LogChunk, Question
    from taskqueue_mcp.store.gates import Gate
    from taskqueue_mcp.store.lists import Filter
    from taskqueue_mcp.store.spending import Unpaid

MOST = 100
NEWEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks, and where the next ones are; None when these were the last."""

    tasks: tuple[Task, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Detail:
    """A task with everything that is known of it but its events and logs."""

    task: Task
    body: Body
    attempts: tuple[Attempt, ...]
    questions: tuple[Question, ...]
    artifacts: tuple[Artifact, ...]
    depends_on: tuple[int, ...]
    result_data: str | None
    budgets: tuple[Account, ...] = ()
    """What it may spend, has spent and has set aside, in each unit that it has a ceiling in."""
    held: Unpaid | None = None
    """The account that cannot pay for it now."""
    gates: tuple[Gate, ...] = ()
    """The closed gates of its executor, while it is ready."""


def detail(transaction: Transaction, task_id: int) -> Detail:
    """Return a task whole.

    Raises:
        NotFound: there is none.
    """
    task = moving.fetch(transaction, task_id)
    is_held = task.reason in {Reason.BUDGET, Reason.QUOTA}
    closed = gates.closed(transaction) if task.status is Status.READY else []
    return Detail(
        task,
        tasks.fetch_body(transaction, task_id),
        tuple(attempts.of_task(transaction, task_id)),
        tuple(attempts.questions(transaction, task_id)),
        tuple(attempts.artifacts(transaction, task_id)),
        tuple(tasks.depends_on(transaction, task_id)),
        attempts.last_result(transaction, task_id),
        tuple(accounting.accounts_of(transaction, task_id)),
        spending.held(transaction, task_id) if is_held else None,
        tuple(gate for gate in closed if gate.executor == task.executor),
    )


def history(transaction: Transaction, task_id: int, after: int, limit: int) -> list[Event]:
    """Return a task's events after its `seq`."""
    moving.fetch(transaction, task_id)
    return events.of_subject(transaction, "task", task_id, after, limit)


def logs(transaction: Transaction, task_id: int, after: tuple[int, int], limit: int) -> list[LogChunk]:
    """Return a task's log after `(attempt, number)`."""
    moving.fetch(transaction, task_id)
    return attempts.logs(transaction, task_id, after, limit)


def ready_page(
    transaction: Transaction, queue: str | None, task_type: str | None, cursor: str | None, limit: int
) -> Page:
    """Return claimable tasks in the order of claiming."""
    _texts(queue=queue, task_type=task_type)
    after = None if cursor is None else read_cursor(cursor, "r", 2)
    limit = bounded(limit)
    rows = lists.ready(transaction, queue, task_type, None if after is None else (after[0], after[1]), limit + 1)
    more = write_cursor("r", rows[limit - 1][0], rows[limit - 1][1].id) if len(rows) > limit else None
    return Page(tuple(task for _, task in rows[:limit]), more)


def page(transaction: Transaction, narrowed: Filter, cursor: str | None, limit: int) -> Page:
    """Return tasks that fit, newest first."""
    _texts(queue=narrowed.queue, task_type=narrowed.task_type, tag=narrowed.tag, created_by=narrowed.created_by)
    before = NEWEST if cursor is None else read_cursor(cursor, "t", 1)[0]
    limit = bounded(limit)
    found = lists.page(transaction, narrowed, before, limit + 1)
    more = write_cursor("t", found[limit - 1].id) if len(found) > limit else None
    return Page(tuple(found[:limit]), more)


def _texts(**filters: str | None) -> None:
    for name, value in filters.items():
        if value is not None:
            checks.text(name, value)


def bounded(limit: int) -> int:
    """Return a page size that a model can read.

    Raises:
        InvalidInput: it is not from 1 to 100.
    """
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"limit: must be from 1 to {MOST}; page on with the cursor")
    return limit


def read_statuses(status: str | None) -> tuple[str, ...]:
    """Read one status or several separated by commas; `open` and `final` stand for theirs.

    Raises:
        InvalidInput: one of them is none.
    """
    if status is None:
        return ()
    found: list[str] = []
    for word in status.split(","):
        match word.strip().lower():
            case "open":
                found += ["pending", "ready", "in_progress", "waiting"]
            case "final":
                found += ["completed", "failed", "cancelled"]
            case "" | "all" | "any":
                continue
            case other:
                found.append(checks.one_of("status", other, Status).value)
    return tuple(dict.fromkeys(found))


def write_cursor(kind: str, *numbers: int) -> str:
    """Return an opaque cursor."""
    return base64.urlsafe_b64encode(json.dumps([kind, *numbers]).encode()).decode().rstrip("=")


def read_cursor(cursor: str, kind: str, count: int) -> list[int]:
    """Read a cursor that `write_cursor` made for this kind of page.

    Raises:
        InvalidInput: it is another one, or none.
    """
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != count + 1
        or found[0] != kind
        or not all(isinstance(number, int) and abs(number) < 1 << 63 for number in found[1:])
    ):
        raise InvalidInput("cursor: is not one that this call gave out; leave it away to start over")
    return found[1:]
