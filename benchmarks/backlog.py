"""What 10,000 open tasks do to every tool's latency, seen by a client over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from typing import Any

from uvloop import new_event_loop

from benchmarks.filling import fill
from benchmarks.measuring import Figure, at_most, folder, ratio
from benchmarks.wire import Connection, Server

FEW, MANY = 100, 10_000
TARGET = 1.10
ROOM = {"TASKQUEUE_LIMITS__OPEN_TASKS_PER_QUEUE": "20000"}


def run(*, quick: bool) -> list[Figure]:
    """Two servers are asked in turn; one has a page or five of open tasks, the other 10,000."""
    rounds = 40 if quick else 200
    with folder() as where, asyncio.Runner(loop_factory=new_event_loop) as runner:
        servers = {}
        for count in (FEW, MANY):
            fill(where / f"{count}.db", ready=count // 2, later=count // 2)
            servers[count] = Server.of_queue(where / f"{count}.db", **ROOM)
        try:
            took = runner.run(_ask({count: server.port for count, server in servers.items()}, rounds))
        finally:
            for server in servers.values():
                server.close()
    figures = []
    for tool, found in took.items():
        few, many = (statistics.median(found[count]) * 1e3 for count in (FEW, MANY))
        figures.append(at_most(tool, ratio(found[MANY], found[FEW]), TARGET, detail=f"{many:.2f} to {few:.2f} ms"))
    return figures


async def _ask(ports: dict[int, int], rounds: int) -> dict[str, dict[int, list[float]]]:
    took: dict[str, dict[int, list[float]]] = {}
    desks = {count: _Desk(await Connection.open(port)) for count, port in ports.items()}
    for number in range(rounds + 5):
        for count, desk in desks.items() if number % 2 else reversed(desks.items()):
            for tool, seconds in await desk.round():
                if number >= 5:  # the first rounds warm up
                    took.setdefault(tool, {}).setdefault(count, []).append(seconds)
    for desk in desks.values():
        desk.connection.close()
    return took


class _Desk:
    """A client that calls every tool in turn and leaves as many open tasks as it found."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._took: list[tuple[str, float]] = []
        self._numbers = itertools.count()

    async def round(self) -> list[tuple[str, float]]:
        self._took = []
        number = next(self._numbers)
        made = await self._timed(
            "create_task", {"title": f"Task {number}", "instructions": "Count.", "priority": "urgent"}
        )
        task_id = made["task"]["id"]
        await self._timed("list_ready", {})
        await self._timed("list_tasks", {})
        await self._timed("list_tasks", {"status": "ready"}, " of a status")
        await self._timed("list_tasks", {"status": "open"}, " that are open")
        await self._timed("list_tasks", {"status": "completed"}, " that are completed")
        await self._timed("list_tasks", {"search": f"Task {number}"}, " by words")
        await self._timed("get_task", {"task_id": task_id})
        lease = (await self._timed("claim_task", {"worker": "bench"}))["lease"]
        await self._timed("update_task", {"lease": lease, "progress": 50})
        await self._timed("complete_task", {"lease": lease, "result_summary": "done"})
        other = await self.connection.call("create_task", {"title": "Another", "priority": "urgent"})
        lease = (await self.connection.call("claim_task", {"worker": "bench"}))["lease"]
        await self._timed("fail_task", {"lease": lease, "error_log": "no", "kind": "permanent"})
        await self._timed("answer_task", {"task_id": other["task"]["id"], "action": "retry"})
        await self._timed("cancel_task", {"task_id": other["task"]["id"]})
        await self._timed("schedule_task", {"name": "nightly", "cron": f"{number % 60} 3 * * *", "title": "Nightly"})
        await self._timed("manage_schedule", {"action": "preview", "name": "nightly"})
        return self._took

    async def _timed(self, tool: str, arguments: dict[str, Any], which: str = "") -> Any:
        begin = time.perf_counter()
        answer = await self.connection.call(tool, arguments)
        self._took.append((tool + which, time.perf_counter() - begin))
        return answer
