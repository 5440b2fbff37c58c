"""When a schedule is due. Pure: instants come in as arguments, only time zone data is read.

croniter parses and steps, on wall-clock times without a zone; what a wall-clock time means in a zone is
decided here, because croniter alone runs `30 2 * * *` twice on the night the clocks go back:

- A fixed-time schedule (one that names its hours: `30 2 * * *`, `0 */6 * * *`) runs when the clock first
  shows the time or, where that is skipped, a later one: once after a gap, once in a repeated hour.
- An interval schedule (one that runs in every hour: `*/5 * * * *`, `0 * * * *`) runs whenever the clock shows
  the time: twice in a repeated hour, never in a gap.

This is Debian cron's rule, but for one thing: Debian asks whether the hour or the minute is written with a
star, we ask whether every hour is meant, so that `0 */6` and `0 0,6,12,18` are one schedule and neither loses
its midnight run where the clocks skip midnight.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from .errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from croniter import croniter

    from .model import Micros

LONGEST_EXPRESSION = 200
NICKNAMES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")

_SECOND = 1_000_000
_SHOWN = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31 or L"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT"),
    ("second", "0-59"),
)
_HOUR, _DAY, _WEEKDAY = 1, 2, 4
_SIX_FIELDS = "six fields: the last one is seconds"
_HOW_TO_WRITE = (
    "give five (minute, hour, day of month, month, day of week: '30 9 * * MON-FRI'), or six with seconds last"
)
_HASHED_OR_RANDOM = re.compile(r"(?<![A-Z])[HR](?![A-Z])")
_RANGE_OF_ONE = re.compile(r"\b0*(\w+)-0*\1\b")


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression, its fields one space apart, and the IANA zone to read it in; made by `parse`."""

    expression: str
    timezone: str


def parse(expression: str, timezone: str) -> Cron:
    """Check an expression and its zone.

    Raises:
        InvalidInput: the zone is unknown, or the expression is malformed, ambiguous or never due.
    """
    _check_form(expression)
    cron = Cron(" ".join(expression.split()), timezone)
    try:
        _plan(cron)
    except ValueError as error:  # CroniterError is one
        raise _refused(expression, _wrong_field(cron.expression)) from error
    if next_after(cron, 0) is None:
        raise _refused(expression, "never runs: no date matches; correct its day or its month")
    return cron


