"""The loop that lets time pass. Any number of processes may run it: the database lets nothing happen twice."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskqueue_mcp.taskqueue import TaskQueue

LONGEST_SLEEP = 1.0
HOUSEKEEPING = 60.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0

log = logging.getLogger(__name__)


class Scheduler:
    """Promotes what is due, fires schedules, takes lost leases back, keeps house."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._housekept_at = time.monotonic() - HOUSEKEEPING + LONGEST_SLEEP

    async def run(self) -> None:
        """Tick until cancelled; a tick that fails is logged and tried again after a growing pause."""
        self._queue.waiters.attach(self._queue.database)
        pause = FIRST_PAUSE
        while True:
            try:
                await self.tick()
            except Exception:
                log.exception("a tick failed; the next one comes in %.1f s", pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE

    async def tick(self) -> None:
        """Do what is due and sleep until something may be due again."""
        queue = self._queue
        now = await queue.now()
        following = await queue.next_instant()
        if following is not None and following <= now:
            await queue.tick()
            following = await queue.next_instant()
        if time.monotonic() - self._housekept_at >= HOUSEKEEPING:
            self._housekept_at = time.monotonic()
            await queue.keep_house()
        wait = LONGEST_SLEEP if following is None else (following - await queue.now()) / 1_000_000
        await asyncio.sleep(min(max(wait, 0.001), LONGEST_SLEEP))
