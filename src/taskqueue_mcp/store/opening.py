"""From a `--database` URL to an open database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.store.sqlite import SYNCHRONOUS, SqliteDatabase, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.store.database import Database


def open_database(url: str, *, clock: Callable[[], int] | None = None) -> Database:
    """Open `sqlite:///PATH[?synchronous=normal]` or `postgresql://…`, check it and bring its schema up to date.

    Without a `clock`, a file goes by this machine's and PostgreSQL by its own.

    Raises:
        SettingsRefused: the URL is not understood, or the extra for PostgreSQL is not installed.
        DatabaseRefused: the database must not be used as it is; it was left untouched.
        Busy: another program holds the file.
    """
    if is_postgres(url):
        try:
            from taskqueue_mcp.store.postgres import PostgresDatabase  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsRefused(
                "PostgreSQL needs the extra `postgres`: pip install 'taskqueue-mcp[postgres]'"
            ) from error
        return PostgresDatabase(url, clock=clock)
    path, options = sqlite_file(url)
    return SqliteDatabase(path, clock=clock or wall_clock, **options)


def is_postgres(url: str) -> bool:
    """Whether a database URL names PostgreSQL."""
    return urlsplit(url).scheme in {"postgres", "postgresql"}


def shown(url: str) -> str:
    """Return a database URL as it may be printed and logged: without the password."""
    parts = urlsplit(url)
    if not is_postgres(url):
        return url
    user = f"{parts.username}@" if parts.username else ""
    hidden = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name]
    where = user + parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, where, parts.path, urlencode(hidden, safe="/"), ""))


def sqlite_file(url: str) -> tuple[Path, dict[str, Any]]:
    """Return the file and the options that a database URL names.

    Raises:
        SettingsRefused: the URL is not understood.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.removeprefix("/"):
        raise SettingsRefused(
            f"--database {url!r} is not understood; use sqlite:///relative/queue.db, sqlite:////absolute/queue.db or "
            "postgresql://user@host/database"
        )
    options = dict(parse_qsl(parts.query))
    unknown = set(options) - {"synchronous"}
    if unknown or options.get("synchronous", "full") not in SYNCHRONOUS:
        raise SettingsRefused(f"--database {url!r}: the only option is ?synchronous=full|normal|extra|off")
    return Path(unquote(parts.path.removeprefix("/"))).expanduser().absolute(), dict(options)
