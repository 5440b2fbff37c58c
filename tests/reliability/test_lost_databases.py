"""PostgreSQL crashes, or the network to it fails, under load: nothing acknowledged is lost, and work goes on."""

from __future__ import annotations

import random
import signal
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from tests.postgres import Cluster
from tests.reliability import clients
from tests.reliability.actors import SHORTER, Actor, run, untold
from tests.reliability.fleet import Fleet
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, start
from tests.reliability.proxy import Wire
from tests.reliability.racers import SHORT, opened
from tests.reliability.truth import acknowledged, read_all, untrue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

CLIENTS = 4
BUSY = frozenset({"busy"})


@pytest.fixture
def crashable() -> Iterator[Cluster]:
    """A PostgreSQL server that only this test uses."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


async def disturb(
    url: str, diaries: list[Path], chance: random.Random, disturbances: int, disturb_once: Callable[[], Awaitable[None]]
) -> None:
    """Keep clients busy while their database is disturbed now and then, and look whether each got on after it."""
    lives = [start(clients.live, url, str(diary), chance.getrandbits(32)) for diary in diaries]
    try:
        await grows(diaries)
        for _ in range(disturbances):
            await disturb_once()
            await grows(diaries)
            await anyio.sleep(chance.uniform(0.1, 0.8))
    finally:
        for life in lives:
            life.kill()
            life.join(PATIENCE)
    assert {life.exitcode for life in lives} == {-signal.SIGKILL}, "a client had ended by itself"


async def grows(diaries: list[Path]) -> None:
    """Wait until every client was told something good once more."""

    def answers() -> list[int]:
        found = read_all(diaries).values()
        return [sum("to" in entry and "refused" not in entry for entry in entries) for entries in found]

    before = answers() if all(diary.exists() for diary in diaries) else [0] * len(diaries)
    with anyio.fail_after(PATIENCE):
        while len(now := answers()) < len(before) or any(new <= old for new, old in zip(now, before, strict=True)):
            await anyio.sleep(0.05)


async def holds(url: str, diaries: list[Path], tell: Tell, lease_seconds: float = SHORT) -> None:
    """Look for every acknowledged call, let the queue drain, and look again."""
    async with opened(url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        assert await queue.database.read(lambda transaction: broken(transaction, lease_seconds)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries), BUSY)) == []
        told = Counter(
            "unknown" if "unknown" in entry else entry.get("refused", "done")
            for entries in read_all(diaries).values()
            for entry in entries
        )
        tell(acknowledged_calls=acknowledged(diaries), refused_calls=told["busy"], unknown_commits=told["unknown"])
        clients.drain_together(url, diaries)
        assert await queue.database.read(lambda transaction: broken(transaction, lease_seconds)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries), BUSY)) == []


async def test_postgresql_crashes_under_load_and_keeps_what_it_acknowledged(
    crashable: Cluster, folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    crashes = size(3, 100)
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    url = crashable.url(crashable.new_database())
    with crashable.admin() as wire:  # what is committed like that waits for seconds, unless the queue asks for more
        wire.execute("ALTER SYSTEM SET synchronous_commit = off")
        wire.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        wire.execute("SELECT pg_reload_conf()")

    async def crash() -> None:
        await anyio.to_thread.run_sync(crashable.crash)
        await anyio.sleep(chance.uniform(0, 0.5))
        await anyio.to_thread.run_sync(crashable.start)

    await disturb(url, diaries, chance, crashes, crash)
    tell(crashes=crashes)
    await holds(url, diaries, tell)


async def test_the_network_to_postgresql_is_cut_and_falls_silent_under_load(
    cluster: Cluster, folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    cuts = size(6, 100)
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    name = cluster.new_database()
    async with Wire(cluster.port).listening() as wire:

        async def cut() -> None:
            if chance.random() < 0.5:
                await wire.cut()
            else:
                wire.silence()
            await anyio.sleep(chance.uniform(0.1, 1.0))
            wire.heal()

        await disturb(cluster.url(name, port=wire.port), diaries, chance, cuts, cut)
    tell(cuts=cuts)
    # Silence in the middle of a claim comes between its lease and its event, so the log does not tell a lease's length.
    await holds(cluster.url(name), diaries, tell, lease_seconds=0)


async def test_a_server_cut_from_its_database_says_so_and_is_ready_again_by_itself(
    cluster: Cluster, folder: Path
) -> None:
    name = cluster.new_database()
    async with Wire(cluster.port).listening() as wire:
        fleet = Fleet(folder, cluster.url(name, port=wire.port))
        try:
            fleet.start("server")
            await fleet.serves("server")
            actors = [
                Actor(f"actor-{n}", f"{fleet.base('server')}/mcp", "auto", claim_ids=n % 2 == 0, patience=PATIENCE)
                for n in range(4)
            ]
            async with anyio.create_task_group() as group:
                group.start_soon(run, actors, 10, cluster.url(name))
                await is_ready(fleet, 200)
                await wire.cut()
                await is_ready(fleet, 503)
                wire.heal()
                await is_ready(fleet, 200)
            fleet.stop("server")
        except BaseException as error:
            error.add_note(fleet.said())
            raise
        finally:
            fleet.kill_all()
    async with opened(cluster.url(name)) as queue:
        assert await queue.database.read(lambda transaction: broken(transaction, SHORTER)) == []
        assert await queue.database.read(lambda transaction: untold(transaction, actors)) == []


async def is_ready(fleet: Fleet, expected: int) -> None:
    """Wait until the server says that it is ready (200), or that it is not (503)."""
    with anyio.fail_after(PATIENCE):
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            while (await http.get(f"{fleet.base('server')}/readyz")).status_code != expected:
                await anyio.sleep(0.05)
