"""The clock jumps while processes work, by a second or by a year, ahead or back: nothing is lost or done twice."""

from __future__ import annotations

import random
import signal
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio

from taskqueue_mcp.taskqueue import NewSchedule, Wanted
from tests.reliability import clients
from tests.reliability.invariants import broken
from tests.reliability.processes import start
from tests.reliability.racers import EVERYONE, LIMITS, SHORT, opened
from tests.reliability.shared import JumpingClock
from tests.reliability.truth import acknowledged, read_all, untrue

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from tests.conftest import Size
    from tests.reliability.conftest import Tell

CLIENTS = 3
MINUTE, HOUR, DAY, YEAR = 60, 3_600, 86_400, 365 * 86_400
JUMPS = [sign * seconds for sign in (1, -1) for seconds in (1, MINUTE, HOUR, DAY, 30 * DAY, YEAR)]
MISFIRES = {"coalesce": 2 * HOUR, "skip": 3 * HOUR, "all": 6 * HOUR}
"""A schedule for each way to make up for missed runs, and how far apart its due times are, in seconds."""


async def let_jump(url: str, folder: Path, clock: JumpingClock, seed: int, jumps: int) -> None:
    """Keep clients busy while their clock jumps every 50 to 150 ms."""
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    paths = [str(folder / f"client-{number}.diary") for number in range(CLIENTS)]
    at = str(folder / "clock")
    lives = [start(clients.live, url, path, chance.getrandbits(32), at) for path in paths]
    try:
        for number in range(jumps):
            await anyio.sleep(chance.uniform(0.05, 0.15))
            clock.set_off_by(JUMPS[number] if number < len(JUMPS) else chance.choice([0, *JUMPS]))
        clock.set_off_by(2 * YEAR)  # later than any lease or retry
    finally:
        for life in lives:
            life.kill()
            life.join(10)
    assert {life.exitcode for life in lives} == {-signal.SIGKILL}


async def test_however_the_clock_jumps_no_promise_breaks_and_the_queue_drains(
    database_url: str, folder: Path, seed: int, size: Size, tell: Tell
) -> None:
    jumps = size(60, 2_000)
    clock = JumpingClock(folder / "clock")
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    async with opened(database_url, clock, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        for misfire, apart in MISFIRES.items():
            cron = f"0 */{apart // HOUR} * * *"
            plan = NewSchedule(misfire, cron, Wanted(title=misfire), timezone="UTC", misfire=misfire, overlap="allow")
            await queue.put_schedule(EVERYONE, plan)
        await let_jump(database_url, folder, clock, seed, jumps)
        while (await queue.next_instant() or 0) <= await queue.now():  # a long outage is written down step by step
            await queue.tick()
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries))) == []
        assert await queue.database.read(odd_dues) == []

        for misfire in MISFIRES:
            await queue.delete_schedule(EVERYONE, misfire)
        clients.drain_together(database_url, diaries, folder / "clock")
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, read_all(diaries))) == []
        stored = await queue.database.read(lambda transaction: transaction.all("SELECT status FROM tasks"))
    statuses = Counter(status for (status,) in stored)
    assert set(statuses) <= {"completed", "failed", "cancelled"}
    tell(jumps=jumps + 1, tasks=sum(statuses.values()), acknowledged_calls=acknowledged(diaries))
    assert statuses["completed"] >= 5 * jumps  # or it was not much of a test


def odd_dues(transaction: Transaction) -> list[str]:
    """Return the due times that no row ends, and the schedules that a jump made run too often."""
    found: list[str] = []
    rows: list[Any] = transaction.all(
        "SELECT name, due_at, fate, task_id FROM occurrences JOIN schedules ON schedules.id = schedule_id"
        " ORDER BY name, due_at"
    )
    for misfire, apart in MISFIRES.items():
        dues = [due for name, due, *_ in rows if name == misfire]
        fates = Counter(fate for name, _, fate, _ in rows if name == misfire)
        gaps = [before for before, after in pairwise(dues) if after - before != apart * 1_000_000]
        found += [f"{misfire}: nothing between {due} and the next" for due in gaps]
        ahead = sum(jump > 0 for jump in JUMPS) + 2
        allowed = ahead * (LIMITS.missed_runs if misfire == "all" else 1)
        runs = fates["fired"] + fates["late"]
        fewest = 0 if misfire == "skip" else 1  # a jump seldom lands within the minute that counts as on time
        if len(dues) < YEAR // apart or not fewest <= runs <= allowed:
            found.append(f"{misfire}: {len(dues)} due times, {runs} runs of at most {allowed}")
    return found
