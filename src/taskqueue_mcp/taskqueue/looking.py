"""Looks at results beside the event loop, one look a result however often it is asked for, under a lease that lasts."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.errors import ShuttingDown, StorageFull, TaskQueueError
from taskqueue_mcp.outputs import checking
from taskqueue_mcp.store import attempts
from taskqueue_mcp.taskqueue import evidence, settling
from taskqueue_mcp.taskqueue.settling import Settled, Update
from taskqueue_mcp.taskqueue.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.store import Database
    from taskqueue_mcp.taskqueue.claiming import Claim
    from taskqueue_mcp.taskqueue.evidence import Unweighed, Weighed
    from taskqueue_mcp.taskqueue.rules import Rules
    from taskqueue_mcp.taskqueue.settling import Completion

LOOKS_AT_ONCE: Final = 4
RENEW_SECONDS: Final = 20.0
BEAT_SECONDS: Final = 5.0


class Looks:
    """The looks that are under way in this process."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._database = database
        self._rules = rules
        self._room = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._under_way: dict[tuple[str, str], asyncio.Future[Settled]] = {}
        self._stop = threading.Event()

    def stop(self) -> None:
        """Break off the looks that are under way: their results are held against nothing and stay in hand."""
        self._stop.set()

    async def settle(
        self, caller: Caller, completion: Completion, unweighed: Unweighed,
        beat: Callable[[float], Awaitable[None]] | None,
    ) -> Settled:  # fmt: skip
        """Look at a result and end its attempt. Whoever asks again meanwhile waits for the same look.

        Raises:
            InvalidInput, LimitReached, StorageFull, LeaseLost, Conflict, Busy: nothing was changed.
        """
        key = (caller.name, repr(completion))
        looking = self._under_way.get(key)
        if looking is None:
            looking = asyncio.ensure_future(self._settled(caller, completion, unweighed))
            self._under_way[key] = looking
            looking.add_done_callback(partial(self._forget, key))
        begun = asyncio.get_running_loop().time()
        while True:  # a caller that leaves does not take the look with it
            done, _ = await asyncio.wait({looking}, timeout=BEAT_SECONDS)
            if done:
                return looking.result()
            if beat is not None:
                await beat(asyncio.get_running_loop().time() - begun)

    def _forget(self, key: tuple[str, str], looking: asyncio.Future[Settled]) -> None:
        del self._under_way[key]
        if not looking.cancelled():
            looking.exception()  # whoever asked may be gone

    async def _settled(self, caller: Caller, completion: Completion, unweighed: Unweighed) -> Settled:
        weighed = await self._weighed(caller, completion, unweighed)
        write = partial(settling.complete, rules=self._rules, caller=caller, completion=completion, weighed=weighed)
        try:
            settled = await self._database.write(write)
        except TaskQueueError:
            await asyncio.to_thread(evidence.take_back, weighed, self._rules.outputs)
            raise
        assert isinstance(settled, Settled)  # noqa: S101 - what was weighed is not weighed again
        return settled

    async def _weighed(self, caller: Caller, completion: Completion, unweighed: Unweighed) -> Weighed:
        async with self._room:
            work = in_a_thread(partial(evidence.weigh, unweighed, self._rules, caller, self._stop))
            while not (await asyncio.wait({work}, timeout=RENEW_SECONDS))[0]:
                renewal = Update(completion.lease)
                await self._database.write(partial(settling.update, rules=self._rules, caller=caller, update=renewal))
            try:
                weighed = work.result()
            except OSError as error:
                raise StorageFull(
                    f"the output folder of this server cannot take the file ({error.strerror or error}); "
                    "free some space, then call again"
                ) from error
            if self._stop.is_set():
                raise ShuttingDown("the server is stopping; call again")
            return weighed

    async def note_baseline(self, claim: Claim) -> None:
        """Remember what the files that a task is expected to change are when its attempt begins."""
        wanted = evidence.declared(claim.body)
        if self._rules.outputs is None or not any(each.changed for each in wanted):
            return
        task = claim.task
        values = await self._database.read(
            lambda transaction: evidence.values_of(transaction, self._rules, task, claim.body)
        )
        found = await asyncio.to_thread(checking.baseline, wanted, values, self._rules.outputs)
        written = evidence.write_baseline(found)
        await self._database.write(
            lambda transaction: attempts.note_baseline(transaction, task.id, task.attempt, written)
        )
