"""Everything of one database carried to another, of whichever engine: rows as they are, a table after the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.database import Database, Row, Transaction
    from taskqueue_mcp.store.postgres import PostgresDatabase

STEP = 1_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the columns that order its rows."""

    name: str
    key: tuple[str, ...]


TABLES = (
    Table("meta", ("name",)),
    Table("principals", ("id",)),
    Table("tokens", ("id",)),
    Table("queues", ("name",)),
    Table("tasks", ("id",)),
    Table("bodies", ("task_id",)),
    Table("task_tags", ("tag", "task_id")),
    Table("dependencies", ("task_id", "depends_on")),
    Table("attempts", ("task_id", "attempt")),
    Table("questions", ("task_id", "number")),
    Table("log_chunks", ("task_id", "attempt", "number")),
    Table("artifacts", ("id",)),
    Table("events", ("position",)),
    Table("schedules", ("id",)),
    Table("occurrences", ("schedule_id", "due_at")),
    Table("unclaimed_watch", ("task_id",)),
    Table("templates", ("id",)),
    Table("procedure_texts", ("hash",)),
)
"""Parents before children; within a table a row before those that refer to it."""
LOCAL = {"meta": "WHERE name <> 'searched_to'"}
"""Rows that mean something only where they are: how far the search index has come."""


def back_up(source: PostgresDatabase, target: str) -> None:
    """Write everything that `source` holds, on one snapshot, to the new SQLite file `target`.

    Raises:
        InvalidInput: the target exists or cannot be written.
    """
    from taskqueue_mcp.store.sqlite import SqliteDatabase  # noqa: PLC0415 - each engine opens without the other

    final = Path(target).expanduser()
    if final.exists():
        raise InvalidInput(f"{final} exists and is not overwritten; name a new file")
    unfinished = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        written = SqliteDatabase(unfinished, synchronous="off")
        try:
            source.read_now(lambda transaction: carry(transaction, written))
        finally:
            written.close_now()
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.link(unfinished, final)
    except OSError as error:
        raise InvalidInput(f"cannot write the backup {final}: {error}; choose a writable folder") from error
    finally:
        for left in unfinished.parent.glob(unfinished.name + "*"):
            left.unlink(missing_ok=True)


def carry(source: Transaction, target: Database) -> None:
    """Write every row that `source` sees to `target`, which has none of them."""
    for table in TABLES:
        columns = target.write_now(partial(_columns, name=table.name))
        names = ", ".join(columns)
        marks = ", ".join(f":{name}" for name in columns)
        insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
        for rows in _rows(source, table, columns):
            values = [dict(zip(columns, row, strict=True)) for row in rows]
            target.write_now(partial(_insert, sql=insert, rows=values))


def _columns(transaction: Transaction, name: str) -> list[str]:
    return [row[0] for row in transaction.all("{columns}", {"name": name}) if row[0] != "xid"]


def _insert(transaction: Transaction, sql: str, rows: list[dict[str, Any]]) -> None:
    transaction.run_many(sql, rows)


def _rows(source: Transaction, table: Table, columns: list[str]) -> Iterator[list[Row]]:
    names, order = ", ".join(columns), ", ".join(table.key)
    where = LOCAL.get(table.name, "")
    offset = 0
    while True:
        sql = f"SELECT {names} FROM {table.name} {where} ORDER BY {order} LIMIT :step OFFSET :offset"
        rows = source.all(sql, {"step": STEP, "offset": offset})
        if not rows:
            return
        yield rows
        offset += len(rows)
