"""A visit to a source from an executor: on a thread of its own, ended when the attempt is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.model import Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.sources.reading import Reader
    from taskqueue_mcp.model import Outcome

SAID_EVERY_SECONDS: Final = 5.0


async def visited(run: Run, reader: Reader, work: Callable[[], Outcome], said: Callable[[], str]) -> Outcome:
    """Return what `work` comes to on a thread; `said` tells how far it is, from time to time.

    When the attempt is told to stop, the reader is halted and nobody waits for the thread.
    """
    outcome: Outcome = Returned(None, "stopped before it was over")
    try:
        async with anyio.create_task_group() as beside:

            async def leave_when_told() -> None:
                await run.stop.wait()
                beside.cancel_scope.cancel()

            async def tell() -> None:
                while True:
                    await run.progress(None, said())
                    await anyio.sleep(SAID_EVERY_SECONDS)

            beside.start_soon(leave_when_told)
            beside.start_soon(tell)
            # A limiter of its own: long reads must not use up the threads that everyone shares.
            limiter = anyio.CapacityLimiter(1)
            outcome = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
            beside.cancel_scope.cancel()
    finally:
        reader.halt()
    return outcome
