"""Our rows on PostgreSQL written by hand: plain statements, `SKIP LOCKED`, a transaction a step, and nothing around."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.peers.work import INSTRUCTIONS, SUMMARY, TITLE

OUR_TABLES = "-c search_path=taskqueue"
PRINCIPAL = "owner"
LEASE_MICROS = 900_000_000
SECRET = {"salt", "lease_hash", "settle_hash"}
ROWS = {
    "tasks": "SELECT * FROM tasks ORDER BY id",
    "bodies": "SELECT * FROM bodies ORDER BY task_id",
    "attempts": "SELECT * FROM attempts ORDER BY task_id",
    "events": "SELECT * FROM events ORDER BY subject_id, seq",
    "queues": "SELECT * FROM queues",
}

ROOM = "UPDATE queues SET open_tasks = open_tasks + 1 WHERE name = 'default' AND open_tasks < 10000000"
TASK = """
INSERT INTO tasks (title, task_type, executor, queue, priority, status, run_at, sort_at, max_attempts, created_by,
                   created_at)
VALUES (%s, 'task', 'claude', 'default', 'medium', 'ready', %s, %s, 3, %s, %s) RETURNING id
"""
BODY = """
INSERT INTO bodies (task_id, instructions, on_dependency_failure, trust, rights)
VALUES (%s, %s, 'fail', 'owner', '*')
"""
EVENT = """
INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at, data)
VALUES ('task', %s, %s, %s, %s, %s, %s, %s)
"""
TAKE = """
UPDATE tasks
   SET status = 'in_progress', attempt = attempt + 1, worker = %s, lease_principal = %s, lease_hash = %s,
       lease_expires_at = %s, lease_seconds = 900, claimed_at = %s, seq = seq + 1
 WHERE id = (SELECT id FROM tasks WHERE status = 'ready' AND queue = 'default'
              ORDER BY sort_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
   AND status = 'ready'
RETURNING id, attempt
"""
ATTEMPT = """
INSERT INTO attempts (task_id, attempt, principal, worker, salt, lease_hash, claimed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
SETTLE = """
UPDATE tasks
   SET status = 'completed', finished_at = %s, result_summary = %s, verdict = 'unverified', worker = NULL,
       lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL, seq = seq + 1
 WHERE id = %s AND status = 'in_progress' AND attempt = %s AND lease_hash = %s AND lease_principal = %s
"""
END = """
UPDATE attempts SET ended_at = %s, outcome = 'completed', settle_hash = %s, result_summary = %s
 WHERE task_id = %s AND attempt = %s AND ended_at IS NULL
"""
LEFT = "UPDATE queues SET open_tasks = open_tasks - 1 WHERE name = 'default'"


class Bare:
    """A connection a caller."""

    @staticmethod
    def prepare(url: str) -> None:
        """Nothing is made here: the tables are those that our own engine makes."""

    def open(self, url: str, callers: int) -> None:
        self._connections = [psycopg.connect(url, autocommit=True, options=OUR_TABLES) for _ in range(callers)]
        self._connections[0].execute("INSERT INTO queues (name) VALUES ('default') ON CONFLICT DO NOTHING")

    def create(self, caller: int) -> None:
        connection, now = self._connections[caller], _now()
        with connection.transaction():
            ((task_id,),) = connection.execute(TASK, (TITLE, now, now, PRINCIPAL, now)).fetchall()
            connection.execute(BODY, (task_id, INSTRUCTIONS))
            connection.execute(EVENT, (task_id, 1, None, "created", PRINCIPAL, now, '{"status": "ready"}'))
            assert connection.execute(ROOM).rowcount == 1  # last: everybody waits for this row until the commit

    def cycle(self, caller: int) -> None:
        connection, worker = self._connections[caller], f"w{caller}"
        lease_hash, now = hashlib.sha256(secrets.token_bytes(16)).hexdigest(), _now()
        with connection.transaction():
            taken = (worker, PRINCIPAL, lease_hash, now + LEASE_MICROS, now)
            ((task_id, attempt),) = connection.execute(TAKE, taken).fetchall()
            salt = secrets.token_hex(16)
            connection.execute(ATTEMPT, (task_id, attempt, PRINCIPAL, worker, salt, lease_hash, now))
            data = json.dumps({"worker": worker})
            connection.execute(EVENT, (task_id, 2, attempt, "claimed", PRINCIPAL, now, data))
        now = _now()
        with connection.transaction():
            settled = (now, SUMMARY, task_id, attempt, lease_hash, PRINCIPAL)
            assert connection.execute(SETTLE, settled).rowcount == 1
            digest = hashlib.sha256(SUMMARY.encode()).hexdigest()
            connection.execute(END, (now, digest, SUMMARY, task_id, attempt))
            data = json.dumps({"summary": SUMMARY})
            connection.execute(EVENT, (task_id, 3, attempt, "completed", PRINCIPAL, now, data))
            connection.execute(LEFT)

    def left(self) -> int:
        ((count,),) = self._connections[0].execute("SELECT count(*) FROM tasks WHERE finished_at IS NULL").fetchall()
        return int(count)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return every row, but for instants and secrets, of which the lengths are compared."""
    with psycopg.connect(url, row_factory=dict_row, options=OUR_TABLES) as connection:
        return {
            name: [{key: _plain(key, value) for key, value in row.items()} for row in connection.execute(sql)]
            for name, sql in ROWS.items()
        }


def _plain(key: str, value: Any) -> Any:
    if value is None or key in {"position", "worker", "xid"}:
        return None
    if key in SECRET:
        return len(value)
    if key == "data":
        data = json.loads(value)
        return {name: None if name == "worker" else data[name] for name in data}
    return "instant" if key == "at" or key.endswith("_at") else value


def _now() -> int:
    return time.time_ns() // 1_000
