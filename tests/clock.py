"""The clock that tests turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = "2026-01-15T12:00:00Z"


def micros(instant: str) -> int:
    """Read an ISO 8601 instant with an offset as microseconds since the epoch."""
    return (datetime.fromisoformat(instant) - EPOCH) // timedelta(microseconds=1)


class Clock:
    """Stands still until a test moves it, forwards or backwards; call it for microseconds since the epoch."""

    def __init__(self, instant: str = START) -> None:
        self.micros = micros(instant)

    def __call__(self) -> int:
        return self.micros

    def advance(self, seconds: float) -> int:
        """Move by so many seconds (back, when they are negative) and return where it stands then."""
        self.micros += round(seconds * 1_000_000)
        return self.micros

    def set(self, instant: str | int) -> int:
        """Move to an ISO 8601 instant, or to microseconds since the epoch."""
        self.micros = micros(instant) if isinstance(instant, str) else instant
        return self.micros
