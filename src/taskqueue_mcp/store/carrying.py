"""Rows carried from one database to another, of whichever engines: as they are, a table after the other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from taskqueue_mcp.errors import Conflict, DatabaseRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskqueue_mcp.store.database import Row, Transaction

STEP = 1_000
"""Rows of a batch; of those that may be large, fewer."""
MOST_PARAMETERS = 8_000
"""Of one statement: SQLite takes 32,766."""
LOCAL = ("searched_to", "epoch", "moving", "moved_from")
"""Rows of `meta` that mean something only where they are."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, the columns that order its rows, and the one whose numbers the database gives."""

    name: str
    key: tuple[str, ...]
    numbered: str | None = None
    step: int = STEP
    textual: frozenset[str] = frozenset()
    """Columns of the key that hold text."""


TABLES = (
    Table("meta", ("name",), textual=frozenset({"name"})),
    Table("principals", ("id",), "id"),
    Table("tokens", ("id",), "id"),
    Table("queues", ("name",), textual=frozenset({"name"})),
    Table("tasks", ("id",), "id"),
    Table("bodies", ("task_id",), step=200),
    Table("task_tags", ("task_id", "tag"), textual=frozenset({"tag"})),
    Table("dependencies", ("task_id", "depends_on")),
    Table("attempts", ("task_id", "attempt"), step=200),
    Table("questions", ("task_id", "number")),
    Table("log_chunks", ("task_id", "attempt", "number"), step=200),
    Table("artifacts", ("id",), "id"),
    Table("events", ("position",), "position"),
    Table("schedules", ("id",), "id"),
    Table("occurrences", ("schedule_id", "due_at")),
    Table("unclaimed_watch", ("task_id",)),
    Table("templates", ("id",), "id"),
    Table("gates", ("id",), "id"),
    Table(
        "worker_accounts", ("principal", "worker", "executor"), textual=frozenset({"principal", "worker", "executor"})
    ),
    Table("gate_passes", ("task_id",)),
    Table("spending", ("id",), "id"),
    Table("reservations", ("task_id", "unit"), textual=frozenset({"unit"})),
    Table("unpaid", ("task_id",)),
    Table("procedure_texts", ("hash",), step=50, textual=frozenset({"hash"})),
)
"""Parents before children; within a table a row before those that refer to it."""
NOT_CARRIED = frozenset({"search", "schema_number"})
"""The search index is made anew where the rows arrive, and the schema is the target's own."""

Key = tuple[Any, ...]


class Digest(NamedTuple):
    """How many rows a table has, and a hash of all that they hold, in order of the key."""

    rows: int
    sha256: str


class Count(NamedTuple):
    """How far a table has come."""

    table: str
    rows: int


def columns(transaction: Transaction, table: Table) -> tuple[str, ...]:
    """Return the columns that are carried: all but PostgreSQL's own note of which transaction wrote an event."""
    return tuple(sorted(row[0] for row in transaction.all("{columns}", {"name": table.name}) if row[0] != "xid"))


def batch(transaction: Transaction, table: Table, names: Sequence[str], after: Key | None) -> list[Row]:
    """Return the next rows behind the key `after`, in its order."""
    bound = {f"after_{number}": value for number, value in enumerate(after or ())}
    sql = f"SELECT {', '.join(names)} FROM {table.name}{_where(table, bound)} ORDER BY {_order(table)} LIMIT :step"
    return transaction.all(sql, {**bound, **_local(table), "step": table.step})


def batches(transaction: Transaction, table: Table, names: Sequence[str]) -> Iterator[list[Row]]:
    """Yield all rows of a table, batch by batch."""
    after: Key | None = None
    while rows := batch(transaction, table, names, after):
        yield rows
        after = key_of(table, names, rows[-1])


def key_of(table: Table, names: Sequence[str], row: Row) -> Key:
    """Return the key of a row."""
    return tuple(row[names.index(column)] for column in table.key)


def last_key(transaction: Transaction, table: Table) -> Key | None:
    """Return the highest key that a table holds."""
    order = ", ".join(f"{_compared(table, column)} DESC" for column in table.key)
    sql = f"SELECT {', '.join(table.key)} FROM {table.name}{_where(table, {})} ORDER BY {order} LIMIT 1"
    return transaction.first(sql, _local(table))


