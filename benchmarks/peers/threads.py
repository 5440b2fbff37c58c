"""Callers of a library that blocks: so many threads, started together."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def timed(callers: int, work: Callable[[int], None]) -> float:
    """Let every caller do its work at once, given its number; return the seconds until the last was done.

    Raises:
        RuntimeError: a caller failed, with the first error as its cause.
    """
    if callers == 1:
        begin = time.perf_counter()
        work(0)
        return time.perf_counter() - begin
    gate = threading.Barrier(callers + 1)
    errors: list[BaseException] = []

    def one(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    if errors:
        raise RuntimeError(f"{len(errors)} of {callers} callers failed") from errors[0]
    return took


def share(count: int, callers: int, number: int) -> int:
    """Return how many of `count` fall to this caller."""
    return count // callers + (number < count % callers)
