"""The wire between clients and a server fails all the time; by repeating what was not answered nothing is lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.reliability.actors import SHORTER, Actor, run, untold
from tests.reliability.fleet import Fleet
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE
from tests.reliability.proxy import Fault, Proxy
from tests.reliability.racers import opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

PATIENT = 0.25
"""How long a client waits for an answer, in seconds."""
LATE = 0.4
SHARE = 0.3
ACTORS = 6


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_whatever_the_wire_does_each_task_is_made_once_noted_once_and_completed_once(
    database_url: str, folder: Path, seed: int, size: Size, tell: Tell, mode: str
) -> None:
    faults = size(36, 2_500)
    each = faults // ACTORS // 2
    fleet = Fleet(folder, database_url)
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    try:
        fleet.start("server")
        await fleet.serves("server")
        async with Proxy(fleet.port("server"), chance, SHARE, LATE).listening() as proxy:
            url = f"http://127.0.0.1:{proxy.port}/mcp"
            actors = [Actor(f"actor-{n}", url, mode, claim_ids=n % 2 == 0, patience=PATIENT) for n in range(ACTORS)]
            with anyio.fail_after(PATIENCE * max(1.0, faults / 50)):
                await run(actors, each, database_url)
        fleet.stop("server")
    except BaseException as error:
        error.add_note(fleet.said())
        raise
    finally:
        fleet.kill_all()
    async with opened(database_url) as queue:
        assert await queue.database.read(lambda transaction: broken(transaction, SHORTER)) == []
        assert await queue.database.read(lambda transaction: untold(transaction, actors)) == []
    tell(faults=sum(proxy.met[fault] for fault in Fault), exchanges=proxy.met.total(), tasks=each * ACTORS)
    assert sum(proxy.met[fault] for fault in Fault) >= 0.6 * faults  # or it was not much of a test
    assert set(Fault) <= set(proxy.met)
    assert sum(actor.lost for actor in actors) >= 0.4 * faults
