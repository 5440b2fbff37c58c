"""What a PostgreSQL database says of itself, for `doctor` and for whoever looks after it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from taskqueue_mcp.store import migrate
from taskqueue_mcp.store.inspection import Facts
from taskqueue_mcp.store.postgres import address as addresses
from taskqueue_mcp.store.postgres import faults, opening

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Transaction
    from taskqueue_mcp.store.postgres.transaction import Wire

SETTINGS = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
       current_setting('full_page_writes')
"""
TABLES = """
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name
"""
OWN = frozenset({"schema_number", "search"})

SERVER = """
SELECT current_setting('server_version'), current_setting('server_encoding'), current_setting('fsync'),
       current_setting('full_page_writes'), current_setting('synchronous_commit'),
       current_setting('synchronous_standby_names'), current_user,
       has_database_privilege(current_database(), 'CREATE')
         OR coalesce(has_schema_privilege(CAST(to_regnamespace(%s) AS oid), 'CREATE'), false),
       CAST(current_setting('max_connections') AS int) - CAST(current_setting('superuser_reserved_connections') AS int),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       CAST(extract(epoch FROM clock_timestamp()) AS float8)
"""
OLDEST = """
SELECT pid, CAST(extract(epoch FROM clock_timestamp() - xact_start) AS float8), coalesce(application_name, '')
  FROM pg_stat_activity
 WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
 ORDER BY xact_start LIMIT 1
"""
RIGHTS = """
SELECT bool_and(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
  FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')
"""
DEAD = """
SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_all_tables
 WHERE schemaname = %s ORDER BY n_dead_tup DESC LIMIT 1
"""
AHEAD = """
SELECT count(*) FROM (SELECT xid FROM {schema}.events ORDER BY xid DESC LIMIT 1) AS newest
 WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
"""


@dataclass(frozen=True, slots=True)
class Health:
    """How a server and our schema on it are; times are in seconds."""

    place: str
    schema: str
    role: str
    pool: int
    version: str
    encoding: str
    whole: bool
    """fsync and full_page_writes are on: a crash of the machine neither loses nor damages what was committed."""
    synchronous: str
    standbys: str
    pooled: bool
    connections: int
    most_connections: int
    skew: float
    """How far this machine's clock is ahead of the database's."""
    may_create: bool
    number: int | None
    """The number of the schema, None where there is none."""
    may_write: bool
    dead: tuple[str, int, int] | None
    """The table with the most dead rows: its name, how many, and how many live ones."""
    oldest: tuple[int, float, str] | None
    """The longest open transaction of others: its process, its age and the name of the program."""
    ahead: bool
    """Events were written by transactions that are still to come: rows of another cluster were put here."""


def inspect(transaction: Transaction) -> Facts:
    """Read the settings that durability rests on, and count."""
    version, synchronous, fsync, pages = transaction.all(SETTINGS)[0]
    names = [name for (name,) in transaction.all(TABLES) if name not in OWN]
    return Facts(
        engine=f"PostgreSQL {version.split()[0]}",
        journal="wal" if (fsync, pages) == ("on", "on") else f"wal without fsync={fsync}, full_page_writes={pages}",
        synchronous="on" if synchronous == "off" else synchronous,  # each of our transactions turns it on
        schema=transaction.all("SELECT number FROM schema_number")[0][0],
        newest_schema=migrate.latest(),
        rows={name: transaction.all(f"SELECT count(*) FROM {name}")[0][0] for name in names},
    )


def examine(url: str) -> Health:
    """Look at a database without changing it.

    Raises:
        DatabaseRefused: it cannot be reached, or is none that we work on.
    """
    address = addresses.read(url)
    with opening.connect(address) as wire:
        server = opening.check(wire, address)
        try:
            return _health(wire, address, pooled=server.pooled)
        except psycopg.Error as error:
            raise faults.refusal(error, address) from error


def _health(wire: Wire, address: addresses.Address, *, pooled: bool) -> Health:
    number = opening.number_of(wire, address) or None
    before = time.time()
    told = _row(wire, SERVER, address.schema)
    skew = (before + time.time()) / 2 - told[10]
    rights = _row(wire, RIGHTS, address.schema) if number else (False,)
    dead = wire.execute(DEAD, (address.schema,)).fetchone()
    oldest = wire.execute(OLDEST).fetchone()
    return Health(
        place=address.place,
        schema=address.schema,
        role=told[6],
        pool=address.pool,
        version=told[0].split()[0],
        encoding=told[1],
        whole=(told[2], told[3]) == ("on", "on"),
        synchronous=told[4],
        standbys=told[5],
        pooled=pooled,
        connections=told[9],
        most_connections=told[8],
        skew=skew,
        may_create=told[7],
        number=number,
        may_write=bool(rights[0]),
        dead=None if dead is None else (dead[0], dead[1], dead[2]),
        oldest=None if oldest is None else (oldest[0], oldest[1], oldest[2]),
        ahead=bool(number and rights[0] and _row(wire, AHEAD.format(schema=address.schema))[0]),
    )


def _row(wire: Wire, sql: str, *params: Any) -> tuple[Any, ...]:
    found = wire.execute(sql, params or None).fetchone()
    assert found is not None  # noqa: S101 - each of them is a SELECT of one row
    return found
