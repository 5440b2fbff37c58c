"""When schedules are due, against a clock that is watched minute by minute."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskqueue_mcp.cron import (
    LONGEST_EXPRESSION,
    Cron,
    due_between,
    local_text,
    next_after,
    notes,
    parse,
    upcoming,
)
from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskqueue_mcp.model import Micros

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # changes by half an hour
    "Africa/Cairo",  # changes at midnight
    "America/Havana",  # changes at midnight
    "UTC",
)
EVERY_DAY = "* * *"
ALL_HOURS = frozenset(range(24))
HALF_HOURS = "*/30 * * * *"
MINUTE = timedelta(minutes=1)


def instant(text: str) -> Micros:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


START, END = instant("2024-01-01T00:00Z"), instant("2026-01-01T00:00Z")


def shown(cron: Cron, after: str, count: int) -> list[str]:
    return [local_text(due, cron.timezone) for due in upcoming(cron, instant(after), count)]


# The oracle: no cron library, no arithmetic on offsets, only a clock that is looked at every minute.


Moments = dict[tuple[int, int], list[tuple["Micros", datetime]]]


@dataclass(frozen=True)
class Clock:
    """When a zone's clock showed each (hour, minute), and when it first reached each."""

    shown: Moments
    reached: Moments


def watch(zone: str, start: Micros, end: Micros) -> Clock:
    tz = ZoneInfo(zone)
    shown, reached = Moments(), Moments()
    latest = datetime.fromtimestamp(start // 1_000_000, tz).replace(tzinfo=None)
    for seconds in range(start // 1_000_000 + 60, end // 1_000_000 + 1, 60):
        now = datetime.fromtimestamp(seconds, tz).replace(tzinfo=None)
        moment = (seconds * 1_000_000, now)
        shown.setdefault((now.hour, now.minute), []).append(moment)
        while latest < now:
            latest += MINUTE
            reached.setdefault((latest.hour, latest.minute), []).append((moment[0], latest))
    return Clock(shown, reached)


@lru_cache(maxsize=1)
def two_years(zone: str) -> Clock:
    return watch(zone, START, END)


def matches(
    clock: Clock, minutes: frozenset[int], hours: frozenset[int], on_day: Callable[[date], bool]
) -> list[Micros]:
    times = clock.shown if hours == ALL_HOURS else clock.reached
    return sorted(
        {due for hour in hours for minute in minutes for due, wall in times[hour, minute] if on_day(wall.date())}
    )


@cache
def due_in_two_years(expression: str, zone: str) -> list[Micros]:
    return due_between(parse(expression, zone), START, END, limit=100_000)


def any_day(_: date) -> bool:
    return True


def is_last_of_month(day: date) -> bool:
    return (day + timedelta(days=1)).month != day.month


SCHEDULES: dict[str, tuple[set[int], set[int], Callable[[date], bool]]] = {
    HALF_HOURS: ({0, 30}, set(ALL_HOURS), any_day),
    "0 * * * *": ({0}, set(ALL_HOURS), any_day),
    "20,50 0-23 * * SUN": ({20, 50}, set(ALL_HOURS), lambda day: day.isoweekday() == 7),
    "30 2 * * *": ({30}, {2}, any_day),
    "0 0 * * *": ({0}, {0}, any_day),
    "0 0,6,12,18 * * *": ({0}, {0, 6, 12, 18}, any_day),
    "*/15 1-3,23 * MAR-APR,OCT-NOV *": (
        {0, 15, 30, 45},
        {1, 2, 3, 23},
        lambda day: day.month in {3, 4, 10, 11},
    ),
    "5 0 L * *": ({5}, {0}, is_last_of_month),
    "10 2 * * SUN#1": ({10}, {2}, lambda day: day.isoweekday() == 7 and day.day <= 7),
    "10 2 * * L7": ({10}, {2}, lambda day: day.isoweekday() == 7 and (day + timedelta(7)).month != day.month),
    "0 12 13 * FRI": ({0}, {12}, lambda day: day.day == 13 or day.isoweekday() == 5),
    "59 23 29 2 *": ({59}, {23}, lambda day: (day.month, day.day) == (2, 29)),
    "@daily": ({0}, {0}, any_day),
    "@monthly": ({0}, {0}, lambda day: day.day == 1),
    "@weekly": ({0}, {0}, lambda day: day.isoweekday() == 7),
}


@pytest.mark.parametrize("zone", ZONES)
def test_two_years_of_due_times_are_those_of_a_watched_clock(zone: str) -> None:
    clock = two_years(zone)
    for expression, (minutes, hours, on_day) in SCHEDULES.items():
        due = due_in_two_years(expression, zone)
        assert due == matches(clock, frozenset(minutes), frozenset(hours), on_day), expression


@pytest.mark.parametrize(
    ("zone", "half_hours"),
    [
        ("Europe/Berlin", {"2024-03-31": 46, "2024-10-27": 50, "2025-03-30": 46, "2025-10-26": 50}),
        ("America/New_York", {"2024-03-10": 46, "2024-11-03": 50, "2025-03-09": 46, "2025-11-02": 50}),
        ("Australia/Lord_Howe", {"2024-04-07": 49, "2024-10-06": 47, "2025-04-06": 49, "2025-10-05": 47}),
        ("Africa/Cairo", {"2024-04-26": 46, "2024-10-31": 50, "2025-04-25": 46, "2025-10-30": 50}),
        ("America/Havana", {"2024-03-10": 46, "2024-11-03": 50, "2025-03-09": 46, "2025-11-02": 50}),
        ("UTC", {}),
    ],
)
def test_every_half_hour_is_48_a_day_but_for_the_days_of_the_change(zone: str, half_hours: dict[str, int]) -> None:
    due = due_in_two_years(HALF_HOURS, zone)
    days = Counter(local_text(moment, zone)[:10] for moment in due)
    whole_days = sorted(days)[1:-1]
    assert {day: days[day] for day in whole_days if days[day] != 48} == half_hours
    assert {later - earlier for earlier, later in pairwise(due)} == {1_800_000_000}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("time", ["0 0", "30 0", "59 0", "0 1", "45 1", "0 2", "15 2", "30 2", "0 3", "30 23"])
def test_a_fixed_time_runs_once_on_every_local_day(zone: str, time: str) -> None:
    tz = ZoneInfo(zone)
    start = round(datetime(2024, 1, 1, tzinfo=tz).timestamp()) * 1_000_000
    end = round(datetime(2026, 1, 1, tzinfo=tz).timestamp()) * 1_000_000
    due = due_between(parse(f"{time} {EVERY_DAY}", zone), start - 1, end - 1, limit=1_000)
    days = [date.fromisoformat(local_text(moment, zone)[:10]) for moment in due]
    assert days == [date(2024, 1, 1) + timedelta(days=n) for n in range(366 + 365)]


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00Z", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "0 2 * * *", "2026-03-28T12:00Z", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "*/15 2 * * *", "2026-03-28T12:00Z", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "0 */2 * * *", "2026-03-28T23:30Z", "2026-03-29T03:00:00+02:00"),
        ("America/New_York", "30 2 * * SUN", "2025-03-05T12:00Z", "2025-03-09T03:00:00-04:00"),
        ("Australia/Lord_Howe", "15 2 * * *", "2025-10-04T12:00Z", "2025-10-05T02:30:00+11:00"),
        ("Africa/Cairo", "30 0 * * *", "2025-04-24T12:00Z", "2025-04-25T01:00:00+03:00"),
        ("America/Havana", "@daily", "2025-03-08T12:00Z", "2025-03-09T01:00:00-04:00"),
        ("Asia/Beirut", "@midnight", "2025-03-29T12:00Z", "2025-03-30T01:00:00+03:00"),
        ("Pacific/Apia", "30 2 30 12 *", "2011-12-25T12:00Z", "2011-12-31T00:00:00+14:00"),
        ("Pacific/Kwajalein", "0 9 * * *", "1993-08-21T00:00Z", "1993-08-22T00:00:00+12:00"),
    ],
)
def test_a_time_the_clocks_skip_runs_at_the_first_valid_instant(
    zone: str, expression: str, after: str, expected: str
) -> None:
    assert shown(parse(expression, zone), after, 1) == [expected]


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00Z",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "Europe/Berlin",
            "0 1-3 * * *",
            "2026-10-24T22:00Z",
            ["2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2025-04-05T12:00Z",
            ["2025-04-06T01:45:00+11:00", "2025-04-07T01:45:00+10:30"],
        ),
        (
            "Africa/Cairo",
            "30 23 * * *",
            "2025-10-30T12:00Z",
            ["2025-10-30T23:30:00+03:00", "2025-10-31T23:30:00+02:00"],
        ),
        (
            "America/Havana",
            "0 0 * * *",
            "2025-11-01T12:00Z",
            ["2025-11-02T00:00:00-04:00", "2025-11-03T00:00:00-05:00"],
        ),
    ],
)
def test_a_repeated_hour_runs_a_fixed_time_once_at_the_first(
    zone: str, expression: str, after: str, expected: list[str]
) -> None:
    assert shown(parse(expression, zone), after, len(expected)) == expected


