"""Taking a task over stdio with so many in the backlog: our claim_task and what comes nearest in other MCP servers."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.filling import fill
from benchmarks.measuring import Figure, at_least, disk, folder, ratio
from benchmarks.peers.environment import MissingProgram
from benchmarks.peers.mcp_servers import BacklogMd, TaskMaster
from benchmarks.wire import Stdio

if TYPE_CHECKING:
    from pathlib import Path

OURS = "ours"
TARGETS = {"task-master-ai": 40.0, "backlog.md": 500.0}
CALLS = {OURS: 20, "task-master-ai": 5, "backlog.md": 1}
"""How many a round: the median of a round is what is compared."""


class Ours:
    """taskqueue-mcp stdio, at full durability."""

    name = OURS

    def __init__(self, where: Path, tasks: int) -> None:
        fill(where / "queue.db", ready=tasks)
        self._server = Stdio("-m", "taskqueue_mcp", "stdio", "--database", f"sqlite:///{where / 'queue.db'}")

    def claim(self) -> float:
        """Take a task and finish it; return the seconds that the taking took."""
        begin = time.perf_counter()
        lease = self._server.call("claim_task", {"worker": "bench"})["lease"]
        took = time.perf_counter() - begin
        self._server.call("complete_task", {"lease": lease, "result_summary": "done"})
        return took

    def close(self) -> None:
        self._server.close()


def run(*, quick: bool) -> list[Figure]:
    """Everybody in turn; beads is not here, because its package fetches a program while it is installed."""
    tasks, rounds = (500, 3) if quick else (10_000, 9)
    with folder() as where:
        servers = []
        for kind in (Ours, TaskMaster, BacklogMd):
            place = where / kind.name
            place.mkdir()
            try:
                servers.append(kind(place, tasks))
            except MissingProgram as missing:
                return [Figure("MCP servers from npm", str(missing))]
        took: dict[str, list[float]] = {server.name: [] for server in servers}
        for server in servers:
            server.claim()  # the first one reads everything
        for number in range(rounds):
            for server in servers if number % 2 else reversed(servers):
                took[server.name].append(statistics.median(server.claim() for _ in range(CALLS[server.name])))
        for server in servers:
            server.close()
        probe = disk(where)
    middle = {name: statistics.median(found) * 1e3 for name, found in took.items()}
    figures = [Figure(
        f"{tasks:,} tasks in the backlog", f"{', '.join(f'{name} {each:,.2f}' for name, each in middle.items())} ms",
        points=middle,
    )]  # fmt: skip
    figures += [at_least(f"- {name} to ours", ratio(took[name], took[OURS]), each) for name, each in TARGETS.items()]
    return [*figures, probe]
