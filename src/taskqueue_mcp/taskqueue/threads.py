"""Work in threads that hold up neither the others nor the end of the process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_a_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread of its own and return what it comes to."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            told, said = done.set_exception, error
            _tell(loop, done, lambda: told(said))
        else:
            _tell(loop, done, lambda: done.set_result(result))

    threading.Thread(target=run, name="files", daemon=True).start()
    return done


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], tell: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(lambda: None if done.cancelled() else tell())
