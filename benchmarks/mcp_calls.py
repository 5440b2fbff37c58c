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


BLOCK, COLD = 40, 10


class Latencies:
    """How long calls took, in blocks: a process that others have pushed out of the caches is slow for a few calls."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[list[float]]] = {}

    def begin(self) -> None:
        for blocks in self.blocks.values():
            blocks.append([])

    def note(self, tool: str, seconds: float) -> None:
        self.blocks.setdefault(tool, [[]])[-1].append(seconds)

    def medians(self, tool: str) -> list[float]:
        """The median of each block, without its first calls, in milliseconds."""
        return [statistics.median(block[COLD:]) * 1e3 for block in self.blocks[tool]]


def _added(transport: str, ours: Latencies, nothing: Latencies, target: float | None = ADDED) -> list[Figure]:
    figures = []
    without = nothing.medians("noop")
    for tool in ("claim_task", "complete_task"):
        found = ours.medians(tool)
        added = statistics.median(one - other for one, other in zip(found, without, strict=True))
        name = f"{transport}: {tool} adds to doing nothing"
        detail = f"{statistics.median(found):.3f} to {statistics.median(without):.3f} ms"
        if target is None:
            figures.append(Figure(name, f"{added:.3g} ms ({detail})"))
        else:
            figures.append(at_most(name, added, target, "ms", detail))
    return figures


def run(*, quick: bool) -> list[Figure]:
    """The servers are real processes and are asked in turn; tasks are created beforehand, by SQL."""
    rounds = 3 if quick else 9
    with folder() as where, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return [*runner.run(_http(where, rounds)), *_stdio(where, rounds * 2), disk(where)]


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
        ports = {name: server.port for name, server in servers.items() if name != "bare"}
        found = await _latencies(ports, rounds * 2)
        return [
            *figures,
            *_added("HTTP", found["ours"], found["noop"]),
            *_added("HTTP, synchronous=off", found["off"], found["noop"], None),
        ]
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


async def _latencies(ports: dict[str, int], rounds: int) -> dict[str, Latencies]:
    found = {name: Latencies() for name in ports}
    connections = {name: await Connection.open(port) for name, port in ports.items()}

    async def timed(name: str, tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        answer = await connections[name].call(tool, arguments)
        found[name].note(tool, time.perf_counter() - begin)
        return answer

    for _ in range(rounds):
        for name, latencies in found.items():
            latencies.begin()
            for _ in range(BLOCK):
                if name == "noop":
                    await timed(name, "noop", {})
                else:
                    claimed = await timed(name, "claim_task", {"worker": "bench"})
                    await timed(name, "complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    for connection in connections.values():
        connection.close()
    return found


def _stdio(where: Path, rounds: int) -> list[Figure]:
    servers = {"noop": Stdio("-m", "benchmarks.serving", "stdio")}
    for name, database in (("ours", "stdio.db"), ("off", "stdio-off.db?synchronous=off")):
        fill(where / database.partition("?")[0], ready=9_000)
        servers[name] = Stdio("-m", "taskqueue_mcp", "stdio", "--database", f"sqlite:///{where / database}")
    found = {name: Latencies() for name in servers}

    def timed(name: str, tool: str, arguments: dict[str, Any]) -> Any:
        begin = time.perf_counter()
        answer = servers[name].call(tool, arguments)
        found[name].note(tool, time.perf_counter() - begin)
        return answer

    for _ in range(rounds):
        for name, latencies in found.items():
            latencies.begin()
            for _ in range(BLOCK):
                if name == "noop":
                    timed(name, "noop", {})
                else:
                    claimed = timed(name, "claim_task", {"worker": "bench"})
                    timed(name, "complete_task", {"lease": claimed["lease"], "result_summary": "done"})
    for server in servers.values():
        server.close()
    return [
        *_added("stdio", found["ours"], found["noop"]),
        *_added("stdio, synchronous=off", found["off"], found["noop"], None),
    ]
