"""When a usage limit is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from taskqueue_mcp.executors.claude.resets import in_words, resume_at

NOW = datetime(2026, 11, 20, 20, 8, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("You've hit your 5-hour limit · resets 10pm (UTC)", "2026-11-20T22:00:00+00:00"),
        ("You've hit your limit · resets 9:38pm (Europe/Berlin)", "2026-11-20T21:38:00+01:00"),
        ("resets 3pm (Europe/Berlin)", "2026-11-21T15:00:00+01:00"),
        ("limit · resets Nov 21, 8:46pm (UTC)", "2026-11-21T20:46:00+00:00"),
        ("limit reached, resets at 3am", "2026-11-21T03:00:00+01:00"),
        ("Your limit resets Jan 2, 1am (UTC).", "2027-01-02T01:00:00+00:00"),
        ("usage limit reached, resets in 2h 5m", "2026-11-20T22:13:00+01:00"),
        ("Claude AI usage limit reached|1795212000", "2026-11-20T22:00:00+00:00"),
        ("Claude AI usage limit reached|1795212000000", "2026-11-20T22:00:00+00:00"),
    ],
)
def test_the_words_for_people_are_read(text: str, at: str) -> None:
    assert in_words(text, NOW) == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    "text", ["", "no limit", "it resets whenever it likes", "resets (UTC)", "resets 99pm (Mars/Base)"]
)
def test_words_that_name_no_time_are_none(text: str) -> None:
    assert in_words(text, NOW) is None


@pytest.mark.parametrize("told", [None, "soon", True, -1, 0, float("nan"), {"a": 1}])
def test_an_event_without_a_time_leaves_it_to_the_words(told: object) -> None:
    assert resume_at({"resetsAt": told}, "", NOW) is None


def test_a_limit_whose_end_is_past_is_tried_again_soon_and_one_of_months_was_misread() -> None:
    past = resume_at({"resetsAt": NOW.timestamp() - 3_600}, "", NOW)
    far = resume_at({"resetsAt": (NOW + timedelta(days=90)).timestamp()}, "", NOW)

    assert past == round((NOW + timedelta(seconds=30)).timestamp() * 1_000_000)
    assert far is None


def test_milliseconds_and_seconds_are_told_apart() -> None:
    at = datetime(2026, 11, 20, 22, tzinfo=UTC).timestamp()

    assert resume_at({"resetsAt": at}, "", NOW) == resume_at({"resetsAt": at * 1_000}, "", NOW) == round(at * 1e6)
