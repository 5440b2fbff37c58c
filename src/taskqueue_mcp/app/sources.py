"""The sources of a worker, as its settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.store.opening import is_postgres, sqlite_file

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import URL

    from taskqueue_mcp.executors.sources.reading import Source
    from taskqueue_mcp.settings import Settings
    from taskqueue_mcp.settings.sources import SourceSettings


def sources_of(settings: Settings) -> dict[str, Source]:
    """Return what the settings let executors read, by name; nothing is opened.

    Raises:
        SettingsRefused: one of them is no source, or the queue's own database.
    """
    return {name: _source(name, source, settings.database) for name, source in settings.worker.sources.items()}


def _source(name: str, given: SourceSettings, own: str) -> Source:
    if given.path is not None:
        return _file(name, given.path, own)
    if given.url is not None:
        return _database(name, given, own)
    from taskqueue_mcp.executors.sources.mcp_tool import McpTool, over_http, over_stdio  # noqa: PLC0415 - who has one

    if given.server is not None:
        headers = {key: value.get_secret_value() for key, value in given.headers.items()}
        connect = over_http(str(given.server), headers)
    else:
        connect = over_stdio(given.command, {key: value.get_secret_value() for key, value in given.env.items()})
    secrets = [value.get_secret_value() for value in (*given.headers.values(), *given.env.values())]
    secrets.append(given.server.query or "" if given.server else "")
    return McpTool(connect, tool=str(given.tool), arguments=given.arguments, secrets=secrets)


def _file(name: str, path: Path, own: str) -> Source:
    from taskqueue_mcp.executors.sources.sqlite import SqliteFile  # noqa: PLC0415 - who has one

    if not is_postgres(own) and path.expanduser().resolve() == sqlite_file(own)[0].resolve():
        raise SettingsRefused(f"source {name}: {path} is the queue's own database; name another file")
    return SqliteFile(path.expanduser())


def _database(name: str, given: SourceSettings, own: str) -> Source:
    from pathlib import Path  # noqa: PLC0415 - with the next

    from sqlalchemy import make_url  # noqa: PLC0415 - who has one loads it
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - the same

    from taskqueue_mcp.executors.sources.databases import Database  # noqa: PLC0415 - the same

    text = "" if given.url is None else given.url.get_secret_value()
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsRefused(
            f"source {name}: its url is none; write it as postgresql://user@host/database (and % signs as %25)"
        ) from None
    if url.get_backend_name() == "sqlite":
        return _file(name, Path(url.database or ""), own)
    if given.password is not None:
        url = url.set(password=given.password.get_secret_value())
    if is_postgres(own) and _place(url) == _place(make_url(own)):
        raise SettingsRefused(f"source {name}: it is the queue's own database; name another")
    try:
        return Database(url)
    except SettingsRefused as error:
        raise SettingsRefused(f"source {name}: {error}") from None


def _place(url: URL) -> tuple[str, int, str]:
    """Where a PostgreSQL database is, whoever connects to it and however its URL is written."""
    host = url.query.get("host") or url.host or "localhost"
    port = url.query.get("port") or url.port or 5432
    database = url.database or url.query.get("dbname") or url.username or ""
    return (str(host).replace("127.0.0.1", "localhost"), int(str(port)), str(database))
