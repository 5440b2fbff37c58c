"""The power goes at any moment; what was acknowledged is there when it is back, and the queue goes on."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from taskqueue_mcp.taskqueue import NewTask, Wanted
from tests.reliability import clients
from tests.reliability.invariants import broken
from tests.reliability.power import Shadow, read_trace
from tests.reliability.processes import PATIENCE, together
from tests.reliability.racers import EVERYONE, SHORT, opened
from tests.reliability.truth import untrue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

CLIENTS = 2
LIVES = 2
TRACE_SECONDS = 2.0
CUTS_A_TRACE = 100


@dataclass(slots=True)
class Found:
    """What several cuts of one trace came to."""

    untrue: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    acknowledged: int = 0
    syncs: int = 0


def record(folder: Path, options: str, seed: int) -> Path:
    """Let clients use a new queue on a recorded disk; return the trace."""
    folder.mkdir()
    urls = [f"sqlite:///{folder / 'queue.db'}{options}"] * CLIENTS
    diaries = [str(folder / f"client-{number}.diary") for number in range(CLIENTS)]
    trace = folder / "trace"
    seeds = [seed + number for number in range(CLIENTS)]
    each = [TRACE_SECONDS / LIVES] * CLIENTS
    together(
        clients.live_on_a_recorded_disk, urls, diaries, [str(trace)] * CLIENTS, seeds, [LIVES] * CLIENTS, each,
        seconds=PATIENCE,
    )  # fmt: skip
    return trace


async def cut_power(folder: Path, options: str, seed: int, cuts: int) -> Found:
    """Use a queue, and restore what the disk holds at random moments of that."""
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    trace = record(folder, options, seed)
    length = sum(1 for _ in read_trace(trace))
    records, shadow, found, played = read_trace(trace), Shadow(), Found(), 0
    for moment in sorted(chance.choices(range(length + 1), k=cuts)):
        for each in islice(records, moment - played):
            shadow.play(each)
        played = moment
        await look(shadow, folder / f"cut-{moment}", chance, found)
    found.syncs = shadow.syncs
    return found


async def look(shadow: Shadow, left: Path, chance: random.Random, found: Found) -> None:
    """Open what a cut at this moment leaves and hold it against the diaries up to then."""
    left.mkdir(mode=0o700, exist_ok=True)
    shadow.cut(chance, left)
    async with opened(f"sqlite:///{left / 'queue.db'}", lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        found.broken += await queue.database.read(lambda transaction: broken(transaction, SHORT))
        found.untrue += await queue.database.read(lambda transaction: untrue(transaction, shadow.diaries))
        await queue.tick()
        await queue.create(EVERYONE, NewTask(Wanted(title="life goes on")))
        found.broken += await queue.database.read(lambda transaction: broken(transaction, SHORT))
    found.acknowledged += sum("to" in entry for entries in shadow.diaries.values() for entry in entries)
    shutil.rmtree(left)


async def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
    folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    cuts = size(60, 1_000)
    while cuts > 0:
        found = await cut_power(folder / f"trace-{cuts}", "", seed + cuts, min(cuts, CUTS_A_TRACE))
        assert found.broken == []
        assert found.untrue == []
        assert found.syncs > 100  # or it was not much of a test
        assert found.acknowledged > 1_000
        tell(power_cuts=min(cuts, CUTS_A_TRACE), syncs=found.syncs, acknowledged_calls_looked_for=found.acknowledged)
        shutil.rmtree(folder / f"trace-{cuts}")
        cuts -= CUTS_A_TRACE


async def test_without_a_sync_for_each_commit_a_power_cut_loses_work_and_the_same_test_sees_it(
    folder: Path, seed: int
) -> None:
    found = await cut_power(folder / "trace", "?synchronous=normal", seed, 20)
    assert found.untrue
    assert not any(what.startswith(("integrity", "foreign key")) for what in found.broken)
