"""The statements of what goes on behind the work: the search index catching up, and old rows going."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp import budgets
from taskqueue_mcp.store import events

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Transaction
    from taskqueue_mcp.store.events import Cursor

SEARCHED = "SELECT value FROM meta WHERE name = 'searched_to' {lock}"
SET_SEARCHED = """
INSERT INTO meta (name, value) VALUES ('searched_to', :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
TEXT = """
SELECT tasks.title || ' ' || bodies.instructions || ' ' || coalesce(tasks.result_summary, '') || ' '
       || coalesce(tasks.error, '')
  FROM tasks JOIN bodies ON bodies.task_id = tasks.id WHERE tasks.id = :id
"""
LAST_OF_NEXT = "SELECT max(id) FROM (SELECT id FROM tasks WHERE id > :after ORDER BY id LIMIT :limit) AS following"
UNTOLD = """
SELECT id FROM tasks WHERE id > :after AND id <= :last
   AND NOT EXISTS (SELECT 1 FROM events WHERE subject = 'task' AND subject_id = tasks.id AND seq = 1)
 ORDER BY id
"""
INDEX = "{index}"
UNINDEX = "DELETE FROM search WHERE {found} = :id"
TEXT_CHANGES = frozenset(
    {"created", "completed", "failed", "retry", "lease_lost", "cancelled", "rejected", "rescheduled"}
)

OLD_TASKS = """
SELECT id FROM tasks WHERE finished_at IS NOT NULL AND finished_at < {now} - :age
   AND NOT EXISTS (SELECT 1 FROM dependencies JOIN tasks AS waiting ON waiting.id = dependencies.task_id
                    WHERE dependencies.depends_on = tasks.id AND waiting.finished_at IS NULL)
 ORDER BY finished_at LIMIT :limit {skip_locked}
"""
DELETE_TASK = "DELETE FROM tasks WHERE id = :id"
DELETE_SPENDING = "DELETE FROM spending WHERE {among:account:accounts}"
OLD_SPENDING = "DELETE FROM spending WHERE scope <> 'task' AND day < :day"
OLD_ACCOUNTS = "DELETE FROM worker_accounts WHERE reported_at < {now} - :age"
OLD_EVENTS = """
DELETE FROM events WHERE position IN (
  SELECT position FROM (SELECT position, at FROM events ORDER BY position LIMIT :limit) AS oldest
   WHERE at < {now} - :age)
  AND position <= :searched
"""
OLD_OCCURRENCES = "DELETE FROM occurrences WHERE recorded_at < {now} - :age"
OLD_LOGS = """
DELETE FROM log_chunks WHERE task_id IN (
  SELECT id FROM tasks WHERE finished_at IS NOT NULL AND finished_at < {now} - :age)
"""
OLD_TEXTS = """
DELETE FROM procedure_texts
 WHERE stored_at < {now} - :age AND hash NOT IN (SELECT procedure_hash FROM attempts WHERE procedure_hash IS NOT NULL)
"""


def index_changes(transaction: Transaction, limit: int) -> int:
    """Bring the search index up to date with at most `limit` events; return how many there were.

    The index follows the event log instead of being written with each transition: that would have been
    a third of the cost of a task's whole life. Whoever searches calls this until nothing is left.
    """
    found, cursor = events.following(transaction, _searched(transaction), limit)
    if not found:
        return 0
    changed = {event.subject_id for event in found if event.subject == "task" and event.kind in TEXT_CHANGES}
    for task_id in sorted(changed):
        _index(transaction, task_id)
    transaction.run(SET_SEARCHED, {"value": str(cursor)})
    return len(found)


def index_untold(transaction: Transaction, after: int, limit: int) -> int | None:
    """Of the next tasks above `after`, index those whose creation has gone from the event log.

    Returns the last one that was looked at, None at the end.
    """
    last: int | None = transaction.all(LAST_OF_NEXT, {"after": after, "limit": limit})[0][0]
    if last is not None:
        for (task_id,) in transaction.all(UNTOLD, {"after": after, "last": last}):
            _index(transaction, task_id)
    return last


def _index(transaction: Transaction, task_id: int) -> None:
    text = transaction.first(TEXT, {"id": task_id})
    if text is not None:
        transaction.run(INDEX, {"id": task_id, "words": transaction.dialect.as_words(text[0])})


def _searched(transaction: Transaction) -> Cursor:
    row = transaction.first(SEARCHED)
    cursor = events.START if row is None else events.Cursor.parse(row[0])
    return events.of_this_epoch(transaction, cursor)


def delete_finished(transaction: Transaction, age: int, limit: int) -> int:
    """Delete tasks that have been final for longer than `age` microseconds; return how many."""
    rows = transaction.all(OLD_TASKS, {"age": age, "limit": limit})
    for (task_id,) in rows:
        transaction.run(UNINDEX, {"id": task_id})
        transaction.run(DELETE_TASK, {"id": task_id})
        keys = tuple(budgets.key("task", str(task_id), budgets.TASK_DAY, unit) for unit in budgets.UNITS)
        transaction.run(DELETE_SPENDING, {"accounts": keys})
    return len(rows)


def delete_history(transaction: Transaction, age: int, limit: int) -> int:
    """Delete events and ledger rows that are older than `age` microseconds; return how many events."""
    transaction.run(OLD_OCCURRENCES, {"age": age})
    transaction.run(OLD_TEXTS, {"age": age})
    transaction.run(OLD_ACCOUNTS, {"age": age})
    transaction.run(OLD_SPENDING, {"day": budgets.day_of(transaction.now - age, "UTC")})
    return transaction.run(OLD_EVENTS, {"age": age, "limit": limit, "searched": _searched(transaction).position})


def delete_logs(transaction: Transaction, age: int) -> int:
    """Delete the logs of tasks that have been final for longer than `age` microseconds."""
    return transaction.run(OLD_LOGS, {"age": age})
