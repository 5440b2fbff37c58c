"""The statements of attempts and what an attempt leaves behind: questions, logs, artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.store.rows import ARTIFACT, ATTEMPT, as_artifact, as_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.model import Artifact, Attempt, Task
    from taskqueue_mcp.store.database import Transaction

OPEN = """
INSERT INTO attempts (task_id, attempt, principal, worker, claim_id, salt, lease_hash, claimed_at,
                      procedure_path, procedure_hash)
VALUES (:task_id, :attempt, :principal, :worker, :claim_id, :salt, :lease_hash, {now},
        :procedure_path, :procedure_hash)
"""
END = """
UPDATE attempts
   SET ended_at = {now}, outcome = :outcome, settle_hash = :settle_hash, error = :error,
       result_summary = :result_summary, result_path = :result_path, result_data = :result_data,
       usage = coalesce(:usage, usage), verdict = :verdict
 WHERE task_id = :task_id AND attempt = :attempt AND ended_at IS NULL
"""
NEW_LEASE = """
UPDATE attempts SET lease_hash = :lease_hash, claimed_at = {now}
 WHERE task_id = :task_id AND attempt = :attempt AND ended_at IS NULL
"""
PROOF = """
SELECT principal, lease_hash, settle_hash, outcome, salt, claim_id, update_seq, verdict
  FROM attempts WHERE task_id = :task_id AND attempt = :attempt
"""
USAGE = "SELECT usage FROM attempts WHERE task_id = :task_id AND attempt = :attempt"
OF_TASK = f"SELECT {ATTEMPT} FROM attempts WHERE task_id = :task_id ORDER BY attempt"
LAST_RESULT = """
SELECT result_data FROM attempts WHERE task_id = :task_id AND outcome = 'completed' ORDER BY attempt DESC LIMIT 1
"""
BEGINNING = """
SELECT (SELECT min(claimed_at) FROM attempts WHERE task_id = :task_id), baseline
  FROM attempts WHERE task_id = :task_id AND attempt = :attempt
"""
NOTE_BASELINE = """
UPDATE attempts SET baseline = :baseline
 WHERE task_id = :task_id AND attempt = :attempt AND ended_at IS NULL AND baseline IS NULL
"""
NOTE_UPDATE = """
UPDATE attempts SET update_seq = coalesce(:update_seq, update_seq), usage = coalesce(:usage, usage)
 WHERE task_id = :task_id AND attempt = :attempt AND ended_at IS NULL
"""
KEEP_TEXT = """
INSERT INTO procedure_texts (hash, path, text, stored_at) VALUES (:hash, :path, :text, {now})
ON CONFLICT (hash) DO NOTHING
"""
FETCH_TEXT = "SELECT path, text FROM procedure_texts WHERE hash = :hash"

ASK = """
INSERT INTO questions (task_id, number, attempt, kind, text, approves, asked_at)
SELECT :task_id, coalesce(max(number), 0) + 1, :attempt, :kind, :text, :approves, {now}
  FROM questions WHERE task_id = :task_id
"""
ANSWER = """
UPDATE questions SET answer = :answer, answered_by = :principal, answered_at = {now}
 WHERE task_id = :task_id AND answered_at IS NULL
"""
ASKED_APPROVAL = """
SELECT approves FROM questions
 WHERE task_id = :task_id AND kind = 'approval' AND answered_at IS NULL ORDER BY number DESC LIMIT 1
"""
QUESTIONS = """
SELECT number, attempt, kind, text, asked_at, answer, answered_by, answered_at
  FROM questions WHERE task_id = :task_id ORDER BY number
"""

LOG_SIZE = """
SELECT coalesce(sum(length(text)), 0), coalesce(max(number), 0)
  FROM log_chunks WHERE task_id = :task_id AND attempt = :attempt
"""
LOG = """
INSERT INTO log_chunks (task_id, attempt, number, at, text) VALUES (:task_id, :attempt, :number, {now}, :text)
"""
LOGS = """
SELECT attempt, number, at, text FROM log_chunks
 WHERE task_id = :task_id AND (attempt > :attempt OR (attempt = :attempt AND number > :number))
 ORDER BY attempt, number LIMIT :limit
