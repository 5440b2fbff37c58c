"""Processes that use the queue's file are killed at random instants; what they were told still holds."""

from __future__ import annotations

import random
import signal
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from psycopg.errors import UniqueViolation
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.taskqueue import NewSchedule, NewTask, Wanted
from tests.reliability import clients
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, Diary, read_diary, start
from tests.reliability.racers import EVERYONE, SHORT, opened
from tests.reliability.truth import acknowledged, gaps, read_all, untrue

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.conftest import Size
    from tests.reliability.conftest import Tell

CLIENTS = 4
TASKS = {"sqlite": 4_000, "postgres": 1_000}


async def kill_and_restart(queue: TaskQueue, url: str, diaries: list[Path], seed: int, kills: int, tasks: int) -> int:
    """Keep clients busy and kill one every few moments, which then starts again; return how many were killed.

    It goes on until there were so many kills and there are so many tasks.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point

    def begin(diary: Path) -> Any:
        return start(clients.live, url, str(diary), chance.getrandbits(32))

    lives = {diary: begin(diary) for diary in diaries}
    try:
        for number in count(1):
            await anyio.sleep(chance.uniform(0.03, 0.13))
            victim = chance.choice(diaries)
            lives[victim].kill()
            lives[victim].join(PATIENCE)
            assert lives[victim].exitcode == -signal.SIGKILL, f"{victim.stem} had ended by itself"
            if number >= kills and number % 10 == 0 and await count_tasks(queue) >= tasks:
                return number + len(lives) - 1
            lives[victim] = begin(victim)
    finally:
        for life in lives.values():
            life.kill()
            life.join(PATIENCE)
    raise AssertionError


async def count_tasks(queue: TaskQueue) -> int:
    found = await queue.database.read(lambda transaction: transaction.all("SELECT count(*) FROM tasks"))
    return int(found[0][0])


async def test_whatever_is_killed_whenever_no_promise_breaks_and_the_queue_drains(
    database_url: str, engine: str, folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    kills, tasks = size(150, 3_000), size(TASKS[engine], 50_000)
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    async with opened(database_url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        plan = NewSchedule("each-second", "* * * * * *", Wanted(title="tick"), misfire="all", overlap="allow")
        await queue.put_schedule(EVERYONE, plan)

        tell(kills=await kill_and_restart(queue, database_url, diaries, seed, kills, tasks))
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries))) == []

        await queue.delete_schedule(EVERYONE, "each-second")
        clients.drain_together(database_url, diaries)
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries))) == []
        assert await queue.database.read(gaps) == []
        stored = await queue.database.read(lambda transaction: transaction.all("SELECT status FROM tasks"))
    statuses = Counter(status for (status,) in stored)
    assert set(statuses) <= {"completed", "failed", "cancelled"}
    tell(tasks=sum(statuses.values()), acknowledged_calls=acknowledged(diaries))
    assert statuses["completed"] >= 0.7 * tasks  # or it was not much of a test


COMMIT_FAILS = {
    "sqlite": [
        "PRAGMA defer_foreign_keys = ON",
        "INSERT INTO dependencies (task_id, depends_on) VALUES (1, 2)",
    ],
    "postgres": [
        "CREATE TEMPORARY TABLE once (number INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO once VALUES (1), (1)",
    ],
}
"""Work after which COMMIT is the statement that fails."""


async def test_a_write_whose_commit_fails_is_not_acknowledged(database_url: str, engine: str) -> None:
    def work(transaction: Transaction) -> None:
        transaction.run("UPDATE queues SET state = 'paused'")
        for statement in COMMIT_FAILS[engine]:
            transaction.run(statement)

    async with opened(database_url) as queue:
        await queue.create(EVERYONE, NewTask(Wanted(title="makes the queue")))
        with pytest.raises((sqlite.IntegrityError, UniqueViolation)):
            await queue.database.write(work)
        states = await queue.database.read(lambda transaction: transaction.all("SELECT state FROM queues"))
        assert states == [("open",)]
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []


async def test_a_torn_last_line_of_a_diary_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    path.write_text('{"n": 1}\n{"n": 2', encoding="utf-8")
    diary = Diary(path)
    diary.note(n=3)
    diary.close()
    assert read_diary(path) == [{"n": 1}, {"n": 3}]
