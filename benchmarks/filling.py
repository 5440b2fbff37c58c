"""Files with many tasks, filled by SQL: a million of them through the service would take minutes."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.store import open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MICROS = 1_000_000
AN_HOUR = 3_600 * MICROS

TASKS = """
INSERT INTO tasks (title, task_type, executor, queue, priority, status, reason, run_at, sort_at, attempt,
                   max_attempts, worker, lease_principal, lease_hash, lease_expires_at, lease_seconds, claimed_at,
                   created_by, created_at)
VALUES (:title, 'task', 'claude', 'default', 'medium', :status, :reason, :run_at, :run_at, :attempt, 3, :worker,
        :worker, :worker, :expires_at, 60, :claimed_at, 'owner', :created_at)
"""
BODIES = """
INSERT INTO bodies (task_id, instructions, on_dependency_failure)
SELECT id, 'Read the stock of every product.', 'fail' FROM tasks WHERE id > ?
"""
ATTEMPTS = """
INSERT INTO attempts (task_id, attempt, principal, worker, salt, lease_hash, claimed_at)
SELECT id, attempt, worker, worker, 'salt', lease_hash, claimed_at FROM tasks WHERE id > ? AND status = 'in_progress'
"""
EVENTS = """
INSERT INTO events (subject, subject_id, seq, kind, principal, at)
SELECT 'task', id, 1, 'created', 'owner', created_at FROM tasks WHERE id > ?
"""
QUEUE = """
INSERT INTO queues (name, open_tasks) VALUES ('default', :count)
ON CONFLICT (name) DO UPDATE SET open_tasks = open_tasks + excluded.open_tasks
"""


def fill(path: Path, *, ready: int = 0, later: int = 0, expired: int = 0) -> None:
    """Add tasks that are ready, not due for an hour, or held under a lease that has run out; each with its rows."""
    open_database(f"sqlite:///{path}").close_now()
    now = time.time_ns() // 1_000
    connection = sqlite.connect(str(path), isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -200000")
    connection.execute("BEGIN IMMEDIATE")
    last = connection.execute("SELECT coalesce(max(id), 0) FROM tasks").fetchone()[0]
    plain = {"reason": None, "attempt": 0, "worker": None, "expires_at": None, "claimed_at": None, "created_at": now}
    held = {"attempt": 1, "worker": "gone", "expires_at": now - MICROS, "claimed_at": now - AN_HOUR}
    kinds = (
        (ready, {**plain, "title": "ready", "status": "ready"}, now - AN_HOUR),
        (later, {**plain, "title": "later", "status": "pending", "reason": "scheduled"}, now + AN_HOUR),
        (expired, {**plain, **held, "title": "expired", "status": "in_progress"}, now - AN_HOUR),
    )
    for count, row, at in kinds:
        connection.executemany(TASKS, ({**row, "run_at": at + number} for number in range(count)))
    for statement in (BODIES, ATTEMPTS, EVENTS):
        connection.execute(statement, (last,))
    connection.execute(QUEUE, {"count": ready + later + expired})
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


FINISH = (
    """
    INSERT INTO attempts (task_id, attempt, principal, worker, salt, lease_hash, claimed_at, ended_at, outcome,
                          settle_hash, result_summary)
    SELECT id, 1, 'owner', 'w', 'salt', 'hash', created_at, created_at, 'completed', 'hash', 'done'
      FROM tasks WHERE status = 'ready' AND id <= :last
    """,
    """
    INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at)
    SELECT 'task', id, 2, 1, 'claimed', 'owner', created_at FROM tasks WHERE status = 'ready' AND id <= :last
    """,
    """
    INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at)
    SELECT 'task', id, 3, 1, 'completed', 'owner', created_at FROM tasks WHERE status = 'ready' AND id <= :last
    """,
    "UPDATE queues SET open_tasks = open_tasks - (SELECT count(*) FROM tasks WHERE status = 'ready' AND id <= :last)",
    """
    UPDATE tasks SET status = 'completed', attempt = 1, seq = 3, finished_at = created_at, result_summary = 'done'
     WHERE status = 'ready' AND id <= :last
    """,
)
FILL_POSTGRES = (
    """
    INSERT INTO tasks (title, task_type, executor, queue, priority, status, run_at, sort_at, max_attempts,
                       created_by, created_at)
    SELECT 'ready', 'task', 'claude', 'default', 'medium', 'ready', :at + number, :at + number, 3, 'owner', :at
      FROM generate_series(1, :count) AS number ORDER BY number
    """,
    BODIES.replace("?", "0"),
    EVENTS.replace("?", "0"),
    "INSERT INTO queues (name, open_tasks) VALUES ('default', :count)",
)
INDEX_POSTGRES = (
    """
    INSERT INTO search (task_id, words)
    SELECT id, array_to_tsvector(string_to_array(lower(title), ' ') || ARRAY['read', 'the', 'stock', 'of', 'every'])
      FROM tasks
    """,
    """
    INSERT INTO meta (name, value)
    SELECT 'searched_to', concat(xid, '.', position) FROM events ORDER BY xid DESC, position DESC LIMIT 1
    """,
)
NAME = "UPDATE tasks SET title = :title WHERE id % :step = 0"
INDEX = (
    """
    INSERT INTO search (rowid, title, instructions, result)
    SELECT tasks.id, title, instructions, coalesce(result_summary, '') FROM tasks JOIN bodies ON task_id = tasks.id
    """,
    "INSERT INTO meta (name, value) SELECT 'searched_to', CAST(max(position) AS TEXT) FROM events",
)


def finish(path: Path, last: int) -> None:
    """Complete the ready tasks up to an id, with every row that this leaves."""
    _run(path, FINISH, {"last": last})


def index(path: Path, title: str, step: int) -> None:
    """Give every so manieth task a title, and bring the search index up to date with all of them."""
    _run(path, (NAME, *INDEX), {"title": title, "step": step})


def fill_postgres(run: Callable[[str], object], ready: int, last: int, title: str, step: int) -> None:
    """Do all of that on PostgreSQL, in an empty database whose tables `run` finds by their names."""
    given = {"at": time.time_ns() // 1_000 - AN_HOUR, "count": ready, "last": last, "title": f"'{title}'", "step": step}
    statements = (*FILL_POSTGRES, *FINISH, NAME, *INDEX_POSTGRES)
    for statement in statements:
        run(re.sub(r":([a-z]+)", lambda name: str(given[name[1]]), statement))
    run("VACUUM ANALYZE")
    run("CHECKPOINT")


def _run(path: Path, statements: tuple[str, ...], given: dict[str, Any]) -> None:
    connection = sqlite.connect(str(path), isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -200000")
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement, given)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
