"""From before a task is enqueued to its first line in an idle worker: ours and other libraries', as they come."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, disk, folder
from benchmarks.peers import environment
from benchmarks.peers.asking import Asked
from benchmarks.peers.servers import postgres, redis

if TYPE_CHECKING:
    from pathlib import Path

ON_REDIS = ("saq", "taskiq", "celery", "rq")
PAUSE = (0.2, 0.6)
"""Between two tasks of one worker there is more: everybody else's turns, each with a pause of so many seconds."""
LATE = 15.0


class Worker:
    """A client that enqueues, an idle worker, and the bell that the task rings first thing."""

    def __init__(self, where: Path, name: str) -> None:
        self.took: list[float] = []
        path = where / f"{name}.bell"
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.bind(str(path))
        self._bell.settimeout(LATE)
        self._path = str(path)
        self._process: subprocess.Popen[bytes] | None = None

    def of_library(self, name: str, server: str) -> Worker:
        kept = {"PEERS_SERVER": server, "PEERS_BELL": self._path}
        self._client = Asked(environment.python(), "waking", name, **kept)
        self._start(self._client.ask("begin"), kept)
        return self

    def of_ours(self, url: str, *, apart: bool) -> Worker:
        self._client = Asked(sys.executable, "our_waking", "creating" if apart else "both", url, PEERS_BELL=self._path)
        self._client.ask("begin")
        if apart:
            command = [sys.executable, "-m", "benchmarks.peers.our_waking", "claiming", url]
            self._start(command, {"PEERS_BELL": self._path})
        return self

    def turn(self) -> float:
        """Wake it up once; return the seconds from before the enqueuing."""
        before = self._client.ask("wake")
        took = (int(self._bell.recv(64)) - before) / 1e9
        assert took > 0, "that was the bell of an earlier task"
        return took

    def close(self) -> None:
        self._client.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._bell.close()

    def _start(self, command: list[str], kept: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=environment.ROOT,
            env={**os.environ, "PYTHONPATH": str(environment.ROOT), **kept},
            start_new_session=True,
        )


def run(*, quick: bool) -> list[Figure]:
    """Everybody is idle at the same time and is woken in turn, with a pause before each."""
    workers: dict[str, Worker] = {}
    missing = []
    with folder() as where, contextlib.ExitStack() as stack:
        for begin in (_on_sqlite, _on_postgres, _on_redis):
            try:
                workers |= begin(where, stack)
            except environment.MissingProgram as error:
                missing.append(Figure("missing", str(error)))
        for worker in workers.values():
            stack.callback(worker.close)
            worker.turn()  # the first finds nothing loaded, and waits until the worker has started
        chance = random.Random(1)
        for _ in range(5 if quick else 30):
            for worker in workers.values():
                time.sleep(chance.uniform(*PAUSE))
                worker.took.append(worker.turn())
        probe = disk(where)
    return [*(_figure(name, sorted(worker.took)) for name, worker in workers.items()), *missing, probe]


def _on_sqlite(where: Path, _: contextlib.ExitStack) -> dict[str, Worker]:
    return {
        "ours, in one process": Worker(where, "one").of_ours(f"sqlite:///{where / 'one.db'}", apart=False),
        "ours, another process (SQLite)": Worker(where, "two").of_ours(f"sqlite:///{where / 'two.db'}", apart=True),
        "huey (SQLite)": Worker(where, "huey").of_library("huey", str(where / "huey.db")),
    }


def _on_postgres(where: Path, stack: contextlib.ExitStack) -> dict[str, Worker]:
    server = stack.enter_context(postgres())
    hinted, polling = server.database("hinted"), f"{server.database('polling')}&hint=off"
    theirs = server.database("procrastinate")
    return {
        "ours, another server (PostgreSQL)": Worker(where, "hinted").of_ours(hinted, apart=True),
        "ours, the same by polling alone": Worker(where, "polling").of_ours(polling, apart=True),
        "procrastinate (PostgreSQL)": Worker(where, "procrastinate").of_library("procrastinate", theirs),
    }


def _on_redis(where: Path, stack: contextlib.ExitStack) -> dict[str, Worker]:
    return {f"{name} (Redis)": Worker(where, name).of_library(name, stack.enter_context(redis())) for name in ON_REDIS}


def _figure(name: str, took: list[float]) -> Figure:
    points = {"median": statistics.median(took) * 1e3, "95 %": took[int(len(took) * 0.95)] * 1e3}
    measured = f"{points['median']:.3g} ms (median; 95 % within {points['95 %']:.3g} ms)"
    return Figure(name, measured, points=points)
