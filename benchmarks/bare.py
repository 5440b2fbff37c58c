"""The yardsticks: loops that leave the rows of a cycle behind, without a queue around them."""

from __future__ import annotations

import hashlib
import secrets
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.store import attempts, events, open_database, queues, tasks
from taskqueue_mcp.store.dialect import SQLITE

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Count what is low"
INSTRUCTIONS = "Read the stock of every product and write the ones below their threshold into a file."
SUMMARY = "12 products are low"
PRINCIPAL = "owner"
LEASE_MICROS = 900_000_000
DAY = 86_400_000_000


class Held(NamedTuple):
    """What a claim gave."""

    task_id: int
    attempt: int
    lease_hash: str


class Loop(ABC):
    """A connection with the schema and the settings of ours."""

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
            self.count(batch)
            run("COMMIT")
            run("BEGIN IMMEDIATE")
            held = [self.claim(f"w{number}") for number in range(batch)]
            run("COMMIT")
            run("BEGIN IMMEDIATE")
            for each in held:
                self.complete(each)
            self.count(-batch)
            run("COMMIT")

    @abstractmethod
    def count(self, added: int) -> None: ...

    @abstractmethod
    def create(self) -> None: ...

    @abstractmethod
    def claim(self, worker: str) -> Held: ...

    @abstractmethod
    def complete(self, held: Held) -> None: ...

    def close(self) -> None:
        self._connection.close()


