"""A program is killed while it brings a queue up to date: it is as it was, or it is done, and the next one goes on."""

from __future__ import annotations

import random
import shutil
import signal
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import DatabaseRefused
from taskqueue_mcp.store import migrate, open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Wanted
from tests.reliability import clients
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, all_ended, start
from tests.reliability.racers import EVERYONE, SHORT, opened
from tests.reliability.upgrading import NEVER, NEXT, know_one_more, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from tests.conftest import Size
    from tests.reliability.conftest import Tell

TABLES = ("tasks", "bodies", "dependencies", "attempts", "events", "log_chunks", "schedules", "occurrences")
AT_WORK = 0.7
"""How long the queue was in use before its upgrade, in seconds."""


async def use(url: str, folder: Path, seed: int) -> None:
    """Let clients use a new queue until they are killed."""
    lives = [start(clients.live, url, str(folder / f"client-{number}.diary"), seed + number) for number in range(2)]
    await anyio.sleep(AT_WORK)
    for life in lives:
        life.kill()
        life.join(PATIENCE)
        assert life.exitcode == -signal.SIGKILL


async def held(url: str) -> dict[str, list[Any]]:
    async with opened(url) as queue:
        found = await queue.database.read(content)
    assert len(found["tasks"]) > 20  # or it was not much of a test
    return found


def content(transaction: Transaction) -> dict[str, list[Any]]:
    found = {table: sorted(transaction.all(f"SELECT * FROM {table}"), key=repr) for table in TABLES}  # noqa: S608 - ours
    return {**found, "queues": transaction.all("SELECT name, state, open_tasks FROM queues ORDER BY name")}


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'queue.db'}"


def copy(folder: Path, to: Path) -> None:
    """Copy a queue that nobody has open."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*-wake"))


def killed(url: str, statement: int = NEVER, step: int = NEVER) -> None:
    program = start(upgrade, url, statement, step, None)
    program.join(PATIENCE)
    assert program.exitcode == -signal.SIGKILL


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes this program the newer one."""
    return lambda: monkeypatch.setattr(migrate, "_files", know_one_more(migrate._files))


async def is_whole(url: str, before: dict[str, list[Any]]) -> None:
    """Open the queue as the newer program: all is there, the migration was applied once, and work goes on."""
    async with opened(url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        after = await queue.database.read(content)
        after["queues"].remove(("of-the-future", "open", 0))
        assert after == before
        notes = await queue.database.read(lambda transaction: transaction.all("SELECT task_id FROM notes"))
        assert len(notes) == len(before["tasks"])
        made = await queue.create(EVERYONE, NewTask(Wanted(title="life goes on")))
        claim = await queue.claim(EVERYONE, ClaimRequest(worker="w", task_id=made.task.id))
        assert claim is not None
        await queue.complete(EVERYONE, Completion(claim.lease, "and on"))
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []


async def test_an_upgrade_killed_before_any_of_its_statements_leaves_the_queue_as_it_was(
    database_url: str, folder: Path, seed: int, newer: Callable[[], None]
) -> None:
    await use(database_url, folder, seed)
    before = await held(database_url)
    for statement in range(len(NEXT.split(";\n"))):
        killed(database_url, statement=statement)
        async with opened(database_url) as queue:  # the older program can still use it
            assert await queue.database.read(content) == before
    all_ended([start(upgrade, database_url, NEVER, NEVER, None)])
    with pytest.raises(DatabaseRefused, match="restart with the new version"):
        open_database(database_url)
    newer()
    await is_whole(database_url, before)


async def test_an_upgrade_killed_at_any_write_of_its_disk_is_done_or_not_begun(
    folder: Path, seed: int, size: Size, tell: Tell, newer: Callable[[], None]
) -> None:
    (folder / "used").mkdir(mode=0o700)
    await use(url_in(folder / "used"), folder, seed)
    copy(folder / "used", folder / "read")  # opening and closing it would tidy up after those that were killed
    before = await held(url_in(folder / "read"))
    tell(kills=await kill_at_steps(folder, seed, size(25, 1_000), newer, before))


async def test_a_new_file_whose_making_was_killed_at_any_write_is_made_by_the_next_program(
    folder: Path, seed: int, size: Size, tell: Tell, newer: Callable[[], None]
) -> None:
    (folder / "used").mkdir(mode=0o700)
    before: dict[str, list[Any]] = {table: [] for table in (*TABLES, "queues")}
    tell(kills=await kill_at_steps(folder, seed, size(15, 1_000), newer, before))


async def kill_at_steps(
    folder: Path, seed: int, kills: int, newer: Callable[[], None], before: dict[str, list[Any]]
) -> int:
    """Upgrade copies of the queue in the folder `used`, each killed before another step on disk; return how many."""
    copy(folder / "used", folder / "counted")
    all_ended([start(upgrade, url_in(folder / "counted"), NEVER, NEVER, str(folder / "steps"))])
    steps = range((folder / "steps").stat().st_size)
    assert len(steps) > 20  # or it was not much of a test
    newer()
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    chosen = sorted(chance.sample(steps, min(kills, len(steps))))
    for step in chosen:
        copied = folder / f"killed-{step}"
        copy(folder / "used", copied)
        killed(url_in(copied), step=step)
        await is_whole(url_in(copied), before)
        shutil.rmtree(copied)
    return len(chosen)
