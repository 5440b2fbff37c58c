"""The pipe between the Agent SDK and a Claude Code process that is ours: started by us, watched by us, ended by us.

The SDK's own transport hands down our whole environment and knows one process only, so it can neither be given a
clean environment nor end what a session has started.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from claude_agent_sdk import CLIConnectionError, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from subprocess import Popen

log = logging.getLogger(__name__)

LONGEST_LINE: Final = 32 * 1024 * 1024
"""Bytes of one message; a longer one is left out."""


class Pipe(Transport):
    """What the process writes is fed in, `hear` is told each message, and the SDK reads it from here."""

    def __init__(self, process: Popen[bytes], hear: Callable[[dict[str, Any]], None]) -> None:
        self._process = process
        self._hear = hear
        self._line = bytearray()
        self._is_skipping = False
        self._send, self._receive = anyio.create_memory_object_stream[dict[str, Any]](float("inf"))
        self._writing = anyio.Lock()
        self._is_open = True
        self.noise: list[str] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes that the process wrote."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._line += line
            if not self._is_skipping:
                self._message(bytes(self._line))
            self._line.clear()
            self._is_skipping = False
        self._line += rest
        if len(self._line) > LONGEST_LINE:
            self._line.clear()
            self._is_skipping = True

    def end(self) -> None:
        """The process is over; whoever reads comes to an end."""
        if self._line and not self._is_skipping:
            self._message(bytes(self._line))
        self._send.close()

    def _message(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        try:
            message = json.loads(text) if text.startswith("{") else None
        except ValueError:
            message = None
        if isinstance(message, dict):
            self._hear(message)
            self._send.send_nowait(message)
        elif text:
            self.noise = [*self.noise[-4:], text[:500]]

    async def connect(self) -> None:
        """Nothing is left to do: the process runs."""

    async def write(self, data: str) -> None:
        """Write what the SDK says, off the loop: a long prompt does not fit into a pipe at once."""
        async with self._writing:
            if not self._is_open or self._process.stdin is None:
                raise CLIConnectionError("Claude Code reads no more")
            descriptor, rest = self._process.stdin.fileno(), memoryview(data.encode())
            while rest:
                try:
                    written = await anyio.to_thread.run_sync(os.write, descriptor, rest, abandon_on_cancel=True)
                except OSError as error:
                    self._is_open = False
                    raise CLIConnectionError(f"Claude Code reads no more: {error.strerror}") from error
                rest = rest[written:]

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the process says until it is over."""
        async for message in self._receive:
            yield message

    async def end_input(self) -> None:
        """Let the process know that nothing more comes; it then ends by itself."""
        async with self._writing:
            self.shut()

    def drop(self) -> None:
        """Let go of everything; nobody reads or writes any more."""
        self.shut()
        self._send.close()
        self._receive.close()

    def shut(self) -> None:
        """Close our end of the pipe, whatever was left to say."""
        self._is_open = False
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    async def close(self) -> None:
        """Close our end only; whoever supervises the process ends it. A write that hangs does not hold this up."""
        self.shut()

    def is_ready(self) -> bool:
        """Whether it takes more."""
        return self._is_open
