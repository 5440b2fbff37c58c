"""`backup` and `restore`: copies of the database, whole and never over an existing file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskqueue_mcp.cli.reaching import local, owning
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.store.backup import opened_copy, restore_database
from taskqueue_mcp.store.moving import move
from taskqueue_mcp.store.opening import is_postgres, open_target, shown, sqlite_file

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out
    from taskqueue_mcp.settings import Settings

FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@FILE
@owning
async def backup(app: App, out: Out, *, file: Path) -> None:
    """Copy the database to the new FILE; it may be in use meanwhile. FILE is a SQLite file of either engine."""
    await app.database.backup(str(file))
    _report(out, file)


@click.command()
@FILE
@local
def restore(settings: Settings, out: Out, *, file: Path) -> None:
    """Put the backup FILE in the place of the database.

    A SQLite file must have been moved away; a PostgreSQL schema must be empty or not there yet. A backup of either
    engine goes into either.
    """
    if is_postgres(settings.database):
        asyncio.run(_restore_rows(file.expanduser(), settings.database, out))
    else:
        _restore_file(file.expanduser(), settings.database)
    where = shown(settings.database) if is_postgres(settings.database) else str(sqlite_file(settings.database)[0])
    out.show({"restored": where, "from": str(file)}, lambda: out.line(f"{where} restored from {file}"))


def _restore_file(file: Path, url: str) -> None:
    target, _ = sqlite_file(url)
    # A journal that stayed behind would be played into the restored file.
    beside = [target, *(target.with_name(target.name + end) for end in ("-wal", "-shm"))]
    there = [str(path) for path in beside if path.exists()]
    if there:
        raise InvalidInput(f"{', '.join(there)}: not overwritten; stop what uses it, move it away, then restore again")
    restore_database(file, target)


async def _restore_rows(file: Path, url: str, out: Out) -> None:
    with opened_copy(file) as source:
        target = open_target(url)
        try:
            await move(source, target, hand_back=None, tell=out.note if out.format != "json" else lambda _: None)
        finally:
            await target.close()


def _report(out: Out, file: Path) -> None:
    size = file.expanduser().stat().st_size
    out.show({"backup": str(file), "bytes": size}, lambda: out.line(f"{file}: {size:,} bytes"))
