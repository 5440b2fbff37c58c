"""The statements of gates: which accounts are used up, and which worker works with which account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Transaction

GATE = "id, account, executor, closed_at, closed_until, strangers_from, reason, waits, probe"

ALL = f"SELECT {GATE} FROM gates ORDER BY executor, account"
CLOSED = f"SELECT {GATE} FROM gates WHERE closed_until IS NOT NULL ORDER BY id"
NAMED = f"SELECT {GATE} FROM gates WHERE account = :account AND executor = :executor {{lock}}"
BY_ID = f"SELECT {GATE} FROM gates WHERE id = :id {{lock}}"
TRY = """
SELECT id FROM gates
 WHERE {among:id:ids} AND (closed_until <= {now} OR strangers_from <= {now}) ORDER BY id {skip_locked}
"""
MAKE = "INSERT INTO gates (account, executor) VALUES (:account, :executor) ON CONFLICT (account, executor) DO NOTHING"
CLOSE = """
UPDATE gates
   SET closed_at = {now}, closed_until = :closed_until, strangers_from = {now} + :stranger_micros, reason = :reason,
       waits = :waits, probe = NULL
 WHERE id = :id
"""
EXTEND = "UPDATE gates SET closed_until = :closed_until WHERE id = :id AND closed_until < :closed_until"
OPEN = f"""
UPDATE gates
   SET closed_at = NULL, closed_until = NULL, strangers_from = NULL, reason = NULL, waits = 0, probe = NULL
 WHERE id = :id AND closed_until IS NOT NULL
RETURNING {GATE}
"""
PROBE = """
UPDATE gates
   SET closed_until = {greatest}(closed_until, {now} + :probe_micros),
       strangers_from = {greatest}(strangers_from, {now} + :stranger_micros), probe = :probe
 WHERE id = :id AND closed_until IS NOT NULL
"""

ACCOUNTS = """
SELECT executor, worker, account FROM worker_accounts WHERE principal = :principal ORDER BY reported_at DESC, worker
"""
ACCOUNT = """
SELECT account FROM worker_accounts
 WHERE principal = :principal AND executor = :executor
 ORDER BY CASE WHEN worker = :worker THEN 0 ELSE 1 END, reported_at DESC LIMIT 1
"""
REPORT = """
INSERT INTO worker_accounts (principal, worker, executor, account, reported_at)
VALUES (:principal, :worker, :executor, :account, {now})
ON CONFLICT (principal, worker, executor) DO UPDATE SET account = excluded.account, reported_at = excluded.reported_at
 WHERE worker_accounts.account <> excluded.account OR worker_accounts.reported_at < excluded.reported_at - :fresh
"""

LET_THROUGH_NOW = """
SELECT 1 FROM gate_passes JOIN tasks ON tasks.id = gate_passes.task_id WHERE tasks.status = 'ready' LIMIT 1
"""
LET_THROUGH = "INSERT INTO gate_passes (task_id) VALUES (:task_id) ON CONFLICT (task_id) DO NOTHING"
WENT_THROUGH = "DELETE FROM gate_passes WHERE task_id = :task_id"

FRESH = 3_600 * 1_000_000
"""A worker's account is written again only when it is another, or this old: each attempt reports it."""


@dataclass(frozen=True, slots=True)
class Gate:
    """An account of an executor; closed while `closed_until` is there. From that instant one may try."""

    id: int
    account: str
    executor: str
    closed_at: int | None
    closed_until: int | None
    strangers_from: int | None
    reason: str | None
    waits: int
    probe: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """The account that a worker reported for an executor."""

    executor: str
    worker: str
    account: str


def everything(transaction: Transaction) -> list[Gate]:
    """Return every gate there ever was."""
    return [Gate(*row) for row in transaction.all(ALL)]


def closed(transaction: Transaction) -> list[Gate]:
    """Return the gates that are closed."""
    return [Gate(*row) for row in transaction.all(CLOSED)]


def made(transaction: Transaction, account: str, executor: str) -> Gate:
    """Return the gate of an account, to be changed; a new one is open."""
    params = {"account": account, "executor": executor}
    row = transaction.first(NAMED, params)
    if row is None:
        transaction.run(MAKE, params)
        row = transaction.first(NAMED, params)
        assert row is not None  # noqa: S101 - it was just made, by us or by another
    return Gate(*row)


def tried(transaction: Transaction, ids: tuple[int, ...]) -> set[int]:
    """Return which of these gates let somebody try now, and keep others from trying until this work is committed."""
    return {row[0] for row in transaction.all(TRY, {"ids": ids})}


def close(
    transaction: Transaction, gate: Gate, closed_until: int, stranger_micros: int, reason: str, waits: int
) -> None:
    """Close a gate, or close it again."""
    transaction.run(
        CLOSE,
        {
            "id": gate.id,
            "closed_until": closed_until,
            "stranger_micros": stranger_micros,
            "reason": reason,
            "waits": waits,
        },
    )


def extend(transaction: Transaction, gate: Gate, closed_until: int) -> None:
    """Keep a closed gate closed for longer."""
    transaction.run(EXTEND, {"id": gate.id, "closed_until": closed_until})


def open_(transaction: Transaction, gate: Gate) -> bool:
    """Open a gate; False when it was open."""
    return transaction.first(OPEN, {"id": gate.id}) is not None


def probe(transaction: Transaction, gate_id: int, probe: str, probe_micros: int, stranger_micros: int) -> None:
    """Note which attempt tries, and let nobody else try for a while."""
    params = {"id": gate_id, "probe": probe, "probe_micros": probe_micros, "stranger_micros": stranger_micros}
    transaction.run(PROBE, params)


def accounts(transaction: Transaction, principal: str) -> list[Known]:
    """Return what a principal's workers reported, the newest first."""
    return [Known(*row) for row in transaction.all(ACCOUNTS, {"principal": principal})]


def account_of(transaction: Transaction, principal: str, worker: str | None, executor: str) -> str | None:
    """Return the account that a worker reported last; that of another worker of its principal if it never did."""
    row = transaction.first(ACCOUNT, {"principal": principal, "worker": worker or "", "executor": executor})
    return None if row is None else row[0]


def report(transaction: Transaction, principal: str, worker: str | None, executor: str, account: str) -> None:
    """Note which account a worker works with."""
    transaction.run(
        REPORT,
        {
            "principal": principal,
            "worker": worker or "",
            "executor": executor,
            "account": account,
            "fresh": FRESH,
        },
    )


def has_passes(transaction: Transaction) -> bool:
    """Whether any task that can be claimed is let through closed gates."""
    return transaction.first(LET_THROUGH_NOW) is not None


def add_pass(transaction: Transaction, task_id: int) -> None:
    """Let a task through closed gates, once."""
    transaction.run(LET_THROUGH, {"task_id": task_id})


def use_pass(transaction: Transaction, task_id: int) -> bool:
    """Whether the task had a pass, which is used up now."""
    return transaction.run(WENT_THROUGH, {"task_id": task_id}) > 0
