"""When a schedule is due by looking at every half hour of some years: slow, plain, and not how the queue does it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from zoneinfo import ZoneInfo

HALF_HOUR = timedelta(minutes=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant up to another, without it."""

    begin: datetime
    end: datetime


def micros(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)


def due_times(cron: str, zone: str, span: Span) -> list[int]:
    """Return the due times in microseconds since the epoch; minutes are 0 or 30, of the day fields one is a star.

    With a star for the hour it runs whenever the clock shows the time; else once for each time of the calendar, when
    the clock first shows it or a later one.
    """
    instants, walls, latest = _clock(zone, span)
    fields = cron.split()
    if fields[1] == "*":
        found = {instant for instant, wall in zip(instants, walls, strict=True) if _fits(fields, wall)}
    else:
        wall, found = min(walls), set()
        while wall <= latest[-1]:
            if _fits(fields, wall):
                found.add(instants[bisect_left(latest, wall)])
            wall += HALF_HOUR
    return sorted(micros(instant) for instant in found if instant >= span.begin)


def runs_a_day(dues: list[int], zone: str) -> dict[str, int]:
    """Return how many due times each day of a zone has."""
    days: dict[str, int] = {}
    for due in dues:
        day = (EPOCH + timedelta(microseconds=due)).astimezone(ZoneInfo(zone)).date().isoformat()
        days[day] = days.get(day, 0) + 1
    return days


@cache
def _clock(zone: str, span: Span) -> tuple[list[datetime], list[datetime], list[datetime]]:
    """Return every half hour, what the zone's clock shows then, and the latest that it has shown up to then."""
    before = span.begin - timedelta(days=2)
    instants = [before + number * HALF_HOUR for number in range((span.end - before) // HALF_HOUR)]
    walls = [instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for instant in instants]
    return instants, walls, list(accumulate(walls, max))


def _fits(fields: list[str], wall: datetime) -> bool:
    shown = (wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7)
    return all(_has(field, value) for field, value in zip(fields, shown, strict=True))


def _has(field: str, value: int) -> bool:
    every, _, step = field.partition("/")
    return value % int(step or 1) == 0 if every == "*" else str(value) in field.split(",")
