"""Parked calls: each is a future in a table, neither a thread nor a connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from taskqueue_mcp.errors import ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskqueue_mcp.store import Database, Signal

ANY = "*"


class Waiters:
    """Who waits for which signal; woken after the commit that sent it, in this process or another."""

    def __init__(self) -> None:
        self._waiting: dict[Signal, set[asyncio.Event]] = {}
        self._stopping = False
        self._stop_listening: Callable[[], None] | None = None

    def attach(self, database: Database) -> None:
        """Follow the commits of `database` from the running event loop."""
        if self._stop_listening is None:
            self._stop_listening = database.listen(self.wake, needed=lambda: bool(self._waiting))

    def detach(self) -> None:
        """Stop following."""
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    @contextlib.contextmanager
    def watch(self, *signals: Signal) -> Iterator[asyncio.Event]:
        """Register for `signals` before looking, so that nothing that comes after the look is missed."""
        event = asyncio.Event()
        for signal in signals:
            self._waiting.setdefault(signal, set()).add(event)
        try:
            yield event
        finally:
            for signal in signals:
                waiting = self._waiting[signal]
                waiting.discard(event)
                if not waiting:
                    del self._waiting[signal]

    def wake(self, signals: frozenset[Signal] | None) -> None:
        """Wake whoever waits for one of `signals`; None wakes everyone."""
        if not self._waiting:
            return
        if signals is None:
            found = list(self._waiting.values())
        else:
            wanted = signals | {(subject, ANY) for subject, _ in signals}
            found = [self._waiting[signal] for signal in wanted if signal in self._waiting]
        for events in found:
            for event in events:
                event.set()

    def stop(self) -> None:
        """Answer every parked call, and those to come, with "call again"."""
        self._stopping = True
        self.wake(None)

    @property
    def stopping(self) -> bool:
        """Whether the server is going away."""
        return self._stopping

    async def sleep(self, event: asyncio.Event, seconds: float) -> None:
        """Sleep until the event or the time.

        Raises:
            ShuttingDown: the server is going away.
        """
        if self._stopping:
            raise _call_again()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        if self._stopping:
            raise _call_again()


def _call_again() -> ShuttingDown:
    return ShuttingDown("the server is restarting and nothing was lost; call again in a moment")
