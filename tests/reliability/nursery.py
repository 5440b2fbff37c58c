"""Processes to be stopped and killed at random instants, forked by one that has imported everything: a start is fast.

`python -m tests.reliability.nursery` reads a line of JSON a process to start and writes a line a process that said
something or is gone. The other half, `Nursery`, stands in the test.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

ROOT = Path(__file__).parents[2]
Told = dict[str, Any]


class Nursery:
    """Starts processes and hears of them."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.reliability.nursery"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._heard: list[Told] = []
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        os.set_blocking(self._out.fileno(), False)
        self.hear(60)  # it is ready
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._in.close()
        self._process.wait(30)
        self._selector.close()
        self._out.close()

    def start(
        self, program: str, *, kill_after: float | None = None, pauses: tuple[float, ...] = (), **arguments: Any
    ) -> int:
        """Start `programs.program(**arguments)` and return its process id.

        It is killed after `kill_after` seconds, and stopped for a while after each of `pauses`.
        """
        line = {"program": program, "kill_after": kill_after, "pauses": pauses, "arguments": arguments}
        self._in.write(json.dumps(line).encode() + b"\n")
        self._in.flush()
        begun: Told = next(told for told in self._until(60) if "started" in told)
        self._heard.remove(begun)
        return int(begun["started"])

    def hear(self, seconds: float) -> Told:
        """Return the next thing that a process said (`{"said": ..}`) or that it is gone (`{"gone": ..}`)."""
        found: Told = next(self._until(seconds))
        self._heard.remove(found)
        return found

    def _until(self, seconds: float) -> Iterator[Told]:
        yield from list(self._heard)
        deadline = time.monotonic() + seconds
        while True:
            if not self._selector.select(max(0, deadline - time.monotonic())):
                raise TimeoutError(f"nothing was heard for {seconds} s")
            data = self._out.read()
            if not data:
                raise EOFError("the nursery is gone")
            *lines, self._rest = (self._rest + data).split(b"\n")
            found = [json.loads(line) for line in lines]
            self._heard += found
            yield from found


class Gate:
    """What processes wait at until the test lets them through."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._file = os.open(path, os.O_RDWR)

    def let_through(self, count: int = 1) -> None:
        """Let so many go on, those that wait and those that are still to come."""
        os.write(self._file, b"x" * count)

    def close(self) -> None:
        os.close(self._file)


def wait_at(gate: str) -> None:
    """Wait in a process until the test lets it through."""
    with open(gate, "rb", buffering=0) as waiting:  # noqa: PTH123 - a pipe
        waiting.read(1)


def main() -> None:
    """Start, stop, continue and kill, until the input ends."""
    from tests.reliability import programs  # noqa: PLC0415 - the one import that takes long is made once

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    alarms: list[tuple[float, int, int]] = []
    alive: set[int] = set()
    rest = b""
    say({"ready": True})
    while True:
        timeout = max(0.0, min(alarms)[0] - time.monotonic()) if alarms else None
        for key, _ in selector.select(timeout):
            data = os.read(int(key.fd), 65_536)
            if key.fd == 0 and not data:
                for pid in alive:
                    os.kill(pid, signal.SIGKILL)
                return
            if key.fd == 0:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    pid = begin(programs, json.loads(line), alarms)
                    alive.add(pid)
        ring(alarms, alive)
        bury(alive)


def begin(programs: Any, wanted: Told, alarms: list[tuple[float, int, int]]) -> int:
    """Fork a process that runs a program."""
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = 1
        try:
            getattr(programs, wanted["program"])(**wanted["arguments"])
            code = 0
        finally:
            if code:
                import traceback  # noqa: PLC0415 - only of a program that failed

                say({"said": "failed", "why": traceback.format_exc()})
            os._exit(code)
    now = time.monotonic()
    if wanted["kill_after"] is not None:
        alarms.append((now + wanted["kill_after"], pid, signal.SIGKILL))
    for pause in wanted["pauses"]:
        alarms += [(now + pause, pid, signal.SIGSTOP), (now + pause + 0.15, pid, signal.SIGCONT)]
    say({"started": pid})
    return pid


def ring(alarms: list[tuple[float, int, int]], alive: set[int]) -> None:
    """Send the signals that are due."""
    now = time.monotonic()
    for alarm in sorted(alarms):
        if alarm[0] > now:
            break
        alarms.remove(alarm)
        if alarm[1] in alive:
            os.kill(alarm[1], alarm[2])


def bury(alive: set[int]) -> None:
    """Say which processes are gone, and by which signal."""
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        alive.discard(pid)
        say({"gone": pid, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None, "code": status})


def say(told: Told) -> None:
    """Write one line, whole."""
    os.write(1, json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    main()
