"""Waiting for a task of the demo as a front-end does, with a parked call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.cli import shown
from taskqueue_mcp.cli.demo.processes import DemoFailed
from taskqueue_mcp.model import FINAL, Status

if TYPE_CHECKING:
    from taskqueue_mcp.cli.demo.processes import Child
    from taskqueue_mcp.cli.remote import Remote

WORKING_SECONDS: Final = 60.0
PARKED_SECONDS: Final = 50.0


async def finished(queue: Remote, task_id: str, watching: tuple[Child, ...]) -> dict[str, Any]:
    """Return a task whole once it is completed.

    Raises:
        DemoFailed: it came to another end or to none in time, or a process that it needs has ended.
    """
    waiting = asyncio.ensure_future(_final(queue, task_id))
    ends = [asyncio.ensure_future(child.ends()) for child in watching]
    try:
        await asyncio.wait([waiting, *ends], timeout=WORKING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for child in watching:
            child.check()
        if not waiting.done():
            raise DemoFailed(f"{task_id} is not done after {WORKING_SECONDS:.0f} s")
        task = waiting.result()
    finally:
        for pending in (waiting, *ends):
            pending.cancel()
    if task["status"] != Status.COMPLETED:
        raise DemoFailed(f"{task_id} is {shown.standing(task)}: {task.get('error') or 'no reason was given'}")
    return task


async def _final(queue: Remote, task_id: str) -> dict[str, Any]:
    ends = {*FINAL, Status.WAITING}
    while (await queue.wait(task_id, PARKED_SECONDS))["status"] not in ends:
        pass
    return await queue.get_task(task_id)
