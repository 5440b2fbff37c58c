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
