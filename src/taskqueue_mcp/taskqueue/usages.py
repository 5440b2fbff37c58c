"""What an attempt says that it has used: read once, kept as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import checks
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.store import attempts

if TYPE_CHECKING:
    from taskqueue_mcp.taskqueue.limits import Limits

USAGE_KEYS = frozenset(
    {
        "cost_usd",
        "tokens",
        "turns",
        "session_id",
        "account",
        "input_tokens",
        "output_tokens",
        "model",
        "duration_seconds",
    }
)
COUNTED = USAGE_KEYS - {"session_id", "account", "model"}
MOST_USED = 10**12


def read(value: Any, limits: Limits) -> str | None:
    """Return usage as it is stored.

    Raises:
        InvalidInput: a key is unknown, or an amount is no number.
    """
    usage = checks.json_object("usage", value, limits.json_depth)
    unknown = sorted(set(usage) - USAGE_KEYS)
    if unknown:
        raise InvalidInput(f"usage: unknown {', '.join(unknown)}; known are {', '.join(sorted(USAGE_KEYS))}")
    return attempts.as_usage({key: _counted(key, value) if key in COUNTED else value for key, value in usage.items()})


def _counted(key: str, value: Any) -> Any:
    """Return a number, also from text: a budget must not overlook what somebody has spent."""
    if value is None:
        return None
    try:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number < MOST_USED:
        raise InvalidInput(f"usage.{key}: must be a number from 0, what the attempt has used in all so far")
    return number


def as_told(text: str | None) -> dict[str, Any]:
    """Return stored usage as what it says."""
    found = {} if text is None else json.loads(text)
    return found if isinstance(found, dict) else {}
