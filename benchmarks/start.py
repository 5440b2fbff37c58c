"""From the start of a process to its first answer, and what it holds in memory when nothing happens."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, at_most, folder, ratio
from benchmarks.wire import Server, Stdio

if TYPE_CHECKING:
    from pathlib import Path

SDK = """
from mcp.server import MCPServer
server = MCPServer("bench", log_level="ERROR")
@server.tool(structured_output=False)
async def noop() -> str:
    return "done"
server.run("stdio")
"""
SETTLED = 1.0
LONGEST = 1.15
MOST_MEMORY = 85.0


def run(*, quick: bool) -> list[Figure]:
    """`taskqueue-mcp stdio` on a file that exists, against the SDK's server with one tool, in turn."""
    rounds = 5 if quick else 15
    with folder() as where:
        commands = {
            "ours": ("-m", "taskqueue_mcp", "stdio", "--database", f"sqlite:///{where / 'queue.db'}"),
            "SDK": ("-c", SDK),
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                begin = time.perf_counter()
                server = Stdio(*command)
                if number:  # the first round makes the file and warms the disk's cache
                    took[name].append(time.perf_counter() - begin)
                server.close()
        middle = {name: statistics.median(found) for name, found in took.items()}
        detail = f"{middle['ours'] * 1e3:.0f} to {middle['SDK'] * 1e3:.0f} ms"
        return [
            at_most("stdio: to the answered initialize", ratio(took["ours"], took["SDK"]), LONGEST, detail=detail),
            *_memory(where, commands["ours"]),
        ]


def _memory(where: Path, command: tuple[str, ...]) -> list[Figure]:
    stdio, http = Stdio(*command), Server.of_queue(where / "http.db")
    time.sleep(SETTLED)
    held = {"stdio": stdio.memory, "HTTP": http.memory}
    stdio.close()
    http.close()
    return [at_most(f"{name}: idle memory", held[name], MOST_MEMORY, "MB") for name in held]
