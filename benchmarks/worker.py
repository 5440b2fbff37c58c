"""A worker with commands that do nothing, to nothing but their processes; and how soon a claim becomes a process."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from benchmarks.filling import AN_HOUR
from benchmarks.filling import TASKS as INSERT
from benchmarks.measuring import Figure, at_least, at_most, disk, folder, rates, ratio
from taskqueue_mcp.store import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONCURRENCY = 8
LONGEST_START = 20.0
TOKEN = "a-token-for-the-benchmark"
MICROS = 1_000_000


def run(*, quick: bool) -> list[Figure]:
    """Rounds in turn: the worker with so many tasks, then as many bare processes, by as many threads."""
    count, rounds = (1_000, 1) if quick else (10_000, 3)
    ours, bare, starts = [], [], []
    with folder() as where:
        for number in range(rounds):
            bare.append(_bare(count))
            ours.append(_worked(where / f"rate-{number}", count, ["/bin/true"], CONCURRENCY)[0])
            starts += _worked(where / f"start-{number}", 200, ["/bin/date", "+%s%N"], 1)[1]
        probed = disk(where)
    reached = {"the worker": statistics.median(ours), "bare processes": statistics.median(bare)}
    start = statistics.median(starts)
    return [
        rates(f"{CONCURRENCY} at once, {count:,} each", reached, "a second"),
        at_least("— the worker to bare processes", ratio(ours, bare), 0.6),
        at_most("from the claim to the command's first line, one at a time", start, LONGEST_START, "ms"),
        probed,
    ]


def _bare(count: int) -> float:
    """How many processes a second, their output read, by threads of one Python."""

    def one(_: int) -> None:
        subprocess.run(["/bin/true"], capture_output=True, stdin=subprocess.DEVNULL, check=True)

    with ThreadPoolExecutor(CONCURRENCY) as threads:
        begun = time.perf_counter()
        list(threads.map(one, range(count)))
        return count / (time.perf_counter() - begun)


def _worked(where: Path, count: int, argv: list[str], concurrency: int) -> tuple[float, list[float]]:
    """Tasks a second, from the first claim to the last completion; and each one's milliseconds to its command."""
    where.mkdir()
    path = where / "queue.db"
    _fill(path, count, argv)
    with _server(path) as url:
        command = [sys.executable, "-m", "taskqueue_mcp", "worker", "--server", url, "--once", "--executor", "shell"]
        command += ["--concurrency", str(concurrency), "--allow", argv[0], "--output", str(where)]
        subprocess.run(command, check=True, env=_environment(), stderr=subprocess.DEVNULL, cwd=where)
    connection = sqlite.connect(str(path))
    rows = connection.execute("SELECT claimed_at, ended_at, outcome, result_data FROM attempts").fetchall()
    connection.close()
    assert [row[2] for row in rows] == ["completed"] * count
    seconds = (max(row[1] for row in rows) - min(row[0] for row in rows)) / MICROS
    said = [(row[0], json.loads(row[3])["stdout"].strip()) for row in rows]
    return count / seconds, [(int(at) / 1_000 - claimed) / 1_000 for claimed, at in said if at]


def _fill(path: Path, count: int, argv: list[str]) -> None:
    open_database(f"sqlite:///{path}").close_now()
    now = time.time_ns() // 1_000
    row = {"reason": None, "attempt": 0, "worker": None, "expires_at": None, "claimed_at": None, "created_at": now}
    connection = sqlite.connect(str(path), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    rows = ({**row, "title": "nothing", "status": "ready", "run_at": now - AN_HOUR + each} for each in range(count))
    connection.executemany(INSERT.replace("'claude'", "'shell'"), rows)
    connection.execute(
        "INSERT INTO bodies (task_id, instructions, params, on_dependency_failure) SELECT id, '', ?, 'fail' FROM tasks",
        (json.dumps({"argv": argv}),),
    )
    connection.execute("INSERT INTO queues (name, open_tasks) VALUES ('default', ?)", (count,))
    connection.execute("COMMIT")
    connection.close()


@contextlib.contextmanager
def _server(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "taskqueue_mcp", "serve", "--port", "0", "--database", f"sqlite:///{path}"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, env=_environment(), cwd=path.parent, text=True)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if " serves http" in line:  # keeps on being read by nobody: what it says fits into the pipe
                yield line.split(" serves ")[1].split()[0]
                break
    finally:
        server.terminate()
        server.communicate()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
    return kept | {"TASKQUEUE_TOKEN": TOKEN}
