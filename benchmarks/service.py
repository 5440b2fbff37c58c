"""create -> claim -> complete on the service, against the same rows written by hand."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite
from uvloop import new_event_loop

from benchmarks.bare import INSTRUCTIONS, PRINCIPAL, SUMMARY, TITLE, Fewest, Loop, Same
from benchmarks.measuring import Figure, at_least, disk, folder, ratio
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Limits, NewTask, Rules, TaskQueue, Wanted

if TYPE_CHECKING:
    from pathlib import Path

CALLERS = 32
SECRET = {"salt", "lease_hash", "settle_hash"}
ROWS = {
    "tasks": "SELECT * FROM tasks ORDER BY id",
    "bodies": "SELECT * FROM bodies ORDER BY task_id",
    "attempts": "SELECT * FROM attempts ORDER BY task_id",
    "events": "SELECT * FROM events ORDER BY subject_id, seq",
    "queues": "SELECT * FROM queues",
}


class Service:
    """Ours: a queue in this process, called by as many callers as are asked for."""

    def __init__(self, path: Path, synchronous: str = "full") -> None:
        self._runner = asyncio.Runner(loop_factory=new_event_loop)
        self._database = open_database(f"sqlite:///{path}?synchronous={synchronous}")
        self._queue = TaskQueue(self._database, Rules(limits=Limits(creates_per_minute=1_000_000_000)))
        self._caller = local_person(PRINCIPAL)

    def cycles(self, count: int, callers: int) -> None:
        self._runner.run(self._all(count // callers, callers))

    async def _all(self, count: int, callers: int) -> None:
        await asyncio.gather(*(self._one(count, f"w{number}") for number in range(callers)))

    async def _one(self, count: int, worker: str) -> None:
        queue, caller = self._queue, self._caller
        for _ in range(count):
            await queue.create(caller, NewTask(Wanted(title=TITLE, instructions=INSTRUCTIONS)))
            claim = await queue.claim(caller, ClaimRequest(worker=worker))
            assert claim is not None
            await queue.complete(caller, Completion(claim.lease, SUMMARY))

    def close(self) -> None:
        self._runner.run(self._database.close())
        self._runner.close()


def run(*, quick: bool) -> list[Figure]:
    """Measure at full durability, interleaved; the warm-up checks that all three leave the same rows."""
    rounds, cycles = (3, 960) if quick else (9, 1_920)
    times: dict[tuple[str, int], list[float]] = {}
    with folder() as where:
        loops: dict[str, Service | Loop] = {
            "ours": Service(where / "ours.db"), "same": Same(where / "same.db"), "few": Fewest(where / "few.db"),
        }  # fmt: skip
        for loop in loops.values():
            loop.cycles(CALLERS * 2, CALLERS)
        for name in ("same", "few"):
            _compare(where / "ours.db", where / f"{name}.db")
        for _ in range(rounds):
            for batch, count in ((CALLERS, cycles), (1, cycles // 4)):
                for name, loop in loops.items():
                    begin = time.perf_counter()
                    loop.cycles(count, batch)
                    times.setdefault((name, batch), []).append((time.perf_counter() - begin) / count)
        probe = disk(where)
        for loop in loops.values():
            loop.close()

    def against(name: str, batch: int, callers: int = CALLERS) -> tuple[float, str]:
        theirs, mine = times[name, batch], times["ours", callers]
        rates = [f"{1 / statistics.median(each):,.0f}" for each in (mine, theirs)]
        return ratio(theirs, mine), f"{rates[0]} to {rates[1]} cycles/s"

    few, rates = against("few", CALLERS)
    one, rates_of_one = against("same", 1, 1)
    return [
        at_least("32 callers, to the same statements, batched alike", *_target(against("same", CALLERS), 0.7)),
        at_least("32 callers, to the same statements, unbatched", *_target(against("same", 1), 2.0)),
        Figure("32 callers, to the fewest statements, batched alike", f"{few:.2f}x ({rates})"),
        Figure("one caller, to the same statements, unbatched", f"{one:.2f}x ({rates_of_one})"),
        probe,
    ]


def _target(found: tuple[float, str], target: float) -> tuple[float, float, str]:
    return found[0], target, found[1]


def _compare(ours: Path, bare: Path) -> None:
    """Fail unless both files hold the same rows, but for instants and secrets, of which the lengths are compared."""
    found = [{name: _rows(path, sql) for name, sql in ROWS.items()} for path in (ours, bare)]
    for name in ROWS:
        assert found[0][name] == found[1][name], (name, found[0][name][0], found[1][name][0])


def _rows(path: Path, sql: str) -> list[dict[str, object]]:
    connection = sqlite.connect(str(path))
    connection.row_factory = sqlite.Row
    rows = [{key: _plain(key, row[key]) for key in row.keys()} for row in connection.execute(sql)]  # noqa: SIM118
    connection.close()
    return rows


def _plain(key: str, value: object) -> object:
    if value is None:
        return None
    if key in SECRET:
        return len(str(value))
    if key == "data":
        return json.loads(str(value))
    return "instant" if key == "at" or key.endswith("_at") else None if key in {"position", "worker"} else value
