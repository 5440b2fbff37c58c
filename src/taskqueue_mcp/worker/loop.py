"""The worker's loop: slots that claim by long poll, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from taskqueue_mcp.errors import SettingsRefused, TaskQueueError
from taskqueue_mcp.executors.trees import Marks
from taskqueue_mcp.worker import claims
from taskqueue_mcp.worker.attempt import Attempt, Means
from taskqueue_mcp.worker.bench import Bench
from taskqueue_mcp.worker.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.executors.base import Registry
    from taskqueue_mcp.model import Ended
    from taskqueue_mcp.outputs.folder import OutputFolder
    from taskqueue_mcp.worker.claims import Claim
    from taskqueue_mcp.worker.connection import Connect

log = logging.getLogger(__name__)

HAND_BACK_SECONDS: Final = 5.0
"""How long the last outcomes may take to reach the queue once the worker has to end."""
LEAST_SECONDS_BETWEEN_CLAIMS: Final = 1.0
"""A queue that answers "nothing" at once is not asked again before."""
LAST_SECONDS: Final = 1.0
"""After the second signal: for executors to kill their children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a worker works. `types` and `queues` narrow what it claims; by default it takes what its executors can do."""

    name: str
    outputs: OutputFolder
    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    concurrency: int = 1
    once: bool = False
    lease_seconds: int = 900
    wait_seconds: float = 45.0
    drain_seconds: float = 10.0


class Worker:
    """Claims tasks and has them carried out, as many at a time as it has slots.

    Raises:
        SettingsRefused: there is no executor.
    """

    def __init__(self, connect: Connect, registry: Registry, options: Options, marks: Marks | None = None) -> None:
        if not registry:
            raise SettingsRefused("a worker needs at least one executor; list them in the settings")
        self._options = options
        self._connection = Connection(connect)
        self.left_behind: set[asyncio.Future[Ended]] = set()
        self._bench = Bench()
        self._means = Means(
            self._connection, registry, options.outputs, options.lease_seconds, self._bench, marks or Marks(),
            self.left_behind,
        )  # fmt: skip
        self._wanted: dict[str, Any] = {
            "worker": options.name,
            "task_types": list(options.types or (f"executor:{name}" for name in registry)),
            "wait_seconds": 0.0 if options.once else options.wait_seconds,
            "lease_seconds": options.lease_seconds,
            **({"queues": list(options.queues)} if options.queues else {}),
        }
        self._stopping = anyio.Event()
        self._claiming: set[anyio.CancelScope] = set()
        self._attempts: set[Attempt] = set()
        self._everything = anyio.CancelScope()
        self._code = 0

    async def run(self) -> int:
        """Work until stopped or, with `once`, until nothing is ready; return the exit code."""
        try:
            with self._everything:
                async with anyio.create_task_group() as beside:
                    beside.start_soon(self._stay_connected)
                    beside.start_soon(self._wind_down)
                    async with anyio.create_task_group() as slots:
                        for _ in range(self._options.concurrency):
                            slots.start_soon(self._slot)
                    beside.cancel_scope.cancel()
        finally:
            self._bench.close()
        log.info("the worker %r has ended", self._options.name)
        return self._code

    def stop(self) -> None:
        """Claim no more, let what runs come to its end for `drain_seconds`, then hand it back."""
        if not self._stopping.is_set():
            log.info("stopping; %d running", len(self._attempts))
            self._stopping.set()

    def abort(self) -> None:
        """End at once; what runs is killed, and the queue takes it back when its lease has run out."""
        self._code = 1
        self._everything.cancel()

    async def _stay_connected(self) -> None:
        try:
            await self._connection.run()
        except TaskQueueError as error:
            self._give_up(error)

    async def _wind_down(self) -> None:
        await self._stopping.wait()
        for scope in self._claiming:
            scope.cancel()
        await anyio.sleep(self._options.drain_seconds)
        for attempt in self._attempts:
            attempt.shut_down()
        await anyio.sleep(HAND_BACK_SECONDS)
        log.error("%d attempts could not be handed back; the queue takes them back itself", len(self._attempts))
        self.abort()

    async def _slot(self) -> None:
        while not self._stopping.is_set():
            asked_at = anyio.current_time()
            claim = await self._claim()
            if claim is not None:
                await self._carry_out(claim)
            elif self._options.once:
                return
            elif not self._stopping.is_set():
                with anyio.move_on_after(asked_at + LEAST_SECONDS_BETWEEN_CLAIMS - anyio.current_time()):
                    await self._stopping.wait()

    async def _claim(self) -> Claim | None:
        """Ask for one task. The id makes it the same task however often it has to be asked for.

        When the worker is stopped meanwhile, the call is cancelled: the server then hands out nothing, and what it
        had handed out by then and was never confirmed comes back at no cost.
        """
        wanted = {**self._wanted, "claim_id": secrets.token_hex(16)}
        with anyio.CancelScope() as scope:
            self._claiming.add(scope)
            try:
                return claims.read(await self._connection.call("claim_task", wanted, parked=wanted["wait_seconds"]))
            except TaskQueueError as error:
                self._give_up(error)
            finally:
                self._claiming.discard(scope)
        return None

    async def _carry_out(self, claim: Claim) -> None:
        log.info("%s attempt %d claimed: %r", claim.name, claim.attempt, claim.task["title"])
        attempt = Attempt(self._means, claim)
        self._attempts.add(attempt)
        if self._stopping.is_set():
            attempt.shut_down()
        try:
            await attempt.carry_out()
        except Exception:
            # A fault of our own costs this attempt, which the queue takes back, and not the worker.
            log.exception("%s attempt %d came to nothing", claim.name, claim.attempt)
        finally:
            self._attempts.discard(attempt)

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
