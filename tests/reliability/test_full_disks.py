"""The disk fills and is freed again and again under load: what was refused was not done, what was done stays."""

from __future__ import annotations

import random
import signal
from collections import Counter
from typing import TYPE_CHECKING

import anyio

from tests.reliability import clients
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, start
from tests.reliability.racers import SHORT, opened
from tests.reliability.shared import Room
from tests.reliability.truth import acknowledged, read_all, untrue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

CLIENTS = 3
BUSY = frozenset({"busy"})


async def fill_and_free(url: str, diaries: list[Path], room: Room, seed: int, rounds: int) -> None:
    """Keep clients busy on a disk that is full half of the time."""
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    room.free()
    lives = [
        start(clients.live_on_a_small_disk, url, str(diary), chance.getrandbits(32), str(room.path))
        for diary in diaries
    ]
    try:
        await anyio.sleep(0.5)
        for _ in range(rounds):
            room.fill(chance.choice([0, 1_000, 20_000, 100_000]))
            await anyio.sleep(chance.uniform(0.02, 0.2))
            room.free()
            await anyio.sleep(chance.uniform(0.02, 0.2))
    finally:
        for life in lives:
            life.kill()
            life.join(PATIENCE)
    assert {life.exitcode for life in lives} == {-signal.SIGKILL}


async def test_what_a_full_disk_refused_was_not_done_and_work_goes_on_when_there_is_room(
    folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    rounds = size(25, 1_000)
    url = f"sqlite:///{folder / 'queue.db'}"
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    await fill_and_free(url, diaries, Room(folder / "room"), seed, rounds)
    async with opened(url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries), BUSY)) == []
        refused = Counter(entry.get("refused") for entries in read_all(diaries).values() for entry in entries)
        tell(full_disks=rounds, refused_calls=refused["busy"], acknowledged_calls=acknowledged(diaries))
        assert refused["busy"] > 2 * rounds  # or it was not much of a test

        clients.drain_together(url, diaries)
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries), BUSY)) == []
        completed = "SELECT count(*) FROM tasks WHERE status = 'completed'"
        assert (await queue.database.read(lambda transaction: transaction.all(completed)))[0][0] > 10 * rounds
