"""Everything that an attempt has started, wherever it went: found by a mark that no process can take off.

A child that makes a session of its own, is orphaned on purpose and clears its environment is in no group and under no
parent that we know. What it cannot do is raise a resource limit, so the mark is one: the number of file locks, which
Linux has not looked at since version 2.4, and which every process inherits. The mark names the worker (by its number
and the moment it started, so that a number that is used again means nobody) and one attempt of it. A worker adopts what
its attempts orphan (`PR_SET_CHILD_SUBREAPER`), so that a look at its own children finds it.

Elsewhere than on Linux there are no marks: a process ends with its group.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC: Final = Path("/proc")
LOCKS: Final = b"Max file locks"
START_BITS: Final = 31
SERIAL_BITS: Final = 10
"""With the 22 bits of a process number, 63 in all."""
LAST_SECONDS: Final = 2.0
"""How long what was killed may take to be gone; a process in uninterruptible sleep dies when it wakes."""
PAUSE: Final = 0.002
PR_SET_CHILD_SUBREAPER: Final = 36
ON_LINUX: Final = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the processes of one attempt carry."""

    pid: int
    started: int
    serial: int

    @property
    def number(self) -> int:
        """The mark as a resource limit."""
        return ((self.pid << START_BITS) | self.started) << SERIAL_BITS | self.serial

    @classmethod
    def of(cls, number: int) -> Mark:
        """Return the mark that a limit is."""
        worker, serial = divmod(number, 1 << SERIAL_BITS)
        pid, started = divmod(worker, 1 << START_BITS)
        return cls(pid, started, serial)


class Owner(NamedTuple):
    """One process, in a namespace of numbers; `started` is 0 where that cannot be told."""

    namespace: int
    pid: int
    started: int

    def lives(self) -> bool:
        """Whether there is the process of that number that began then."""
        return _started(self.pid) == self.started


class Marks:
    """Hands out the marks of this process, and ends what carries them."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._started = _started(self._pid) or 0
        self._serial = 0

    @property
    def owner(self) -> Owner:
        """This process, as what it makes is named for."""
        return Owner(_namespace(self._pid) or 0, self._pid, self._started)

    def adopt(self) -> None:
        """Become the parent of whatever is orphaned below this process, where the system can do that."""
        if ON_LINUX:
            import ctypes  # noqa: PLC0415 - only a worker needs it

            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def next(self) -> Mark | None:
        """Return a mark for the next attempt; None where there are none."""
        if not ON_LINUX or not self._started:
            return None
        self._serial = (self._serial + 1) % (1 << SERIAL_BITS)
        return Mark(self._pid, self._started, self._serial)

    def has_strays(self, mark: Mark) -> bool:
        """Whether this process has adopted what carries `mark`: cheap enough to ask after every attempt."""
        return bool(self._adopted(mark))

    def end(self, mark: Mark) -> int:
        """Kill what carries `mark` and return how many that were; blocks until they are gone, for moments."""
        killed: set[int] = set()
        until = time.monotonic() + LAST_SECONDS
        while adopted := self._adopted(mark):
            for pid in adopted:
                if not _reaped(pid):
                    killed.update(each for each in (*_below(pid), pid) if _kill(each, mark))
            if time.monotonic() > until:
                break
            time.sleep(PAUSE)
        return len(killed)

    def _adopted(self, mark: Mark) -> list[int]:
        return [pid for pid in _children(self._pid, self._pid) if _mark(pid) == mark]

    def end_orphans(self) -> list[int]:
        """Kill what workers of this user have left behind that are dead, and return the numbers of the processes.

        Never one of a worker that lives, and none in another namespace of numbers, where the mark means somebody else.
        """
        if not ON_LINUX:
            return []
        own = self.owner.namespace
        return [
            pid
            for pid, mark in _marked()
            if _started(mark.pid) != mark.started and _namespace(pid) == own and _kill(pid, mark)
        ]


def _marked() -> Iterator[tuple[int, Mark]]:
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (mark := _mark(int(entry.name))) is not None:
            with suppress(OSError):
                if entry.stat().st_uid == os.geteuid():
                    yield int(entry.name), mark


def _mark(pid: int) -> Mark | None:
    """Return the mark of a process, also of one that nobody has reaped."""
    try:
        limits = (PROC / f"{pid}/limits").read_bytes()
    except OSError:
        return None
    line = next((line for line in limits.splitlines() if line.startswith(LOCKS)), b"")
    hard = line.removeprefix(LOCKS).split()[1:2]
    number = int(hard[0]) if hard and hard[0].isdigit() else 0
    return Mark.of(number) if number >= 1 << (START_BITS + SERIAL_BITS) else None


def _started(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did, as far as a mark has room for it."""
    try:
        stat = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19]) % (1 << START_BITS)


def _namespace(pid: int) -> int | None:
    try:
        return (PROC / f"{pid}/ns/pid").stat().st_ino
    except OSError:
        return None


def _children(pid: int, thread: int) -> list[int]:
    try:
        return [int(word) for word in (PROC / f"{pid}/task/{thread}/children").read_bytes().split()]
    except OSError:
        return []


def _below(pid: int) -> Iterator[int]:
    """Yield every process below `pid`, the farthest first."""
    try:
        threads = os.listdir(PROC / f"{pid}/task")  # noqa: PTH208 - names are wanted, and this is asked often
    except OSError:
        return
    for thread in threads:
        for child in _children(pid, int(thread)):
            yield from _below(child)
            yield child


def _reaped(pid: int) -> bool:
    """Whether a child of ours is over and gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _kill(pid: int, mark: Mark) -> bool:
    """Kill the process if it carries the mark: a descriptor of it cannot come to mean another one meanwhile."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if _mark(pid) != mark:
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(held)
    return True
