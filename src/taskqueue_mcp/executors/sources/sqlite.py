"""Reading an SQLite file that is not ours: one statement at a time, read only, until told to stop."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.executors.sources.reading import LARGEST_BATCH, Reader, ReadFailed, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.executors.sources.reading import Row

STEPS_BETWEEN_CHECKS: Final = 10_000
"""Instructions of SQLite's machine; about a tenth of a millisecond."""
PATIENCE: Final = 5.0
"""Seconds a read waits for a source that is locked."""
LARGEST_INTEGER: Final = 2**63 - 1
MOST_MEMORY: Final = 512 * 1024 * 1024
"""Bytes that SQLite may hold in this program, all visits together: a statement can make a text out of nothing."""

READING: Final = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})
REFUSED_FUNCTIONS: Final = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zeroblob", "randomblob"}
)
"""Those that reach out of the database, and those that are made to fill the memory."""

PASSING: Final = frozenset({sqlite.SQLITE_LOCKED, sqlite.SQLITE_PROTOCOL, sqlite.SQLITE_NOMEM})


class SqliteFile(Source):
    """A file of SQLite's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, *, seconds: float, most_rows: int) -> SqliteReader:
        """A visit to the file, which need not exist before it is entered."""
        return SqliteReader(self._path, seconds=seconds, most_rows=most_rows)

    def lack(self) -> str | None:
        """Whether there is no file."""
        return None if self._path.is_file() else f"there is no file {self._path}; correct its path"


class SqliteReader(Reader):
    """One connection to one file. All of its statements see the same moment."""

    def __init__(self, path: Path, *, seconds: float, most_rows: int) -> None:
        super().__init__(seconds=seconds, most_rows=most_rows)
        self._path = path
        self._lock = threading.Lock()
        self._connection: Any = None

    def halt(self) -> None:
        """End what is being read, now and for good."""
        self._halted.set()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the file open, guarded, within one read transaction.

        Raises:
            ReadFailed: it is no database, missing or locked, here and from whatever is read within.
            Halted: `halt` was called.
        """
        self.wanted()
        try:
            if not self._path.is_file():
                raise ReadFailed("its file does not exist; mend the source's path in the settings")
            self._connection = sqlite.connect(
                f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=PATIENCE, isolation_level=None
            )
            self._guard()
            yield
        except sqlite.Error as error:
            raise self._translated(error) from None
        finally:
            with self._lock:
                connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def check(self, sql: str, params: Mapping[str, Any]) -> None:
        """Refuse what `read` would refuse, without running it."""
        self._execute(f"EXPLAIN {sql}", params)

    def read(self, sql: str, params: Mapping[str, Any]) -> tuple[list[str], Iterator[Row]]:
        """The columns of one statement and its rows, which are fetched as they are asked for."""
        fetched = _Fetched(self._connection, lambda: self._execute(sql, params))
        return [column[0] for column in fetched.cursor.description], self._rows(fetched.fetch)

    def _execute(self, sql: str, params: Mapping[str, Any]) -> Any:
        try:
            cursor = self._connection.execute(sql, _bindable(params))
        except (sqlite.Warning, sqlite.ProgrammingError) as error:
            raise ReadFailed(_about_statement(str(error))) from None
        if cursor.description is None:
            raise ReadFailed("it returns no rows; write a SELECT")
        return cursor

    def _guard(self) -> None:
        connection = self._connection
        connection.execute(f"PRAGMA hard_heap_limit = {MOST_MEMORY}")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")
        connection.set_progress_handler(self._over, STEPS_BETWEEN_CHECKS)
        connection.set_authorizer(_may)

    def _translated(self, error: sqlite.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite.SQLITE_INTERRUPT:
            return self._ended()
        if code == sqlite.SQLITE_BUSY:
            return ReadFailed("it is locked by another program", passing=True)
        if code == sqlite.SQLITE_AUTH or "not authorized" in str(error) or "prohibited" in str(error):
            return ReadFailed(f"only reading is allowed, no ATTACH, PRAGMA, write or extension ({error})")
        return ReadFailed(str(error), passing=code in PASSING)


class _Fetched:
    """The rows of one statement; text that is not UTF-8 is read with U+FFFD in it.

    To decode leniently costs as much as to read, so that is done from the first row on which needs it: the statement is
    run again, at the same moment of the file, up to where it was.
    """

    def __init__(self, connection: Any, execute: Callable[[], Any]) -> None:
        self._connection = connection
        self._execute = execute
        self._count = 0
        self._last: Row = None
        connection.text_factory = str
        try:
            self.cursor = execute()
        except sqlite.OperationalError as error:
            self.cursor = self._leniently(error)

    def fetch(self, size: int) -> Sequence[Row]:
        try:
            batch: list[Row] = self.cursor.fetchmany(size)
        except sqlite.OperationalError as error:
            self.cursor = self._leniently(error)
            self._skip()
            batch = self.cursor.fetchmany(size)
        self._count += len(batch)
        self._last = batch[-1] if batch else None
        return batch

    def _leniently(self, error: sqlite.OperationalError) -> Any:
        if "decode to UTF-8" not in str(error):
            raise error
        self._connection.text_factory = lambda data: data.decode(errors="replace")
        return self._execute()

    def _skip(self) -> None:
        left, row = self._count, self._last
        while left:
            batch = self.cursor.fetchmany(min(left, LARGEST_BATCH)) or [None]
            left, row = left - len(batch), batch[-1]
        if row != self._last:
            raise ReadFailed("it holds text that is not UTF-8, and its rows have no fixed order; add an ORDER BY")


def _may(action: int, _: str | None, function: str | None, *__: object) -> int:
    if action in READING:
        return int(sqlite.SQLITE_OK)
    if action == sqlite.SQLITE_FUNCTION and function not in REFUSED_FUNCTIONS:
        return int(sqlite.SQLITE_OK)
    return int(sqlite.SQLITE_DENY)


class _Bound(dict[str, Any]):
    """What is bound by name. SQLite says only the number of one that is missing."""

    def __missing__(self, name: str) -> Any:
        raise ReadFailed(f"it needs the parameter :{name}; declare it in the procedure's params or give it")


def _bindable(params: Mapping[str, Any]) -> _Bound:
    """Lists and mappings as JSON text, for `json_each`; whole numbers beyond 64 bits as text."""
    bound = _Bound()
    for name, value in params.items():
        if isinstance(value, list | tuple | dict):
            bound[name] = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            bound[name] = str(value)
        else:
            bound[name] = value
    return bound


def _about_statement(message: str) -> str:
    if "one statement" in message:
        return "it holds more than one statement; give each an SQL block of its own"
    if "has no name" in message:
        return "it has a parameter without a name; write :name instead of ?"
    return message[:1].lower() + message[1:]