def test_a_fixed_time_is_not_due_again_from_within_the_second_of_two_equal_hours() -> None:
    cron = parse("30 2 * * *", "Europe/Berlin")
    assert shown(cron, "2026-10-25T02:10+01:00", 1) == ["2026-10-26T02:30:00+01:00"]


def test_an_interval_runs_in_both_of_two_equal_hours() -> None:
    cron = parse("*/30 * * * *", "Europe/Berlin")
    assert shown(cron, "2026-10-25T01:30+02:00", 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


def test_an_interval_is_due_at_the_very_moment_the_clocks_go_back() -> None:
    cron = parse("29,30 * * * *", "Australia/Lord_Howe")
    assert shown(cron, "2025-04-06T01:58+11:00", 2) == [
        "2025-04-06T01:30:00+10:30",
        "2025-04-06T02:29:00+10:30",
    ]


def test_an_interval_leaves_out_the_minutes_of_a_gap_and_runs_once_where_it_ends() -> None:
    after = "2026-03-29T01:00+01:00"
    hourly, quarter_past = (parse(f"{minute} * * * *", "Europe/Berlin") for minute in (0, 15))
    assert shown(hourly, after, 2) == ["2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]
    assert shown(quarter_past, after, 2) == ["2026-03-29T01:15:00+01:00", "2026-03-29T03:15:00+02:00"]
    half_an_hour_skipped = parse("0 * * * *", "Australia/Lord_Howe")
    assert shown(half_an_hour_skipped, "2025-10-05T01:00+10:30", 1) == ["2025-10-05T03:00:00+11:00"]


def test_a_day_that_the_date_line_took_is_stepped_over() -> None:
    every_second = parse("* * * * * *", "Pacific/Apia")
    daily = parse("30 2 * * *", "Pacific/Apia")
    assert shown(every_second, "2011-12-29T23:59:58-10:00", 2) == [
        "2011-12-29T23:59:59-10:00",
        "2011-12-31T00:00:00+14:00",
    ]
    assert shown(daily, "2011-12-29T00:00-10:00", 3) == [
        "2011-12-29T02:30:00-10:00",
        "2011-12-31T00:00:00+14:00",  # the run of the 30th, which never came
        "2011-12-31T02:30:00+14:00",
    ]


def test_one_schedule_in_two_spellings_has_the_same_due_times() -> None:
    spellings = ["0 */6 * * *", "0 0,6,12,18 * * *", "0 0-23/6 * * *"]
    due = [upcoming(parse(each, "Africa/Cairo"), instant("2025-04-24T00:00Z"), 9) for each in spellings]
    assert due[0] == due[1] == due[2]


def test_a_leap_day_is_found_years_ahead() -> None:
    cron = parse("0 0 29 2 *", "UTC")
    assert shown(cron, "2096-03-01T00:00Z", 2) == ["2104-02-29T00:00:00+00:00", "2108-02-29T00:00:00+00:00"]


def test_six_fields_have_seconds_last_and_say_so() -> None:
    cron = parse("30 2 * * * */20", "Europe/Berlin")
    assert shown(cron, "2026-10-25T02:29:59+02:00", 4) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:20+02:00",
        "2026-10-25T02:30:40+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    assert notes(cron) == [SIX_FIELDS]


@pytest.mark.parametrize("expression", ["0 9 13 * FRI", "0 9 */2 * MON-FRI", "0 9 L * MON"])
def test_a_note_says_that_either_kind_of_day_matches(expression: str) -> None:
    assert notes(parse(expression, "UTC")) == [
        "day of month and day of week are both given: it runs on days that match either"
    ]


@pytest.mark.parametrize("expression", ["0 9 * * FRI", "0 9 13 * *", "0 9 ? * FRI", "0 9 13 * ?", "@weekly"])
def test_an_expression_without_surprises_has_no_notes(expression: str) -> None:
    assert notes(parse(expression, "UTC")) == []


def test_white_space_is_normalised() -> None:
    assert parse("  0\t9  * *\u00a0MON \n", "UTC") == Cron("0 9 * * MON", "UTC") == parse("0 9 * * MON", "UTC")


@pytest.mark.parametrize(
    "expression",
    [
        *("@hourly", "@Daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"),
        *("0 9 * jan-mar,DEC mon-FRI", "10-50/15 22-4 1,15 * *", "5/15 * * * *", "0 0 15W * *", "0 0 31 * *"),
        *("0 0 ? * THU#2,THU#4", "0 0 * * L5", "0 0 * * 7", "0 0 * 2 MON#5"),
    ],
)
def test_what_cron_users_write_is_accepted(expression: str) -> None:
    assert len(upcoming(parse(expression, "Europe/Berlin"), START, 3)) == 3


FIVE_OR_SIX = "give five (minute, hour, day of month, month, day of week: '30 9 * * MON-FRI'), or six with seconds last"
DIFFERS = "uses H or R, which differ between processes; write numbers: '17 3 * * *'"
NEVER = "never runs: no date matches; correct its day or its month"
TWO_KINDS = "joins two kinds of day by W, # or L; make a schedule for each of them"
SIX_FIELDS = "six fields: the last one is seconds"
NICKNAMES = "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", f"'' has 0 fields; {FIVE_OR_SIX}"),
        (" \n", f"' \\n' has 0 fields; {FIVE_OR_SIX}"),
        ("0 9 * *", f"'0 9 * *' has 4 fields; {FIVE_OR_SIX}"),
        (
            "0 9 * * * 0 2027",
            "'0 9 * * * 0 2027' has seven fields, but a year is not supported; leave the last one out",
        ),
        ("*" * 201, f"'{'*' * 59}... is longer than 200 characters; shorten it"),
        ("@reboot", "'@reboot' names no time; give five fields or a name such as '@daily'"),
        ("@every 5m", f"'@every 5m' is no name we know; use {NICKNAMES} or five fields"),
        ("H * * * *", f"'H * * * *' {DIFFERS}"),
        ("h(0-29)/10 * * * *", f"'h(0-29)/10 * * * *' {DIFFERS}"),
        ("0 R * * *", f"'0 R * * *' {DIFFERS}"),
        ("0 0 30 2 *", f"'0 0 30 2 *' {NEVER}"),
        ("0 0 31 4,6,9,11 *", f"'0 0 31 4,6,9,11 *' {NEVER}"),
        ("0 9-9 * * *", "'0 9-9 * * *' has '9-9', which croniter reads as '*'; write '9' or '*'"),
        ("0 0 13 * FRI#2", f"'0 0 13 * FRI#2' {TWO_KINDS}"),
        ("0 0 15W * MON", f"'0 0 15W * MON' {TWO_KINDS}"),
        ("0 0 1 * L5", f"'0 0 1 * L5' {TWO_KINDS}"),
        ("99 * * * *", "'99 * * * *' has '99' for the minute, which takes 0-59; correct it"),
        ("*/0 * * * *", "'*/0 * * * *' has '*/0' for the minute, which takes 0-59; correct it"),
        ("\0 * * * *", "'\\x00 * * * *' has '\\x00' for the minute, which takes 0-59; correct it"),
        ("0 0 0 * *", "'0 0 0 * *' has '0' for the day of month, which takes 1-31 or L; correct it"),
        (
            "0 0 * ABC *",
            "'0 0 * ABC *' has 'ABC' for the month, which takes 1-12 or JAN-DEC; correct it",
        ),
        (
            "0 0 * * 1,2#2",
            "'0 0 * * 1,2#2' has '1,2#2' for the day of week, which takes 0-7 or SUN-SAT; correct it",
        ),
        (
            "0 30 9 * * *",
            f"'0 30 9 * * *' has '30' for the hour, which takes 0-23; correct it ({SIX_FIELDS})",
        ),
    ],
)
def test_a_bad_expression_is_refused_in_one_line(expression: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse(expression, "Europe/Berlin")
    assert str(refusal.value) == f"cron {message}"
    assert "\n" not in str(refusal.value)
    assert refusal.value.facts == {"field": "cron"}


@pytest.mark.parametrize(
    ("zone", "advice"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("GMT+2", "give a name such as 'Europe/Berlin' or 'UTC'"),
        ("PST", "give a name such as 'Europe/Berlin' or 'UTC'"),
        ("", "give a name such as 'Europe/Berlin' or 'UTC'"),
        ("localtime", "give a name such as 'Europe/Berlin' or 'UTC'"),
        ("../../etc/passwd", "give a name such as 'Europe/Berlin' or 'UTC'"),
        ("\0\n", "give a name such as 'Europe/Berlin' or 'UTC'"),
    ],
)
def test_an_unknown_zone_is_refused_and_never_read_as_utc(zone: str, advice: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse("0 9 * * *", zone)
    assert str(refusal.value) == f"timezone {zone!r} is not in the IANA database; {advice}"
    assert refusal.value.facts == {"field": "timezone"}
    with pytest.raises(InvalidInput, match="is not in the IANA database"):
        local_text(0, zone)


def test_a_very_long_zone_is_refused_briefly() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse("0 9 * * *", "x" * 1_000_000)
    assert len(str(refusal.value)) < 200


def test_local_text_shows_the_offset_of_its_instant() -> None:
    first, second = instant("2026-10-25T00:30Z"), instant("2026-10-25T01:30:00.999Z")
    assert local_text(first, "Europe/Berlin") == "2026-10-25T02:30:00+02:00"
    assert local_text(second, "Europe/Berlin") == "2026-10-25T02:30:00+01:00"


def test_a_due_time_is_after_but_never_at_its_bound() -> None:
    cron = parse("0 9 * * *", "UTC")
    nine = instant("2026-05-01T09:00Z")
    assert next_after(cron, nine - 1) == nine
    assert next_after(cron, nine) == nine + 86_400_000_000
    assert due_between(cron, nine - 1, nine - 1, limit=5) == []
    assert due_between(cron, nine - 1, nine, limit=5) == [nine]
    assert due_between(cron, nine, nine + 10 * 86_400_000_000, limit=2) == upcoming(cron, nine, 2)
    assert due_between(cron, nine, nine + 10 * 86_400_000_000, limit=0) == []


def test_nothing_is_due_after_the_end_of_the_calendar() -> None:
    cron = parse("0 0 29 2 *", "Europe/Berlin")
    assert next_after(cron, instant("9999-06-01T00:00Z")) is None
    assert next_after(cron, 10**30) is None
    assert upcoming(cron, instant("9990-01-01T00:00Z"), 9) == [
        instant("9992-02-28T23:00Z"),
        instant("9996-02-28T23:00Z"),
    ]


def test_a_search_is_not_disturbed_by_another_thread_that_searches_the_same_schedule() -> None:
    cron = parse("*/7 * * * *", "Europe/Berlin")
    undisturbed = upcoming(cron, START, 3)

    def another_thread_runs(_frame: object, _event: str, _arg: object) -> None:
        next_after(cron, END)

    sys.setprofile(another_thread_runs)  # at every call and return, where threads may change places
    try:
        disturbed = upcoming(cron, START, 3)
    finally:
        sys.setprofile(None)
    assert disturbed == undisturbed


# Properties. The instants lie around changes of the clocks, where the mistakes are.

CHANGES = [
    ("Europe/Berlin", "2025-03-30T01:00Z"),
    ("Europe/Berlin", "2025-10-26T01:00Z"),
    ("Europe/Dublin", "2025-10-26T01:00Z"),  # winter time is the saving one
    ("America/St_Johns", "2010-03-14T03:31Z"),  # at one minute past midnight
    ("Australia/Lord_Howe", "2025-04-05T15:00Z"),
    ("Australia/Lord_Howe", "2025-10-04T15:30Z"),
    ("Africa/Cairo", "2025-04-24T22:00Z"),
    ("Africa/Cairo", "2025-10-30T21:00Z"),
    ("Africa/Casablanca", "2025-02-23T02:00Z"),
    ("America/Havana", "2025-11-02T05:00Z"),
    ("Antarctica/Troll", "2025-03-30T01:00Z"),  # changes by two hours
    ("Antarctica/Troll", "2025-10-26T01:00Z"),
    ("America/Caracas", "2016-05-01T07:00Z"),
    ("Asia/Pyongyang", "2015-08-14T15:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"),
    ("UTC", "2025-03-30T01:00Z"),
]


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, Micros]:
    zone, change = draw(st.sampled_from(CHANGES))
    seconds = draw(st.integers(-7_500, 7_500) | st.integers(-90_000, 90_000))
    return zone, instant(change) + seconds * 1_000_000 + draw(st.integers(0, 999_999))


def value_sets(count: int, most: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, count - 1), min_size=1, max_size=most)


