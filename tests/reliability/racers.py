"""What the processes of a race do; each opens the queue for itself and starts at a barrier."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import LeaseLost, TaskQueueError
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.lists import Filter
from taskqueue_mcp.taskqueue import (
    ClaimRequest,
    Completion,
    Failure,
    Limits,
    NewTask,
    Rules,
    TaskQueue,
    Update,
    Wanted,
)
from tests.clock import Clock
from tests.reliability.shared import StandingClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from multiprocessing.synchronize import Barrier

    from taskqueue_mcp.store import Transaction

EVERYONE = Caller("everyone", Kind.AGENT, frozenset(Scope))
LIMITS = Limits(open_tasks_per_queue=1_000_000, creates_per_minute=10_000_000)
SHORT = 1
"""The shortest lease there is, in seconds."""
SECONDS = 30.0
ALL = Filter()
OPEN = "SELECT count(*) FROM tasks WHERE status IN ('pending', 'ready', 'in_progress', 'waiting')"


@asynccontextmanager
async def opened(url: str, clock: Callable[[], int] | None = None, **changes: Any) -> AsyncIterator[TaskQueue]:
    """Open the queue as this process, by its own clock or by the one that is given."""
    rules = Rules(limits=LIMITS, backoff=Backoff(0.01, 0.05, 0), **changes)
    injected = {} if clock is None else {"clock": clock}
    queue = TaskQueue(open_database(url, **injected), rules)
    try:
        yield queue
    finally:
        queue.waiters.detach()
        await queue.database.close()


async def count_open(queue: TaskQueue) -> int:
    return int((await queue.database.read(lambda transaction: transaction.all(OPEN)))[0][0])


def _tell(path: str, told: Any) -> None:
    written = Path(f"{path}.part")
    written.write_text(json.dumps(told), encoding="utf-8")
    written.rename(path)


def drain(url: str, start: Barrier, path: str, claimers: int) -> None:
    """Claim and complete until nothing is left; tell who got what and how long the longest call took."""

    async def run() -> None:
        async with opened(url) as queue:
            handed: list[tuple[int, int, str]] = []
            longest = 0.0

            async def claimer(name: str) -> None:
                nonlocal longest
                while True:
                    begun = time.monotonic()
                    claim = await queue.claim(EVERYONE, ClaimRequest(worker=name))
                    longest = max(longest, time.monotonic() - begun)
                    if claim is None:
                        if await count_open(queue) == 0:
                            return
                        await asyncio.sleep(0.005)
                        continue
                    handed.append((claim.task.id, claim.task.attempt, name))
                    begun = time.monotonic()
                    await queue.complete(EVERYONE, Completion(claim.lease, name))
                    longest = max(longest, time.monotonic() - begun)

            start.wait()
            async with asyncio.TaskGroup() as group:
                for number in range(claimers):
                    group.create_task(claimer(f"{Path(path).stem}-{number}"))
        _tell(path, {"handed": handed, "longest": longest})

    asyncio.run(run())


def create_all(url: str, start: Barrier, path: str, keys: list[str]) -> None:
    """Create a task a key, all at once; tell which task each key made and whether it was this process's."""

    async def run() -> None:
        async with opened(url) as queue:
            start.wait()
            asked = [queue.create(EVERYONE, NewTask(Wanted(title=key), idempotency_key=key)) for key in keys]
            made = await asyncio.gather(*asked)
        _tell(path, [[each.task.id, each.created] for each in made])

    asyncio.run(run())


def tick(url: str, start: Barrier, instants: list[int]) -> None:
    """Tick at each instant at the same time as everyone else."""

    async def run() -> None:
        clock = Clock()
        clock.set(instants[0])
        async with opened(url, clock) as queue:
            for instant in instants:
                clock.set(instant)
                start.wait()
                await queue.tick()

    asyncio.run(run())


