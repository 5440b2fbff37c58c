"""What comes in from outside is text until it was looked at here. Each refusal names the argument."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from enum import StrEnum

    from taskqueue_mcp.model import Micros

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,99}")
TASK_ID = re.compile(r"(?:[Tt]-)?([1-9][0-9]{0,17})")
RELATIVE = re.compile(r"(?:in\s+)?\+?(\d{1,6})\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)", re.IGNORECASE)
UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
SURROGATE = re.compile("[\ud800-\udfff]")
SHOWN = 60
YEAR_2000 = 946_684_800_000_000
YEAR_9000 = 221_845_392_000_000_000


def text(name: str, value: str, longest: int | None = None) -> str:
    """Return `value` unless it holds what a database or a terminal cannot carry.

    Raises:
        InvalidInput: it holds a NUL or a lone surrogate, or is too long.
    """
    if "\0" in value:
        raise InvalidInput(f"{name}: holds a NUL character; remove it")
    if not value.isascii() and SURROGATE.search(value):
        raise InvalidInput(f"{name}: holds half of a surrogate pair, which is no Unicode text; send it as UTF-8")
    if longest is not None and len(value) > longest:
        raise InvalidInput(f"{name}: {len(value):,} characters; at most {longest:,} are allowed")
    return value


def name(argument: str, value: str) -> str:
    """Return a plain name: letters, digits and `_.:/@+-`, at most 100 characters.

    Raises:
        InvalidInput: it is something else.
    """
    if NAME.fullmatch(value) is None:
        raise InvalidInput(
            f"{argument}: {_shown(value)} is not a name; use letters, digits and _ . : / @ + - (at most 100)"
        )
    return value


def label(argument: str, value: str, longest: int = 200) -> str:
    """Return a one-line text without control characters (a tag, a worker's name, a key).

    Raises:
        InvalidInput: it is empty, too long, or holds control characters.
    """
    text(argument, value, longest)
    if not value.strip():
        raise InvalidInput(f"{argument}: is empty")
    if not value.isprintable():
        raise InvalidInput(f"{argument}: holds control characters; use one line of plain text")
    return value


def task_id(value: str | int, argument: str = "task_id") -> int:
    """Read `T-142` or `142`.

    Raises:
        InvalidInput: it is neither.
    """
    match = TASK_ID.fullmatch(str(value).strip())
    if match is None:
        raise InvalidInput(f"{argument}: {_shown(str(value))} is not a task id; it looks like T-142")
    return int(match[1])


def one_of(argument: str, value: str, choices: type[StrEnum]) -> Any:
    """Return the member of `choices` that `value` names.

    Raises:
        InvalidInput: none.
    """
    try:
        return choices(value.strip().lower())
    except ValueError:
        known = ", ".join(member.value for member in choices)
        raise InvalidInput(f"{argument}: {_shown(value)} is not one of {known}") from None


def document(argument: str, value: Any, deepest: int) -> str | None:
    """Return JSON text as it came in, or the JSON text of an object; None stays None.

    Raises:
        InvalidInput: it is not JSON, nested too deeply, or holds what cannot be stored.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"{argument}: cannot be written as JSON ({error})") from None
    text(argument, value)
    try:
        parsed = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f'{argument}: is not JSON ({error}); send JSON text such as {{"threshold": 10}}') from None
    _strings(argument, parsed, deepest)
    return str(value)


def json_object(argument: str, value: Any, deepest: int) -> dict[str, Any]:
    """Return a JSON object, given as one or as text; None is an empty one.

    Raises:
        InvalidInput: it is something else.
    """
    written = document(argument, value, deepest)
    if written is None:
        return {}
    parsed = json.loads(written)
    if not isinstance(parsed, dict):
        raise InvalidInput(f'{argument}: must be a JSON object such as {{"threshold": 10}}')
    return parsed


def instant(argument: str, value: str, zone: str, now: Micros) -> Micros:
    """Read ISO 8601 (without an offset: in `zone`), or a wait such as `in 10 minutes`.

    Raises:
        InvalidInput: it is neither, or far out of range.
    """
    relative = RELATIVE.fullmatch(value.strip())
    if relative is not None:
        return now + int(relative[1]) * UNIT[relative[2][0].lower()] * 1_000_000
    try:
        read = datetime.fromisoformat(value.strip())
    except ValueError:
        raise InvalidInput(
            f"{argument}: {_shown(value)} is not a time; use ISO 8601 (2026-11-20T07:00:00Z) or a wait such as 10m"
        ) from None
    if read.tzinfo is None:
        read = read.replace(tzinfo=ZoneInfo(zone))
    micros = round((read - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
    if not YEAR_2000 <= micros <= YEAR_9000:
        raise InvalidInput(f"{argument}: {_shown(value)} is out of range; use a year between 2000 and 9000")
    return micros


def _strings(argument: str, value: Any, deepest: int, depth: int = 1) -> None:
    if isinstance(value, str):
        text(argument, value)
    elif isinstance(value, dict | list):
        if depth > deepest:
            raise InvalidInput(f"{argument}: JSON is nested deeper than {deepest} levels; make it flatter")
        for item in value.items() if isinstance(value, dict) else enumerate(value):
            _strings(argument, item[1], deepest, depth + 1)
            if isinstance(item[0], str):
                text(argument, item[0])


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _shown(value: str) -> str:
    shortened = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return ascii(shortened) if not shortened.isprintable() else f"'{shortened}'"
