"""A served queue and its workers are killed while they work; every task a client was promised is done once."""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.worker import over_http
from taskqueue_mcp.worker.connection import LOST
from tests.reliability.actors import SHORTER, Actor, run, untold
from tests.reliability.fleet import LEASE, MARK, TOKEN, Fleet
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE
from tests.reliability.racers import OPEN, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp import Client

    from taskqueue_mcp.store import Transaction
    from tests.conftest import Size
    from tests.reliability.conftest import Tell

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for orphans in /proc")

WORKERS = 2
COMMAND_SECONDS = "0.05"


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def fleet(folder: Path, database_url: str, mark: str) -> Iterator[Fleet]:
    fleet = Fleet(folder, database_url, mark=mark)
    yield fleet
    fleet.kill_all()


class FrontEnd:
    """Keeps creating; a call whose answer was lost is repeated with its key until it is answered."""

    def __init__(self, base: str, mark: str) -> None:
        self._connect = over_http(base, TOKEN)
        self._mark = mark
        self.accepted: dict[str, str] = {}
        self.lost = 0

    async def run(self, stop: anyio.Event) -> None:
        """Create until told to stop, a task every few moments; the last call too is repeated until it is answered."""
        answered = True
        while not (stop.is_set() and answered):
            try:
                async with self._connect() as client:
                    while not (stop.is_set() and answered):
                        answered = False
                        await self._create(client, f"key-{len(self.accepted)}")
                        answered = True
                        await anyio.sleep(0.02)
            except LOST:
                self.lost += 1
                await anyio.sleep(0.05)

    async def _create(self, client: Client, key: str) -> None:
        wanted = {
            "title": key,
            "params": {"argv": ["sleep", COMMAND_SECONDS], "env": {MARK: self._mark}},
            "options": {"executor": "shell", "max_attempts": 100},
            "idempotency_key": key,
        }
        result = await client.call_tool("create_task", wanted, read_timeout_seconds=5)
        assert not result.is_error, result.structured_content
        self.accepted[key] = (result.structured_content or {})["task"]["id"]


def marked(mark: str) -> list[int]:
    """Return the processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


async def settled(url: str) -> None:
    """Wait until no task is open."""
    async with opened(url) as queue:
        with anyio.fail_after(PATIENCE):
            while (await queue.database.read(lambda transaction: transaction.all(OPEN)))[0][0]:
                await anyio.sleep(0.05)


async def test_servers_and_workers_are_killed_and_every_accepted_task_is_completed_once(
    fleet: Fleet, database_url: str, mark: str, seed: int, size: Size, tell: Tell
) -> None:
    kills = size(8, 150)
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    client = FrontEnd(fleet.base("server"), mark)
    workers = [f"worker-{number}" for number in range(WORKERS)]
    victims = ["server"] * kills + [chance.choice(workers) for _ in range(kills)]
    chance.shuffle(victims)
    stop = anyio.Event()
    try:
        fleet.start("server")
        await fleet.serves("server")
        for name in workers:
            fleet.start(name)
        async with anyio.create_task_group() as group:
            group.start_soon(client.run, stop)
            for victim in victims:
                await anyio.sleep(chance.uniform(0.2, 0.8))
                fleet.kill(victim)
                fleet.start(victim)
                if victim == "server":
                    await fleet.serves("server")
            stop.set()
        await settled(database_url)
        for name in [*workers, "server"]:
            fleet.stop(name)
    except BaseException as error:
        error.add_note(fleet.said())
        raise
    async with opened(database_url) as queue:
        events, stored = await queue.database.read(ends)
        assert await queue.database.read(lambda transaction: broken(transaction, LEASE)) == []
    tell(kills_of_servers_and_workers=len(victims), tasks=len(client.accepted), lost_connections=client.lost)
    assert len(client.accepted) >= 5 * kills  # or it was not much of a test
    assert client.lost
    assert {key: f"T-{task}" for key, task in stored.items()} == client.accepted
    assert events == dict.fromkeys(stored.values(), 1)
    until = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < until:
        await anyio.sleep(0.05)
    assert left == []


async def test_sixteen_claimers_on_three_servers_get_every_task_once(
    folder: Path, database_url: str, size: Size, tell: Tell
) -> None:
    names = [f"server-{number}" for number in range(3)]
    fleet = Fleet(folder, database_url, servers=names)
    try:
        for name in names:
            fleet.start(name)
            await fleet.serves(name)
        urls = [f"{fleet.base(name)}/mcp" for name in names]
        actors = [
            Actor(f"claimer-{n}", urls[n % 3], "auto", claim_ids=n % 2 == 0, patience=PATIENCE) for n in range(16)
        ]
        with anyio.fail_after(size(60, 3_000)):
            await run(actors, size(8, 500), database_url)
        for name in names:
            fleet.stop(name)
    except BaseException as error:
        error.add_note(fleet.said())
        raise
    finally:
        fleet.kill_all()
    async with opened(database_url) as queue:
        assert await queue.database.read(lambda transaction: broken(transaction, SHORTER)) == []
        assert await queue.database.read(lambda transaction: untold(transaction, actors)) == []
    tell(claimers=16, servers=3, tasks=16 * size(8, 500))
    assert sum(len(actor.completed) for actor in actors) == 16 * size(8, 500)
    assert all(actor.completed for actor in actors)
    assert [actor.lost for actor in actors] == [0] * 16


def ends(transaction: Transaction) -> tuple[Counter[int], dict[str, int]]:
    """Return how often each task completed, and which task each key made."""
    completed = transaction.all("SELECT subject_id FROM events WHERE subject = 'task' AND kind = 'completed'")
    keys: list[Any] = transaction.all("SELECT idempotency_key, id FROM tasks")
    return Counter(task for (task,) in completed), dict(keys)
