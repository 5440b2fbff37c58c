"""Where executors run: a thread with an event loop of its own, so that no lease feels what they do to it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 1.0
"""How long a loop may take to answer before it counts as blocked."""
LAST_SECONDS: Final = 1.0

T = TypeVar("T")


class Place:
    """One loop in one thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        # A daemon: an executor that blocks it must not keep the process.
        self._thread = threading.Thread(target=self._serve, name="executors", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Have `work` done here, and return what it comes to, to be awaited in the caller's loop."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def answers(self) -> bool:
        """Whether the loop turns."""
        here = asyncio.get_running_loop()
        answered = anyio.Event()
        self.loop.call_soon_threadsafe(lambda: here.call_soon_threadsafe(answered.set))
        with anyio.move_on_after(ANSWER_SECONDS):
            await answered.wait()
        return answered.is_set()

    def close(self) -> None:
        """End the loop; whoever blocks it is left behind."""
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(LAST_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._over.wait())
        self.loop.close()


class Bench:
    """The place for executors; another takes over when somebody blocks it and does not let go."""

    def __init__(self) -> None:
        self.place = Place()

    async def replace_if_blocked(self, place: Place) -> None:
        """Leave `place` to whoever blocks it; what else runs there goes on when that lets go."""
        if place is self.place and not await place.answers() and place is self.place:
            log.error("an executor blocks the loop that all of them share; new work gets another")
            self.place = Place()

    def close(self) -> None:
        """End it."""
        self.place.close()
