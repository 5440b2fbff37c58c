"""How long to wait before trying again. Pure: chance comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """Double the wait after every failure, from `first_seconds` up to `longest_seconds`."""

    first_seconds: float = 10.0
    longest_seconds: float = 3_600.0
    jitter: float = 0.25

    def delay(self, failures: int, chance: float) -> int:
        """Return the wait in microseconds after the `failures`-th failure; `chance` in [0, 1) spreads it."""
        seconds = min(self.first_seconds * 2.0 ** min(failures - 1, 32), self.longest_seconds)
        return round(seconds * (1 + self.jitter * chance) * SECOND)


@dataclass(frozen=True, slots=True)
class Reopening:
    """When a closed gate lets somebody try: when the limit is over, a little later each time that it was not."""

    first_seconds: float = 60.0
    longest_seconds: float = 3_600.0
    spread: float = 0.1
    longest_spread_seconds: float = 30.0
    probe_seconds: float = 300.0
    stranger_seconds: float = 900.0

    def opens_at(self, resume_at: int, now: int, waits: int, chance: float) -> int:
        """Return the instant in microseconds; `waits` counts closings in a row, `chance` in [0, 1) spreads it."""
        least = 0.0
        if waits > 1:
            least = min(self.first_seconds * 2.0 ** min(waits - 2, 32), self.longest_seconds)
        opens_at = max(resume_at, now + round(least * SECOND))
        spread = min((opens_at - now) * self.spread, self.longest_spread_seconds * SECOND)
        return opens_at + round(spread * chance)
