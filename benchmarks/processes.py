"""Four processes on one file at full durability, each running cycles for all it is worth: who gets how much."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.measuring import Figure, at_least, at_most, folder
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Limits, NewTask, Rules, TaskQueue, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")
PROCESSES = 4
LONGEST_CALL = 0.2


def run(*, quick: bool) -> list[Figure]:
    """Once with one caller a process and once with eight."""
    seconds, rounds = (2.0, 1) if quick else (4.0, 3)
    figures = []
    for callers in (1, 8):
        fairness, slowest, rates = [], [], []
        for _ in range(rounds):
            with folder() as where:
                found = _race(where / "queue.db", callers, seconds)
            cycles = [each["cycles"] for each in found]
            fairness.append(min(cycles) / statistics.mean(cycles))
            slowest.append(max(each["slowest"] for each in found))
            rates.append(sum(cycles) / seconds)
        who = f"{callers} caller{'s' if callers > 1 else ''} each"
        rate = f"{statistics.median(rates):,.0f} cycles/s in all"
        figures.append(at_least(f"{who}: the slowest process to the mean", statistics.median(fairness), 0.7, rate))
        worst = f"medians of {rounds} rounds; worst {max(slowest):.3f} s"
        figures.append(at_most(f"{who}: the longest call", statistics.median(slowest), LONGEST_CALL, "s", worst))
    return figures


def _race(path: Path, callers: int, seconds: float) -> list[dict[str, float]]:
    open_database(f"sqlite:///{path}").close_now()
    begin = time.time() + 1.5
    command = [sys.executable, "-m", "benchmarks.processes", str(path), str(callers), str(begin), str(seconds)]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    return [json.loads(each.communicate(timeout=seconds + 60)[0]) for each in racing]


async def _cycles(path: Path, callers: int, begin: float, seconds: float) -> dict[str, float]:
    database = open_database(f"sqlite:///{path}")
    queue, caller = TaskQueue(database, Rules(limits=Limits(creates_per_minute=1_000_000_000))), local_person()
    slowest, cycles = 0.0, 0

    async def timed(call: Awaitable[T]) -> T:
        nonlocal slowest
        at = time.perf_counter()
        result = await call
        slowest = max(slowest, time.perf_counter() - at)
        return result

    async def one() -> None:
        nonlocal cycles
        while time.time() < begin + seconds:
            await timed(queue.create(caller, NewTask(Wanted(title="Count what is low"))))
            claim = await timed(queue.claim(caller, ClaimRequest()))
            if claim is not None:
                await timed(queue.complete(caller, Completion(claim.lease, "done")))
                cycles += 1

    await asyncio.sleep(max(0.0, begin - time.time()))
    await asyncio.gather(*(one() for _ in range(callers)))
    await database.close()
    return {"cycles": cycles, "slowest": slowest}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("callers", type=int)
    parser.add_argument("begin", type=float)
    parser.add_argument("seconds", type=float)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(_cycles(args.path, args.callers, args.begin, args.seconds))))


if __name__ == "__main__":
    main()
