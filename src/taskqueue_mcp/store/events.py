"""The event log: what happened, once, in order, written in the transition's own transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from taskqueue_mcp.store.rows import EVENT, as_event

if TYPE_CHECKING:
    from taskqueue_mcp.model import Event, Task
    from taskqueue_mcp.store.database import Transaction

RECORD = """
INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at, data)
VALUES (:subject, :subject_id, :seq, :attempt, :kind, :principal, {now}, :data)
"""
RECORD_NEXT = """
INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at, data)
SELECT :subject, :subject_id, coalesce(max(seq), 0) + 1, NULL, :kind, :principal, {now}, :data
  FROM events WHERE subject = :subject AND subject_id = :subject_id
"""
OF_SUBJECT = f"""
SELECT {EVENT} FROM events
 WHERE subject = :subject AND subject_id = :subject_id AND seq > :after ORDER BY seq LIMIT :limit
"""
EPOCH = "SELECT value FROM meta WHERE name = 'epoch'"
FOLLOWING = f"SELECT {{xid}}, {EVENT} FROM events WHERE {{after_cursor}} ORDER BY {{event_order}} LIMIT :limit"


class Cursor(NamedTuple):
    """How far a reader of the whole log has come.

    On PostgreSQL positions become visible out of order, so a reader goes by transactions and never past one that
    is still open; on SQLite `xid` is 0. `epoch` is the database's own: a restored or moved one has another.
    """

    xid: int
    position: int
    epoch: str = ""

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` wrote."""
        rest, _, position = text.rpartition(".")
        epoch, _, xid = rest.rpartition(".")
        return cls(int(xid or 0), int(position), epoch)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.xid}.{self.position}"


START = Cursor(0, 0)
SYSTEM = "taskqueue"
"""The principal of what happens by itself: a time came, a lease ran out."""

_write = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes such an encoder anew for each call


def record(transaction: Transaction, task: Task, kind: str, principal: str, data: dict[str, Any] | None = None) -> None:
    """Record a transition of `task`, whose `seq` was raised with it, and wake who follows the task."""
    transaction.post(
        RECORD,
        {
            "subject": "task",
            "subject_id": task.id,
            "seq": task.seq,
            "attempt": task.attempt or None,
            "kind": kind,
            "principal": principal,
            "data": None if data is None else _write(data),
        },
    )
    transaction.signal("task", str(task.id))


def record_other(
    transaction: Transaction, subject: str, subject_id: int, kind: str, principal: str,
    data: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Record what happened to something else than a task; its `seq` is the next free one."""
    transaction.run(
        RECORD_NEXT,
        {
            "subject": subject,
            "subject_id": subject_id,
            "kind": kind,
            "principal": principal,
            "data": None if data is None else _write(data),
        },
    )
    transaction.signal(subject, str(subject_id))


def of_subject(transaction: Transaction, subject: str, subject_id: int, after: int, limit: int) -> list[Event]:
    """Return the events of one subject after `seq`, oldest first."""
    rows = transaction.all(OF_SUBJECT, {"subject": subject, "subject_id": subject_id, "after": after, "limit": limit})
    return [as_event(row) for row in rows]


def following(transaction: Transaction, cursor: Cursor, limit: int) -> tuple[list[Event], Cursor]:
    """Return events after `cursor`, in an order in which none is ever missed, and the cursor behind them.

    A cursor of another epoch starts over: the database was restored or moved since, and events may be gone that
    were read then. Whoever must not act on an event twice sees it by the new cursor's epoch.
    """
    cursor = of_this_epoch(transaction, cursor)
    rows = transaction.all(FOLLOWING, {"xid": cursor.xid, "position": cursor.position, "limit": limit})
    if not rows:
        return [], cursor
    found = [as_event(row[1:]) for row in rows]
    return found, cursor._replace(xid=rows[-1][0], position=found[-1].position)


def of_this_epoch(transaction: Transaction, cursor: Cursor) -> Cursor:
    """Return the cursor if it belongs to this database as it is now, else one at the start of it."""
    row = transaction.first(EPOCH)
    epoch = "" if row is None else row[0]
    return cursor if cursor.epoch == epoch else START._replace(epoch=epoch)
