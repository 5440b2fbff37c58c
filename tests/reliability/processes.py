"""Functions in processes of their own, and the diaries in which they say what they did."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

PATIENCE = 60.0
"""How long anything here may take before the test calls it stuck, in seconds."""
Entry = dict[str, Any]
PRELOADED = [
    "taskqueue_mcp.store.postgres",
    "tests.reliability.clients",
    "tests.reliability.racers",
    "tests.reliability.commands",
]


def _context() -> ForkServerContext:
    """A clean process that has our modules, to fork from: a start costs milliseconds and inherits nothing of pytest."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start(target: Callable[..., None], *given: Any) -> ForkServerProcess:
    process = _context().Process(target=target, args=given, daemon=True)
    process.start()
    return process


def barrier(parties: int) -> Barrier:
    return _context().Barrier(parties, timeout=PATIENCE)


def all_ended(processes: Sequence[ForkServerProcess], seconds: float = PATIENCE) -> None:
    """Wait until every process has ended as it should."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()
    assert codes == [0] * len(processes), f"exit codes {codes}; None was stuck for {seconds:g} s"


def together(target: Callable[..., None], *given: Sequence[Any], seconds: float = PATIENCE) -> None:
    """Run `target` once a row of arguments, all at the same time, until each has ended."""
    all_ended([start(target, *row) for row in zip(*given, strict=True)], seconds)


class Diary:
    """JSON lines on the disk before anything else happens; the last one may be torn by a kill.

    `also` is given each line too, in the order of what it tells.
    """

    def __init__(self, path: Path, also: Callable[[bytes], None] = lambda _: None) -> None:
        self.name = path.stem
        self.entries = read_diary(path)
        self._also = also
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")

    def note(self, **entry: Any) -> None:
        line = json.dumps(entry).encode() + b"\n"
        os.write(self._file, line)
        os.fsync(self._file)
        self._also(line)

    def close(self) -> None:
        os.close(self._file)


def read_diary(path: Path) -> list[Entry]:
    """Return the whole lines; a torn one was never finished and says nothing."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