def next_after(cron: Cron, after: Micros) -> Micros | None:
    """The first due time strictly after `after`; None if the calendar ends before it."""
    plan = _plan(cron)
    following = _next_of_interval if plan.runs_every_hour else _next_of_fixed_time
    try:
        return following(plan, after // _SECOND) * _SECOND
    except (ValueError, OverflowError):  # croniter found nothing within 50 years, or the year 9999 is over
        return None


def due_between(cron: Cron, after: Micros, until: Micros, limit: int) -> list[Micros]:
    """The due times with `after` < due <= `until`, the earliest `limit` of them."""
    return list(islice(takewhile(lambda due: due <= until, _due_times(cron, after)), limit))


def upcoming(cron: Cron, after: Micros, count: int) -> list[Micros]:
    """The next `count` due times after `after`."""
    return list(islice(_due_times(cron, after), count))


def notes(cron: Cron) -> list[str]:
    """What may surprise a person who wrote this expression, in plain words."""
    fields = _plan(cron).walls.expanded
    said = [_SIX_FIELDS] if len(fields) == len(_FIELDS) else []
    if "*" not in fields[_DAY] and "*" not in fields[_WEEKDAY]:
        said.append("day of month and day of week are both given: it runs on days that match either")
    return said


def local_text(instant: Micros, timezone: str) -> str:
    """The instant as ISO 8601 to the second, with the zone's offset: `2026-10-25T02:30:00+02:00`."""
    local = _EPOCH + timedelta(seconds=instant // _SECOND)
    return local.astimezone(_zone(timezone)).isoformat(timespec="seconds")


def _croniter() -> Any:  # it has no types
    from croniter import croniter  # noqa: PLC0415 - with dateutil 7 ms of a start that may see no schedule

    return croniter


# Wall-clock times. Instants below are whole seconds since the epoch, wall-clock times naive datetimes.


@dataclass(frozen=True, slots=True)
class _Plan:
    """A parsed expression, to be used by any thread."""

    walls: croniter
    zone: ZoneInfo
    runs_every_hour: bool

    def wall_after(self, wall: datetime) -> datetime:
        """The next wall-clock time that matches, as if the clocks never changed."""
        walls = copy(self.walls)  # get_next keeps its place in there
        found: datetime = walls.get_next(datetime, start_time=wall)
        return found

    def shown_at(self, instant: int) -> datetime:
        """The wall-clock time at an instant."""
        return (_EPOCH + timedelta(seconds=instant)).astimezone(self.zone).replace(tzinfo=None)

    def readings(self, wall: datetime) -> tuple[int, int]:
        """The instant `wall` means by the offset before a change of clocks, and by the one after it.

        They are equal nearly always, rise where `wall` is shown twice and fall where it is skipped.
        """
        before, after = (int(wall.replace(tzinfo=self.zone, fold=fold).timestamp()) for fold in (0, 1))
        return before, after

    def first_reached(self, wall: datetime) -> int:
        """The first instant at which the clock shows `wall` or, where that is skipped, a later time."""
        before, after = self.readings(wall)
        if before <= after:
            return before
        return _first(range(after, before), lambda instant: self.shown_at(instant) >= wall)


@lru_cache(maxsize=1024)
def _plan(cron: Cron) -> _Plan:
    walls = _croniter()(cron.expression)
    return _Plan(walls, _zone(cron.timezone), runs_every_hour="*" in walls.expanded[_HOUR])


def _next_of_fixed_time(plan: _Plan, after: int) -> int:
    wall = plan.wall_after(plan.shown_at(after))
    while (due := plan.first_reached(wall)) <= after:  # `after` is in the second of two equal hours
        wall = plan.wall_after(wall)
    return due


def _next_of_interval(plan: _Plan, after: int) -> int:
    shown = plan.shown_at(after)
    clocks = [shown]
    _, shown_last = plan.readings(shown)
    if after < shown_last:  # the clocks will go back past `shown`, and times before it come again
        back_at = _first(range(after + 1, shown_last), lambda instant: plan.shown_at(instant) <= shown)
        clocks.append(plan.shown_at(back_at) - timedelta(seconds=1))
    return min(due for clock in clocks for due in _readings_of_next_shown(plan, clock) if due > after)


def _readings_of_next_shown(plan: _Plan, clock: datetime) -> tuple[int, int]:
    wall = plan.wall_after(clock)
    before, after = plan.readings(wall)
    while before > after:  # skipped, like all up to the end of the gap
        end_of_gap = plan.shown_at(plan.first_reached(wall))
        wall = plan.wall_after(end_of_gap - timedelta(seconds=1))
        before, after = plan.readings(wall)
    return before, after


def _first(instants: range, is_past: Callable[[int], bool]) -> int:
    """The first instant that is past some change, found by halving; the range's end if none is."""
    return instants.start + bisect_left(instants, x=True, key=is_past)


def _due_times(cron: Cron, after: Micros) -> Iterator[Micros]:
    due = next_after(cron, after)
    while due is not None:
        yield due
        due = next_after(cron, due)


# Refusals: what is wrong, why, what to do.


def _check_form(expression: str) -> None:
    """Refuse what croniter would not, or not in words that help."""
    if len(expression) > LONGEST_EXPRESSION:
        raise _refused(expression, f"is longer than {LONGEST_EXPRESSION} characters; shorten it")
    text = " ".join(expression.upper().split())
    if text.startswith("@"):
        if text == "@REBOOT":
            raise _refused(expression, "names no time; give five fields or a name such as '@daily'")
        if text.lower() not in NICKNAMES:
            raise _refused(expression, f"is no name we know; use {', '.join(NICKNAMES)} or five fields")
        return
    fields = text.split()
    if len(fields) == len(_FIELDS) + 1:
        raise _refused(expression, "has seven fields, but a year is not supported; leave the last one out")
    if len(fields) not in (len(_FIELDS) - 1, len(_FIELDS)):
        raise _refused(expression, f"has {len(fields)} fields; {_HOW_TO_WRITE}")
    if _HASHED_OR_RANDOM.search(text):
        raise _refused(expression, "uses H or R, which differ between processes; write numbers: '17 3 * * *'")
    if same := _RANGE_OF_ONE.search(text):
        raise _refused(expression, f"has {same[0]!r}, which croniter reads as '*'; write {same[1]!r} or '*'")
    day, weekday = fields[_DAY], fields[_WEEKDAY]
    if {day, weekday}.isdisjoint("*?") and ("W" in day or "#" in weekday or "L" in weekday):
        raise _refused(expression, "joins two kinds of day by W, # or L; make a schedule for each of them")


def _wrong_field(expression: str) -> str:
    fields = expression.split()
    for position, (field, (name, values)) in enumerate(zip(fields, _FIELDS, strict=False)):
        alone = ["*"] * len(fields)
        alone[position] = field
        if not _croniter().is_valid(" ".join(alone)):
            hint = f" ({_SIX_FIELDS})" if len(fields) == len(_FIELDS) else ""
            return f"has {_shown(field)} for the {name}, which takes {values}; correct it{hint}"
    return "has fields that do not go together; make a schedule for each"


def _refused(expression: str, why: str) -> InvalidInput:
    return InvalidInput(f"cron {_shown(expression)} {why}", field="cron")


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # These two mean another thing on each machine.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(name: str) -> ZoneInfo:
    if name in _zone_names():
        return ZoneInfo(name)
    # Only places: to the one who wrote GMT+2, Etc/GMT+2 would be four hours off.
    known = {zone.lower(): zone for zone in _zone_names() if "/" in zone and not zone.startswith("Etc/")}
    close = get_close_matches(name.lower().replace(" ", "_"), known, n=1)
    advice = f"did you mean {known[close[0]]!r}?" if close else "give a name such as 'Europe/Berlin' or 'UTC'"
    raise InvalidInput(f"timezone {_shown(name)} is not in the IANA database; {advice}", field="timezone")


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
