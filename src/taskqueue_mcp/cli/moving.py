"""`migrate`: everything of one database carried to another, of either engine."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from taskqueue_mcp.cli.reaching import local
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.store.moving import Moved, move
from taskqueue_mcp.store.opening import open_source, open_target, same_place, shown
from taskqueue_mcp.taskqueue.handing_back import hand_back

if TYPE_CHECKING:
    from taskqueue_mcp.cli.output import Out
    from taskqueue_mcp.settings import Settings


@click.command()
@click.option("--from", "source", metavar="URL", help="Database to move; that of the settings unless given.")
@click.option("--to", "target", metavar="URL", required=True, help="Database to move to: an empty one, or a new file.")
@local
def migrate(settings: Settings, out: Out, *, source: str | None, target: str) -> None:
    """Move everything to another database: a SQLite file to PostgreSQL, back, or either to its like.

    Stop every server, worker and client of the source first. It is read and not changed; what is under way is handed
    back in the target, at no cost. Broken off at any moment and run again, it goes on where it was. At the end both
    are compared, row by row. Then start the servers with --database on the target.
    """
    source = source or settings.database
    if same_place(source, target):
        raise InvalidInput(f"{shown(source)} is the source and the target; name another database with --to")
    begun = time.monotonic()
    out_of_the_way = out.format == "json"
    if not out_of_the_way:
        out.note(f"from {shown(source)} to {shown(target)}; whatever uses either of them has to be stopped")
    moved = asyncio.run(_move(source, target, out, quiet=out_of_the_way))
    told = {
        "from": shown(source),
        "to": shown(target),
        "rows": moved.rows,
        "handed_back": moved.handed_back,
        "resumed": moved.resumed,
        "moved_before": moved.before,
        "seconds": round(time.monotonic() - begun, 1),
    }
    out.show(told, lambda: _print(out, moved, target))


async def _move(source: str, target: str, out: Out, *, quiet: bool) -> Moved:
    opened_source = open_source(source)
    try:
        opened_target = open_target(target)
        try:
            tell = (lambda _: None) if quiet else out.note
            return await move(opened_source, opened_target, hand_back=hand_back, tell=tell)
        finally:
            await opened_target.close()
    finally:
        await opened_source.close()


def _print(out: Out, moved: Moved, target: str) -> None:
    if moved.before:
        out.line(f"{shown(target)} had been moved to before, whole; nothing was left to do")
        return
    out.table(("table", "rows"), [(name, f"{rows:,}") for name, rows in moved.rows.items() if rows])
    back = f"; {moved.handed_back:,} tasks that were under way were handed back" if moved.handed_back else ""
    out.line(f"both databases hold the same{back}. Start the servers with --database {shown(target)}")
