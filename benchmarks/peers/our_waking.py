"""Ours, woken: `python -m benchmarks.peers.our_waking creating|claiming|both URL`, in the project's environment."""

from __future__ import annotations

import asyncio
import sys
import time

from uvloop import new_event_loop

from benchmarks.peers import woken
from benchmarks.peers.asking import answer_meanwhile
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Rules, TaskQueue, Wanted

CALLER = local_person()
LONGEST = 50


async def serve(does: str, url: str) -> None:
    database = open_database(url)
    queue = TaskQueue(database, Rules())

    async def begin() -> None:
        """Nothing has to be made ready."""

    async def wake() -> int:
        """Create a task; return the instant before."""
        before = time.monotonic_ns()
        await queue.create(CALLER, NewTask(Wanted(title="wake up")))
        return before

    claiming = None if does == "creating" else asyncio.ensure_future(_claim_for_ever(queue))
    await answer_meanwhile({"begin": begin, "wake": wake})
    if claiming is not None:
        claiming.cancel()
    await database.close()


async def _claim_for_ever(queue: TaskQueue) -> None:
    """Park; when a task has come, tell so and complete it."""
    while True:
        claim = await queue.claim_when_ready(CALLER, ClaimRequest(worker="bench"), LONGEST)
        if claim is not None:
            woken.started()
            await queue.complete(CALLER, Completion(claim.lease, "done"))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(*sys.argv[1:]))