hour_sets = st.one_of(st.just(ALL_HOURS), value_sets(24, 24))


def listed(values: frozenset[int]) -> str:
    return ",".join(map(str, sorted(values)))


@settings(deadline=None)
@given(moments(), value_sets(60, 4), hour_sets)
def test_any_minutes_and_hours_are_due_as_the_watched_clock_says(
    moment: tuple[str, Micros], minutes: frozenset[int], hours: frozenset[int]
) -> None:
    zone, start = moment
    start -= start % 60_000_000
    end = start + 86_400_000_000
    # The watch begins a day early: what the clock had reached by `start` is part of the question.
    expected = matches(watch(zone, start - 86_400_000_000, end), minutes, hours, any_day)
    due = due_between(parse(f"{listed(minutes)} {listed(hours)} {EVERY_DAY}", zone), start, end, limit=10_000)
    assert due == [each for each in expected if each > start]


def expressions() -> st.SearchStrategy[str]:
    minute = st.sampled_from(["*", "*/5", "*/30", "0", "30", "1,31,59", "10-20"])
    hour = st.sampled_from(["*", "*/2", "0", "1", "2", "3", "23", "0-4", "22-3"])
    day = st.sampled_from(["*", "1", "30", "L", "*/2"])
    weekday = st.sampled_from(["*", "SUN", "1-5"])
    second = st.sampled_from(["", "0", "*/20", "59"])
    return st.builds(lambda *fields: " ".join(fields).strip(), minute, hour, day, st.just("*"), weekday, second)


