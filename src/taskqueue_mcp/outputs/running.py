"""A short command of our own or of the owner, run to its end: bounded in time and output, nothing of it left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

MOST_OUTPUT: Final = 256 * 1024
DRAIN_SECONDS: Final = 1.0
SLICE_SECONDS: Final = 0.1
KEPT_FROM_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to; `code` None means that it was ended because its time was over."""

    code: int | None
    output: str
    errors: str


def run(
    command: Sequence[str], *, seconds: float, folder: Path | None = None, given: BinaryIO | None = None,
    environment: Mapping[str, str] | None = None, stop: threading.Event | None = None,
) -> Ran:  # fmt: skip
    """Run `command` with the file `given` as its input; its whole group is ended with it, and when `stop` is set.

    Raises:
        OSError: there is no such program, or no such folder.
    """
    kept = {name: os.environ[name] for name in KEPT_FROM_ENVIRONMENT if name in os.environ}
    process = subprocess.Popen(  # noqa: S603 - an argument list, from the owner's settings or of our own
        list(command), cwd=folder, stdin=subprocess.DEVNULL if given is None else given,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**kept, **(environment or {})},
        start_new_session=sys.platform != "win32",
    )  # fmt: skip
    outputs = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=_read, args=(pipe, kept_of), daemon=True)
        for pipe, kept_of in zip((process.stdout, process.stderr), outputs, strict=True)
    ]
    for reader in readers:
        reader.start()
    until = time.monotonic() + seconds
    try:
        for reader in readers:  # the end of its output is mostly its end, and waited for without a poll
            while reader.is_alive() and not _is_up(until, stop):
                reader.join(SLICE_SECONDS)
        in_time = _is_over(process, until, stop)
    finally:
        _end(process)
        for reader in readers:
            reader.join(DRAIN_SECONDS)
        for pipe, reader in zip((process.stdout, process.stderr), readers, strict=True):
            if pipe is not None and not reader.is_alive():  # else a process that left the group holds it open
                pipe.close()
    output, errors = (bytes(each).decode("utf-8", "replace") for each in outputs)
    return Ran(process.returncode if in_time else None, output, errors)


def _read(pipe: BinaryIO | None, into: bytearray) -> None:
    with suppress(OSError, ValueError):
        while pipe is not None and (piece := os.read(pipe.fileno(), 65_536)):
            into += piece[: MOST_OUTPUT - len(into)]


def _is_up(until: float, stop: threading.Event | None) -> bool:
    return time.monotonic() >= until or (stop is not None and stop.is_set())


def _is_over(process: subprocess.Popen[bytes], until: float, stop: threading.Event | None) -> bool:
    """Wait for the end without reaping: until then nobody else can get the process's number."""
    pause = 0.0005
    while True:
        if hasattr(os, "waitid"):
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        elif process.poll() is not None:
            return True
        if _is_up(until, stop):
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group: it may hold more than its leader, which may be over already."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # a process in uninterruptible sleep dies when it wakes
        process.wait(DRAIN_SECONDS)
