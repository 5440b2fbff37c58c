"""An MCP server on this process's stdin and stdout, read and written on the event loop itself.

The SDK's transport hands every line to a worker thread and through five memory streams. Here a line goes from
the descriptor to the task that answers it, and all answers of one turn of the loop leave in one write:
`benchmarks/stdio_noop.py` measures what that is worth. What the loop cannot watch (regular files,
`/dev/null`, Windows) and whoever asks for it with `TASKQUEUE_STDIO=stock` is served by the SDK's
`stdio_server` instead.

It differs from the SDK's loop on purpose in four ways. `server/discover` does not lock the connection to an
era: clients probe with it and may still send `initialize`. Calls in flight are given a moment to answer when
stdin ends or a signal comes. An unforeseen exception reaches the client as "Internal server error" in both
eras, never as its text. And nothing is asked of the client, as over stateless HTTP, so that no tool can come
to depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

try:
    from uvloop import new_event_loop
except ImportError:  # Windows and PyPy have none
    from asyncio import new_event_loop  # type: ignore[assignment]

from taskqueue_mcp.surfaces.mcp.conversation import LAST_SECONDS, Conversation
from taskqueue_mcp.surfaces.mcp.wire import LINE_LIMIT, open_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mcp.server import MCPServer
    from mcp.server.lowlevel import Server

    from taskqueue_mcp.surfaces.mcp.calls import Calls

__all__ = ["LINE_LIMIT", "Stopping", "run", "serve_stdio"]

T = TypeVar("T")


class Stopping(Protocol):
    """What tells parked calls to answer "call again": an `anyio.Event` or an `asyncio.Event`."""

    def set(self) -> object:
        """Tell them."""

    async def wait(self) -> object:
        """Return once they have been told."""


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on uvloop where it is installed, and on asyncio elsewhere."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


async def serve_stdio(
    server: MCPServer[Any],
    *,
    calls: Calls | None = None,
    stopping: Stopping | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve `server` to the one client at stdin and stdout, until stdin ends or SIGTERM or SIGINT comes.

    `calls` answers the plain calls of our own tools; without it everything goes the SDK's way.

    When it ends, `stopping` is set and `on_stop` called (close listen streams there), calls in flight have
    `GRACE_SECONDS` to answer, and the rest is broken off. Setting `stopping` elsewhere ends the serving in
    the same way. Handlers run in a copy of the context that this was called in.
    """
    stopping = stopping or asyncio.Event()
    # MCPServer keeps the object that handlers are registered on to itself, and the one public way to it,
    # `run_stdio_async`, brings the SDK's own transport along.
    low: Server[Any] = server._lowlevel_server  # noqa: SLF001
    async with open_wire(stopping.set) as wire, low.lifespan(low) as state:
        conversation = Conversation(low, state, wire, calls)
        wire.start(conversation.receive)
        await _either(stopping.wait(), wire.ended.wait())
        wire.stop_reading()
        stopping.set()
        if on_stop is not None:
            on_stop()
        await conversation.settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wire.flushed(), LAST_SECONDS)


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
