"""Databases behind a URL, through SQLAlchemy: streamed, read only, ended at the server when the time is up."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.sources.binding import bound
from taskqueue_mcp.executors.sources.engines import CONNECT_SECONDS, engine_of
from taskqueue_mcp.executors.sources.reading import Reader, ReadFailed, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import URL, Connection

    from taskqueue_mcp.executors.sources.engines import Engine
    from taskqueue_mcp.executors.sources.reading import Row

AGAIN_SECONDS: Final = 0.25
"""How soon a query is cancelled again: a first one may have come before it had begun."""


class Database(Source):
    """A database behind a URL; its password is in none of the texts that leave this place.

    Raises:
        SettingsRefused: the URL names no kind of database that is known.
    """

    def __init__(self, url: URL) -> None:
        self._engine = engine_of(url)
        self._url = url.set(drivername=self._engine.driver)

    def open(self, *, seconds: float, most_rows: int) -> DatabaseReader:
        """A visit with a connection of its own."""
        return DatabaseReader(self._engine, self._url, seconds=seconds, most_rows=most_rows)

    def lack(self) -> str | None:
        """Whether its driver or its file is missing."""
        return self._engine.lack(self._url)

    def probe(self, seconds: float) -> str | None:
        """Also whether the server lets us in."""
        try:
            with self.open(seconds=seconds, most_rows=1).opened():
                return None
        except ReadFailed as error:
            return str(error)


class DatabaseReader(Reader):
    """One connection in one transaction that can only read."""

    def __init__(self, engine: Engine, url: URL, *, seconds: float, most_rows: int) -> None:
        super().__init__(seconds=seconds, most_rows=most_rows)
        self._engine = engine
        self._url = url
        self._connection: Connection | None = None
        self._raw: Any = None
        self._cursors: list[Any] = []
        self._woken = threading.Event()

    def halt(self) -> None:
        """End what is being read, at the server, now and for good."""
        self._halted.set()
        self._woken.set()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold a connection, watched over by a thread of its own."""
        self.wanted()
        if lack := self._engine.lack(self._url):
            raise ReadFailed(lack)
        closed = threading.Event()
        watch = threading.Thread(target=self._watch, args=(closed,), name="taskqueue-source", daemon=True)
        try:
            with self._driver_errors_translated():
                self._connect()
                watch.start()
                yield
        finally:
            closed.set()
            self._woken.set()
            if watch.ident is not None:
                watch.join()
            self._close()

    def check(self, sql: str, params: Mapping[str, Any]) -> None:
        """Refuse what `read` would refuse, without running it."""
        self._engine.check(self._raw, *self._examined(sql, params))

    def read(self, sql: str, params: Mapping[str, Any]) -> tuple[list[str], Iterator[Row]]:
        """The columns of one statement and its rows, which the server holds until they are asked for."""
        statement, values = self._examined(sql, params)
        cursor = self._engine.cursor(self._raw)
        self._cursors.append(cursor)
        cursor.execute(statement, values)
        if not cursor.description:
            raise ReadFailed("it returns no rows; write a SELECT")
        return [column[0] for column in cursor.description], self._rows(self._fetch(cursor.fetchmany))

    def _examined(self, sql: str, params: Mapping[str, Any]) -> tuple[str, Any]:
        """The statement and its parameters as the driver takes them: the rows of SQLAlchemy cost a third more."""
        if self._connection is None:
            raise RuntimeError("read within `opened`")
        self.wanted()
        statement, values = bound(sql, params, self._connection.dialect, self._engine.opaque)
        self._engine.examine(self._raw, statement)
        return statement, values

    def _fetch(self, fetchmany: Callable[[int], Sequence[Row]]) -> Callable[[int], Sequence[Row]]:
        def fetch(size: int) -> Sequence[Row]:
            with self._driver_errors_translated():
                return fetchmany(size)

        return fetch

    def _connect(self) -> None:
        arguments = self._engine.arguments(max(1, min(CONNECT_SECONDS, round(self._left()))))
        pool = create_engine(self._url, poolclass=NullPool, connect_args=arguments)
        self._connection = pool.connect()
        self._raw = self._connection.connection.driver_connection
        self._engine.begin(self._connection, max(self._left(), 0.001))

    def _watch(self, closed: threading.Event) -> None:
        """End the query when the time is up or nobody wants it any more; again and again, until it is over."""
        self._woken.wait(self._left())
        while not closed.is_set():
            with suppress(Exception):  # whatever keeps it from being cancelled now, it is tried again
                self._engine.interrupt(self._raw, self._url)
            closed.wait(AGAIN_SECONDS)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._engine.abandon(self._raw)
        for close in (*(cursor.close for cursor in self._cursors), connection.invalidate, connection.close):
            with suppress(Exception):  # the server may be gone, and with it everything that there is to leave
                close()
        self._cursors.clear()
        self._raw = None

    @contextmanager
    def _driver_errors_translated(self) -> Iterator[None]:
        """Whatever a driver says, in a line of ours.

        Raises:
            ReadFailed: it said no.
            Halted: because it was told to stop.
        """
        try:
            yield
        except (ReadFailed, SettingsRefused):
            raise
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else None
            raise self._said(cause if isinstance(cause, Exception) else error) from None
        except Exception as error:
            if not type(error).__module__.startswith(("psycopg", "pymysql", "duckdb", "_duckdb")):
                raise
            raise self._said(error) from None

    def _said(self, error: Exception) -> Exception:
        if self._over():
            return self._ended()
        failed = self._engine.failure(error)
        text = " ".join(str(failed).split())
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        return ReadFailed(text, passing=failed.passing)
