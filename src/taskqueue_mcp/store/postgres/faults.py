"""What PostgreSQL complains of, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolTimeout

from taskqueue_mcp.errors import Busy, DatabaseRefused

if TYPE_CHECKING:
    from taskqueue_mcp.store.postgres.address import Address

PATIENCE = 5.0
"""How long a work is tried again while the database is away or in its way, in seconds."""

CONFLICTS = (
    pg.SerializationFailure, pg.DeadlockDetected, pg.UniqueViolation, pg.ForeignKeyViolation, pg.LockNotAvailable,
)  # fmt: skip
"""Others were in the way; the same work may go through when it is run again."""
GONE = ("08", "57P", "53300")
"""Codes of a connection that is lost or refused; those without one are of the network."""
PRIVILEGES = (pg.InsufficientPrivilege, pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedFunction)


CURES = {
    "the database system is": "wait until it is up, and try again",
    "permission denied": "let an administrator run: GRANT CONNECT, CREATE ON DATABASE … TO …",
    "password": "check the user and the password (special characters are written %XX; PGPASSWORD and ~/.pgpass work)",
    "no pg_hba.conf entry": "let an administrator admit this user from this machine (pg_hba.conf, sslmode)",
    "too many": "give each server fewer connections (?pool=4), raise max_connections, or put a pooler between",
    "remaining connection slots": "give each server fewer connections (?pool=4), or raise max_connections",
    "role": "check the user of the URL, or let an administrator make it: CREATE ROLE … LOGIN",
    "database": "let an administrator make it: CREATE DATABASE … ENCODING 'UTF8'",
    "read-only": "point --database at the primary",
    "": "check the URL and that the server runs",
}
"""What to do about what a server says when it lets nobody in, by words of it; they come in no other form."""


class Filled(Exception):
    """Others filled a queue while this work was counting on it; run it again."""


class Unknown(Exception):
    """The connection was lost while the commit was under way: it may have happened."""


def is_conflict(error: BaseException) -> bool:
    """Whether the work may go through when it is run again."""
    return isinstance(error, (*CONFLICTS, Filled))


def is_gone(error: BaseException) -> bool:
    """Whether the connection failed, not the statement."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(GONE)


def translate(error: BaseException, address: Address) -> BaseException:
    """Return the error that a caller understands; a mistake in our own statements stays what it is."""
    place = address.place
    found = error
    if isinstance(error, Unknown):
        found = Busy(
            f"the connection to {place} was lost in the middle of a commit, so whether it was stored is not known; "
            "call again with the same idempotency_key, claim_id, lease or seq: that is always safe",
            stored="unknown",
        )
    elif isinstance(error, PoolTimeout):
        found = Busy(
            f"no connection to {place} came free in {PATIENCE:.0f} s and nothing was changed; call again (the database "
            f"is away, or more than ?pool={address.pool} connections are needed)"
        )
    elif is_gone(error):
        found = Busy(f"the database {place} cannot be reached ({_plain(error)}) and nothing was changed; call again")
    elif isinstance(error, pg.ReadOnlySqlTransaction):
        found = Busy(
            f"the database {place} is a read-only standby and nothing was changed; call again when a primary is back, "
            "or point --database at the primary (…?target_session_attrs=read-write)"
        )
    elif isinstance(error, pg.DiskFull | pg.OutOfMemory | pg.InsufficientResources):
        found = Busy(f"the database {place} is out of room ({_plain(error)}) and nothing was changed; call again")
    elif isinstance(
        error, pg.QueryCanceled | pg.LockNotAvailable | Filled | pg.SerializationFailure | pg.DeadlockDetected
    ):
        found = Busy(f"others held what was needed in {place} for too long and nothing was changed; call again")
    elif isinstance(error, PRIVILEGES):
        found = DatabaseRefused(f"the database {place} does not let us work ({_plain(error)}); nothing was changed")
    return found


def refusal(error: psycopg.Error, address: Address) -> DatabaseRefused | Busy:
    """Return why a database cannot be opened."""
    place = address.place
    if isinstance(error, pg.InsufficientPrivilege):
        return DatabaseRefused(
            f"the role has too few rights in {place} ({_plain(error)}); let an administrator run: "
            f"CREATE SCHEMA {address.schema} AUTHORIZATION the_role"
        )
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return DatabaseRefused(f"{place} is read-only; point --database at the primary")
    if isinstance(error, (*CONFLICTS, pg.QueryCanceled)):
        return Busy(f"another process is busy with the schema of {place}; try again")
    text = _plain(error)
    cure = next((cure for words, cure in CURES.items() if words in text), CURES[""])
    return DatabaseRefused(f"cannot use PostgreSQL {place}: {text}; {cure}")


def _plain(error: BaseException) -> str:
    """Return what an error says, in one line."""
    diagnosis = getattr(error, "diag", None)
    text = (diagnosis.message_primary if diagnosis is not None else None) or str(error)
    return " ".join(text.split()) or type(error).__name__
