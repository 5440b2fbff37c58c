"""A client that enqueues when asked: `python -m benchmarks.peers.waking NAME`, in the peers' environment."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from pathlib import Path

from benchmarks.peers.asking import answer_meanwhile


async def serve(name: str) -> None:
    library = importlib.import_module(f"benchmarks.peers.woken.{name}_")

    async def begin() -> list[str]:
        """Make ready; return the command of the worker."""
        if name == "procrastinate":
            await stack.enter_async_context(library.app.open_async())
            await library.app.schema_manager.apply_schema_async()
        if name == "taskiq":
            await library.broker.startup()
            stack.push_async_callback(library.broker.shutdown)
        command, *arguments = library.COMMAND
        return [str(Path(sys.executable).with_name(command)), *arguments]

    async def wake() -> int:
        """Enqueue; return the instant before."""
        before = time.monotonic_ns()
        await library.send()
        return before

    async with contextlib.AsyncExitStack() as stack:
        await answer_meanwhile({"begin": begin, "wake": wake})


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
