"""Every process of a session, wherever it went: shells of Claude lead sessions of their own, out of any group."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from taskqueue_mcp.executors.claude.command import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 20
"""A process may start another while we look; after so many looks whoever is left outruns us."""


def members(mark: str, root: int | None = None) -> list[psutil.Process]:
    """Return the living processes that carry `mark` in their environment, and all that descend from `root`."""
    found = {process.pid: process for process in _descendants(root)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found[process.pid] = process
    return [process for process in found.values() if _lives(process)]


def end(mark: str, root: int | None = None) -> int:
    """Kill them all, at once; return how many are left, which is 0 unless one cannot be killed."""
    left: list[psutil.Process] = []
    for _ in range(ROUNDS):
        left = members(mark, root)
        if not left:
            return 0
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs([process for process in left if process.pid != root], timeout=0.05)
        if [process.pid for process in left] == [root]:
            return 0  # it is ours to reap, and dead
    return len(left)


def _descendants(root: int | None) -> Iterator[psutil.Process]:
    if root is not None:
        with suppress(psutil.Error):
            yield from psutil.Process(root).children(recursive=True)
            yield psutil.Process(root)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
