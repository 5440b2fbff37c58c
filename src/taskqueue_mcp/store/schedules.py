"""The statements of schedules, their ledger of due times, and the watch on runs that nobody claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_mcp.store.rows import OCCURRENCE, SCHEDULE, TASK, as_occurrence, as_schedule, as_task

if TYPE_CHECKING:
    from taskqueue_mcp.model import Occurrence, Schedule, Task
    from taskqueue_mcp.store.database import Transaction

INSERT = f"""
INSERT INTO schedules (name, cron, timezone, misfire, overlap, enabled, grace_seconds, body, next_due_at,
                       created_by, created_at, updated_at, rights, trust)
VALUES (:name, :cron, :timezone, :misfire, :overlap, :enabled, :grace_seconds, :body, :next_due_at,
        :principal, {{now}}, {{now}}, :rights, :trust)
RETURNING {SCHEDULE}
"""
EDIT = f"""
UPDATE schedules
   SET cron = :cron, timezone = :timezone, misfire = :misfire, overlap = :overlap, enabled = :enabled,
       grace_seconds = :grace_seconds, body = :body, next_due_at = :next_due_at, updated_at = {{now}},
       rights = :rights, trust = :trust
 WHERE id = :id AND deleted_at IS NULL
RETURNING {SCHEDULE}
"""
BY_NAME = f"SELECT {SCHEDULE} FROM schedules WHERE name = :name AND deleted_at IS NULL"
BY_ID = f"SELECT {SCHEDULE} FROM schedules WHERE id = :id AND deleted_at IS NULL"
LOCK_BY_NAME = BY_NAME + " {lock}"
LOCK_BY_ID = BY_ID + " {lock}"
LOCK_BY_ID_IF_FREE = BY_ID + " {skip_locked}"
LAST_NAMED = f"SELECT {SCHEDULE} FROM schedules WHERE name = :name ORDER BY deleted_at IS NULL DESC, id DESC LIMIT 1"
ALL = f"""
SELECT {SCHEDULE} FROM schedules
 WHERE deleted_at IS NULL AND name {{bytewise}} > :after ORDER BY name {{bytewise}} LIMIT :limit
"""
STANDS = """
UPDATE schedules
   SET next_due_at = :next_due_at, standing_task_id = :task_id, last_due_at = coalesce(:last_due_at, last_due_at)
 WHERE id = :id AND deleted_at IS NULL
"""
SET_ENABLED = f"""
UPDATE schedules
   SET enabled = :enabled, resumed_at = CASE WHEN :enabled = 1 THEN {{now}} ELSE resumed_at END, updated_at = {{now}}
 WHERE id = :id AND deleted_at IS NULL
RETURNING {SCHEDULE}
"""
APPROVE = "UPDATE schedules SET approved = :approved WHERE id = :id"
WROTE = """
SELECT 1 FROM events
 WHERE subject = 'schedule' AND subject_id = :id AND principal = :principal AND kind IN ('created', 'edited') LIMIT 1
"""
DELETE = (
    "UPDATE schedules SET deleted_at = {now}, enabled = 0, next_due_at = NULL, standing_task_id = NULL WHERE id = :id"
)

RECORD = """
INSERT INTO occurrences (schedule_id, due_at, fate, reason, task_id, recorded_at)
VALUES (:schedule_id, :due_at, :fate, :reason, :task_id, {now})
ON CONFLICT (schedule_id, due_at) DO NOTHING
"""
SETTLED_SINCE = (
    "SELECT due_at FROM occurrences WHERE schedule_id = :schedule_id AND due_at >= :since AND due_at <= {now}"
)
IS_SETTLED = "SELECT 1 FROM occurrences WHERE schedule_id = :schedule_id AND due_at = :due_at"
HISTORY = f"""
SELECT {OCCURRENCE} FROM occurrences
 WHERE schedule_id = :schedule_id AND due_at < :before ORDER BY due_at DESC LIMIT :limit
"""
UNFINISHED = f"""
SELECT {TASK} FROM tasks
 WHERE schedule_id = :schedule_id AND id <> :except_id
   AND status IN ('pending', 'ready', 'in_progress', 'waiting') AND (due_at IS NULL OR due_at <= {{now}})
 ORDER BY id
"""

WATCH = """
INSERT INTO unclaimed_watch (task_id, alarm_at) VALUES (:task_id, {now} + :wait)
ON CONFLICT (task_id) DO NOTHING
"""
ALARMS = f"""
SELECT {", ".join("tasks." + name.strip() for name in TASK.split(","))}
  FROM unclaimed_watch JOIN tasks ON tasks.id = unclaimed_watch.task_id
 WHERE unclaimed_watch.alarm_at <= {{now}} ORDER BY unclaimed_watch.alarm_at LIMIT 100
