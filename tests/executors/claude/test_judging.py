"""What became of a session: from event streams recorded of the real Claude Code, and from what a process leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskqueue_mcp.executors.claude.hearing import Heard
from taskqueue_mcp.executors.claude.judging import Kind, judge
from taskqueue_mcp.executors.claude.session import Ended, Ending

RECORDED = Path(__file__).parent / "recorded"
NOW = datetime(2026, 11, 20, 20, 8, tzinfo=UTC)
IN_FIVE_MINUTES = round((NOW.timestamp() + 300) * 1_000_000)
RESET = 1_795_212_000 * 1_000_000


def ended(name: str | None = None, ending: Ending = Ending.BY_ITSELF, **given: Any) -> Ended:
    heard = Heard()
    for line in (RECORDED / f"{name}.jsonl").read_text().splitlines() if name else ():
        heard.take(json.loads(line))
    return Ended(ending, heard, **{"exit_code": 1, **given})


def verdict(found: Ended) -> tuple[Kind, str, int | None]:
    judged = judge(found, NOW, seconds=60, quiet_seconds=9)
    assert "\n" not in judged.why
    return judged.kind, judged.why, judged.resume_at


@pytest.mark.parametrize(
    ("name", "kind", "why", "resume_at"),
    [
        ("done", Kind.DONE, "", None),
        ("five_hour_limit", Kind.QUOTA, "You've hit your 5-hour limit · resets 10pm (UTC)", RESET),
        ("weekly_limit_without_credits", Kind.QUOTA, "You've hit your weekly limit", RESET),
        ("limit_of_an_api_key", Kind.QUOTA, "API Error: Request rejected (429)", IN_FIVE_MINUTES),
        ("no_credit", Kind.SPENT, "Credit balance is too low", None),
        ("spending_limit", Kind.SPENT, "API Error: 400 You have reached your specified API usage limits", None),
        ("refused_key", Kind.LOG_IN, "Invalid API key", None),
        ("overloaded", Kind.BROKEN, "API Error: 529 Overloaded", None),
        ("server_error", Kind.BROKEN, "API Error: 500", None),
        ("broken_off", Kind.BROKEN, "API Error: API returned an empty or malformed response", None),
        ("refusal", Kind.REFUSED, "Claude refused: I can't help with that.", None),
        ("unknown_model", Kind.WRONG, "There's an issue with the selected model (nosuch)", None),
        ("turns_used_up", Kind.BROKEN, "Claude used up its turns", None),
        ("budget_used_up", Kind.BUDGET, "Reached maximum budget ($1)", None),
    ],
)
def test_every_end_of_a_session_has_one_readable_reason(name: str, kind: Kind, why: str, resume_at: int | None) -> None:
    found = verdict(ended(name))

    assert (found[0], found[2]) == (kind, resume_at)
    assert found[1].startswith(why)


def test_the_structured_event_says_when_a_limit_ends_whatever_the_words_say() -> None:
    heard = Heard()
    heard.take({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": RESET // 1_000_000}})
    text = "You've hit your 5-hour limit · resets 9am (UTC)"
    heard.take({"type": "result", "subtype": "success", "is_error": True, "api_error_status": 429, "result": text})

    assert verdict(Ended(Ending.BY_ITSELF, heard, 1)) == (Kind.QUOTA, text, RESET)


def test_without_an_event_the_words_say_when_a_limit_ends() -> None:
    heard = Heard()
    text = "You've hit your 5-hour limit · resets 10pm (UTC)"
    heard.take({"type": "result", "subtype": "success", "is_error": True, "api_error_status": 429, "result": text})

    assert verdict(Ended(Ending.BY_ITSELF, heard, 1))[2] == RESET


def test_a_limit_that_is_over_again_does_not_count() -> None:
    heard = Heard()
    for status in ("rejected", "allowed"):
        heard.take({"type": "rate_limit_event", "rate_limit_info": {"status": status}})
    heard.take({"type": "result", "subtype": "success", "is_error": True, "api_error_status": 500, "result": "broken"})

    assert verdict(Ended(Ending.BY_ITSELF, heard, 1))[0] is Kind.BROKEN


@pytest.mark.parametrize(
    ("ending", "kind", "why"),
    [
        (Ending.STOPPED, Kind.STOPPED, "stopped before Claude was done"),
        (Ending.TIMED_OUT, Kind.BROKEN, "timed out after 60 s; give it longer with timeout_seconds"),
        (Ending.WENT_QUIET, Kind.BROKEN, "Claude said nothing for 9 s, so it was ended; the model or a tool hangs"),
    ],
)
def test_a_session_that_was_ended_says_by_what_even_if_it_had_a_result(ending: Ending, kind: Kind, why: str) -> None:
    found = verdict(ended("done", ending))

    assert found == (kind, why, None)


@pytest.mark.parametrize(
    ("left", "kind", "why"),
    [
        (
            {"exit_code": 0, "last_words": ("Usage: claude [options]",)},
            Kind.BROKEN,
            "Claude Code ended (exit 0) without a result: Usage: claude [options]",
        ),
        ({"exit_code": 3}, Kind.BROKEN, "Claude Code ended (exit 3) without a result; its log has nothing more"),
        ({"exit_code": -9}, Kind.BROKEN, "Claude Code was ended from outside; its log has nothing more"),
        (
            {"last_words": ("No conversation found with session ID: 0",)},
            Kind.GONE,
            "the session is not on this machine any more",
        ),
    ],
)
def test_a_process_without_a_result_leaves_its_last_words(left: dict[str, Any], kind: Kind, why: str) -> None:
    assert verdict(ended(**left)) == (kind, why, None)
