"""A million finished tasks and a million ready ones: what a call costs beside that with a thousand of each."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.filling import fill, finish, index
from benchmarks.measuring import Figure, at_most, folder, ratio
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.lists import Filter
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Limits, NewTask, Rules, TaskQueue, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

CALLER = local_person()
ROOM = Limits(creates_per_minute=1_000_000_000, open_tasks_per_queue=10_000_000)
FEW, MANY, MIDDLE = 1_000, 1_000_000, 100_000
RARE, FOUND = "Look for the needle", 100
BLOCK = 10
PAGE = 20
TARGET, SEARCH_TARGET = 1.25, 3.0


def run(*, quick: bool) -> list[Figure]:
    """On SQLite, asked in turn, with commits that do not wait: the statements are measured, not the disk."""
    with folder() as where:
        return compare({size: _file(where, size) for size in sizes(quick=quick)}, quick=quick)


def sizes(*, quick: bool) -> tuple[int, ...]:
    """How many finished tasks there are, and as many ready ones."""
    return (FEW, MIDDLE) if quick else (FEW, MIDDLE, MANY)


def compare(urls: dict[int, str], *, quick: bool) -> list[Figure]:
    """Ask the databases in turn; compare the largest with the smallest."""
    desks = {size: Desk(url) for size, url in urls.items()}
    with asyncio.Runner() as runner:
        for number in range((10 if quick else 30) + 1):
            for desk in desks.values() if number % 2 else reversed(desks.values()):
                runner.run(desk.round(warm=number > 0))
        for desk in desks.values():
            runner.run(desk.queue.database.close())
    figures = []
    for call, took in desks[FEW].took.items():
        middle = {f"{size:,}": statistics.median(desk.took[call]) * 1e6 for size, desk in desks.items()}
        found = ratio(desks[max(desks)].took[call], took)
        detail = f"{', '.join(f'{each:,.0f}' for each in middle.values())} us at {', '.join(middle)} of each"
        figure = at_most(call, found, SEARCH_TARGET if call.startswith("search") else TARGET, detail=detail)
        figures.append(Figure(figure.name, figure.measured, figure.target, figure.met, middle))
    return figures


class Desk:
    """A file with so many tasks, and how long each call on it took: a median of a block a round."""

    def __init__(self, url: str) -> None:
        self.queue = TaskQueue(open_database(url), Rules(limits=ROOM))
        self.took: dict[str, list[float]] = {}

    async def round(self, *, warm: bool) -> None:
        queue, leases = self.queue, []

        async def claim() -> None:
            found = await queue.claim(CALLER, ClaimRequest(worker=f"w{len(leases)}"))
            assert found is not None
            leases.append(found.lease)

        async def listed(count: int, **narrowed: Any) -> None:
            page = await queue.list_tasks(CALLER, Filter(**narrowed), None, count)
            assert len(page.tasks) == count

        await self._timed("claim", claim, warm=warm)
        for lease in leases:
            await queue.complete(CALLER, Completion(lease, "done"))
        new = NewTask(Wanted(title="One more", instructions="Read the stock of every product."))
        await self._timed("create", lambda: queue.create(CALLER, new), warm=warm)
        await self._timed("list ready", lambda: queue.list_ready(CALLER, None, None, None, PAGE), warm=warm)
        await self._timed("list newest", lambda: listed(PAGE), warm=warm)
        await self._timed("list completed", lambda: listed(PAGE, status=("completed",)), warm=warm)
        await self._timed(f"search, {FOUND} found", lambda: listed(FOUND, search="needle"), warm=warm)

    async def _timed(self, call: str, work: Callable[[], Awaitable[object]], *, warm: bool) -> None:
        found = []
        for _ in range(BLOCK):
            begin = time.perf_counter()
            await work()
            found.append(time.perf_counter() - begin)
        if warm:
            self.took.setdefault(call, []).append(statistics.median(found))


def _file(where: Path, size: int) -> str:
    path = where / f"{size}.db"
    fill(path, ready=2 * size)
    finish(path, last=size)
    index(path, RARE, 2 * size // FOUND)
    return f"sqlite:///{path}?synchronous=off"
