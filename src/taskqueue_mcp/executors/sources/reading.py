"""What every source has in common: read only, within a time and a number of rows, until told to stop."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

FIRST_BATCH, LARGEST_BATCH = 32, 1_024
"""Rows that are fetched together: few at first, as nobody knows yet how wide they are."""
LARGEST_BATCH_CHARACTERS: Final = 2_000_000
PROBE_SECONDS: Final = 5.0

Row = Any
"""A sequence of cells, as the driver makes it."""


class ReadFailed(Exception):
    """The source said no; `passing` means that another attempt may find it otherwise."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Halted(Exception):
    """The read was told to stop."""


class Reader(ABC):
    """One visit to a source, of at most `seconds`. All of its statements see the same moment where it can say so.

    Open and read on one thread; `halt` comes from any.
    """

    def __init__(self, *, seconds: float, most_rows: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._most_rows = most_rows
        self._halted = threading.Event()

    @abstractmethod
    def halt(self) -> None:
        """End what is being read, now and for good."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[None]:
        """Hold the source open for what is read within.

        Raises:
            ReadFailed: it is missing, out of reach or locked, here and from whatever is read within.
            Halted: `halt` was called.
        """

    @abstractmethod
    def check(self, sql: str, params: Mapping[str, Any]) -> None:
        """Refuse what `read` would refuse, as far as that can be told without running it.

        Raises:
            ReadFailed: the statement is wrong, writes, or is more than one.
        """

    @abstractmethod
    def read(self, sql: str, params: Mapping[str, Any]) -> tuple[list[str], Iterator[Row]]:
        """The columns of one statement and its rows, which are fetched as they are asked for.

        `:name` in it stands for a parameter, which is bound and never pasted in; more parameters may be given.

        Raises:
            ReadFailed: the statement is wrong, writes, or is more than one.
        """

    def wanted(self) -> None:
        """Go on only if nobody has called `halt`.

        Raises:
            Halted: somebody has.
        """
        if self._halted.is_set():
            raise Halted

    def _left(self) -> float:
        """How many seconds the visit may still last, none of them negative."""
        return max(0.0, self._deadline - time.monotonic())

    def _over(self) -> bool:
        return self._halted.is_set() or time.monotonic() > self._deadline

    def _ended(self) -> Exception:
        if self._halted.is_set():
            return Halted()
        return ReadFailed(f"timed out after {self._seconds:g} s; narrow it or give it longer", passing=True)

    def _rows(self, fetch: Callable[[int], Sequence[Row]]) -> Iterator[Row]:
        """The rows that `fetch` brings, a batch at a time: a look at each of them costs more than the row itself."""
        return chain.from_iterable(self._batches(fetch))

    def _batches(self, fetch: Callable[[int], Sequence[Row]]) -> Iterator[Sequence[Row]]:
        count, size = 0, FIRST_BATCH
        while True:
            batch = fetch(size)
            if self._over():
                raise self._ended()
            if not batch:
                return
            count += len(batch)
            if count > self._most_rows:
                raise ReadFailed(f"more than {self._most_rows:,} rows; narrow the query")
            yield batch
            size = min(2 * size, LARGEST_BATCH, LARGEST_BATCH_CHARACTERS // (width(batch[-1]) + 1) + 1)


class Source(ABC):
    """Something that can be read, under the name that the owner gave it."""

    takes_sql: bool = True

    @abstractmethod
    def open(self, *, seconds: float, most_rows: int) -> Reader:
        """A visit of at most `seconds` that reads at most `most_rows` with each statement; enter its `opened()`."""

    def uses(self, name: str, sql: str) -> bool:
        """Whether a parameter of this name is of any use with `sql`."""
        return f":{name}" in sql

    def lack(self) -> str | None:
        """What is missing on this machine before the source can be read, in a line; None where nothing is."""
        return None

    def probe(self, seconds: float) -> str | None:  # noqa: ARG002 - those that can be out of reach look
        """Why it cannot be read now, in a line; None where it can. Takes at most `seconds`."""
        return self.lack()


def width(row: Row) -> int:
    """How many characters or bytes of text a row holds."""
    return sum(len(cell) for cell in row if isinstance(cell, str | bytes))


async def lacking(sources: Mapping[str, Source]) -> str | None:
    """Why none of the sources can be read now, in a line; None where one of them can."""
    if not sources:
        return "no source is configured; name one under [worker.sources] or with --source NAME=PATH"
    reasons: dict[str, str] = {}

    async def look(name: str, source: Source) -> None:
        if why := await anyio.to_thread.run_sync(source.probe, PROBE_SECONDS, abandon_on_cancel=True):
            reasons[name] = why

    async with anyio.create_task_group() as group:
        for name, source in sources.items():
            group.start_soon(look, name, source)
    if len(reasons) < len(sources):
        return None
    return "; ".join(f"source {name}: {why}" for name, why in sorted(reasons.items()))


def one_of(sources: Mapping[str, Source], wanted: str | None) -> str:
    """The name of the source to read: the one wanted, or else the only one.

    Raises:
        InvalidInput: there is none of that name, or none was named and there is not exactly one.
    """
    names = ", ".join(sorted(sources)) or "none; configure one in the settings"
    if wanted is None and len(sources) == 1:
        return next(iter(sources))
    if wanted is None:
        raise InvalidInput(f"which source to read is not said; give source, there is {names}")
    if wanted not in sources:
        raise InvalidInput(f"no source {wanted[:80]!a}; there is {names}")
    return wanted