"""

ADD_ARTIFACT = """
INSERT INTO artifacts (task_id, attempt, path, size, sha256, media_type, stored, created_at)
VALUES (:task_id, :attempt, :path, :size, :sha256, :media_type, :stored, {now})
ON CONFLICT (task_id, attempt, path) DO UPDATE SET size = coalesce(excluded.size, artifacts.size),
  sha256 = coalesce(excluded.sha256, artifacts.sha256),
  media_type = coalesce(excluded.media_type, artifacts.media_type),
  stored = coalesce(excluded.stored, artifacts.stored)
"""
ARTIFACTS = f"SELECT {ARTIFACT} FROM artifacts WHERE task_id = :task_id ORDER BY id"

STORED_ARTIFACT = f"""
SELECT {ARTIFACT} FROM artifacts
 WHERE task_id = :task_id AND attempt = :attempt AND path = :path AND stored IS NOT NULL
"""

LONGEST_LOG = 1_048_576
"""Characters of log kept for an attempt; what comes after is dropped, with a note."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What an attempt's lease and outcome are checked against."""

    principal: str
    lease_hash: str
    settle_hash: str | None
    outcome: str | None
    salt: str
    claim_id: str | None
    update_seq: int | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """What a person was asked about a task, and the answer."""

    number: int
    attempt: int
    kind: str
    text: str
    asked_at: int
    answer: str | None
    answered_by: str | None
    answered_at: int | None


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Some lines of an attempt's log."""

    attempt: int
    number: int
    at: int
    text: str


def begin(
    transaction: Transaction, task: Task, salt: str, lease_hash: str, procedure: tuple[str, str, str] | None
) -> None:
    """Store a new attempt; `procedure` is the path, hash and text that it follows."""
    path, digest, text = procedure or (None, None, None)
    if digest is not None:
        transaction.run(KEEP_TEXT, {"hash": digest, "path": path, "text": text})
    transaction.post(
        OPEN,
        {
            "task_id": task.id,
            "attempt": task.attempt,
            "principal": task.lease_principal,
            "worker": task.worker,
            "claim_id": task.claim_id,
            "salt": salt,
            "lease_hash": lease_hash,
            "procedure_path": path,
            "procedure_hash": digest,
        },
    )


def end(
    transaction: Transaction, task_id: int, attempt: int, outcome: str, *, settle_hash: str | None = None,
    error: str | None = None, result_summary: str | None = None, result_path: str | None = None,
    result_data: str | None = None, usage: str | None = None, verdict: str | None = None,
) -> None:  # fmt: skip
    """Store what an attempt came to."""
    transaction.post(
        END,
        {
            "task_id": task_id,
            "attempt": attempt,
            "outcome": outcome,
            "settle_hash": settle_hash,
            "error": error,
            "result_summary": result_summary,
            "result_path": result_path,
            "result_data": result_data,
            "usage": usage,
            "verdict": verdict,
        },
    )


def new_lease(transaction: Transaction, task_id: int, attempt: int, lease_hash: str) -> None:
    """Store the lease that replaces one whose answer was lost."""
    transaction.run(NEW_LEASE, {"task_id": task_id, "attempt": attempt, "lease_hash": lease_hash})


def proof(transaction: Transaction, task_id: int, attempt: int) -> Proof | None:
    """Return what an attempt's lease is checked against."""
    row = transaction.first(PROOF, {"task_id": task_id, "attempt": attempt})
    return None if row is None else Proof(*row)


def usage(transaction: Transaction, task_id: int, attempt: int) -> str | None:
    """Return the usage that an attempt has reported so far."""
    row = transaction.first(USAGE, {"task_id": task_id, "attempt": attempt})
    return None if row is None else row[0]


def of_task(transaction: Transaction, task_id: int) -> list[Attempt]:
    """Return every attempt of a task, oldest first."""
    return [as_attempt(row) for row in transaction.all(OF_TASK, {"task_id": task_id})]


def last_result(transaction: Transaction, task_id: int) -> str | None:
    """Return the result data of the attempt that completed a task."""
    row = transaction.first(LAST_RESULT, {"task_id": task_id})
    return None if row is None else row[0]


