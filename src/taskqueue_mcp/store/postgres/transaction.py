"""The statements of the works that share a PostgreSQL transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, Connection, RawCursor
from psycopg.types.numeric import Int8Dumper

from taskqueue_mcp.store.database import NOTHING, Params, Row, Signal
from taskqueue_mcp.store.postgres.gathering import Gathered, Types, gather, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskqueue_mcp.store.dialect import Dialect
    from taskqueue_mcp.store.queues import Count

Wire = Connection[Row]

TIMEOUTS = {"statement_timeout": "15s", "idle_in_transaction_session_timeout": "30s"}
LOCK_TIMEOUT, SHORT_LOCK_TIMEOUT = "4s", "200ms"
INDEXES = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_incremental_sort": "off", "jit": "off"}
"""Every statement of ours walks an index in its order. In a queue that has just filled the planner has no statistics
yet, takes a status for rare, and would collect and sort all ready tasks. Before version 18 what is off is told to it as
a huge cost, and for that it would compile each claim, which takes a third of a second."""
BEGIN = {"write": "BEGIN ISOLATION LEVEL READ COMMITTED", "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}


def beginning(schema: str, kind: str, *, durable: bool = True, lock_timeout: str = LOCK_TIMEOUT) -> str:
    """Return what begins a transaction and answers with the clock; every setting ends with it.

    So nothing of a session is relied on, and a pooler may hand each transaction to another connection. `durable`
    turns `synchronous_commit` on where the server has it off.
    """
    settings = {"search_path": schema, "lock_timeout": lock_timeout, **TIMEOUTS, **INDEXES}
    if not durable:
        settings["synchronous_commit"] = "on"
    set_ = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"{BEGIN[kind]}; SELECT {set_}; SELECT {schema}.clock()"


class Statements:
    """What is known of the statements of a database: the tables that they name, and their forms for many rows."""

    def __init__(self, dialect: Dialect, types: Types) -> None:
        self._dialect = dialect
        self._types = types
        self._tables: dict[str, frozenset[str]] = {}
        self._gathered: dict[str, Gathered | None] = {}

    def tables(self, sql: str) -> frozenset[str]:
        """Return the tables that a statement names."""
        known = self._tables.get(sql)
        if known is None:
            known = self._tables[sql] = tables_of(self._dialect.render(sql))
        return known

    def gathered(self, sql: str) -> Gathered | None:
        """Return the form of a statement for many rows, if it has one."""
        if sql not in self._gathered:
            self._gathered[sql] = gather(self._dialect.render(sql), self._types)
        return self._gathered[sql]


def prepare(wire: Wire | AsyncConnection[Row]) -> None:
    """Let every whole number be a BIGINT: by default its size decides, and a statement is prepared for each."""
    wire.adapters.register_dumper(int, Int8Dumper)


class PostgresTransaction:
    """One work's statements; those before it in the same commit are seen."""

    __slots__ = (
        "_compile",
        "_cursor",
        "_posted",
        "_posted_rows",
        "_statements",
        "counts",
        "dialect",
        "marks",
        "now",
        "signals",
        "wrote",
    )

    def __init__(
        self,
        wire: Wire,
        dialect: Dialect,
        statements: Statements,
        begin: str,
        clock: Callable[[], int] | None,
        counts: dict[str, Count],
    ) -> None:
        cursor = wire.execute(begin, prepare=False)
        while cursor.nextset():
            pass
        told = cursor.fetchone()
        assert told is not None  # noqa: S101 - a SELECT of one value
        self.now: int = told[0] if clock is None else clock()
        self._cursor = RawCursor[Row](wire)
        self.dialect = dialect
        self._compile = dialect.compile
        self._statements = statements
        self._posted: dict[str, list[Params]] = {}
        self._posted_rows: dict[tuple[frozenset[str], Any], str] = {}
        self.counts = counts
        self.marks: set[str] = set()
        self.signals: set[Signal] = set()
        self.wrote = False

    def first(self, sql: str, params: Params = NOTHING) -> Row | None:
        """Run a statement and return its first row, or None."""
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, params: Params = NOTHING) -> list[Row]:
        """Run a statement and return its rows."""
        self._execute(sql, params)
        return self._cursor.fetchall()

    def run(self, sql: str, params: Params = NOTHING) -> int:
        """Run a statement and return how many rows it changed."""
        self._execute(sql, params)
        return self._cursor.rowcount

    def post(self, sql: str, params: Params) -> None:
        """Keep a statement until its table is looked at or the works are committed.

        Each kind of statement is sent as one, so a row that another kind has written is sent before.
        """
        self.wrote = True
        row = (self._statements.tables(sql), params.get("task_id"))
        if self._posted_rows.setdefault(row, sql) != sql:
            self.send_posted()
            self._posted_rows[row] = sql
        self._posted.setdefault(sql, []).append(params)

    def send_posted(self) -> None:
        """Run what was posted, many rows at once."""
        posted, self._posted = self._posted, {}
        self._posted_rows = {}
        for sql, rows in posted.items():
            gathered = self._statements.gathered(sql) if len(rows) > 1 else None
            if gathered is None:
                for params in rows:
                    self._execute(sql, params)
            else:
                values: list[Any] = [[params[name] for params in rows] for name in gathered.names]
                self._cursor.execute(gathered.text, [*values, self.now] if gathered.timed else values)

    def run_many(self, sql: str, rows: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""
        for params in rows:
            self._execute(sql, params)

    def signal(self, subject: str, name: str) -> None:
        """Wake whoever waits for this once the work is committed."""
        self.signals.add((subject, name))

    def _execute(self, sql: str, params: Params) -> None:
        if self._posted:
            tables = self._statements.tables
            if any(tables(sql) & tables(posted) for posted in self._posted):
                self.send_posted()
        text, pick, timed, writes = self._compile(sql)
        values: tuple[Any, ...] = pick(params)
        if timed:
            values = (*values, self.now)
        self.wrote = self.wrote or writes
        self._cursor.execute(text.encode(), values)
