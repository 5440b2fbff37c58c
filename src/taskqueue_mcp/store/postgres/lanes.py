"""Works in line for threads: those that arrive while others run go together in the next transaction.

So a commit is shared by as many callers as wait for one, and when nobody waits nothing is delayed. Two transactions
go side by side, one at its statements while the other waits for the disk; more of them only when these take longer
than `STUCK`, as when they wait for a lock.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor  # noqa: TC003 - the type of a public argument
from typing import TYPE_CHECKING, TypeVar

from taskqueue_mcp.store.works import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.store.database import Signal, Work

T = TypeVar("T")

SIDE_BY_SIDE = 2
STUCK = 0.003
"""How long transactions run, in seconds, before one more starts beside them."""
MOST_TOGETHER = 32


class Lane:
    """Works of one kind, and the transactions that carry them."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        carry: Callable[[list[Waiting]], list[Waiting]],
        told: Callable[[set[Signal]], None],
        *,
        width: int,
        patience: float,
    ) -> None:
        self._threads = threads
        self._carry = carry
        self._told = told
        self._width = width
        self._patience = patience
        self._pending: list[Waiting] = []
        self._alone: list[Waiting] = []
        self._running = 0
        self._begun_at = 0.0
        self._called = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._pending and not self._alone and not self._running

    async def ask(self, work: Work[T]) -> T:
        """Run `work` in one of the next transactions and return its result."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(Waiting(work, future, time.monotonic() + self._patience))
        self._call()
        return await future

    def _go(self) -> None:
        self._called = False
        if not (self._pending or self._alone) or self._running >= self._width:
            return  # the end of a transaction calls again
        loop = asyncio.get_running_loop()
        if self._running >= SIDE_BY_SIDE and (left := self._begun_at + STUCK - time.monotonic()) > 0:
            if self._timer is None:
                self._timer = loop.call_later(left, self._look_again)
            return
        works = self._next()
        self._running += 1
        self._begun_at = time.monotonic()
        carried = loop.run_in_executor(self._threads, self._carry, works)
        carried.add_done_callback(lambda done: self._done(done, works))
        self._call()

    def _next(self) -> list[Waiting]:
        if self._alone:
            return [self._alone.pop(0)]
        free = max(1, SIDE_BY_SIDE - self._running)
        count = min(MOST_TOGETHER, -(-len(self._pending) // free))
        works, self._pending = self._pending[:count], self._pending[count:]
        return works

    def _look_again(self) -> None:
        self._timer = None
        self._go()

    def _call(self) -> None:
        if (self._pending or self._alone) and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._go)

    def _done(self, carried: asyncio.Future[list[Waiting]], works: list[Waiting]) -> None:
        self._running -= 1
        error = carried.exception()
        again = carried.result() if error is None else []
        self._alone += again
        signals: set[Signal] = set()
        for waiting in works:
            if waiting in again:
                continue
            if error is not None and waiting.error is None:
                waiting.error = error
            signals |= waiting.signals
            waiting.answer()
        if signals:
            self._told(signals)
        self._call()
