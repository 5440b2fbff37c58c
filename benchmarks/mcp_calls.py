"""claim_task and complete_task as a client sees them, at full durability, against plain routes and a tool that does nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from uvloop import new_event_loop

from benchmarks.filling import fill
from benchmarks.measuring import Figure, at_least, at_most, folder, ratio
from benchmarks.wire import Connection, Server, Stdio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Cycle = Callable[[Connection, str], Awaitable[None]]

ADDED = 0.3
TARGETS = {1: 0.4, 32: 0.3}


def run(*, quick: bool) -> list[Figure]:
    """The servers are real processes and are asked in turn; tasks are created beforehand, by SQL."""
    with folder() as where, asyncio.Runner(loop_factory=new_event_loop) as runner:
        http = runner.run(_http(where, rounds=3 if quick else 9))
        return [*http, *_stdio(where, rounds=3 if quick else 9)]


async def _http(where: Path, rounds: int) -> list[Figure]:
    for name in ("ours", "bare"):
        fill(where / f"{name}.db", ready=9_000)
    ours = Server.of_queue(where / "ours.db")
    bare = Server("-m", "benchmarks.serving", "bare", str(where / "bare.db"))
    nothing = Server("-m", "benchmarks.serving", "noop")
    try:
        rates: dict[tuple[str, int], list[float]] = {}
        for number in range(rounds + 1):
            for in_flight, count in ((1, 200), (32, 640)):
                for name, server, cycle in (("ours", ours, _over_mcp), ("bare", bare, _over_routes)):
                    rate = await _rate(server.port, cycle, in_flight, count)
                    if number:  # the first round warms up
                        rates.setdefault((name, in_flight), []).append(rate)
            for name in ("ours", "bare"):
                fill(where / f"{name}.db", ready=840)
        figures = []
        for in_flight, target in TARGETS.items():
            mine, theirs = rates["ours", in_flight], rates["bare", in_flight]
            detail = f"{statistics.median(mine):,.0f} to {statistics.median(theirs):,.0f} cycles/s"
            name = f"HTTP, {in_flight} in flight: to plain routes"
            figures.append(at_least(name, ratio(mine, theirs), target, detail))
        took = await _latencies(ours.port, nothing.port, rounds * 60)
        return [*figures, *_added("HTTP", took)]
    finally:
        for server in (ours, bare, nothing):
            server.close()


async def _rate(port: int, cycle: Cycle, in_flight: int, count: int) -> float:
    connections = [await Connection.open(port) for _ in range(in_flight)]

    async def some(connection: Connection, worker: str) -> None:
        for _ in range(count // in_flight):
            await cycle(connection, worker)

    begin = time.perf_counter()
    await asyncio.gather(*(some(each, f"w{number}") for number, each in enumerate(connections)))
    took = time.perf_counter() - begin
    for connection in connections:
        connection.close()
    return count / took


async def _over_mcp(connection: Connection, worker: str) -> None:
    claimed = await connection.call("claim_task", {"worker": worker})
    await connection.call("complete_task", {"lease": claimed["lease"], "result_summary": "done"})


async def _over_routes(connection: Connection, worker: str) -> None:
    claimed = await connection.post("/claim", {"worker": worker})
    await connection.post("/complete", {"lease": claimed["lease"], "result_summary": "done"})


async def _latencies(port: int, nothing: int, count: int) -> dict[str, list[float]]:
    connection, other = await Connection.open(port), await Connection.open(nothing)
    took: dict[str, list[float]] = {"noop": [], "claim_task": [], "complete_task": []}

    async def timed(asked: Connection, tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        answer = await asked.call(tool, arguments)
        took[tool].append(time.perf_counter() - begin)
        return answer

    for _ in range(count):
        await timed(other, "noop", {})
        claimed = await timed(connection, "claim_task", {"worker": "bench"})
        await timed(other, "noop", {})
        await timed(connection, "complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    connection.close()
    other.close()
    return took


def _stdio(where: Path, rounds: int) -> list[Figure]:
    fill(where / "stdio.db", ready=9_000)
    ours = Stdio("-m", "taskqueue_mcp", "stdio", "--database", f"sqlite:///{where / 'stdio.db'}")
    nothing = Stdio("-m", "benchmarks.serving", "stdio")
    took: dict[str, list[float]] = {"noop": [], "claim_task": [], "complete_task": []}

    def timed(asked: Stdio, tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        answer = asked.call(tool, arguments)
        took[tool].append(time.perf_counter() - begin)
        return answer

    for _ in range(rounds * 60):
        timed(nothing, "noop", {})
        claimed = timed(ours, "claim_task", {"worker": "bench"})
        timed(nothing, "noop", {})
        timed(ours, "complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    ours.close()
    nothing.close()
    return _added("stdio", took)


def _added(transport: str, took: dict[str, list[float]]) -> list[Figure]:
    middle = {tool: statistics.median(found[len(found) // 10 :]) * 1e3 for tool, found in took.items()}
    return [
        at_most(f"{transport}: what {tool} adds to a tool that does nothing", middle[tool] - middle["noop"], ADDED, "ms",
                f"{middle[tool]:.3f} to {middle['noop']:.3f} ms")
        for tool in ("claim_task", "complete_task")
    ]  # fmt: skip