def beginning(transaction: Transaction, task_id: int, attempt: int) -> tuple[int, str | None]:
    """Return when the first attempt of a task began, and what files were when this one did (JSON text)."""
    row = transaction.first(BEGINNING, {"task_id": task_id, "attempt": attempt})
    return (0, None) if row is None else (row[0], row[1])


def note_baseline(transaction: Transaction, task_id: int, attempt: int, baseline: str) -> None:
    """Remember what files were when an attempt began; the first note stands."""
    transaction.run(NOTE_BASELINE, {"task_id": task_id, "attempt": attempt, "baseline": baseline})


def note_update(transaction: Transaction, task: Task, update_seq: int | None, usage: str | None) -> None:
    """Remember the last numbered update and the usage reported so far."""
    transaction.run(
        NOTE_UPDATE, {"task_id": task.id, "attempt": task.attempt, "update_seq": update_seq, "usage": usage}
    )


def procedure_text(transaction: Transaction, digest: str) -> tuple[str, str] | None:
    """Return the path and text of a procedure by its hash."""
    row = transaction.first(FETCH_TEXT, {"hash": digest})
    return None if row is None else (row[0], row[1])


def ask(transaction: Transaction, task: Task, kind: str, text: str, approves: str | None = None) -> None:
    """Store a question to a person; `approves` is the hash of what a yes would let run."""
    transaction.run(
        ASK, {"task_id": task.id, "attempt": task.attempt, "kind": kind, "text": text, "approves": approves}
    )


def asked_approval(transaction: Transaction, task_id: int) -> str | None:
    """Return the hash of what the open question asks to approve; None where there is no such question."""
    row = transaction.first(ASKED_APPROVAL, {"task_id": task_id})
    return None if row is None else row[0]


def answer(transaction: Transaction, task_id: int, text: str, principal: str) -> None:
    """Store the answer to whatever is open."""
    transaction.run(ANSWER, {"task_id": task_id, "answer": text, "principal": principal})


def questions(transaction: Transaction, task_id: int) -> list[Question]:
    """Return everything that was asked about a task."""
    return [Question(*row) for row in transaction.all(QUESTIONS, {"task_id": task_id})]


def log(transaction: Transaction, task: Task, text: str) -> None:
    """Add lines to an attempt's log, up to its cap."""
    row = transaction.first(LOG_SIZE, {"task_id": task.id, "attempt": task.attempt})
    size, number = (0, 0) if row is None else row
    if size > LONGEST_LOG:
        return
    kept = text[: LONGEST_LOG - size]
    if len(kept) < len(text):
        kept += "\n[the log is full; what came after was dropped]"
    transaction.run(LOG, {"task_id": task.id, "attempt": task.attempt, "number": number + 1, "text": kept})


def logs(transaction: Transaction, task_id: int, after: tuple[int, int], limit: int) -> list[LogChunk]:
    """Return log chunks after `(attempt, number)`."""
    rows = transaction.all(LOGS, {"task_id": task_id, "attempt": after[0], "number": after[1], "limit": limit})
    return [LogChunk(*row) for row in rows]


def add_artifact(transaction: Transaction, task: Task, artifact: Mapping[str, Any]) -> None:
    """Store a file that an attempt made."""
    known = {name: artifact.get(name) for name in ("path", "size", "sha256", "media_type", "stored")}
    transaction.run(ADD_ARTIFACT, {"task_id": task.id, "attempt": task.attempt, **known})


def stored_artifact(transaction: Transaction, task_id: int, attempt: int, path: str) -> Artifact | None:
    """Return the file of an attempt whose bytes are kept, by its path."""
    row = transaction.first(STORED_ARTIFACT, {"task_id": task_id, "attempt": attempt, "path": path})
    return None if row is None else as_artifact(row)


def artifacts(transaction: Transaction, task_id: int) -> list[Artifact]:
    """Return the files that a task's attempts made."""
    return [as_artifact(row) for row in transaction.all(ARTIFACTS, {"task_id": task_id})]


def as_usage(usage: dict[str, Any]) -> str | None:
    """Return usage as the text that is stored."""
    return json.dumps(usage, ensure_ascii=False) if usage else None
