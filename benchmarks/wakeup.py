"""How soon a parked claim, its commit included, returns a task that is created: from create's answer to the claim's."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from uvloop import new_event_loop

from benchmarks.measuring import Figure, at_most, disk, folder
from benchmarks.wire import Connection, Server
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Rules, TaskQueue, Wanted

CALLER = local_person()
PAUSE = 0.02
"""Long enough for the claim to have parked again, in seconds."""


def run(*, quick: bool) -> list[Figure]:
    """In one process, between two, and between two clients of one server."""
    count = 30 if quick else 150
    with folder() as where, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return [
            _figure("one process", 1.5, runner.run(_one_process(where / "one.db", count))),
            _figure("another process on the file", 5.0, runner.run(_two_processes(where / "two.db", count))),
            _figure("another client of an HTTP server", 1.5, runner.run(_two_clients(where / "http.db", count))),
            disk(where),
        ]


def _figure(name: str, target: float, took: list[float]) -> Figure:
    late = sorted(took)[int(len(took) * 0.95)] * 1e3
    return at_most(name, statistics.median(took) * 1e3, target, "ms", f"median; 95 % within {late:.2f} ms")


async def _one_process(path: Path, count: int) -> list[float]:
    queue = _open(path)
    took = []
    for _ in range(count):
        parked = asyncio.ensure_future(_claim(queue))
        await asyncio.sleep(PAUSE)
        await queue.create(CALLER, NewTask(Wanted(title="wake up")))
        created = time.perf_counter()
        took.append(await parked - created)
    await queue.database.close()
    return took


async def _two_processes(path: Path, count: int) -> list[float]:
    queue = _open(path)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.wakeup", str(path), str(count), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    await child.stdout.readline()
    created = []
    for _ in range(count):
        await asyncio.sleep(PAUSE)
        await queue.create(CALLER, NewTask(Wanted(title="wake up")))
        created.append(time.perf_counter())
    claimed = json.loads(await child.stdout.readline())
    await child.wait()
    await queue.database.close()
    return [at - since for since, at in zip(created, claimed, strict=True)]


async def _two_clients(path: Path, count: int) -> list[float]:
    server = Server.of_queue(path)
    creating, claiming = await Connection.open(server.port), await Connection.open(server.port)

    async def claim() -> tuple[str, float]:
        found = await claiming.call("claim_task", {"worker": "bench", "wait_seconds": 10})
        return found["lease"], time.perf_counter()

    took = []
    for _ in range(count):
        parked = asyncio.ensure_future(claim())
        await asyncio.sleep(PAUSE)
        await creating.call("create_task", {"title": "wake up"})
        created = time.perf_counter()
        lease, claimed = await parked
        took.append(claimed - created)
        await claiming.call("complete_task", {"lease": lease})
    creating.close()
    claiming.close()
    server.close()
    return took


def _open(path: Path) -> TaskQueue:
    return TaskQueue(open_database(f"sqlite:///{path}"), Rules())


async def _claim(queue: TaskQueue) -> float:
    """Park until there is a task; return when it came."""
    claim = await queue.claim_when_ready(CALLER, ClaimRequest(worker="bench"), 10)
    at = time.perf_counter()
    assert claim is not None
    await queue.complete(CALLER, Completion(claim.lease, "done"))
    return at


async def _claim_all(path: Path, count: int) -> None:
    queue = _open(path)
    print("ready", flush=True)
    print(json.dumps([await _claim(queue) for _ in range(count)]))
    await queue.database.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as its_own:
        its_own.run(_claim_all(Path(sys.argv[1]), int(sys.argv[2])))
