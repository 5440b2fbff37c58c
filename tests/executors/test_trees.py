"""What an attempt started is found wherever it went. This file is also the worker whose attempts are ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.executors.limits import NONE, Limits
from taskqueue_mcp.executors.trees import Mark, Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has marks")

ESCAPE = """
import os, sys, time
def away():
    os.setsid()
    if os.fork(): os._exit(0)
    for descriptor in range(3): os.close(descriptor)
    os.open('/dev/null', os.O_RDWR); os.dup(0); os.dup(0)
for number in range(3):
    if os.fork() == 0:
        away()
        if number == 2 and os.fork() == 0: os.setsid()
        with open(sys.argv[1], 'a') as file: file.write(f'{os.getpid()}\\n')
        os.execve('/bin/sleep', ['an innocent name', '97'], {})
while len(open(sys.argv[1]).readlines()) < 4: time.sleep(0.01)
"""
"""Four processes in sessions of their own, orphaned, without environment and without our pipes."""


def work(pids: str, limits: Limits, *, stays: bool) -> None:
    """Run two attempts that both leave processes behind, and end what the first has left."""
    marks = Marks()
    marks.adopt()
    first, second = marks.next(), marks.next()
    assert first is not None
    Path(pids).touch()
    Path(f"{pids}.other").touch()
    command = [sys.executable, "-I", "-S", "-c", ESCAPE]
    subprocess.run(limits.around([*command, f"{pids}.other"], second), check=True)
    subprocess.run(limits.around([*command, pids], first), check=True)
    seen = marks.has_strays(first)
    if not stays:
        marks.end(first)
    sys.stdout.write(json.dumps([seen, marks.has_strays(first), os.getpid()]) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def exists(pid: int) -> bool:
    """Also of a process that nobody has reaped: a worker that runs for months must not collect them."""
    return Path(f"/proc/{pid}").exists()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


class Worker:
    def __init__(self, folder: Path, scenario: str) -> None:
        self.pids = folder / "pids"
        self.process = subprocess.Popen(
            [sys.executable, __file__, scenario, str(self.pids)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.seen, self.left, self.pid = json.loads(self.process.stdout.readline())

    @property
    def first(self) -> list[int]:
        return numbers(self.pids)

    @property
    def second(self) -> list[int]:
        return numbers(self.pids.with_name("pids.other"))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=["limited", "free"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Worker]]:
    started: list[Worker] = []

    def start(what: str) -> Worker:
        started.append(Worker(tmp_path, f"{request.param} {what}"))
        return started[-1]

    yield start
    for each in started:
        for pid in (*each.first, *each.second):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        each.kill()


def test_what_left_its_group_its_parent_and_its_environment_ends_with_its_attempt_and_no_other_does(
    start: Callable[[str], Worker],
) -> None:
    worker = start("ends")

    assert (worker.seen, worker.left) == (True, False)
    assert len(worker.first) == len(worker.second) == 4
    assert not any(map(exists, worker.first))
    assert all(map(runs, worker.second))


def test_what_a_dead_worker_left_behind_is_ended_and_what_a_living_one_runs_is_not(
    start: Callable[[str], Worker], tmp_path: Path
) -> None:
    bystander = subprocess.Popen(["sleep", "97"])
    (tmp_path / "pids").parent.mkdir(exist_ok=True)
    worker = start("stays")
    try:
        assert not set(Marks().end_orphans()) & {*worker.first, *worker.second}
        assert all(map(runs, (*worker.first, *worker.second)))

        worker.kill()
        ended = set(Marks().end_orphans())

        assert ended >= {*worker.first, *worker.second}
        assert bystander.pid not in ended
        eventually(lambda: not any(map(runs, (*worker.first, *worker.second))))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_number_of_a_dead_worker_used_by_another_process_protects_nobody() -> None:
    somebody = subprocess.Popen(["sleep", "97"])
    mark = Mark(somebody.pid, 12_345, 1)
    left = subprocess.Popen(NONE.around(["/bin/sleep", "97"], mark))
    try:
        eventually(lambda: Path(f"/proc/{left.pid}/comm").read_text() == "sleep\n")
        assert left.pid in Marks().end_orphans()
        assert left.wait(20) == -signal.SIGKILL
        assert somebody.poll() is None
    finally:
        for each in (somebody, left):
            each.kill()
            each.wait()


@pytest.mark.parametrize("mark", [Mark(4_194_303, (1 << 31) - 1, 1_023), Mark(1, 0, 0), Mark(77, 5, 9)])
def test_a_mark_survives_being_a_limit(mark: Mark) -> None:
    assert Mark.of(mark.number) == mark
    assert mark.number < 1 << 63


def test_marks_of_one_process_differ() -> None:
    marks = Marks()
    assert len({marks.next() for _ in range(1_000)}) == 1_000


if __name__ == "__main__":
    kind, _, scenario = sys.argv[1].partition(" ")
    work(sys.argv[2], Limits() if kind == "limited" else NONE, stays=scenario == "stays")
