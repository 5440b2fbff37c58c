"""A backup of a queue in use is of one moment, whole, and never written over anything."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused, InvalidInput
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.backup import opened_copy, restore_database
from tests.contract.desk import Desk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clock import Clock
    from tests.conftest import OpenQueue

WITHOUT_BODY = "SELECT id FROM tasks WHERE id NOT IN (SELECT task_id FROM bodies)"
WITHOUT_EVENT = "SELECT id, seq FROM tasks WHERE seq <> (SELECT max(seq) FROM events WHERE subject_id = tasks.id)"
MISCOUNTED = """
SELECT name FROM queues WHERE open_tasks <>
 (SELECT count(*) FROM tasks WHERE queue = queues.name AND finished_at IS NULL)
"""


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite.connect(str(path))) as connection:
        return list(connection.execute(sql).fetchall())


async def test_a_backup_that_is_taken_while_work_goes_on_is_of_one_moment(
    open_queue: OpenQueue, clock: Clock, folder: Path
) -> None:
    working, looking = Desk(open_queue(), clock), Desk(open_queue(), clock)
    for number in range(300):
        await working.create(f"number {number}")
    target = folder / "backup.db"
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            await working.complete(await working.take())
            await working.create("another")
            done += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            while done < 2:
                await anyio.lowlevel.checkpoint()
            await looking.queue.database.backup(str(target))
            group.cancel_scope.cancel()
    assert [rows(target, sql) for sql in (WITHOUT_BODY, WITHOUT_EVENT, MISCOUNTED)] == [[], [], []]
    assert rows(target, "PRAGMA integrity_check") == [("ok",)]
    ((completed,),) = rows(target, "SELECT count(*) FROM tasks WHERE status = 'completed'")
    assert 2 <= completed <= done + 1
    assert rows(target, "SELECT count(*) FROM tasks WHERE status = 'ready'")[0][0] in {299, 300}
    assert target.stat().st_mode & 0o777 == 0o600


async def test_a_backup_is_not_written_over_anything_and_leaves_nothing_behind(desk: Desk, folder: Path) -> None:
    await desk.create()
    there = folder / "there.db"
    there.write_text("precious")
    before = sorted(folder.iterdir())
    with pytest.raises(InvalidInput, match="exists and is not overwritten"):
        await desk.queue.database.backup(str(there))
    with pytest.raises(InvalidInput, match="choose a writable folder"):
        await desk.queue.database.backup(str(folder / "no" / "such" / "folder.db"))
    assert there.read_text() == "precious"
    assert sorted(folder.iterdir()) == before


async def test_a_restored_queue_goes_on_where_the_backup_was_taken(desk: Desk, clock: Clock, folder: Path) -> None:
    claim = await desk.start("held over the restore")
    await desk.queue.database.backup(str(folder / "backup.db"))
    await desk.complete(claim)
    restore_database(folder / "backup.db", folder / "restored.db")
    database = open_database(f"sqlite:///{folder / 'restored.db'}", clock=clock)
    restored = Desk(type(desk.queue)(database, desk.queue.rules), clock)
    assert (await restored.complete(claim)).status.value == "completed"  # whoever held it then may still finish
    await database.close()


@pytest.mark.engines("sqlite")
async def test_a_damaged_backup_is_restored_nowhere(desk: Desk, folder: Path) -> None:
    for number in range(200):
        await desk.create(f"{number:0200}")
    backup = folder / "backup.db"
    await desk.queue.database.backup(str(backup))
    whole = bytearray(backup.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 3_000] = b"\xa5" * 3_000
    backup.write_bytes(whole)
    with pytest.raises(DatabaseRefused, match="damaged"):
        restore_database(backup, folder / "restored.db")
    with pytest.raises(DatabaseRefused, match="damaged"), opened_copy(backup):
        pass
    assert not (folder / "restored.db").exists()
    assert backup.read_bytes() == bytes(whole)
