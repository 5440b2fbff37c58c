"""The slots of a worker: each claims by long poll what there is a place for, has it carried out, and claims again."""

from __future__ import annotations

import logging
import random
import secrets
from typing import TYPE_CHECKING, Any, Final

import anyio

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.worker import claims
from taskqueue_mcp.worker.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.worker.attempt import Means
    from taskqueue_mcp.worker.claims import Claim
    from taskqueue_mcp.worker.options import Options
    from taskqueue_mcp.worker.room import Hold, Room

log = logging.getLogger(__name__)

LEAST_SECONDS_BETWEEN_CLAIMS: Final = 1.0
"""A queue that answers "nothing" at once is not asked again before."""
STARTING_AGAIN: Final = Backoff(first_seconds=1.0, longest_seconds=60.0, jitter=0.2)
HEALTHY_SECONDS: Final = 60.0
"""A slot that ran for so long begins anew with short waits."""
MICROS: Final = 1_000_000


class Slots:
    """As many tasks at a time as the options say; `give_up` is told of what only a person can mend."""

    def __init__(self, means: Means, room: Room, options: Options, give_up: Callable[[TaskQueueError], None]) -> None:
        self._means = means
        self._room = room
        self._options = options
        self._give_up = give_up
        self._stopping = anyio.Event()
        self.attempts: set[Attempt] = set()
        self._wanted: dict[str, Any] = {
            "worker": options.name,
            "wait_seconds": 0.0 if options.once else options.wait_seconds,
            "lease_seconds": options.lease_seconds,
            **({"queues": list(options.queues)} if options.queues else {}),
        }

    async def run(self) -> None:
        """Claim and work until stopped or, with `once`, until nothing is ready."""
        async with anyio.create_task_group() as group:
            for _ in range(self._options.concurrency):
                group.start_soon(self._kept_alive)

    def stop(self) -> None:
        """Claim no more. A call that is parked is cancelled: the server then hands out nothing.

        What it had handed out by then and was never confirmed comes back at no cost.
        """
        self._stopping.set()
        self._room.wake()

    async def _kept_alive(self) -> None:
        """Keep a slot going: a fault of our own costs it a while, and not the worker."""
        faults = 0
        while not self._stopping.is_set():
            began = anyio.current_time()
            try:
                await self._slot()
            except Exception:
                faults = 1 if anyio.current_time() - began > HEALTHY_SECONDS else faults + 1
                pause = STARTING_AGAIN.delay(faults, random.random()) / MICROS  # noqa: S311 - it spreads, no more
                log.exception("a slot came to an end by a fault and begins again in %.0f s", pause)
                with anyio.move_on_after(pause):
                    await self._stopping.wait()
            else:
                return

    async def _slot(self) -> None:
        while not self._stopping.is_set():
            asked_at = anyio.current_time()
            hold = self._room.enter()
            claim = None
            place = None
            try:
                claim = await self._claim(hold)
            finally:
                place = self._room.leave(hold, None if claim is None else str(claim.task.get("executor", "")))
            if claim is not None and place is not None:
                try:
                    await self._carry_out(claim)
                finally:
                    self._room.give_back(place)
            elif self._options.once:
                return
            elif not self._stopping.is_set():
                with anyio.move_on_after(asked_at + LEAST_SECONDS_BETWEEN_CLAIMS - anyio.current_time()):
                    await self._stopping.wait()

    async def _claim(self, hold: Hold) -> Claim | None:
        """Ask for one task. The id makes it the same task however often it has to be asked for."""
        wanted = {**self._wanted, "claim_id": secrets.token_hex(16)}
        while not self._stopping.is_set():
            if not hold.names:
                if self._options.once:
                    return None
                await hold.changed()
                continue
            wanted["task_types"] = list(self._options.types or (f"executor:{name}" for name in hold.names))
            with hold.asking():
                try:
                    return claims.read(
                        await self._means.connection.call("claim_task", wanted, parked=wanted["wait_seconds"])
                    )
                except TaskQueueError as error:
                    self._give_up(error)
        return None

    async def _carry_out(self, claim: Claim) -> None:
        log.info("%s attempt %d claimed: %r", claim.name, claim.attempt, claim.task["title"])
        attempt = Attempt(self._means, claim)
        self.attempts.add(attempt)
        if self._stopping.is_set():
            attempt.shut_down()
        try:
            await attempt.carry_out()
        except Exception:
            # A fault of our own costs this attempt, which the queue takes back, and not the worker.
            log.exception("%s attempt %d came to nothing", claim.name, claim.attempt)
        finally:
            self.attempts.discard(attempt)
