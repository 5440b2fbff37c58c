"""How many tasks each executor may have at once, and which slot may claim for which of them.

A slot claims only for executors of which it has reserved a place: two slots that both asked for the last one would
both be handed a task. When a place becomes free, one parked slot takes it up and asks anew, with the same claim id, so
that what it was handed meanwhile is not lost.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Hold:
    """What one slot has reserved while it claims; `names` is what it may ask for."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.executors: set[str] = set()
        self._news = anyio.Event()
        self._asking: anyio.CancelScope | None = None

    def asking(self) -> anyio.CancelScope:
        """Return the scope of one call, which is cancelled when something else has to be asked for."""
        self._asking = anyio.CancelScope()
        return self._asking

    async def changed(self) -> None:
        """Return once there is something else to ask for."""
        await self._news.wait()
        self._news = anyio.Event()

    def wake(self) -> None:
        """Have the slot ask anew."""
        self._news.set()
        if self._asking is not None:
            self._asking.cancel()


class Room:
    """The places of all executors. `carries_out` names the executor that does the tasks for a name now, if any does."""

    def __init__(self, names: Iterable[str], most: Mapping[str, int], carries_out: Callable[[str], str | None]) -> None:
        self._names = sorted(names)
        self._most = most
        self._carries_out = carries_out
        self._taken: Counter[str] = Counter()
        self._parked: list[Hold] = []

    def enter(self) -> Hold:
        """Return the hold of a slot that is about to claim, with what it may ask for now."""
        hold = Hold()
        self._parked.append(hold)
        self._reserve(hold)
        return hold

    def changed(self) -> None:
        """Let parked slots take up what has become free, and drop what nobody carries out any more."""
        for hold in self._parked:
            if self._reserve(hold):
                hold.wake()

    def wake(self) -> None:
        """Have every parked slot look up."""
        for hold in self._parked:
            hold.wake()

    def leave(self, hold: Hold, claimed: str | None) -> str | None:
        """Give back what a slot has reserved but for the place of the task that it claimed, if it did.

        Return the executor of that task. It may be one place too many, where the task had been handed out to an
        earlier question.
        """
        self._parked.remove(hold)
        place = None if claimed is None else self._carries_out(claimed) or claimed
        if place is not None:
            self._taken[place] += 1
        for executor in hold.executors:
            self._taken[executor] -= 1
        self.changed()
        return place

    def give_back(self, place: str) -> None:
        """Free the place of a task that is over."""
        self._taken[place] -= 1
        self.changed()

    def _reserve(self, hold: Hold) -> bool:
        """Bring a hold up to date; return whether there is something else to ask for."""
        doing = {name: self._carries_out(name) for name in self._names}
        needed = {executor for executor in doing.values() if executor is not None}
        for executor in hold.executors - needed:
            self._taken[executor] -= 1
        for executor in needed - hold.executors:
            if executor not in self._most or self._taken[executor] < self._most[executor]:
                self._taken[executor] += 1
                hold.executors.add(executor)
        hold.executors &= needed
        before, hold.names = hold.names, tuple(name for name in self._names if doing[name] in hold.executors)
        return hold.names != before
