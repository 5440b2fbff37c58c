"""From a `--database` URL to an open database."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused, SettingsRefused
from taskqueue_mcp.store import faults, migrate
from taskqueue_mcp.store.sqlite import SYNCHRONOUS, SqliteDatabase, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.store.database import Database, Transaction
    from taskqueue_mcp.store.postgres.inspection import Health

EXTRA = "PostgreSQL needs the extra `postgres`: pip install 'taskqueue-mcp[postgres]'"
HALF = "SELECT 1 FROM meta WHERE name = 'moving'"


def open_database(url: str, *, clock: Callable[[], int] | None = None) -> Database:
    """Open `sqlite:///PATH[?synchronous=normal]` or `postgresql://…`, check it and bring its schema up to date.

    Without a `clock`, a file goes by this machine's and PostgreSQL by its own.

    Raises:
        SettingsRefused: the URL is not understood, or the extra for PostgreSQL is not installed.
        DatabaseRefused: the database must not be used as it is; it was left untouched.
        Busy: another program holds the file.
    """
    database = open_target(url, clock=clock)
    try:
        database.read_now(_refuse_half)
    except BaseException:
        database.close_now()
        raise
    return database


def open_target(url: str, *, clock: Callable[[], int] | None = None) -> Database:
    """Open a database that may hold a part of another one so far: only what carries the rest may do that."""
    if is_postgres(url):
        try:
            from taskqueue_mcp.store.postgres import PostgresDatabase  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsRefused(EXTRA) from error
        return PostgresDatabase(url, clock=clock)
    path, options = sqlite_file(url)
    return SqliteDatabase(path, clock=clock or wall_clock, **options)


def open_source(url: str) -> Database:
    """Open a database to be read from: one that is there, and that this very version wrote, so that nothing changes.

    Raises:
        DatabaseRefused: there is none, or its schema is another.
    """
    number = schema_number(url)
    if number is None:
        raise DatabaseRefused(f"there is no database of ours at {shown(url)}; check the URL")
    if number < migrate.latest():
        raise DatabaseRefused(
            f"{shown(url)} has schema {number} and this program writes {migrate.latest()}; open it once with this "
            "version (taskqueue-mcp doctor), which brings it up to date, then run this again"
        )
    return open_database(url)


def schema_number(url: str) -> int | None:
    """Return the number of the schema, None where there is none; nothing is made or changed.

    Raises:
        DatabaseRefused: there is no way in.
    """
    if is_postgres(url):
        try:
            from taskqueue_mcp.store.postgres import opening  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsRefused(EXTRA) from error
        return opening.schema_number(url)
    path, _ = sqlite_file(url)
    if not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        with closing(sqlite.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite.Error as error:
        raise faults.refusal(error, path) from error
    return number or None


def examine(url: str) -> Health:
    """Return how a PostgreSQL server and our schema on it are; nothing is changed.

    Raises:
        SettingsRefused, DatabaseRefused: there is no way in.
    """
    try:
        from taskqueue_mcp.store.postgres import inspection  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsRefused(EXTRA) from error
    return inspection.examine(url)


def _refuse_half(transaction: Transaction) -> None:
    if transaction.first(HALF) is not None:
        raise DatabaseRefused(
            "this database holds a part of another one so far; run the same `taskqueue-mcp migrate` or `restore` "
            "again, which goes on where it was broken off"
        )


def is_postgres(url: str) -> bool:
    """Whether a database URL names PostgreSQL."""
    return urlsplit(url).scheme in {"postgres", "postgresql"}


def shown(url: str) -> str:
    """Return a database URL as it may be printed and logged: without the password."""
    parts = urlsplit(url)
    if not is_postgres(url) and "@" not in url:
        return url
    user = f"{parts.username}@" if parts.username else ""
    hidden = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name]
    where = user + parts.netloc.rpartition("@")[2]
    query = f"?{urlencode(hidden, safe='/')}" if hidden else ""
    return f"{parts.scheme}://{where}{parts.path}{query}"


def same_place(one: str, other: str) -> bool:
    """Whether two database URLs name the same one, as far as their text tells."""
    if is_postgres(one) or is_postgres(other):
        return shown(one) == shown(other)
    return sqlite_file(one)[0].resolve() == sqlite_file(other)[0].resolve()


def sqlite_file(url: str) -> tuple[Path, dict[str, Any]]:
    """Return the file and the options that a database URL names.

    Raises:
        SettingsRefused: the URL is not understood.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.removeprefix("/"):
        raise SettingsRefused(
            f"--database {shown(url)!r} is not understood; use sqlite:///relative/queue.db, "
            "sqlite:////absolute/queue.db or postgresql://user@host/database"
        )
    options = dict(parse_qsl(parts.query))
    unknown = set(options) - {"synchronous"}
    if unknown or options.get("synchronous", "full") not in SYNCHRONOUS:
        raise SettingsRefused(f"--database {shown(url)!r}: the only option is ?synchronous=full|normal|extra|off")
    return Path(unquote(parts.path.removeprefix("/"))).expanduser().absolute(), dict(options)
