"""What a database says of itself, read through sqlite-utils: for `doctor` and for whoever looks after the file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlite_utils
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.store import migrate, startup

if TYPE_CHECKING:
    from pathlib import Path

SYNCHRONOUS = ("off", "normal", "full", "extra")
DURABLE = frozenset({"full", "extra", "on", "local", "remote_write", "remote_apply"})


@dataclass(frozen=True, slots=True)
class Facts:
    """How a database is set up, and how many rows each of its tables holds."""

    engine: str
    journal: str
    synchronous: str
    schema: int
    newest_schema: int
    rows: dict[str, int]

    @property
    def durable(self) -> bool:
        """Whether an acknowledged change survives a power cut."""
        return self.journal == "wal" and self.synchronous in DURABLE


def inspect(connection: sqlite.Connection) -> Facts:
    """Read back what was set when the connection was opened."""
    tables = sqlite_utils.Database(connection, execute_plugins=False, recursive_triggers=False)
    names = [name for name in tables.table_names() if not name.startswith(("sqlite_", "search"))]
    return Facts(
        engine=f"SQLite {sqlite.sqlite_version}",
        journal=tables.journal_mode,
        synchronous=SYNCHRONOUS[tables.execute("PRAGMA synchronous").fetchone()[0]],
        schema=tables.execute("PRAGMA user_version").fetchone()[0],
        newest_schema=migrate.latest(),
        rows={name: tables.table(name).count for name in names},
    )


def check_whole(path: Path) -> None:
    """Read every page of the database.

    Raises:
        DatabaseRefused: it is damaged; it was left untouched.
    """
    with closing(sqlite.connect(str(path))) as connection:
        startup.check_content(connection, path, whole=True)
