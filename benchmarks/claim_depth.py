"""What a claim costs with so many tasks around (synchronous=off: the statements are measured, not the disk)."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.filling import fill
from benchmarks.measuring import Figure, at_most, folder
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Limits, Rules, TaskQueue

if TYPE_CHECKING:
    from pathlib import Path

CALLER = local_person()
ABSENT = ("absent",)
TARGET = 1.25


@dataclass(slots=True)
class Case:
    """A file, what is claimed from it, and how long each claim took."""

    name: str
    fills: dict[str, int]
    types: tuple[str, ...] = ()
    against: str = ""
    took: list[float] = field(default_factory=list)


def cases(*, quick: bool) -> list[Case]:
    small, large, huge = 1_000, 100_000, 100_000 if quick else 1_000_000
    base = f"{small:,} ready"
    absent = f"{small:,} ready, an absent type"
    expired = f"{large:,} ready, 500 leases run out"
    return [
        Case(base, {"ready": small}),
        Case(f"{large:,} ready", {"ready": large}, against=base),
        *([] if quick else [Case(f"{huge:,} ready", {"ready": huge}, against=base)]),
        Case(f"{small:,} ready, {large:,} not yet due", {"ready": small, "later": large}, against=base),
        Case(expired, {"ready": large, "expired": 500}, against=base),
        Case(absent, {"ready": small}, ABSENT),
        Case(f"{huge:,} ready, an absent type", {"ready": huge}, ABSENT, against=absent),
    ]


def run(*, quick: bool) -> list[Figure]:
    """Claims are taken from all files in turn; completing what was claimed is not measured."""
    found = cases(quick=quick)
    with folder() as where:
        asyncio.run(_measure(found, where, rounds=10 if quick else 20))
    middle = {case.name: statistics.median(case.took) * 1e6 for case in found}
    figures = []
    for case in found:
        median, slowest = middle[case.name], max(case.took) * 1e3
        detail = f"median {median:.0f} us, slowest {slowest:.1f} ms"
        if case.against:
            figures.append(at_most(case.name, median / middle[case.against], TARGET, detail=detail))
        else:
            figures.append(Figure(case.name, detail))
    return figures


async def _measure(found: list[Case], where: Path, rounds: int) -> None:
    queues: list[tuple[Case, TaskQueue]] = []
    files: dict[str, Path] = {}
    for number, case in enumerate(found):
        same = str(sorted(case.fills.items()))
        if same not in files:  # the absent types are looked for in a file that is there anyway
            files[same] = where / f"{number}.db"
            fill(files[same], **case.fills)
        database = open_database(f"sqlite:///{files[same]}?synchronous=off")
        queues.append((case, TaskQueue(database, Rules(limits=Limits(open_tasks_per_queue=10_000_000)))))
    for number in range(rounds):
        for case, queue in queues:
            for _ in range(10):
                await _claim(queue, case, warm=number > 0 or "expired" in case.fills)
    for _, queue in queues:
        await queue.database.close()


async def _claim(queue: TaskQueue, case: Case, *, warm: bool) -> None:
    begin = time.perf_counter()
    claim = await queue.claim(CALLER, ClaimRequest(worker="bench", task_types=case.types))
    if warm:
        case.took.append(time.perf_counter() - begin)
    assert (claim is None) == bool(case.types)
    if claim is not None:
        await queue.complete(CALLER, Completion(claim.lease, "done"))
