"""A child process under supervision: its output read, its time bounded, its whole group ended with it.

Made on `subprocess` and plain pipes: asyncio's own child processes wait for the end of their pipes, which a
grandchild that left the group can hold open for as long as it likes.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

GRACE: Final = 2.0
"""Seconds between asking a process to end and killing it."""
DRAIN: Final = 0.5
"""Seconds in which what a dead process has written is still read."""
CHUNK: Final = 65_536
ON_WINDOWS: Final = sys.platform == "win32"


class Ending(StrEnum):
    """Why a process is over."""

    EXITED = "exited"
    STOPPED = "stopped"
    TIMED_OUT = "timed out"


async def supervise(
    process: Popen[bytes],
    *,
    on_output: Callable[[bytes], None],
    on_error: Callable[[bytes], None],
    stop: anyio.Event,
    seconds: float,
) -> Ending:
    """Read the process's output until it is over, or end it; nothing of its group outlives this call.

    The process must lead a session of its own (`start_new_session`) and have pipes as stdout and stderr.
    """
    drained = [anyio.Event(), anyio.Event()]
    try:
        async with anyio.create_task_group() as group:
            for pipe, take, done in (
                (process.stdout, on_output, drained[0]),
                (process.stderr, on_error, drained[1]),
            ):
                if pipe is not None:
                    group.start_soon(_read, pipe.fileno(), take, done)
            ending = await _until_over(process, stop, seconds)
            if ending is not Ending.EXITED:
                _signal(process, signal.SIGTERM)
                with anyio.move_on_after(GRACE):
                    await _exited(process)
            _kill(process)
            with anyio.move_on_after(DRAIN):
                for done in drained:
                    await done.wait()
            group.cancel_scope.cancel()
    finally:
        _kill(process)
        with suppress(TimeoutExpired):  # a process in uninterruptible sleep dies when it wakes
            process.wait(GRACE)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return ending


async def _until_over(process: Popen[bytes], stop: anyio.Event, seconds: float) -> Ending:
    ending = Ending.TIMED_OUT
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                nonlocal ending
                await stop.wait()
                ending = Ending.STOPPED
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await _exited(process)
            ending = Ending.EXITED
            group.cancel_scope.cancel()
    return ending


async def _exited(process: Popen[bytes]) -> None:
    """Return once the process is over, leaving it unreaped: until then nobody else can get its number."""
    if hasattr(os, "pidfd_open"):  # no thread is needed where a process can be waited for like a socket
        with suppress(OSError):
            held = os.pidfd_open(process.pid)
            try:
                await anyio.wait_readable(held)
            finally:
                os.close(held)
            return

    def wait() -> None:
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()

    # A limiter of its own: a hundred long commands must not use up the threads that everyone shares.
    await anyio.to_thread.run_sync(wait, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


async def _read(descriptor: int, take: Callable[[bytes], None], done: anyio.Event) -> None:
    try:
        while chunk := await _chunk(descriptor):
            take(chunk)
    finally:
        done.set()


async def _chunk(descriptor: int) -> bytes:
    if ON_WINDOWS:
        return await anyio.to_thread.run_sync(os.read, descriptor, CHUNK, abandon_on_cancel=True)
    await anyio.wait_readable(descriptor)
    return os.read(descriptor, CHUNK)


def _kill(process: Popen[bytes]) -> None:
    _signal(process, None)


def _signal(process: Popen[bytes], number: signal.Signals | None) -> None:
    """Send `number` to the whole group; None kills it. A process that was reaped is left alone."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        if ON_WINDOWS:
            process.kill() if number is None else process.terminate()
        else:
            os.killpg(process.pid, signal.SIGKILL if number is None else number)
