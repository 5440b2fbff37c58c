"""Our queue, asked like the others: `python -m benchmarks.peers.ours`, in the project's environment."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from uvloop import new_event_loop

from benchmarks.peers.asking import answer
from benchmarks.peers.threads import share
from benchmarks.peers.work import INSTRUCTIONS, SUMMARY, TITLE
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Limits, NewTask, Rules, TaskQueue, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALLER = local_person("owner")
ROOM = Limits(creates_per_minute=1_000_000_000, open_tasks_per_queue=10_000_000)


class Ours:
    """The service as an edge calls it, by as many callers as are asked for."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=new_event_loop)

    def open(self, url: str) -> str:
        self._database = open_database(url)
        self._queue = TaskQueue(self._database, Rules(limits=ROOM))
        return url.partition(":")[0]

    def fill(self, count: int, callers: int) -> float:
        async def create(_: int) -> None:
            await self._queue.create(CALLER, NewTask(Wanted(title=TITLE, instructions=INSTRUCTIONS)))

        return self._timed(count, callers, create)

    def drain(self, count: int, callers: int) -> float:
        async def cycle(number: int) -> None:
            claim = await self._queue.claim(CALLER, ClaimRequest(worker=f"w{number}"))
            assert claim is not None
            assert claim.body.instructions == INSTRUCTIONS
            await self._queue.complete(CALLER, Completion(claim.lease, SUMMARY))

        took = self._timed(count, callers, cycle)
        assert self._runner.run(self._queue.claim(CALLER, ClaimRequest(worker="w0"))) is None
        return took

    def close(self) -> None:
        self._runner.run(self._database.close())

    def _timed(self, count: int, callers: int, work: Callable[[int], Awaitable[None]]) -> float:
        async def some(number: int) -> None:
            for _ in range(share(count, callers, number)):
                await work(number)

        async def all_of_them() -> float:
            begin = time.perf_counter()
            await asyncio.gather(*(some(number) for number in range(callers)))
            return time.perf_counter() - begin

        return self._runner.run(all_of_them())


def main() -> None:
    queue = Ours()
    answer({"open": queue.open, "fill": queue.fill, "drain": queue.drain, "close": queue.close})


if __name__ == "__main__":
    main()
