"""The yardstick: the rows of a cycle written by hand, without a queue around them."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.store import open_database

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Count what is low"
INSTRUCTIONS = "Read the stock of every product and write the ones below their threshold into a file."
SUMMARY = "12 products are low"
PRINCIPAL = "owner"
LEASE_MICROS = 900_000_000

ROOM = "UPDATE queues SET open_tasks = open_tasks + 1 WHERE name = 'default' AND open_tasks < 10000"
TASK = """
INSERT INTO tasks (title, task_type, executor, queue, priority, status, run_at, sort_at, max_attempts, created_by,
                   created_at)
VALUES (?, 'task', 'claude', 'default', 'medium', 'ready', ?, ?, 3, ?, ?)
"""
BODY = "INSERT INTO bodies (task_id, instructions, on_dependency_failure) VALUES (?, ?, 'fail')"
EVENT = """
INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at, data) VALUES ('task', ?, ?, ?, ?, ?, ?, ?)
"""
TAKE = """
UPDATE tasks
   SET status = 'in_progress', attempt = attempt + 1, worker = ?, lease_principal = ?, lease_hash = ?,
       lease_expires_at = ?, lease_seconds = 900, claimed_at = ?, seq = seq + 1
 WHERE id = (SELECT id FROM tasks WHERE status = 'ready' AND queue = 'default' ORDER BY sort_at, id LIMIT 1)
   AND status = 'ready'
RETURNING id, attempt
"""
ATTEMPT = """
INSERT INTO attempts (task_id, attempt, principal, worker, salt, lease_hash, claimed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
SETTLE = """
UPDATE tasks
   SET status = 'completed', finished_at = ?, result_summary = ?, worker = NULL, lease_principal = NULL,
       lease_hash = NULL, lease_expires_at = NULL, seq = seq + 1
 WHERE id = ? AND status = 'in_progress' AND attempt = ? AND lease_hash = ? AND lease_principal = ?
"""
END = """
UPDATE attempts SET ended_at = ?, outcome = 'completed', settle_hash = ?, result_summary = ?
 WHERE task_id = ? AND attempt = ? AND ended_at IS NULL
"""
LEFT = "UPDATE queues SET open_tasks = open_tasks - 1 WHERE name = 'default'"


class Held(NamedTuple):
    """What a claim gave."""

    task_id: int
    attempt: int
    lease_hash: str


class Bare:
    """Hand-written statements on one connection, with the schema and the settings of ours."""

    def __init__(self, path: Path, synchronous: str = "full") -> None:
        open_database(f"sqlite:///{path}").close_now()
        self._connection = sqlite.connect(str(path), isolation_level=None, cached_statements=512)
        for pragma in (f"synchronous = {synchronous}", "foreign_keys = ON", "mmap_size = 0", "temp_store = MEMORY"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("INSERT OR IGNORE INTO queues (name) VALUES ('default')")

    def cycles(self, count: int, batch: int) -> None:
        """Create, claim and complete `count` tasks, `batch` of one kind a transaction."""
        run = self._connection.execute
        for _ in range(count // batch):
            run("BEGIN IMMEDIATE")
            for _ in range(batch):
                self.create()
            run("COMMIT")
            run("BEGIN IMMEDIATE")
            held = [self.claim(f"w{number}") for number in range(batch)]
            run("COMMIT")
            run("BEGIN IMMEDIATE")
            for each in held:
                self.complete(each)
            run("COMMIT")

    def create(self) -> None:
        run, now = self._connection.execute, time.time_ns() // 1_000
        assert run(ROOM).rowcount == 1
        task_id = run(TASK, (TITLE, now, now, PRINCIPAL, now)).lastrowid
        run(BODY, (task_id, INSTRUCTIONS))
        run(EVENT, (task_id, 1, None, "created", PRINCIPAL, now, '{"status": "ready"}'))

    def claim(self, worker: str) -> Held:
        run, now = self._connection.execute, time.time_ns() // 1_000
        lease_hash = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
        task_id, attempt = run(TAKE, (worker, PRINCIPAL, lease_hash, now + LEASE_MICROS, now)).fetchall()[0]
        run(ATTEMPT, (task_id, attempt, PRINCIPAL, worker, secrets.token_hex(16), lease_hash, now))
        run(EVENT, (task_id, 2, attempt, "claimed", PRINCIPAL, now, f'{{"worker": "{worker}"}}'))
        return Held(task_id, attempt, lease_hash)

    def complete(self, held: Held) -> None:
        run, now = self._connection.execute, time.time_ns() // 1_000
        task_id, attempt, lease_hash = held
        digest = hashlib.sha256(SUMMARY.encode()).hexdigest()
        assert run(SETTLE, (now, SUMMARY, task_id, attempt, lease_hash, PRINCIPAL)).rowcount == 1
        run(END, (now, digest, SUMMARY, task_id, attempt))
        run(EVENT, (task_id, 3, attempt, "completed", PRINCIPAL, now, f'{{"summary": "{SUMMARY}"}}'))
        run(LEFT)

    def close(self) -> None:
        self._connection.close()
