"""Clocks that every process of a test shares and the test sets."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from taskqueue_mcp.store.sqlite import wall_clock

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 8


class _Shared:
    """A number in a file that is mapped into every process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), SIZE)

    @property
    def number(self) -> int:
        return int.from_bytes(self._memory[:SIZE], "little", signed=True)

    @number.setter
    def number(self, value: int) -> None:
        self._memory[:SIZE] = value.to_bytes(SIZE, "little", signed=True)


class JumpingClock(_Shared):
    """Goes on like the machine's clock, so many microseconds before or behind it."""

    def __call__(self) -> int:
        return wall_clock() + self.number

    def set_off_by(self, seconds: int) -> None:
        """Jump to so many seconds after the machine's clock, or before it."""
        self.number = seconds * 1_000_000


class StandingClock(_Shared):
    """Stands still until the test moves it."""

    def __call__(self) -> int:
        return self.number

    def set(self, micros: int) -> None:
        self.number = micros
