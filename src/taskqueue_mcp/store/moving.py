"""A database moved to another, of whichever engine: everything, whole, and picked up again where it was broken off.

The target says in a row of `meta` that it is half of a move, so that nothing works on it before the end. How far it
has come is what it holds: batches are written in the order of keys, each in one transaction.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from taskqueue_mcp.errors import Conflict, DatabaseRefused
from taskqueue_mcp.store import carrying, keeping
from taskqueue_mcp.store.rows import TASK, as_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.model import Task
    from taskqueue_mcp.store.carrying import Table
    from taskqueue_mcp.store.database import Database, Transaction

MARK = """
SELECT (SELECT value FROM meta WHERE name = 'epoch'), coalesce(max(position), 0), coalesce(max(at), 0)
  FROM (SELECT position, at FROM events ORDER BY position DESC LIMIT 1) AS newest
"""
NOTE = "SELECT value FROM meta WHERE name = :name"
SET_NOTE = """
INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
FORGET_NOTE = "DELETE FROM meta WHERE name = :name"
HELD = f"SELECT {TASK} FROM tasks WHERE status = 'in_progress' ORDER BY id {{lock}}"
INDEX_STEP = 2_000
EMPTIED = "stop what uses either of them, empty the target and begin again"


class Mark(NamedTuple):
    """What a source is known by: its epoch, and its newest event when the move began."""

    epoch: str
    position: int
    at: int


@dataclass(slots=True)
class Moved:
    """What a move came to."""

    rows: dict[str, int] = field(default_factory=dict)
    handed_back: int = 0
    resumed: bool = False
    before: bool = False
    """It had been finished by an earlier run."""


async def move(
    source: Database,
    target: Database,
    *,
    hand_back: Callable[[Transaction, Task], object] | None,
    tell: Callable[[str], None] = lambda _: None,
) -> Moved:
    """Carry everything from `source`, which stays as it is, to `target`, and check that both are equal.

    `hand_back` returns a task whose lease is in flight to the queue of the target; without it leases stay valid.

    Raises:
        Conflict: the target holds something else, or somebody writes to one of them.
        DatabaseRefused: both are not equal at the end.
        Busy: one of them is away; run again, and it goes on.
    """
    moved = Moved()
    mark = await source.read(mark_of)
    moved.before = await target.write(partial(_begin, mark=mark, moved=moved))
    if moved.before:
        return moved
    for table in carrying.TABLES:
        await _carry(source, target, table, tell)
    await target.write(partial(carrying.set_numbers, found=await source.read(carrying.numbers)))
    tell("comparing both databases")
    theirs, ours = await asyncio.gather(source.read_long(carrying.digests), target.read_long(carrying.digests))
    if await source.read(mark_of) != mark:
        raise Conflict(f"the source was written to while it was carried; {EMPTIED}")
    carrying.check_equal(theirs, ours, f"one of them was written to meanwhile: {EMPTIED}")
    moved.rows = {name: digest.rows for name, digest in theirs.items()}
    await _index_untold(target)
    await target.write(lambda transaction: transaction.run("{statistics}"))
    moved.handed_back = await target.write(partial(_finish, mark=mark, hand_back=hand_back))
    return moved


def mark_of(transaction: Transaction) -> Mark:
    """Return what the database is known by at this moment."""
    epoch, position, at = transaction.all(MARK)[0]
    return Mark(epoch or "", position, at)


def new_epoch(transaction: Transaction) -> None:
    """Let readers of the event log notice that this database is not the one they have read."""
    transaction.run(SET_NOTE, {"name": "epoch", "value": secrets.token_hex(8)})


def _begin(transaction: Transaction, mark: Mark, moved: Moved) -> bool:
    """Note in the target what is carried to it; whether that has been done before."""
    under_way, done = (_noted(transaction, name) for name in ("moving", "moved_from"))
    moved.resumed = under_way is not None
    if mark in {under_way, done}:
        return done == mark
    if under_way is not None:
        why = "the source was written to since the move began" if under_way.epoch == mark.epoch else (
            "the target is half of a move from another database"
        )  # fmt: skip
        raise Conflict(f"{why}; {EMPTIED}")
    held = [table.name for table in carrying.TABLES if carrying.last_key(transaction, table) is not None]
    if held:
        raise Conflict(f"the target holds data already ({', '.join(held)}) and is left as it is; name an empty one")
    transaction.run(SET_NOTE, {"name": "moving", "value": json.dumps(mark)})
    return False


def _noted(transaction: Transaction, name: str) -> Mark | None:
    row = transaction.first(NOTE, {"name": name})
    return None if row is None else Mark(*json.loads(row[0]))


async def _carry(source: Database, target: Database, table: Table, tell: Callable[[str], None]) -> None:
    names = await source.read(partial(carrying.columns, table=table))
    if await target.read(partial(carrying.columns, table=table)) != names:
        raise DatabaseRefused(f"{table.name} has other columns in the source; open both with this version first")
    total = await source.read(partial(carrying.count, table=table))
    after = await target.read(partial(carrying.last_key, table=table))
    done = 0 if after is None else await target.read(partial(carrying.count, table=table))
    if done:
        tell(f"{table.name}: goes on behind {done:,} of {total:,} rows")
    while rows := await source.read(partial(carrying.batch, table=table, names=names, after=after)):
        await target.write(partial(carrying.insert, table=table, names=names, after=after, rows=rows))
        after = carrying.key_of(table, names, rows[-1])
        done += len(rows)
        if done % 50_000 < len(rows) and done < total:
            tell(f"{table.name}: {done:,} of {total:,} rows")
    if total:
        tell(f"{table.name}: {done:,} rows")


async def _index_untold(target: Database) -> None:
    """Index what the event log no longer tells of; the rest is indexed as soon as somebody searches."""
    after: int | None = 0
    while after is not None:
        after = await target.write(partial(keeping.index_untold, after=after, limit=INDEX_STEP))


def _finish(transaction: Transaction, mark: Mark, hand_back: Callable[[Transaction, Task], object] | None) -> int:
    held = [] if hand_back is None else [as_task(row) for row in transaction.all(HELD)]
    for task in held:
        if hand_back is not None:
            hand_back(transaction, task)
    new_epoch(transaction)
    transaction.run(SET_NOTE, {"name": "moved_from", "value": json.dumps(mark)})
    transaction.run(FORGET_NOTE, {"name": "moving"})
    return len(held)