@settings(deadline=None)
@given(expressions(), moments())
def test_due_times_rise_and_each_is_the_next_after_any_instant_since_the_one_before(
    expression: str, moment: tuple[str, Micros]
) -> None:
    zone, start = moment
    cron = parse(expression, zone)
    due = upcoming(cron, start, 20)
    assert due[0] > start
    assert all(earlier < later for earlier, later in pairwise(due))
    for earlier, later in zip([start, *due], due, strict=False):
        assert {next_after(cron, each) for each in (earlier, (earlier + later) // 2, later - 1)} == {later}


@settings(deadline=None)
@given(expressions(), moments(), st.integers(0, 30), st.integers(-60, 86_400 * 3))
def test_what_is_due_between_two_instants_is_what_next_after_walks_through(
    expression: str, moment: tuple[str, Micros], limit: int, span: int
) -> None:
    zone, start = moment
    cron, until = parse(expression, zone), start + span * 1_000_000

    def walked() -> Iterator[Micros]:
        due = next_after(cron, start)
        while due is not None and due <= until:
            yield due
            due = next_after(cron, due)

    assert due_between(cron, start, until, limit) == [due for due, _ in zip(walked(), range(limit), strict=False)]


cron_like = st.lists(
    st.text("0123456789*/-,#?@LWRH", min_size=1, max_size=6)
    | st.sampled_from(["*", "0", "MON", "JAN", "L5", "1#2", "15W", "1-L", "*/7", "5/2", "\0", "٣", "l"]),
    min_size=4,
    max_size=7,
).map(" ".join)


@settings(deadline=None, max_examples=500)
@given(cron_like | st.text(max_size=LONGEST_EXPRESSION + 1), st.sampled_from(ZONES) | st.text(max_size=80))
def test_any_text_is_either_a_schedule_that_runs_or_refused_in_one_line(text: str, zone: str) -> None:
    try:
        cron = parse(text, zone)
    except InvalidInput as refusal:
        message = str(refusal)
    else:
        message = ""
        assert parse(cron.expression, cron.timezone) == cron
        assert next_after(cron, START) is not None
    assert len(message) < 300
    assert "\n" not in message
