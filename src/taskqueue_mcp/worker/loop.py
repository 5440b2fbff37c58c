"""A worker from its start to its end, which leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.executors.trees import Marks
from taskqueue_mcp.worker import scratch
from taskqueue_mcp.worker.attempt import Means
from taskqueue_mcp.worker.bench import Bench
from taskqueue_mcp.worker.connection import Connection
from taskqueue_mcp.worker.fitness import Fitness
from taskqueue_mcp.worker.options import Options, check
from taskqueue_mcp.worker.room import Room
from taskqueue_mcp.worker.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.executors.base import Registry
    from taskqueue_mcp.model import Ended
    from taskqueue_mcp.worker.connection import Connect

log = logging.getLogger(__name__)

HAND_BACK_SECONDS: Final = 5.0
"""How long the last outcomes may take to reach the queue once the worker has to end."""
FIRST_LOOK_SECONDS: Final = 2.0
"""For how long the first claim waits for executors to say whether they can work."""
LAST_SECONDS: Final = 1.0
"""After the second signal: for executors to kill their children."""


class Worker:
    """Claims tasks and has them carried out, as many at a time as it has slots.

    Raises:
        SettingsRefused: there is no executor, or what the options say cannot work together.
    """

    def __init__(self, connect: Connect, registry: Registry, options: Options, marks: Marks | None = None) -> None:
        check(options, registry)
        self._options = options
        self._registry = registry
        self._connection = Connection(connect)
        self.left_behind: set[asyncio.Future[Ended]] = set()
        self._bench = Bench()
        self._fitness = Fitness(
            registry, self._bench, options.outputs.root, stand_ins=options.stand_ins, patience=options.patience
        )
        self._room = Room(registry, options.concurrency_of, self._fitness.carries_out)
        means = Means(
            self._connection, registry, self._fitness, options.outputs, options.lease_seconds, self._bench,
            marks or Marks(), self.left_behind, options.checks, options.uploads,
        )  # fmt: skip
        self._slots = Slots(means, self._room, options, self._give_up)
        self._stopping = anyio.Event()
        self._everything = anyio.CancelScope()
        self._code = 0

    async def run(self) -> int:
        """Work until stopped or, with `once`, until nothing is ready; return the exit code."""
        try:
            with self._everything:
                async with anyio.create_task_group() as beside:
                    beside.start_soon(self._stay_connected)
                    beside.start_soon(self._wind_down)
                    beside.start_soon(self._fitness.run, self._room.changed)
                    if await self._can_work():
                        await self._slots.run()
                    beside.cancel_scope.cancel()
        finally:
            self._bench.close()
        log.info("the worker %r has ended", self._options.name)
        return self._code

    def stop(self) -> None:
        """Claim no more, let what runs come to its end for `drain_seconds`, then hand it back."""
        if not self._stopping.is_set():
            log.info("stopping; %d running", len(self._slots.attempts))
            self._stopping.set()

    def abort(self) -> None:
        """End at once; what runs is killed, and the queue takes it back when its lease has run out."""
        self._code = 1
        self._everything.cancel()

    async def _can_work(self) -> bool:
        """Whether there is a point in claiming: a worker that is to run once does not wait until something can work.

        The first question to the queue is to be the whole one: to ask anew while a claim is on its way hands a task
        back and takes it again.
        """
        with anyio.move_on_after(None if self._options.once else FIRST_LOOK_SECONDS):
            await self._fitness.first_look()
        if not self._options.once or any(map(self._fitness.carries_out, self._registry)):
            return True
        why = "; ".join(f"{name}: {reason}" for name, reason in self._fitness.reasons().items())
        log.error("nothing can be done here: %s", ascii(why)[1:-1])
        self._code = 1
        return False

    async def _stay_connected(self) -> None:
        try:
            await self._connection.run()
        except TaskQueueError as error:
            self._give_up(error)

    async def _wind_down(self) -> None:
        await self._stopping.wait()
        self._slots.stop()
        await anyio.sleep(self._options.drain_seconds)
        for attempt in self._slots.attempts:
            attempt.shut_down()
        await anyio.sleep(HAND_BACK_SECONDS)
        count = len(self._slots.attempts)
        log.error("%d attempts could not be handed back; the queue takes them back itself", count)
        self.abort()

    def _give_up(self, error: TaskQueueError) -> None:
        """Stop because of what only a person can mend."""
        log.error("the queue does not take this worker: %r", str(error))
        self._code = 1
        self.stop()


async def run_worker(connect: Connect, registry: Registry, options: Options) -> int:
    """Work until SIGTERM or SIGINT, or with `once` until nothing is ready; return the exit code.

    0: what was begun has been settled or handed back. 1: something could not be, or the queue does not let us in.
    A second signal ends at once.
    """
    for noisy, level in (("mcp.client", logging.CRITICAL), ("httpx2", logging.WARNING)):
        logging.getLogger(noisy).setLevel(level)  # what they say of a lost connection, `Connection` says in a line
    marks = Marks()
    marks.adopt()
    if orphans := marks.end_orphans():
        log.warning("%d processes that a dead worker had left behind are ended", len(orphans))
    await anyio.to_thread.run_sync(scratch.sweep, marks.owner)
    worker = Worker(connect, registry, options, marks)
    with _signals(worker):
        code = await worker.run()
    if worker.left_behind:
        logging.shutdown()
        os._exit(code)  # the thread of an executor that does not end would keep the process
    return code


@contextmanager
def _signals(worker: Worker) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    seen = 0

    def heard() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            worker.stop()
        else:
            worker.abort()
            loop.call_later(LAST_SECONDS, os._exit, 1)

    def heard_on_windows(*_: object) -> None:
        loop.call_soon_threadsafe(heard)

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        try:
            loop.add_signal_handler(number, heard)
        except NotImplementedError:
            signal.signal(number, heard_on_windows)
    try:
        yield
    finally:
        for number in numbers:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
