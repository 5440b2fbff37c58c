"""Two years over five zones on three servers that are killed now and then: each due time is there exactly once."""

from __future__ import annotations

import random
import signal
from bisect import bisect_right
from datetime import UTC, datetime
from itertools import chain, count
from typing import TYPE_CHECKING

import anyio

from taskqueue_mcp.taskqueue import NewSchedule, Wanted
from tests.reliability import racers
from tests.reliability.calendars import Span, due_times, micros, runs_a_day
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, start
from tests.reliability.racers import EVERYONE, opened
from tests.reliability.shared import StandingClock

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.reliability.conftest import Tell

YEARS = Span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
SERVERS = 3
LEASE = 900
MINUTE = 60 * 1_000_000
HOUR, DAY = 60 * MINUTE, 1_440 * MINUTE
LONGEST_STEP = 2 * DAY
GRACE = 7 * 86_400
KILLED_EVERY = 20
BERLIN, NEW_YORK, LORD_HOWE, CAIRO = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"
NIGHTS = {
    BERLIN: ("29 3", "31 10"),
    NEW_YORK: ("8 3", "7 11"),
    LORD_HOWE: ("5 4", "3 10"),
    CAIRO: ("24 4", "28 10"),
    "UTC": ("28 3",),
}
"""Days on which the zone's clocks change in one of the years, and not in the other; every half hour of them counts."""
HALF_HOURS = {BERLIN: {46, 48, 50}, NEW_YORK: {46, 48, 50}, LORD_HOWE: {47, 48, 49}, CAIRO: {46, 48, 50}, "UTC": {48}}
"""How many half hours the days of a zone have."""


def plans(*, whole: bool) -> dict[str, tuple[str, str]]:
    """Return the expression and the zone of each schedule by its name."""
    found: dict[str, tuple[str, str]] = {}
    for zone, nights in NIGHTS.items():
        crons = ["30 2 * * 0", "0 0 * * 5", "0 12 31 * *"]
        crons += [f"*/30 * {days} *" for days in nights]
        crons += ["0 */6 * * *", "30 2 * * *"] if whole else []
        crons += ["*/30 * * * *"] if whole and zone in {LORD_HOWE, BERLIN} else []
        found |= {f"{zone.replace('/', '-')}-{number}": (cron, zone) for number, cron in enumerate(crons)}
    return found


async def test_in_two_years_over_five_zones_each_due_time_runs_exactly_once(
    database_url: str, folder: Path, seed: int, soak: bool, tell: Tell
) -> None:
    wanted = plans(whole=soak)
    expected = {name: due_times(cron, zone, YEARS) for name, (cron, zone) in wanted.items()}
    half_hourly = {name: dues for name, dues in expected.items() if wanted[name][0].startswith("*/30")}
    for zone, counts in HALF_HOURS.items():
        days = [runs_a_day(dues, zone) for name, dues in half_hourly.items() if wanted[name][1] == zone]
        ends = {YEARS.begin.date().isoformat(), YEARS.end.date().isoformat()} if soak else set()
        assert {count for each in days for day, count in each.items() if day not in ends} == counts, zone
    clock = StandingClock(folder / "clock")
    clock.set(micros(YEARS.begin) - HOUR // 2)
    async with opened(database_url, clock) as queue:
        for name, (cron, zone) in wanted.items():
            plan = NewSchedule(
                name, cron, Wanted(title=name), zone, misfire="all", overlap="allow", grace_seconds=GRACE
            )
            await queue.put_schedule(EVERYONE, plan)
        chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
        kills = await live_through(queue, database_url, clock, chance, sorted(chain(*half_hourly.values())))
        found = await queue.database.read(ran)
        assert await queue.database.read(lambda transaction: broken(transaction, LEASE)) == []
    tell(schedules=len(wanted), due_times=sum(map(len, expected.values())), kills=kills)
    assert {name: [due for due, _, _ in rows] for name, rows in found.items()} == expected
    assert {fate for rows in found.values() for _, fate, _ in rows} == {"fired", "late"}
    assert all(due == stood_for for rows in found.values() for due, _, stood_for in rows)


async def live_through(
    queue: TaskQueue, url: str, clock: StandingClock, chance: random.Random, half_hourly: list[int]
) -> int:
    """Let the years pass in random steps, small ones where half hours count; return how many servers were killed."""
    servers = [start(racers.keep_time, url, str(clock.path)) for _ in range(SERVERS)]
    last = micros(YEARS.end) - HOUR // 2
    try:
        for number in count(1):
            ahead = bisect_right(half_hourly, clock())
            is_near = ahead < len(half_hourly) and half_hourly[ahead] <= clock() + LONGEST_STEP
            step = chance.choice([HOUR // 2, 2 * HOUR, 11 * HOUR] if is_near else [2 * HOUR, DAY, LONGEST_STEP])
            clock.set(min(clock() + step, last))
            with anyio.fail_after(PATIENCE):
                while (await queue.next_instant() or 0) <= clock():
                    await anyio.sleep(0.003)
            if clock() == last:
                return number // KILLED_EVERY
            if number % KILLED_EVERY == 0:
                victim = chance.randrange(SERVERS)
                servers[victim].kill()
                servers[victim].join(PATIENCE)
                assert servers[victim].exitcode == -signal.SIGKILL, "a server had ended by itself"
                servers[victim] = start(racers.keep_time, url, str(clock.path))
    finally:
        for server in servers:
            server.kill()
            server.join(PATIENCE)
    raise AssertionError


def ran(transaction: Transaction) -> dict[str, list[tuple[int, str, int]]]:
    """Return the due times of each schedule, how they ended, and what time the run of each stands for."""
    found: dict[str, list[tuple[int, str, int]]] = {}
    rows = transaction.all(
        "SELECT name, occurrences.due_at, fate, tasks.due_at FROM occurrences"
        "  JOIN schedules ON schedules.id = occurrences.schedule_id JOIN tasks ON tasks.id = task_id"
        " ORDER BY name, occurrences.due_at"
    )
    for name, due, fate, stood_for in rows:
        found.setdefault(name, []).append((due, fate, stood_for))
    return found
