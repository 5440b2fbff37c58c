"""Queues on PostgreSQL at full durability: so many tasks created, then each claimed and completed."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, at_least, rates, ratio
from benchmarks.peers import environment
from benchmarks.peers.asking import Asked
from benchmarks.peers.servers import postgres

if TYPE_CHECKING:
    from benchmarks.peers.servers import Postgres

OURS, BARE = "ours", "bare loop"
PEERS = (BARE, "pgmq", "procrastinate")


@dataclass(frozen=True, slots=True)
class Contest:
    """How many callers with how many tasks, and how many times as fast as each other ours has to be."""

    callers: int
    tasks: int
    targets: dict[str, float | None]

    @property
    def name(self) -> str:
        return f"{self.callers} connection{'s' if self.callers > 1 else ''}, {self.tasks:,} tasks"


def contests(*, quick: bool) -> list[Contest]:
    one, sixteen = (100, 320) if quick else (500, 1_600)
    return [
        Contest(1, one, {BARE: 0.9, "pgmq": None, "procrastinate": None}),
        Contest(16, sixteen, {BARE: 0.9, "pgmq": 2.0, "procrastinate": 3.0}),
    ]


def run(*, quick: bool) -> list[Figure]:
    """Each round is a new database for everybody, and everybody in turn, from another one on each time."""
    try:
        with postgres() as server:
            return _all(server, quick=quick)
    except environment.MissingProgram as missing:
        return [Figure("PostgreSQL", str(missing))]


def _all(server: Postgres, *, quick: bool) -> list[Figure]:
    libraries = environment.python()
    asked = {OURS: Asked(sys.executable, "ours")}
    asked |= {name: Asked(libraries, "postgres_libraries", name) for name in PEERS}
    _prepare(server, asked)
    _compare(server, asked)
    figures = []
    for contest in contests(quick=quick):
        figures += _figures(contest, _measure(server, contest, asked, 2 if quick else 3))
    for each in asked.values():
        each.close()
    return figures


def _prepare(server: Postgres, asked: dict[str, Asked]) -> None:
    """Make a template database for everybody; the bare loop writes into our tables."""
    for name, each in asked.items():
        url = server.database(_template(name))
        if name in {OURS, BARE}:
            asked[OURS].ask("open", url=url)
            asked[OURS].ask("close")
        else:
            each.ask("prepare", url=url)


def _compare(server: Postgres, asked: dict[str, Asked]) -> None:
    """Fail unless ours and the bare loop leave the same rows."""
    found = []
    for name in (OURS, BARE):
        url = server.database("compared", _template(name))
        _cycles(asked, name, url, tasks=4, callers=1)
        found.append(asked[BARE].ask("rows", url=url))
        server.drop("compared")
    for table in found[0]:
        assert found[0][table] == found[1][table], (table, found[0][table][:2], found[1][table][:2])


def _measure(server: Postgres, contest: Contest, asked: dict[str, Asked], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in asked}
    names = list(asked)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            url = server.database("measured", _template(name))
            server.psql("postgres", "CHECKPOINT")
            found[name].append(contest.tasks / _cycles(asked, name, url, contest.tasks, contest.callers))
            server.drop("measured")
    return found


def _cycles(asked: dict[str, Asked], name: str, url: str, tasks: int, callers: int) -> float:
    each = asked[name]
    if name == OURS:
        each.ask("open", url=f"{url}&pool={callers}")
    else:
        each.ask("open", url=url, callers=callers)
    took: float = each.ask("fill", count=tasks, callers=callers) + each.ask("drain", count=tasks, callers=callers)
    each.ask("close")
    return took


def _template(name: str) -> str:
    return f"template_{name.replace(' ', '_')}"


def _figures(contest: Contest, found: dict[str, list[float]]) -> list[Figure]:
    figures = [rates(contest.name, {name: statistics.median(each) for name, each in found.items()}, "tasks/s")]
    for name, target in contest.targets.items():
        title, times = f"- to {'the bare loop' if name == BARE else name}", ratio(found[OURS], found[name])
        figures.append(Figure(title, f"{times:.2f}x") if target is None else at_least(title, times, target))
    return figures
