"""SQLite queues of other libraries at the same durability: so many tasks created, then each claimed and completed."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, at_least, disk, folder, rates, ratio
from benchmarks.peers import environment
from benchmarks.peers.asking import Asked

if TYPE_CHECKING:
    from pathlib import Path

OURS = "ours"
MANY = {"litequeue": None, "litequeue on the interpreter's SQLite": 15.0}
"""With 20,000 in it, litequeue is slow on older versions of SQLite only, which is what it runs on as it comes."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is measured at what, and how many times as fast as each peer ours has to be."""

    name: str
    synchronous: str
    callers: int
    tasks: int
    targets: dict[str, float | None]
    rounds: int


def contests(*, quick: bool) -> list[Contest]:
    synced, tasks, many, rounds = (320, 500, 2_000, 2) if quick else (2_000, 5_000, 20_000, 3)
    full = {"litequeue": 2.0, "persist-queue": 2.0, "huey's storage": 2.0, "huey": 2.0}
    one = {"litequeue": 2.5, "persist-queue": 1.3, "huey's storage": None, "huey": None}
    return [
        Contest(f"32 callers, synchronous=full, {synced:,} tasks", "full", 32, synced, full, rounds),
        Contest(f"one caller, synchronous=normal, {tasks:,} tasks", "normal", 1, tasks, one, rounds),
        Contest(f"one caller, synchronous=normal, {many:,} tasks", "normal", 1, many, MANY, 1),
    ]


def run(*, quick: bool) -> list[Figure]:
    """Each round is a new file for everybody, and everybody in turn, from another one on each time."""
    libraries = environment.python()
    figures = []
    with folder() as where:
        for number, contest in enumerate(contests(quick=quick)):
            asked = {OURS: Asked(sys.executable, "ours")}
            asked |= {name: Asked(libraries, "sqlite_libraries", name) for name in contest.targets}
            figures += _figures(contest, _measure(contest, asked, where / str(number)))
            for each in asked.values():
                each.close()
        figures.append(disk(where))
    return figures


def _measure(contest: Contest, asked: dict[str, Asked], where: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in asked}
    names = list(asked)
    for number in range(contest.rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            place = where / f"{number}-{names.index(name)}"
            place.mkdir(parents=True)
            each = asked[name]
            if name == OURS:
                each.ask("open", url=f"sqlite:///{place / 'queue.db'}?synchronous={contest.synchronous}")
            else:
                path = place if name == "persist-queue" else place / "queue.db"
                each.ask("open", path=str(path), synchronous=contest.synchronous)
            took = each.ask("fill", count=contest.tasks, callers=contest.callers)
            took += each.ask("drain", count=contest.tasks, callers=contest.callers)
            each.ask("close")
            found[name].append(contest.tasks / took)
    return found


def _figures(contest: Contest, found: dict[str, list[float]]) -> list[Figure]:
    figures = [rates(contest.name, {name: statistics.median(each) for name, each in found.items()}, "tasks/s")]
    for name, target in contest.targets.items():
        times = ratio(found[OURS], found[name])
        figures.append(
            Figure(f"- to {name}", f"{times:.2f}x") if target is None else at_least(f"- to {name}", times, target)
        )
    return figures
