"""The processes of the demo: commands of ours, started beside us and always ended again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.errors import TaskQueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STARTING_SECONDS: Final = 30.0
STOPPING_SECONDS: Final = 5.0
SERVES: Final = re.compile(r"serves (https?://\S+?)(?:/mcp)? ")


class DemoFailed(TaskQueueError):
    """A step of the demo did not come out as it must."""

    code = "demo_failed"


class Child:
    """A process of the demo. What it says on stderr is read on, so that it never waits for us."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._last: deque[str] = deque(maxlen=5)
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(process.stderr))

    async def says(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Wait for a line with `pattern` among its last ones.

        Raises:
            DemoFailed: it ended, or said nothing of the kind in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTING_SECONDS), self._news:
                while True:
                    for line in self._last:
                        if found := pattern.search(line):
                            return found
                    self.check()
                    await self._news.wait()
        raise DemoFailed(f"{self._name} did not start within {STARTING_SECONDS:.0f} s{self._said()}")

    def check(self) -> None:
        """Look whether it is there.

        Raises:
            DemoFailed: it has ended.
        """
        if self._process.returncode is not None or self._reading.done():
            raise DemoFailed(f"{self._name} ended unexpectedly{self._said()}")

    async def ends(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def stop(self) -> None:
        """End it: asked first, killed if it does not listen."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOPPING_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._reading.cancel()

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (line := await stream.readline()):
            await self._tell(line.decode(errors="replace").rstrip())
        await self._tell()

    async def _tell(self, *lines: str) -> None:
        async with self._news:
            self._last.extend(lines)
            self._news.notify_all()

    def _said(self) -> str:
        return f"; its last words: {self._last[-1]}" if self._last else ""


@contextlib.asynccontextmanager
async def running(name: str, scratch: Path, *arguments: str, **environment: str) -> AsyncIterator[Child]:
    """Run a command of ours beside us, and end it."""
    process = await _start(scratch, arguments, environment, stdout=asyncio.subprocess.DEVNULL)
    child = Child(name, process)
    try:
        yield child
    finally:
        await child.stop()


async def server_url(server: Child) -> str:
    """Return where a server listens, once it does."""
    return (await server.says(SERVES))[1]


async def make_token(scratch: Path, database: Path, name: str, scope: str) -> str:
    """Make a token on the database of the running server.

    Raises:
        DemoFailed: it could not be made.
    """
    arguments = ("tokens", "create", "--name", name, "--scope", scope, "--database", f"sqlite:///{database}")
    process = await _start(scratch, arguments, {}, stdout=asyncio.subprocess.PIPE)
    token, said = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"no token for {name}: {said.decode(errors='replace').strip()}")
    return token.decode().strip()


async def _start(
    scratch: Path, arguments: tuple[str, ...], environment: dict[str, str], *, stdout: int
) -> asyncio.subprocess.Process:
    """Start a command of ours, untouched by the person's own settings and procedures and by the terminal's Ctrl-C."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
    settings = scratch / "config.toml"
    settings.touch()
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskqueue_mcp", *arguments,
        cwd=scratch, env={**own, "TASKQUEUE_CONFIG": str(settings), **environment}, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
