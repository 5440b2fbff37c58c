"""claim_task and complete_task at full durability, against plain routes and against a tool that does nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from uvloop import new_event_loop

from benchmarks.filling import fill
from benchmarks.measuring import Figure, at_least, at_most, disk, folder, ratio
from benchmarks.wire import Connection, Server, Stdio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Cycle = Callable[[Connection, str], Awaitable[None]]

ADDED = 0.3
TARGETS = {1: 0.4, 32: 0.3}


TOOLS = ("claim_task", "complete_task")


class Latencies:
    """Calls of a tool, each with a call of one that does nothing just before it."""

    def __init__(self) -> None:
        self.took: dict[str, list[tuple[float, float]]] = {tool: [] for tool in TOOLS}

    def figures(self, transport: str, target: float | None = ADDED) -> list[Figure]:
        figures = []
        for tool, pairs in self.took.items():
            warm = pairs[len(pairs) // 10 :]
            added = statistics.median(its - nothing for its, nothing in warm) * 1e3
            both = [statistics.median(each) * 1e3 for each in zip(*warm, strict=True)]
            name, detail = f"{transport}: {tool} adds to doing nothing", f"{both[0]:.3f} to {both[1]:.3f} ms"
            if target is None:
                figures.append(Figure(name, f"{added:.3g} ms ({detail})"))
            else:
                figures.append(at_most(name, added, target, "ms", detail))
        return figures


def run(*, quick: bool) -> list[Figure]:
    """The servers are real processes and are asked in turn; tasks are created beforehand, by SQL."""
    rounds = 3 if quick else 9
    with folder() as where, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return [*runner.run(_http(where, rounds)), *_stdio(where, rounds), disk(where)]


async def _http(where: Path, rounds: int) -> list[Figure]:
    for name in ("ours", "bare", "off"):
        fill(where / f"{name}.db", ready=9_000)
    servers = {
        "ours": Server.of_queue(where / "ours.db"),
        "off": Server.of_queue(where / "off.db?synchronous=off"),
        "bare": Server("-m", "benchmarks.serving", "bare", str(where / "bare.db")),
        "noop": Server("-m", "benchmarks.serving", "noop"),
    }
    try:
        rates: dict[tuple[str, int], list[float]] = {}
        for number in range(rounds + 1):
            for in_flight, count in ((1, 200), (32, 640)):
                for name, cycle in (("ours", _over_mcp), ("bare", _over_routes)):
                    rate = await _rate(servers[name].port, cycle, in_flight, count)
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
        ports = {name: server.port for name, server in servers.items()}
        full, off = await _latencies(ports, rounds * 60)
        return [*figures, *full.figures("HTTP"), *off.figures("HTTP, synchronous=off", None)]
    finally:
        for server in servers.values():
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


async def _latencies(ports: dict[str, int], count: int) -> tuple[Latencies, Latencies]:
    connections = {name: await Connection.open(port) for name, port in ports.items()}
    found = {"ours": Latencies(), "off": Latencies()}

    async def timed(name: str, tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        await connections["noop"].call("noop", {})
        between = time.perf_counter()
        answer = await connections[name].call(tool, arguments)
        found[name].took[tool].append((time.perf_counter() - between, between - begin))
        return answer

    for _ in range(count):
        for name in found:
            claimed = await timed(name, "claim_task", {"worker": "bench"})
            await timed(name, "complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    for connection in connections.values():
        connection.close()
    return found["ours"], found["off"]


def _stdio(where: Path, rounds: int) -> list[Figure]:
    fill(where / "stdio.db", ready=9_000)
    ours = Stdio("-m", "taskqueue_mcp", "stdio", "--database", f"sqlite:///{where / 'stdio.db'}")
    nothing = Stdio("-m", "benchmarks.serving", "stdio")
    found = Latencies()

    def timed(tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        nothing.call("noop", {})
        between = time.perf_counter()
        answer = ours.call(tool, arguments)
        found.took[tool].append((time.perf_counter() - between, between - begin))
        return answer

    for _ in range(rounds * 60):
        claimed = timed("claim_task", {"worker": "bench"})
        timed("complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    ours.close()
    nothing.close()
    return found.figures("stdio")
