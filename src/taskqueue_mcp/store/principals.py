"""The statements of principals and their tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.store import events

if TYPE_CHECKING:
    from taskqueue_mcp.model import Micros
    from taskqueue_mcp.store.database import Row, Transaction

CALLER = """
SELECT principals.name, principals.kind, tokens.scopes, tokens.expires_at FROM tokens
  JOIN principals ON principals.name = tokens.principal
 WHERE tokens.hash = :hash AND tokens.revoked_at IS NULL AND (tokens.expires_at IS NULL OR tokens.expires_at > {now})
"""
ENSURE = "INSERT INTO principals (name, kind, created_at) VALUES (:name, :kind, {now}) ON CONFLICT (name) DO NOTHING"
KIND = "SELECT kind FROM principals WHERE name = :name"
COLUMNS = "id, name, principal, scopes, created_at, expires_at, revoked_at"
INSERT = f"""
INSERT INTO tokens (name, principal, hash, scopes, created_at, expires_at)
VALUES (:name, :principal, :hash, :scopes, {{now}}, :expires_at) RETURNING {COLUMNS}
"""
ALL = f"SELECT {COLUMNS} FROM tokens ORDER BY id DESC"
LIVE_NAMED = "SELECT id FROM tokens WHERE name = :name AND revoked_at IS NULL"
REVOKE = "UPDATE tokens SET revoked_at = {now} WHERE name = :name AND revoked_at IS NULL RETURNING id"
ANY_LIVE = "SELECT 1 FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now}) LIMIT 1"


EXECUTOR = "exec:"
"""A scope with this prefix names an executor whose tasks may be created."""


@dataclass(frozen=True, slots=True)
class Token:
    """A way in; its secret is known only to who holds it."""

    id: int
    name: str
    principal: str
    scopes: tuple[str, ...]
    created_at: Micros
    expires_at: Micros | None
    revoked_at: Micros | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a live token speaks for, and until when; None for as long as it is not revoked."""

    caller: Caller
    expires_at: Micros | None


def holder(transaction: Transaction, hashed: str) -> Holder | None:
    """Return who the live token with this hash speaks for."""
    row = transaction.first(CALLER, {"hash": hashed})
    if row is None:
        return None
    name, kind, written, expires_at = row
    scopes, executors = split(json.loads(written))
    return Holder(Caller(name, Kind(kind), scopes, executors), expires_at)


def split(words: list[str]) -> tuple[frozenset[Scope], frozenset[str]]:
    """Return what a token may do, and the executors that its scopes `exec:NAME` name.

    Raises:
        ValueError: a word is neither.
    """
    executors = frozenset(word.removeprefix(EXECUTOR) for word in words if word.startswith(EXECUTOR))
    return frozenset(Scope(word) for word in words if not word.startswith(EXECUTOR)), executors


def ensure(transaction: Transaction, name: str, kind: Kind) -> Kind:
    """Make sure that a principal exists and return its kind."""
    transaction.run(ENSURE, {"name": name, "kind": kind.value})
    row = transaction.first(KIND, {"name": name})
    return kind if row is None else Kind(row[0])


def insert(
    transaction: Transaction,
    name: str,
    principal: str,
    hashed: str,
    scopes: str,
    expires_at: Micros | None,
    by: str,
) -> Token:
    """Store a token by the hash of its secret."""
    row = transaction.first(
        INSERT,
        {"name": name, "principal": principal, "hash": hashed, "scopes": scopes, "expires_at": expires_at},
    )
    assert row is not None  # noqa: S101 - RETURNING of an INSERT
    token = _token(row)
    told = {"name": name, "principal": principal, "scopes": json.loads(scopes)}
    events.record_other(transaction, "token", token.id, "created", by, told)
    return token


def tokens(transaction: Transaction) -> list[Token]:
    """Return every token, newest first."""
    return [_token(row) for row in transaction.all(ALL)]


def live_named(transaction: Transaction, name: str) -> bool:
    """Whether a live token has this name."""
    return transaction.first(LIVE_NAMED, {"name": name}) is not None


def revoke(transaction: Transaction, name: str, by: str) -> bool:
    """Revoke the live token of this name; False when there is none."""
    row = transaction.first(REVOKE, {"name": name})
    if row is None:
        return False
    events.record_other(transaction, "token", row[0], "revoked", by, {"name": name})
    return True


def any_live(transaction: Transaction) -> bool:
    """Whether any token opens the door."""
    return transaction.first(ANY_LIVE) is not None


def _token(row: Row) -> Token:
    number, name, principal, scopes, created_at, expires_at, revoked_at = row
    return Token(number, name, principal, tuple(json.loads(scopes)), created_at, expires_at, revoked_at)
