"""The same small table in every kind of database that can be a source, and a URL for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pysqlite3 import dbapi2 as sqlite
from sqlalchemy import make_url

from taskqueue_mcp.executors.sources.databases import Database
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from tests import mariadb

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.sources.reading import Source
    from tests.postgres import Cluster

ENGINES = ("sqlite", "postgres", "duckdb", *(("mariadb",) if mariadb.is_here() else ()))

TABLES = (
    "CREATE TABLE stock (id integer PRIMARY KEY, sku varchar(40) NOT NULL, name varchar(80), quantity integer)",
    "INSERT INTO stock VALUES (1, 'A-1', 'Anvil', 3), (2, 'B-2', 'Büchse ✓', 40), (3, 'C-3', NULL, -5)",
    "INSERT INTO stock VALUES (4, 'D-4', '=1+1', 9)",
    "CREATE TABLE numbers (n integer)",
    "INSERT INTO numbers VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
)
PAIRS = "FROM numbers a, numbers b, numbers c, numbers d, numbers e"
"""A hundred thousand rows."""
ENDLESS = (
    f"SELECT count(*) AS n {PAIRS}, numbers f, numbers g, numbers h, numbers i, numbers j, numbers k "
    "WHERE a.n * b.n + c.n * d.n + k.n <> 1000"
)


class Kept(Protocol):
    """A database with these tables, and a way to see whether they are still what they were."""

    @property
    def source(self) -> Source: ...

    def count(self) -> int: ...


class InSqlite:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "stock.db"
        with sqlite.connect(self.path) as wire:
            wire.executescript(";".join(TABLES))
        wire.close()
        self.source: Source = SqliteFile(self.path)

    def count(self) -> int:
        wire = sqlite.connect(self.path)
        found = wire.execute("SELECT count(*) FROM stock").fetchone()[0]
        wire.close()
        return int(found)


class InPostgres:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._name = cluster.empty_database()
        with cluster.admin(self._name) as wire:
            for statement in TABLES:
                wire.execute(statement.encode())
        self.source: Source = Database(make_url(cluster.url(self._name)))

    def count(self) -> int:
        with self._cluster.admin(self._name) as wire:
            return int(wire.execute("SELECT count(*) FROM stock").fetchall()[0][0])

    def open_visits(self) -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taskqueue-mcp'"
        with self._cluster.admin(self._name) as wire:
            return int(wire.execute(sql).fetchall()[0][0])


class InMariaDb:
    def __init__(self, server: mariadb.Server, name: str) -> None:
        self._server = server
        self._name = server.new_database(name, *TABLES)
        self.url = server.url(self._name)
        self.source: Source = Database(make_url(self.url))

    def count(self) -> int:
        with self._server.admin(self._name) as wire, wire.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM stock")
            return int(cursor.fetchone()[0])

    def open_visits(self) -> int:
        with self._server.admin() as wire, wire.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM information_schema.processlist WHERE db = %s AND command <> 'Sleep'",
                (self._name,),
            )
            return int(cursor.fetchone()[0])


class InDuckDb:
    def __init__(self, folder: Path) -> None:
        import duckdb  # noqa: PLC0415 - only who asks for it

        self.path = folder / "stock.duckdb"
        with duckdb.connect(str(self.path)) as wire:
            for statement in TABLES:
                wire.execute(statement)
        self.source: Source = Database(make_url(f"duckdb:///{self.path}"))

    def count(self) -> int:
        import duckdb  # noqa: PLC0415 - the same

        with duckdb.connect(str(self.path)) as wire:
            return int(wire.execute("SELECT count(*) FROM stock").fetchall()[0][0])