def keep_time(url: str, clock: str) -> None:
    """Do what the test's clock asks for as soon as it asks, until killed."""

    async def run() -> None:
        shown = StandingClock(Path(clock))
        done = None
        async with opened(url, shown) as queue:
            while True:
                now = shown()
                if now == done:
                    await asyncio.sleep(0.001)  # nothing more is due until the clock moves: leave the database alone
                    continue
                following = await queue.next_instant()
                if following is not None and following <= now:
                    await queue.tick()
                else:
                    done = now

    asyncio.run(run())


def hold(url: str, folder: str, name: str) -> None:
    """Claim with the shortest lease and say so; when told to go on, try everything with it and tell what came of it."""

    async def run() -> None:
        async with opened(url) as queue:
            claim = await queue.claim(EVERYONE, ClaimRequest(worker=name, lease_seconds=SHORT))
            assert claim is not None
            _tell(f"{folder}/{name}.holds", {"task": claim.task.id, "lease": claim.lease})
            await appears(Path(folder, f"{name}.go"))
            forged = f"T-{claim.task.id}.{claim.task.attempt + 1}.{claim.lease.rpartition('.')[2]}"
            told = {
                "stale": await attempts_to_write(queue, EVERYONE, claim.lease),
                "forged": await attempts_to_write(queue, EVERYONE, forged),
            }
        _tell(f"{folder}/{name}.told", told)

    asyncio.run(run())


async def attempts_to_write(queue: TaskQueue, caller: Caller, lease: str) -> dict[str, str]:
    """Try everything that can be written with a lease; return what came of each."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "complete": lambda: queue.complete(caller, Completion(lease, "the first holder's")),
        "update": lambda: queue.update(caller, Update(lease, message="still here", log="late\n")),
        "fail": lambda: queue.fail(caller, Failure(lease, "no luck")),
        "create": lambda: queue.create(caller, NewTask(Wanted(title="a child"), lease=lease)),
    }
    told = {}
    for called, call in calls.items():
        try:
            await call()
            told[called] = "done"
        except TaskQueueError as error:
            told[called] = f"{type(error).__name__}: {error}"
    return told


def write_slowly(url: str, folder: str, seconds: float) -> None:
    """Be in the middle of a write for so long, and say so."""

    async def run() -> None:
        async with opened(url) as queue:

            def work(transaction: Transaction) -> None:
                transaction.run("UPDATE queues SET state = state")
                Path(folder, "writing").touch()
                time.sleep(seconds)

            await queue.database.write(work)

    asyncio.run(run())


def settle_late(url: str, folder: str, name: str) -> None:
    """Claim with the shortest lease and say so; when told to go on, complete and tell whether that was accepted."""

    async def run() -> None:
        async with opened(url) as queue:
            claim = await queue.claim(EVERYONE, ClaimRequest(worker=name, lease_seconds=SHORT))
            assert claim is not None
            _tell(f"{folder}/{name}.holds", {"task": claim.task.id})
            await appears(Path(folder, "go"))
            try:
                await queue.complete(EVERYONE, Completion(claim.lease, name))
                accepted = True
            except LeaseLost:
                accepted = False
        _tell(f"{folder}/{name}.told", {"task": claim.task.id, "accepted": accepted})

    asyncio.run(run())


def park(url: str, folder: str, rounds: int) -> None:
    """Park a claim on an empty queue, say so, and tell when it came back; and again."""

    async def run() -> None:
        async with opened(url) as queue:
            for number in range(rounds):

                async def parked(_: float, number: int = number) -> None:
                    Path(folder, f"parked-{number}").touch()

                claim = await queue.claim_when_ready(EVERYONE, ClaimRequest(worker="parked"), SECONDS, parked)
                at = time.monotonic()
                assert claim is not None
                await queue.complete(EVERYONE, Completion(claim.lease, "woken"))
                _tell(f"{folder}/woken-{number}", at)

    asyncio.run(run())


async def pause() -> None:
    """Let others go on for a moment."""
    await asyncio.sleep(0.005)


async def appears(path: Path, seconds: float = SECONDS) -> Path:
    """Wait for a file that another process makes; that sets no event of ours, so it is looked for."""
    async with asyncio.timeout(seconds):
        while not path.exists():
            await pause()
    return path
