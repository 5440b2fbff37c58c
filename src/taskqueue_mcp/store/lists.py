"""The statements that read: pages of tasks, counts, and full-text search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.store import words
from taskqueue_mcp.store.rows import TASK, as_task

if TYPE_CHECKING:
    from taskqueue_mcp.model import Task
    from taskqueue_mcp.store.database import Transaction

READY = f"""
SELECT sort_at, {TASK} FROM tasks WHERE {{ready:%s:%s}} AND status = 'ready' ORDER BY sort_at, id
"""

TASKS = f"SELECT {TASK} FROM tasks WHERE id < :before%s ORDER BY id DESC LIMIT :limit"
TASKS_OF = f"""
SELECT {TASK} FROM tasks
 WHERE (%s, id) < (:%s, :before) AND (%s, id) > (:%s, 0)%s
 ORDER BY %s DESC, id DESC LIMIT :limit
"""

SEARCHING = "{searching}"
FOUND = "SELECT {found} FROM search WHERE {matches} AND {found} < :before ORDER BY {found} DESC LIMIT :limit"

COUNTS = "SELECT queue, status, count(*) FROM tasks GROUP BY queue, status"
QUEUES = "SELECT name, state, open_tasks FROM queues ORDER BY name {bytewise}"
NAMES_LIKE = "SELECT id FROM tasks WHERE id >= :low AND id < :high ORDER BY id DESC LIMIT 50"

BY_COLUMN = ("schedule_id", "task_type", "created_by", "queue")
"""Columns with an index of their own, the most telling first. The order asked for is that index's alone, so that no
planner walks all tasks, newest first, in the hope of soon meeting those of a status whose tasks are all old."""
START = -(1 << 62)
STRETCH = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """What a page of tasks is narrowed by; None means any."""

    status: tuple[str, ...] = ()
    task_type: str | None = None
    queue: str | None = None
    tag: str | None = None
    created_by: str | None = None
    search: str | None = None
    schedule_id: int | None = None
    parent_id: int | None = None


@dataclass(frozen=True, slots=True)
class QueueCount:
    """A queue, its state, and how many tasks it holds in each status."""

    name: str
    state: str
    open_tasks: int
    counts: dict[str, int]


def ready(
    transaction: Transaction,
    queue: str | None,
    task_type: str | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[tuple[int, Task]]:
    """Return claimable tasks in the order of claiming, each with the instant it is sorted by."""
    sort_at, task_id = after or (START, 0)
    statement = READY % ("any" if task_type is None else "task_type", "any" if queue is None else "named")
    params = {"sort_at": sort_at, "after": task_id, "reach": limit, "queues": [queue], "wanted": [task_type]}
    return [(row[0], as_task(row[1:])) for row in transaction.all(statement, params)]


def page(transaction: Transaction, narrowed: Filter, before: int, limit: int) -> list[Task]:
    """Return tasks that fit, newest first, those with an id below `before`."""
    params: dict[str, Any] = {"before": before, "limit": limit}
    equal = {name: getattr(narrowed, name) for name in BY_COLUMN if getattr(narrowed, name) is not None}
    where = ""
    if narrowed.parent_id is not None:
        where, params["parent_id"] = " AND parent_id = :parent_id", narrowed.parent_id
    if len(narrowed.status) == 1:
        equal["status"] = narrowed.status[0]
    elif narrowed.status:
        where, params["status"] = where + " AND {among:status:status}", narrowed.status
    if narrowed.tag is not None:
        where += " AND id IN (SELECT task_id FROM task_tags WHERE tag = :tag)"
        params["tag"] = narrowed.tag
    params |= equal
    conditions = {name: f" AND {name} = :{name}" for name in equal}
    if narrowed.search is not None:
        return _found(transaction, narrowed.search, where + "".join(conditions.values()), params)
    first = next(iter(equal), None)
    if first is None or where:
        statement = TASKS % (where + "".join(conditions.values()))
    else:
        del conditions[first]
        statement = TASKS_OF % (first, first, first, first, "".join(conditions.values()), first)
    return [as_task(row) for row in transaction.all(statement, params)]


def _found(transaction: Transaction, search: str, where: str, params: dict[str, Any]) -> list[Task]:
    """Walk the hits newest first until the page is full; other filters narrow each stretch of them."""
    found, prefix = words.of_query(search)
    tasks: list[Task] = []
    if not found:
        return tasks
    match, limit, before = transaction.dialect.match(found, prefix), params["limit"], params["before"]
    transaction.first(SEARCHING)
    while len(tasks) < limit:
        stretch = transaction.all(FOUND, {"match": match, "before": before, "limit": STRETCH})
        if not stretch:
            break
        before = stretch[-1][0]
        ids = [row[0] for row in stretch]
        rows = transaction.all(TASKS % (where + " AND {among:id:ids}"), {**params, "ids": ids})
        tasks += [as_task(row) for row in rows]
        if len(stretch) < STRETCH:
            break
    return tasks[:limit]


def queues(transaction: Transaction) -> list[QueueCount]:
    """Return every queue with its counts."""
    counts: dict[str, dict[str, int]] = {}
    for queue, status, count in transaction.all(COUNTS):
        counts.setdefault(queue, {})[status] = count
    return [
        QueueCount(name, state, open_tasks, counts.get(name, {})) for name, state, open_tasks in transaction.all(QUEUES)
    ]


def ids_starting(transaction: Transaction, prefix: str) -> list[int]:
    """Return ids of tasks whose decimal form starts with `prefix`, newest first, at most 50."""
    found: list[int] = []
    low, high = (int(prefix), int(prefix) + 1) if prefix else (1, 1 << 62)
    while prefix and low < 1 << 62:
        found += [row[0] for row in transaction.all(NAMES_LIKE, {"low": low, "high": high})]
        low, high = low * 10, high * 10
    if not prefix:
        found = [row[0] for row in transaction.all(NAMES_LIKE, {"low": low, "high": high})]
    return sorted(found, reverse=True)[:50]
