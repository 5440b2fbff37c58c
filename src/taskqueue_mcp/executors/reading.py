"""Reading an SQLite file that is not ours: one statement at a time, read only, until told to stop."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pysqlite3 import dbapi2 as sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STEPS_BETWEEN_CHECKS: Final = 10_000
"""Instructions of SQLite's machine; about a tenth of a millisecond."""
PATIENCE: Final = 5.0
"""Seconds a read waits for a source that is locked."""
LARGEST_INTEGER: Final = 2**63 - 1

READING: Final = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})
REFUSED_FUNCTIONS: Final = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zeroblob", "randomblob"}
)
"""Those that reach out of the database, and those that are made to fill the memory."""

PASSING: Final = frozenset({sqlite.SQLITE_LOCKED, sqlite.SQLITE_PROTOCOL, sqlite.SQLITE_NOMEM})


class ReadFailed(Exception):
    """The source said no; `passing` means that another attempt may find it otherwise."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Halted(Exception):
    """The read was told to stop."""


class Reader:
    """One connection to one file. All of its statements see the same moment.

    Open and read on one thread; `halt` comes from any. `seconds` bounds the whole of its life.
    """

    def __init__(self, path: Path, *, seconds: float, most_rows: int) -> None:
        self._path = path
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._most_rows = most_rows
        self._halted = threading.Event()
        self._lock = threading.Lock()
        self._connection: Any = None

    def halt(self) -> None:
        """End what is being read, now and for good."""
        self._halted.set()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def wanted(self) -> None:
        """Go on only if nobody has called `halt`.

        Raises:
            Halted: somebody has.
        """
        if self._halted.is_set():
            raise Halted

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

    def read(self, sql: str, params: Mapping[str, Any]) -> tuple[list[str], Iterator[Sequence[Any]]]:
        """The columns of one statement and its rows, which are fetched as they are asked for.

        Raises:
            ReadFailed: the statement is wrong, writes, or is more than one.
        """
        try:
            cursor = self._connection.execute(sql, _bindable(params))
        except (sqlite.Warning, sqlite.ProgrammingError) as error:
            raise ReadFailed(_about_statement(str(error))) from None
        if cursor.description is None:
            raise ReadFailed("it returns no rows; write a SELECT")
        return [column[0] for column in cursor.description], self._rows(cursor)

    def check(self, sql: str, params: Mapping[str, Any]) -> None:
        """Refuse what `read` would refuse, without running it.

        Raises:
            ReadFailed: the statement is wrong, writes, or is more than one.
        """
        self.read(f"EXPLAIN {sql}", params)

    def _rows(self, cursor: Any) -> Iterator[Sequence[Any]]:
        for count, row in enumerate(cursor, 1):
            if self._over():
                raise self._ended()
            if count > self._most_rows:
                raise ReadFailed(f"more than {self._most_rows:,} rows; narrow the query")
            yield row

    def _guard(self) -> None:
        connection = self._connection
        connection.text_factory = lambda data: data.decode(errors="replace")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")
        connection.set_progress_handler(self._over, STEPS_BETWEEN_CHECKS)
        connection.set_authorizer(_may)

    def _over(self) -> bool:
        return self._halted.is_set() or time.monotonic() > self._deadline

    def _ended(self) -> Exception:
        if self._halted.is_set():
            return Halted()
        return ReadFailed(f"timed out after {self._seconds:g} s; narrow it or give it longer", passing=True)

    def _translated(self, error: sqlite.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite.SQLITE_INTERRUPT:
            return self._ended()
        if code == sqlite.SQLITE_BUSY:
            return ReadFailed("it is locked by another program", passing=True)
        if code == sqlite.SQLITE_AUTH or "not authorized" in str(error) or "prohibited" in str(error):
            return ReadFailed(f"only reading is allowed, no ATTACH, PRAGMA, write or extension ({error})")
        return ReadFailed(str(error), passing=code in PASSING)


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
