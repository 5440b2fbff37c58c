"""The bounds on damage, and the rate of each principal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from taskqueue_mcp.errors import LimitReached


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings that bound what one caller or one loop can do; every field has a default."""

    max_attempts: int = 3
    depth: int = 8
    children: int = 50
    tasks_per_root: int = 500
    open_tasks_per_queue: int = 10_000
    body_bytes: int = 262_144
    json_depth: int = 32
    title_length: int = 500
    tags: int = 20
    dependencies: int = 50
    creates_per_minute: int = 60_000
    missed_runs: int = 24
    longest_lease_seconds: int = 86_400
    longest_wait_seconds: int = 50
    quota_days: float = 7.0


@dataclass(slots=True)
class Rates:
    """A token bucket a principal, in this process: a minute's worth of creates at once, refilled evenly."""

    per_minute: int
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def spend(self, principal: str) -> None:
        """Count one create.

        Raises:
            LimitReached: the principal has used up its rate.
        """
        now = time.monotonic()
        level, at = self._buckets.get(principal, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - at) * self.per_minute / 60)
        if level < 1:
            wait = (1 - level) * 60 / self.per_minute
            raise LimitReached(
                f"{principal} has created {self.per_minute} tasks within a minute; call again in {wait:.1f} s",
                retry_after=round(wait, 1),
            )
        self._buckets[principal] = (level - 1, now)
