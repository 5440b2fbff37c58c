"""When a usage limit is over: from what the event says, and only where it says nothing, from the words for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil import parser as dates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.model import Micros

LONGEST: Final = timedelta(days=32)
"""A limit that is said to last longer was misread."""
SOONEST: Final = timedelta(seconds=30)
"""A limit whose end is past is tried again after this time."""
MICROS: Final = 1_000_000
MILLISECONDS: Final = 1e11
"""From here on a number since the epoch is of milliseconds, not of seconds."""
LATEST: Final = 1e14

_EPOCH: Final = re.compile(r"\|\s*(\d{10})(?:\d{3})?\b")
_WORDS: Final = re.compile(
    r"\bresets?\b(?:\s+(?:at|on|in))?\s+(?P<when>[^()\n·|]{1,40}?)\s*(?:\((?P<zone>[A-Za-z_+\-/0-9]{1,40})\)|[.·|\n]|$)",
    re.IGNORECASE,
)
_WAIT: Final = re.compile(r"^(?:(\d+)\s*d\w*)?\s*(?:(\d+)\s*h\w*)?\s*(?:(\d+)\s*m\w*)?$", re.IGNORECASE)


def resume_at(limit: Mapping[str, Any] | None, text: str, now: datetime) -> Micros | None:
    """Return the instant at which work can go on, None where nothing says; `now` is aware."""
    told = _epoch((limit or {}).get("resetsAt")) or in_words(text, now)
    if told is None or told - now > LONGEST:
        return None
    return round(max(told, now + SOONEST).timestamp() * MICROS)


def in_words(text: str, now: datetime) -> datetime | None:
    """Read `resets 3pm (Europe/Berlin)`, `resets Nov 21, 8:46pm (UTC)`, `resets in 2h 5m` or an epoch after `|`."""
    if (epoch := _EPOCH.search(text)) is not None:
        return _epoch(int(epoch[1]))
    found = _WORDS.search(text)
    if found is None:
        return None
    when = found["when"].strip().removesuffix(",")
    if (wait := _WAIT.match(when)) is not None and any(wait.groups()):
        days, hours, minutes = (int(part or 0) for part in wait.groups())
        return now + timedelta(days=days, hours=hours, minutes=minutes)
    local = now.astimezone(_zone(found["zone"], now))
    try:
        told = dates.parse(when, default=local.replace(hour=0, minute=0, second=0, microsecond=0))
    except (ValueError, OverflowError):
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=local.tzinfo)
    if told <= now - timedelta(minutes=1) and told > now - timedelta(days=1):
        told += timedelta(days=1)  # a time of day that is over today is tomorrow's
    elif told <= now - timedelta(days=1):
        told = told.replace(year=told.year + 1)  # and a date that is over is next year's
    return told


def _epoch(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LATEST:
        return None
    return datetime.fromtimestamp(value / 1_000 if value > MILLISECONDS else value, UTC)


def _zone(name: str | None, now: datetime) -> Any:
    try:
        return ZoneInfo(name) if name else now.tzinfo
    except (ZoneInfoNotFoundError, ValueError):
        return now.tzinfo