"""
UNWATCH = "DELETE FROM unclaimed_watch WHERE task_id = :task_id"
NEXT_ALARM = "SELECT min(alarm_at) FROM unclaimed_watch"
END_OF_TIME = 1 << 62


def insert(transaction: Transaction, values: dict[str, Any]) -> Schedule:
    """Store a new schedule."""
    row = transaction.first(INSERT, values)
    assert row is not None  # noqa: S101 - RETURNING of an INSERT
    return as_schedule(row)


def edit(transaction: Transaction, values: dict[str, Any]) -> Schedule | None:
    """Store an edited schedule; None when it was deleted meanwhile."""
    row = transaction.first(EDIT, values)
    return None if row is None else as_schedule(row)


def by_name(transaction: Transaction, name: str, *, lock: bool = False) -> Schedule | None:
    """Return a schedule by its name; with `lock` nobody else changes it until this work is committed."""
    row = transaction.first(LOCK_BY_NAME if lock else BY_NAME, {"name": name})
    return None if row is None else as_schedule(row)


def last_named(transaction: Transaction, name: str) -> Schedule | None:
    """Return the schedule of this name, or else the one of this name that was deleted last."""
    row = transaction.first(LAST_NAMED, {"name": name})
    return None if row is None else as_schedule(row)


def by_id(transaction: Transaction, schedule_id: int, *, lock: bool = False) -> Schedule | None:
    """Return a schedule that is not deleted; with `lock` nobody else changes it until this work is committed."""
    row = transaction.first(LOCK_BY_ID if lock else BY_ID, {"id": schedule_id})
    return None if row is None else as_schedule(row)


def by_id_if_free(transaction: Transaction, schedule_id: int) -> Schedule | None:
    """Return a schedule as `by_id` does with `lock`, or None when others are just changing it."""
    row = transaction.first(LOCK_BY_ID_IF_FREE, {"id": schedule_id})
    return None if row is None else as_schedule(row)


def all_after(transaction: Transaction, after: str, limit: int) -> list[Schedule]:
    """Return schedules by name, those after `after`."""
    return [as_schedule(row) for row in transaction.all(ALL, {"after": after, "limit": limit})]


def stands(
    transaction: Transaction,
    schedule: Schedule,
    next_due_at: int | None,
    task_id: int | None,
    last_due_at: int | None,
) -> None:
    """Store which task stands for the next due time, and the last due time that was settled."""
    transaction.run(
        STANDS,
        {"id": schedule.id, "next_due_at": next_due_at, "task_id": task_id, "last_due_at": last_due_at},
    )


def set_enabled(transaction: Transaction, schedule: Schedule, *, enabled: bool) -> Schedule | None:
    """Pause or resume a schedule; None when it was deleted meanwhile."""
    row = transaction.first(SET_ENABLED, {"id": schedule.id, "enabled": int(enabled)})
    return None if row is None else as_schedule(row)


def approve(transaction: Transaction, schedule_id: int, approved: str) -> None:
    """Store the hash of what a person approved for all runs."""
    transaction.run(APPROVE, {"id": schedule_id, "approved": approved})


def wrote(transaction: Transaction, schedule_id: int, principal: str) -> bool:
    """Whether somebody made a schedule or edited it."""
    return transaction.first(WROTE, {"id": schedule_id, "principal": principal}) is not None


def delete(transaction: Transaction, schedule: Schedule) -> None:
    """Delete a schedule; its history stays."""
    transaction.run(DELETE, {"id": schedule.id})


def record(
    transaction: Transaction,
    schedule_id: int,
    due_at: int,
    fate: str,
    reason: str | None,
    task_id: int | None,
) -> bool:
    """Write how a due time ended; False when it has a row already."""
    values = {
        "schedule_id": schedule_id,
        "due_at": due_at,
        "fate": fate,
        "reason": reason,
        "task_id": task_id,
    }
    return transaction.run(RECORD, values) == 1


def settled_since(transaction: Transaction, schedule_id: int, since: int) -> frozenset[int]:
    """Return the due times from `since` to now that have a row already."""
    rows = transaction.all(SETTLED_SINCE, {"schedule_id": schedule_id, "since": since})
    return frozenset(row[0] for row in rows)


def is_settled(transaction: Transaction, schedule_id: int, due_at: int) -> bool:
    """Whether a due time has ended as a row."""
    return transaction.first(IS_SETTLED, {"schedule_id": schedule_id, "due_at": due_at}) is not None


def history(transaction: Transaction, schedule_id: int, before: int | None, limit: int) -> list[Occurrence]:
    """Return due times before `before`, newest first."""
    rows = transaction.all(HISTORY, {"schedule_id": schedule_id, "before": before or END_OF_TIME, "limit": limit})
    return [as_occurrence(row) for row in rows]


def unfinished(transaction: Transaction, schedule_id: int, except_id: int) -> list[Task]:
    """Return earlier runs of a schedule that are not final."""
    rows = transaction.all(UNFINISHED, {"schedule_id": schedule_id, "except_id": except_id})
    return [as_task(row) for row in rows]


def watch(transaction: Transaction, task_id: int, wait: int) -> None:
    """Raise an alarm if nobody has claimed this run within `wait` microseconds."""
    transaction.run(WATCH, {"task_id": task_id, "wait": wait})


def alarms(transaction: Transaction) -> list[Task]:
    """Return runs whose alarm is due."""
    return [as_task(row) for row in transaction.all(ALARMS)]


def unwatch(transaction: Transaction, task_id: int) -> bool:
    """Stop watching a run; False when nobody did."""
    return transaction.run(UNWATCH, {"task_id": task_id}) == 1


def next_alarm(transaction: Transaction) -> int | None:
    """Return when the next alarm is due."""
    row = transaction.first(NEXT_ALARM)
    return None if row is None else row[0]
