"""Which executors can work on this machine now, and who stands in for one that cannot.

A task must not fail because a machine lacks something. So an executor is asked before anything is claimed for it, and
asked again for as long as it cannot work; meanwhile its tasks wait for a machine that can, or for its stand-in.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from taskqueue_mcp.executors.base import Executor
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.worker.connection import in_a_line, leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from taskqueue_mcp.executors.base import Registry
    from taskqueue_mcp.worker.bench import Bench

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
"""How long one look may take."""
AGAIN_SECONDS: Final = 60.0
"""After which an executor that can work is looked at again."""
ASKING_AGAIN: Final = Backoff(first_seconds=1.0, longest_seconds=60.0, jitter=0.2)
MICROS: Final = 1_000_000
LONGEST_REASON: Final = 300


class Unfit(Exception):
    """This machine cannot do it now, in a line."""


@dataclass(slots=True)
class _State:
    """What is known of one executor: why it cannot work (empty: it can), and since when."""

    looked: bool = False
    reason: str = ""
    since: float = 0.0


class Fitness:
    """Looks at the executors of a worker for as long as it runs.

    `stand_ins` names the executor that carries out the tasks of another which could not work for `patience` seconds.
    """

    def __init__(
        self, registry: Registry, bench: Bench, output: Path, *, stand_ins: Mapping[str, str], patience: float
    ) -> None:  # fmt: skip
        self._registry = registry
        self._bench = bench
        self._output = output
        self._stand_ins = stand_ins
        self._patience = patience
        self._changed: Callable[[], None] = _nobody
        self._states = {name: _State() for name in registry}
        self._doubts = {name: anyio.Event() for name in registry}
        self._looked = anyio.Event()

    async def run(self, changed: Callable[[], None]) -> None:
        """Look until cancelled, and say when something is different."""
        self._changed = changed
        async with anyio.create_task_group() as group:
            for name, executor in self._registry.items():
                group.start_soon(self._look_after, name, executor)

    async def first_look(self) -> None:
        """Return once every executor has been looked at."""
        await self._looked.wait()

    def doubt(self, name: str) -> None:
        """Look at an executor now: an attempt of it has gone wrong."""
        if name in self._doubts:
            self._doubts[name].set()

    def carries_out(self, name: str) -> str | None:
        """Return the executor that carries out tasks for `name` now: itself, its stand-in, or none."""
        state = self._states.get(name)
        if state is None or not state.looked:
            return None
        if not state.reason:
            return name
        other = self._stand_ins.get(name)
        if other is None or anyio.current_time() - state.since < self._patience:
            return None
        stand_in = self._states.get(other)
        return other if stand_in is not None and stand_in.looked and not stand_in.reason else None

    def why_not(self, name: str) -> str:
        """Return why an executor cannot work, or an empty text."""
        return self._states[name].reason if name in self._states else ""

    def reasons(self) -> dict[str, str]:
        """Return every executor that cannot work, with the reason."""
        return {name: state.reason for name, state in self._states.items() if state.reason}

    async def _look_after(self, name: str, executor: Executor[Any]) -> None:
        always = not _looks(executor) and not executor.writes_files
        misses = 0
        while True:
            self._doubts[name] = anyio.Event()
            self._note(name, "" if always else await self._reason(executor))
            if always:
                return
            misses = misses + 1 if self._states[name].reason else 0
            pause = ASKING_AGAIN.delay(misses, 0.5) / MICROS if misses else AGAIN_SECONDS
            if misses and name in self._stand_ins:  # it may be time for the other one
                pause = min(pause, max(self._patience, 1.0))
            with anyio.move_on_after(pause):
                await self._doubts[name].wait()

    async def _reason(self, executor: Executor[Any]) -> str:
        """Return why an executor cannot work; a look that goes wrong or does not end is a reason too."""
        if executor.writes_files and (why := unwritable(self._output)):
            return why
        if not _looks(executor):
            return ""
        looking = self._bench.place.start(_asked(executor))
        try:
            done, _ = await asyncio.wait({looking}, timeout=LOOK_SECONDS)
        finally:
            if not looking.done():
                looking.cancel()
        if not done:
            return f"its pre-flight did not end within {LOOK_SECONDS:.0f} s"
        return looking.result()[:LONGEST_REASON]

    def _note(self, name: str, reason: str) -> None:
        state = self._states[name]
        before = (state.looked, state.reason)
        if reason and not state.reason:
            state.since = anyio.current_time()
        state.looked, state.reason = True, reason
        if reason and reason != before[1]:
            log.warning("no task for %s is claimed, as it cannot work here: %r", name, reason)
        elif not reason and before[1]:
            log.info("%s can work again", name)
        if all(each.looked for each in self._states.values()):
            self._looked.set()
        if before != (True, reason) or reason:  # a stand-in's time may have come
            self._changed()


def _nobody() -> None:
    """Hear nothing."""


def unwritable(folder: Path) -> str:
    """Return why no file can be written below `folder`, which is made when one is, or an empty text."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if not there.is_dir():
        return f"the output folder {folder} is no folder; set worker.output to another"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"the output folder {folder} cannot be written; mend its rights or set worker.output to another"
    return ""


def _looks(executor: Executor[Any]) -> bool:
    return type(executor).preflight is not Executor.preflight


async def _asked(executor: Executor[Any]) -> str:
    try:
        return " ".join((await executor.preflight() or "").split())
    # Anyone's code, as in an attempt.
    except (Exception, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001
        return f"its pre-flight went wrong: {in_a_line(leaf(error))}"