def count(transaction: Transaction, table: Table) -> int:
    """Return how many rows a table holds."""
    found = transaction.first(f"SELECT count(*) FROM {table.name}{_where(table, {})}", _local(table))
    return 0 if found is None else int(found[0])


def insert(transaction: Transaction, table: Table, names: Sequence[str], after: Key | None, rows: list[Row]) -> None:
    """Write rows behind the key `after`.

    Raises:
        Conflict: somebody else writes to the table.
    """
    if last_key(transaction, table) != after:
        raise Conflict(
            f"somebody else writes to {table.name} of the target; stop what uses it, empty it and begin again"
        )
    together = MOST_PARAMETERS // len(names)
    for begin in range(0, len(rows), together):
        part = rows[begin : begin + together]
        marks = ", ".join(
            f"({', '.join(f':v{number}_{place}' for place in range(len(names)))})" for number in range(len(part))
        )
        values = {f"v{number}_{place}": value for number, row in enumerate(part) for place, value in enumerate(row)}
        transaction.run(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {marks}", values)


def digests(transaction: Transaction, tell: Callable[[str], None] = lambda _: None) -> dict[str, Digest]:
    """Return a digest of each table; the same rows give the same one on every engine."""
    found = {}
    for table in TABLES:
        tell(table.name)
        names = columns(transaction, table)
        number, hashed = 0, hashlib.sha256(json.dumps(names).encode())
        for rows in batches(transaction, table, names):
            number += len(rows)
            hashed.update(json.dumps(rows, separators=(",", ":")).encode())
        found[table.name] = Digest(number, hashed.hexdigest())
    return found


def check_equal(source: dict[str, Digest], target: dict[str, Digest], cure: str) -> None:
    """Refuse a copy that is not what it was made from.

    Raises:
        DatabaseRefused: a table differs; `cure` says what to do.
    """
    for name, digest in source.items():
        if target[name] != digest:
            rows = f"{digest.rows:,} and {target[name].rows:,} rows"
            raise DatabaseRefused(f"{name} is not the same in both databases ({rows}); {cure}")


def numbers(transaction: Transaction) -> dict[str, int]:
    """Return the highest number that each table has ever given, also to rows that are gone."""
    found = {}
    for table in TABLES:
        if table.numbered is None:
            continue
        given = transaction.first("{given_number}", {"name": table.name, "column": table.numbered})
        highest = transaction.first(f"SELECT max({table.numbered}) FROM {table.name}")
        known = [row[0] for row in (given, highest) if row is not None and row[0] is not None]
        if known:
            found[table.name] = max(known)
    return found


def set_numbers(transaction: Transaction, found: dict[str, int]) -> None:
    """Let numbers go on behind those that were given, so that none is ever given again."""
    for table in TABLES:
        if table.name in found:
            params = {"name": table.name, "column": table.numbered, "value": found[table.name]}
            transaction.run("{forget_numbers}", params)
            transaction.run("{set_number}", params)


def carry(source: Transaction, write: Callable[[Callable[[Transaction], Any]], Any]) -> None:
    """Write every row that `source` sees by works of `write`, to a database that has none of them."""
    for table in TABLES:
        names = columns(source, table)
        after: Key | None = None
        for rows in batches(source, table, names):
            write(partial(insert, table=table, names=names, after=after, rows=rows))
            after = key_of(table, names, rows[-1])
    write(partial(set_numbers, found=numbers(source)))


def _where(table: Table, bound: dict[str, Any]) -> str:
    conditions = ["NOT ({among:name:local})"] if table.name == "meta" else []
    if bound:
        left = ", ".join(_compared(table, column) for column in table.key)
        conditions.append(f"({left}) > ({', '.join(f':{name}' for name in bound)})")
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _local(table: Table) -> dict[str, Any]:
    return {"local": list(LOCAL)} if table.name == "meta" else {}


def _order(table: Table) -> str:
    return ", ".join(_compared(table, column) for column in table.key)


def _compared(table: Table, column: str) -> str:
    """Return a column of the key so that both engines order it by its bytes."""
    return f"{column} {{bytewise}}" if column in table.textual else column
