"""The statements of queues: their state, and how many open tasks each holds.

Every create and every end of a task counts on the one row of its queue. The works that share a commit count in
memory, and that row is written once, just before the commit: it is held for no longer than that takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Transaction

STATE = "SELECT state, open_tasks FROM queues WHERE name = :queue"
NEW = "INSERT INTO queues (name) VALUES (:queue) ON CONFLICT (name) DO NOTHING"
COUNT = """
UPDATE queues SET open_tasks = open_tasks + :added
 WHERE name = :queue AND (:added <= 0 OR open_tasks + :added <= :limit)
"""
SET_STATE = """
INSERT INTO queues (name, state) VALUES (:name, :state)
ON CONFLICT (name) DO UPDATE SET state = excluded.state
"""

NO_LIMIT = 1 << 62


class Count(NamedTuple):
    """What the works of a commit have counted on a queue: `added` comes on top of what is stored."""

    state: str | None
    stored: int
    added: int
    limit: int


UNKNOWN = Count(None, 0, 0, NO_LIMIT)


def enter(transaction: Transaction, queue: str, limit: int, *, inner: bool) -> tuple[str, int] | None:
    """Count one more open task in `queue`; `(state, open tasks)` when there is no room for it.

    `inner` is work that belongs to accepted work (children, occurrences): a draining queue still takes it.
    """
    count = transaction.counts.get(queue, UNKNOWN)
    if count.state is None:
        count = _known(transaction, queue, count)
    open_tasks = count.stored + count.added
    if open_tasks >= limit or (count.state == "draining" and not inner):
        return count.state or "open", open_tasks
    transaction.counts[queue] = count._replace(added=count.added + 1, limit=min(limit, count.limit))
    return None


def leave(transaction: Transaction, queue: str) -> None:
    """Count one open task less in `queue`."""
    count = transaction.counts.get(queue, UNKNOWN)
    transaction.counts[queue] = count._replace(added=count.added - 1)


def reenter(transaction: Transaction, queue: str) -> None:
    """Count a reopened task in `queue`; a reopened task is never refused."""
    count = transaction.counts.get(queue, UNKNOWN)
    transaction.counts[queue] = count._replace(added=count.added + 1)


def write_counts(transaction: Transaction) -> bool:
    """Store what was counted, in the order of the names; False when others have filled a queue meanwhile."""
    for queue in sorted(transaction.counts):
        _, _, added, limit = transaction.counts[queue]
        if added and not transaction.run(COUNT, {"queue": queue, "added": added, "limit": limit}):
            return False
    return True


def set_state(transaction: Transaction, name: str, state: str) -> None:
    """Open, pause or drain a queue; a queue that was never used is made."""
    transaction.run(SET_STATE, {"name": name, "state": state})
    if name in transaction.counts:
        transaction.counts[name] = transaction.counts[name]._replace(state=None)


def _known(transaction: Transaction, queue: str, count: Count) -> Count:
    row = transaction.first(STATE, {"queue": queue})
    if row is None:
        transaction.run(NEW, {"queue": queue})
        return count._replace(state="open", stored=0)
    return count._replace(state=row[0], stored=row[1])
