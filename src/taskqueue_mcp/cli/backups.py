"""`backup` and `restore`: copies of the database, whole and never over an existing file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskqueue_mcp.cli.reaching import local, owning
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.store.backup import restore_database
from taskqueue_mcp.store.opening import sqlite_file

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out
    from taskqueue_mcp.settings import Settings

FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@FILE
@owning
async def backup(app: App, out: Out, *, file: Path) -> None:
    """Copy the database to the new FILE; it may be in use meanwhile."""
    await app.database.backup(str(file))
    _report(out, file)


@click.command()
@FILE
@local
def restore(settings: Settings, out: Out, *, file: Path) -> None:
    """Put the backup FILE in the place of the database, which must have been moved away."""
    target, _ = sqlite_file(settings.database)
    # A journal that stayed behind would be played into the restored file.
    beside = [target, *(target.with_name(target.name + end) for end in ("-wal", "-shm"))]
    there = [str(path) for path in beside if path.exists()]
    if there:
        raise InvalidInput(f"{', '.join(there)}: not overwritten; stop what uses it, move it away, then restore again")
    restore_database(file.expanduser(), target)
    out.show({"restored": str(target), "from": str(file)}, lambda: out.line(f"{target} restored from {file}"))


def _report(out: Out, file: Path) -> None:
    size = file.expanduser().stat().st_size
    out.show({"backup": str(file), "bytes": size}, lambda: out.line(f"{file}: {size:,} bytes"))