class Same(Loop):
    """Every statement that the service runs, reads and checks included, with parameters written out by hand."""

    def create(self) -> None:
        now = _now()
        row = self._run(tasks.INSERT, {
            "title": TITLE, "task_type": "task", "executor": "claude", "queue": "default", "priority": "medium",
            "status": "ready", "reason": None, "run_at": now, "sort_at": now, "max_attempts": 3, "blockers": 0,
            "serial_key": None, "parent_id": None, "root_id": None, "depth": 0, "schedule_id": None, "due_at": None,
            "created_by": PRINCIPAL, "now": now, "idempotency_key": None, "request_hash": None, "question": None,
            "finished_at": None, "error": None, "expects": 0,
        })[0]  # fmt: skip
        self._run(tasks.INSERT_BODY, {
            "task_id": row[0], "instructions": INSTRUCTIONS, "params": None, "sop": None, "template": None,
            "variables": None, "output": None, "tags": None, "requested_by": None, "timeout_seconds": None,
            "budget_usd": None, "on_dependency_failure": "fail", "notify": None, "plan": None, "metadata": None,
            "outputs": None, "budget": None, "only_if": None, "trust": "owner", "rights": "*", "approval": None,
        })  # fmt: skip
        self._event(row[0], 1, None, "created", now, '{"status": "ready"}')

    def claim(self, worker: str) -> Held:
        now = _now()
        self._run(tasks.NEXT_INSTANTS, {})
        self._run(tasks.UNTOUCHED, {"principal": PRINCIPAL, "worker": worker, "now": now, "window": 60_000_000})
        lease_hash = _lease_hash()
        row = self._run(tasks.TAKE_ANY, {
            "worker": worker, "principal": PRINCIPAL, "lease_hash": lease_hash, "now": now,
            "lease_micros": LEASE_MICROS, "lease_seconds": 900, "claim_id": None,
        })[0]  # fmt: skip
        task_id, attempt = row[0], row[9]
        self._run(tasks.FETCH_ORDER, {"id": task_id, "today": now // DAY})
        self._run(attempts.OPEN, {
            "task_id": task_id, "attempt": attempt, "principal": PRINCIPAL, "worker": worker, "claim_id": None,
            "salt": secrets.token_hex(16), "lease_hash": lease_hash, "now": now, "procedure_path": None,
            "procedure_hash": None,
        })  # fmt: skip
        self._event(task_id, 2, attempt, "claimed", now, f'{{"worker": "{worker}"}}')
        return Held(task_id, attempt, lease_hash)

    def complete(self, held: Held) -> None:
        now = _now()
        task_id, attempt, lease_hash = held
        assert self._run(tasks.FETCH_LEASE, {"id": task_id})[0][0] == lease_hash
        assert self._run(tasks.SETTLE, {
            "status": "completed", "reason": None, "run_at": now, "sort_at": now, "failures": 0, "handbacks": 0,
            "error": None, "question": None, "finished_at": now, "result_summary": SUMMARY, "result_path": None,
            "id": task_id, "attempt": attempt, "lease_hash": lease_hash, "principal": PRINCIPAL,
            "verdict": "unverified",
        })  # fmt: skip
        self._run(attempts.END, {
            "now": now, "outcome": "completed", "settle_hash": _digest(), "error": None, "result_summary": SUMMARY,
            "result_path": None, "result_data": None, "usage": None, "task_id": task_id, "attempt": attempt,
            "verdict": None,
        })  # fmt: skip
        self._event(task_id, 3, attempt, "completed", now, f'{{"summary": "{SUMMARY}"}}')
        self._run(tasks.WAITED_FOR, {"id": task_id})

    def count(self, added: int) -> None:
        if added > 0:
            self._run(queues.STATE, {"queue": "default"})
        assert self._connection.execute(
            SQLITE.render(queues.COUNT), {"queue": "default", "added": added, "limit": 10_000}
        ).rowcount

    def _event(self, task_id: int, seq: int, attempt: int | None, kind: str, now: int, data: str) -> None:
        self._run(events.RECORD, {
            "subject": "task", "subject_id": task_id, "seq": seq, "attempt": attempt, "kind": kind,
            "principal": PRINCIPAL, "now": now, "data": data,
        })  # fmt: skip

    def _run(self, sql: str, params: dict[str, Any]) -> list[Any]:
        rows: list[Any] = self._connection.execute(SQLITE.render(sql), params).fetchall()
        return rows


class Fewest(Loop):
    """The fewest statements that leave the same rows: nothing is checked, read or handed to anyone."""

    COUNT = "UPDATE queues SET open_tasks = open_tasks + ? WHERE name = 'default' AND open_tasks < 10000"
    TASK = """
    INSERT INTO tasks (title, task_type, executor, queue, priority, status, run_at, sort_at, max_attempts, created_by,
                       created_at)
    VALUES (?, 'task', 'claude', 'default', 'medium', 'ready', ?, ?, 3, ?, ?)
    """
    BODY = """
    INSERT INTO bodies (task_id, instructions, on_dependency_failure, trust, rights)
    VALUES (?, ?, 'fail', 'owner', '*')
    """
    EVENT = """
    INSERT INTO events (subject, subject_id, seq, attempt, kind, principal, at, data)
    VALUES ('task', ?, ?, ?, ?, ?, ?, ?)
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
    INSERT INTO attempts (task_id, attempt, principal, worker, salt, lease_hash, claimed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    """
    SETTLE = """
    UPDATE tasks
       SET status = 'completed', finished_at = ?, result_summary = ?, verdict = 'unverified', worker = NULL,
           lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL, seq = seq + 1
     WHERE id = ? AND status = 'in_progress' AND attempt = ? AND lease_hash = ? AND lease_principal = ?
    """
    END = """
    UPDATE attempts SET ended_at = ?, outcome = 'completed', settle_hash = ?, result_summary = ?
     WHERE task_id = ? AND attempt = ? AND ended_at IS NULL
    """

    def count(self, added: int) -> None:
        assert self._connection.execute(self.COUNT, (added,)).rowcount == 1

    def create(self) -> None:
        run, now = self._connection.execute, _now()
        task_id = run(self.TASK, (TITLE, now, now, PRINCIPAL, now)).lastrowid
        run(self.BODY, (task_id, INSTRUCTIONS))
        run(self.EVENT, (task_id, 1, None, "created", PRINCIPAL, now, '{"status": "ready"}'))

    def claim(self, worker: str) -> Held:
        run, now, lease_hash = self._connection.execute, _now(), _lease_hash()
        task_id, attempt = run(self.TAKE, (worker, PRINCIPAL, lease_hash, now + LEASE_MICROS, now)).fetchall()[0]
        run(self.ATTEMPT, (task_id, attempt, PRINCIPAL, worker, secrets.token_hex(16), lease_hash, now))
        run(self.EVENT, (task_id, 2, attempt, "claimed", PRINCIPAL, now, f'{{"worker": "{worker}"}}'))
        return Held(task_id, attempt, lease_hash)

    def complete(self, held: Held) -> None:
        run, now = self._connection.execute, _now()
        task_id, attempt, lease_hash = held
        assert run(self.SETTLE, (now, SUMMARY, task_id, attempt, lease_hash, PRINCIPAL)).rowcount == 1
        run(self.END, (now, _digest(), SUMMARY, task_id, attempt))
        run(self.EVENT, (task_id, 3, attempt, "completed", PRINCIPAL, now, f'{{"summary": "{SUMMARY}"}}'))


def _now() -> int:
    return time.time_ns() // 1_000


def _lease_hash() -> str:
    return hashlib.sha256(secrets.token_bytes(16)).hexdigest()


def _digest() -> str:
    return hashlib.sha256(SUMMARY.encode()).hexdigest()
