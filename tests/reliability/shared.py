"""Numbers that every process of a test shares and the test sets: clocks, and the room that is left on a disk."""

from __future__ import annotations

import mmap
from pathlib import Path

from taskqueue_mcp.store.sqlite import wall_clock
from tests.reliability.disk import FULL, OK, Disk, Do, Step

SIZE = 8
PLENTY = 1 << 50


class Shared:
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


class JumpingClock(Shared):
    """Goes on like the machine's clock, so many microseconds before or behind it."""

    def __call__(self) -> int:
        return wall_clock() + self.number

    def set_off_by(self, seconds: int) -> None:
        """Jump to so many seconds after the machine's clock, or before it."""
        self.number = seconds * 1_000_000


class StandingClock(Shared):
    """Stands still until the test moves it."""

    def __call__(self) -> int:
        return self.number

    def set(self, micros: int) -> None:
        self.number = micros


class Room(Shared):
    """How many bytes the files of a queue may still grow by, for the processes with a `small_disk`."""

    def fill(self, left: int) -> None:
        self.number = left

    def free(self) -> None:
        self.number = PLENTY

    def small_disk(self) -> None:
        """Let every write of this process that finds no room fail as it does on a full disk; there is no way back."""
        Disk(self._take)

    def _take(self, step: Step) -> int:
        if step.do is not Do.WRITE:
            return OK
        growth = step.offset + len(step.data) - Path(step.path).stat().st_size
        if growth > self.number:
            return FULL
        if growth > 0 and self.number < PLENTY:  # else a fill from elsewhere might be undone
            self.number -= growth
        return OK
