"""What became of a session, in one readable line: done, used up, refused, cut off, or gone wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.executors.claude import resets
from taskqueue_mcp.executors.claude.session import Ending

if TYPE_CHECKING:
    from datetime import datetime

    from taskqueue_mcp.executors.claude.session import Ended
    from taskqueue_mcp.model import Micros

MICROS: Final = 1_000_000
UNKNOWN_RESET: Final = 300
"""Seconds until a limit of unknown length is tried again: those of an API key last a minute, not hours."""
LONGEST_WHY: Final = 500

_SPENT: Final = re.compile(
    r"credit balance|spend(?:ing)? limit|out of (?:usage )?credits|specified API usage limits|billing", re.IGNORECASE
)
_LIMIT: Final = re.compile(r"hit your .{0,40}limit|usage limit reached|rate limit", re.IGNORECASE)
_GONE: Final = re.compile(r"No conversation found with session ID", re.IGNORECASE)


class Kind(StrEnum):
    """What a session came to."""

    DONE = "done"
    STOPPED = "stopped"
    QUOTA = "quota"
    SPENT = "spent"
    BUDGET = "budget"
    LOG_IN = "log in"
    GONE = "gone"
    REFUSED = "refused"
    WRONG = "wrong"
    BROKEN = "broken"
    """Like `WRONG`, but trying again may mend it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is a line for people; `resume_at` stands where a limit says when it ends."""

    kind: Kind
    why: str = ""
    resume_at: Micros | None = None


def judge(ended: Ended, now: datetime, *, seconds: float, quiet_seconds: float) -> Verdict:
    """Return what became of a session; every way in which one can end has its own words."""
    match ended.ending:
        case Ending.STOPPED:
            return Verdict(Kind.STOPPED, "stopped before Claude was done")
        case Ending.TIMED_OUT:
            return Verdict(Kind.BROKEN, f"timed out after {seconds:g} s; give it longer with timeout_seconds")
        case Ending.WENT_QUIET:
            why = f"Claude said nothing for {quiet_seconds:g} s, so it was ended; the model or a tool hangs"
            return Verdict(Kind.BROKEN, why)
        case Ending.BY_ITSELF:
            result = ended.heard.result
            return _without_result(ended) if result is None else _of_result(ended, result, now)


def _without_result(ended: Ended) -> Verdict:
    said = _line(" / ".join(ended.last_words))
    if _GONE.search(said):
        return Verdict(Kind.GONE, "the session is not on this machine any more")
    code = ended.exit_code
    how = "was ended from outside" if code is not None and code < 0 else f"ended (exit {code}) without a result"
    return Verdict(Kind.BROKEN, f"Claude Code {how}" + (f": {said}" if said else "; its log has nothing more"))


def _of_result(ended: Ended, result: dict[str, Any], now: datetime) -> Verdict:
    heard = ended.heard
    text = _line(str(result.get("result") or " / ".join(map(str, result.get("errors") or ())) or heard.last_text))
    if not result.get("is_error") and result.get("subtype") == "success":
        return Verdict(Kind.DONE)
    if _GONE.search(" ".join((text, *ended.last_words))):
        return Verdict(Kind.GONE, "the session is not on this machine any more")
    match result.get("subtype"):
        case "error_max_budget_usd":
            return Verdict(Kind.BUDGET, text)
        case "error_max_turns":
            turns = result.get("num_turns")
            return Verdict(
                Kind.BROKEN, f"Claude used up its turns ({turns}) without an end; it may be going in circles"
            )
        case "error_max_structured_output_retries":
            return Verdict(
                Kind.BROKEN, "Claude gave no result in the form of output_schema, however often it was asked"
            )
        case _:
            return _of_error(ended, result, text, now)


def _of_error(ended: Ended, result: dict[str, Any], text: str, now: datetime) -> Verdict:
    heard, status = ended.heard, result.get("api_error_status")
    if heard.fault == "billing_error" or _SPENT.search(text):
        return Verdict(Kind.SPENT, text)
    if _is_limit(ended, result, text):
        at = resets.resume_at(heard.limit, text, now) or round((now.timestamp() + UNKNOWN_RESET) * MICROS)
        return Verdict(Kind.QUOTA, text, at)
    if heard.fault == "authentication_failed" or status in {401, 403}:
        return Verdict(Kind.LOG_IN, text)
    if result.get("stop_reason") == "refusal" or heard.was_refused:
        return Verdict(Kind.REFUSED, f"Claude refused: {_line(heard.last_text or text)}")
    # What the client did wrong stays wrong; 408 is a time-out of the way there.
    is_ours = isinstance(status, int) and 400 <= status < 500 and status != 408  # noqa: PLR2004 - HTTP
    return Verdict(Kind.WRONG if is_ours else Kind.BROKEN, text or "Claude Code reported an error and no reason")


def _is_limit(ended: Ended, result: dict[str, Any], text: str) -> bool:
    status = result.get("api_error_status")
    is_said = ended.heard.limit is not None or ended.heard.fault == "rate_limit" or status == 429  # noqa: PLR2004 - HTTP
    return (
        is_said
        or result.get("api_error") == "usage_limit_reached"
        or (status is None and _LIMIT.search(text) is not None)
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_WHY]
