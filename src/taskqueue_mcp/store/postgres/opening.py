"""What has to be true of a PostgreSQL database before it is trusted with work, and its schema brought up to date."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as pg

from taskqueue_mcp.errors import DatabaseRefused
from taskqueue_mcp.store import migrate
from taskqueue_mcp.store.postgres import address as addresses
from taskqueue_mcp.store.postgres import faults
from taskqueue_mcp.store.postgres.gathering import COLUMN_TYPES

if TYPE_CHECKING:
    from taskqueue_mcp.store.dialect import Dialect
    from taskqueue_mcp.store.postgres.address import Address
    from taskqueue_mcp.store.postgres.gathering import Types
    from taskqueue_mcp.store.postgres.transaction import Wire

OLDEST = 140_000
CONNECT_SECONDS = 10
MIGRATION_PATIENCE = 60.0
FACTS = """
SELECT version(), current_setting('server_version_num')::int, current_setting('server_encoding'),
       pg_is_in_recovery(), current_setting('synchronous_commit'), pg_backend_pid(),
       current_setting('default_transaction_read_only')
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What was found out about a server when it was opened."""

    pooled: bool
    """A pooler stands between: what belongs to a session (prepared statements, LISTEN) cannot be relied on."""
    durable: bool
    """`synchronous_commit` is not off."""


def connect(address: Address) -> Wire:
    """Return a connection in autocommit mode.

    Raises:
        DatabaseRefused: there is no way in.
    """
    try:
        return psycopg.connect(address.dsn, autocommit=True, connect_timeout=CONNECT_SECONDS, prepare_threshold=None)
    except psycopg.Error as error:
        raise faults.refusal(error, address) from error


def check(wire: Wire, address: Address) -> Server:
    """Refuse a server that we do not work on.

    Raises:
        DatabaseRefused: it is too old, a standby, not UTF-8, or only speaks the protocol of PostgreSQL.
    """
    told = wire.execute(FACTS).fetchone()
    assert told is not None  # noqa: S101 - a SELECT of functions
    version, number, encoding, standby, synchronous, process, read_only = told
    if "CockroachDB" in version:
        raise DatabaseRefused(
            "CockroachDB only resembles PostgreSQL (SKIP LOCKED and READ COMMITTED differ); use PostgreSQL 14 to 18, "
            "or what is built from it (docs/scaling.md)"
        )
    if number < OLDEST:
        raise DatabaseRefused(f"{address.place} runs PostgreSQL {number // 10_000}; 14 or newer is needed")
    if encoding != "UTF8":
        raise DatabaseRefused(
            f"the database {address.place} is encoded in {encoding}; make one with ENCODING 'UTF8' and use that"
        )
    if standby:
        raise DatabaseRefused(
            f"{address.place} is a read-only standby; point --database at the primary "
            "(…?target_session_attrs=read-write)"
        )
    if read_only == "on":
        raise DatabaseRefused(
            f"{address.place} is read-only (default_transaction_read_only is on); turn that off for this role and "
            "database, or point --database at the primary"
        )
    return Server(pooled=process != wire.info.backend_pid, durable=synchronous != "off")


def schema_number(url: str) -> int | None:
    """Return the number of the schema, None where there is none.

    Raises:
        DatabaseRefused: there is no way in.
    """
    address = addresses.read(url)
    with connect(address) as wire:
        try:
            return number_of(wire, address) or None
        except psycopg.Error as error:
            raise faults.refusal(error, address) from error


def bring_up_to_date(wire: Wire, address: Address, dialect: Dialect) -> None:
    """Make the schema, or run the migrations that it lacks; any number of processes may do so at once.

    Raises:
        DatabaseRefused: a newer program wrote it, or the role may not.
    """
    deadline = time.monotonic() + MIGRATION_PATIENCE
    while True:
        try:
            if number_of(wire, address) != migrate.latest():
                _migrate(wire, address, dialect)
        except (pg.UniqueViolation, pg.DuplicateObject, pg.DuplicateTable, *faults.CONFLICTS) as error:
            # another process is making the same thing at this moment
            if time.monotonic() >= deadline:
                raise faults.refusal(error, address) from error
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - spreads what collided
        except psycopg.Error as error:
            raise faults.refusal(error, address) from error
        else:
            return


def column_types(wire: Wire, address: Address) -> Types:
    """Return the type of each column of the schema."""
    rows = wire.execute(COLUMN_TYPES, (address.schema,)).fetchall()
    return {(table, column): type_ for table, column, type_ in rows}


def number_of(wire: Wire, address: Address) -> int:
    """Return the number of the schema; 0 when there is none."""
    found = wire.execute("SELECT to_regclass(%s)", (f"{address.schema}.schema_number",)).fetchone()
    if found is None or found[0] is None:
        return 0
    row = wire.execute(f"SELECT max(number) FROM {address.schema}.schema_number").fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def _migrate(wire: Wire, address: Address, dialect: Dialect) -> None:
    schema = address.schema
    with wire.transaction():
        wire.execute("SET LOCAL client_min_messages = warning")
        if wire.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,):
            wire.execute(f"CREATE SCHEMA {schema}")
        wire.execute(f"SET LOCAL search_path = {schema}")
        wire.execute("CREATE TABLE IF NOT EXISTS schema_number (number BIGINT NOT NULL)")
        wire.execute("LOCK TABLE schema_number IN ACCESS EXCLUSIVE MODE")
        have = number_of(wire, address)
        number = have
        for number, statement in migrate.statements(have, "postgres", dialect):  # noqa: B007 - the last one counts
            wire.execute(statement)
        if number != have:
            wire.execute("DELETE FROM schema_number")
            wire.execute("INSERT INTO schema_number (number) VALUES (%s)", (number,))
