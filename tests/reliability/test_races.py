"""Several processes at one file: each task goes to one of them, all get their share, and they wake each other."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from taskqueue_mcp.model import Status
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.sqlite import wall_clock
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, TaskQueue, Wanted
from tests.contract.desk import OWNER
from tests.reliability.nursery import Gate, Nursery
from tests.reliability.programs import RULES, caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="has neither fork nor SIGSTOP"),
    pytest.mark.timeout(600),
]
PROCESSES, CLAIMERS = 4, 4


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    made = Gate(folder / "gate")
    yield made
    made.close()


async def fill(queue: TaskQueue, count: int) -> None:
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(queue.create, OWNER, NewTask(Wanted(title=f"task {number}")))


async def test_sixteen_claimers_in_four_processes_get_each_task_once_and_each_their_share(
    nursery: Nursery, gate: Gate, folder: Path, soak: bool
) -> None:
    url = f"sqlite:///{folder / 'queue.db'}"
    queue = TaskQueue(open_database(url), RULES)
    count = 20_000 if soak else 3_000
    await fill(queue, count)
    for number in range(PROCESSES):
        nursery.start("drain", url=url, gate=gate.path, name=f"p{number}", claimers=CLAIMERS)
    ready = 0
    while ready < PROCESSES:
        ready += nursery.hear(60)["said"] == "ready"
    gate.let_through(PROCESSES)
    claimed: list[tuple[int, int]] = []
    shares: Counter[str] = Counter()
    gone = 0
    while gone < PROCESSES:
        told = nursery.hear(120)
        if told.get("said") == "claimed":
            claimed += [(task_id, attempt) for task_id, attempt in told["tasks"]]
            shares[told["name"]] += len(told["tasks"])
        elif told.get("said") == "failed":
            raise AssertionError(told["why"])
        gone += "gone" in told
    assert len(claimed) == count
    assert len(set(claimed)) == count
    assert {attempt for _, attempt in claimed} == {1}
    mean = count / PROCESSES
    assert min(shares[f"p{number}"] for number in range(PROCESSES)) >= 0.4 * mean, shares
    counts = await queue.database.read(lambda t: t.all("SELECT status, attempt, count(*) FROM tasks GROUP BY 1, 2"))
    assert counts == [("completed", 1, count)]
    assert await queue.database.read(lambda t: t.all("SELECT open_tasks FROM queues")) == [(0,)]
    await queue.database.close()


async def test_a_task_created_in_one_process_arrives_at_once_in_another_that_waits(
    nursery: Nursery, folder: Path
) -> None:
    url = f"sqlite:///{folder / 'queue.db'}"
    queue = TaskQueue(open_database(url), RULES)
    rounds = 7
    nursery.start("park", url=url, rounds=rounds)
    assert nursery.hear(30)["said"] == "ready"
    took = []
    for number in range(rounds):
        await queue.database.read(lambda t: t.now)
        begun = time.perf_counter()
        made = await queue.create(OWNER, NewTask(Wanted(title=f"task {number}")))
        told = nursery.hear(30)
        took.append(time.perf_counter() - begun)
        assert told == {"said": "got", "task": made.task.id}
        with anyio.fail_after(30):
            done = await queue.wait(OWNER, made.task.id, 20)
        assert done.result_summary == "got it"
    assert statistics.median(took) < 0.2, took  # `data_version` alone would take 0.25 s, looking again 1 s
    assert nursery.hear(30)["code"] == 0
    await queue.database.close()


async def test_processes_wake_each_other_in_a_folder_too_deep_for_a_socket(nursery: Nursery, folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    url = f"sqlite:///{deep / 'queue.db'}"
    queue = TaskQueue(open_database(url), RULES)
    nursery.start("park", url=url, rounds=3)
    assert nursery.hear(30)["said"] == "ready"
    took = []
    for number in range(3):
        begun = time.perf_counter()
        made = await queue.create(OWNER, NewTask(Wanted(title=f"task {number}")))
        assert nursery.hear(30)["task"] == made.task.id
        took.append(time.perf_counter() - begun)
        with anyio.fail_after(30):
            await queue.wait(OWNER, made.task.id, 20)
    assert min(took) < 0.2, took
    assert nursery.hear(30)["code"] == 0
    await queue.database.close()


async def test_a_holder_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes(
    nursery: Nursery, gate: Gate, folder: Path
) -> None:
    url = f"sqlite:///{folder / 'queue.db'}"
    queue = TaskQueue(open_database(url, clock=lambda: wall_clock() + 60_000_000), RULES)
    made = await queue.create(OWNER, NewTask(Wanted(title="count"), run_at="2026-01-01T00:00:00Z"))
    pid = nursery.start("hold", url=url, gate=gate.path)
    held = nursery.hear(30)
    assert held["said"] == "holding"
    os.kill(pid, signal.SIGSTOP)
    who = caller("second")
    await queue.tick()
    await queue.answer(OWNER, made.task.id, "run_now", None)
    claim = await queue.claim(who, ClaimRequest())
    assert claim is not None
    assert (claim.task.id, claim.task.attempt) == (made.task.id, 2)
    await queue.complete(who, Completion(claim.lease, "by the second"))
    before = await queue.get(OWNER, made.task.id)
    os.kill(pid, signal.SIGCONT)
    gate.let_through()
    for verb in ("update", "complete", "fail"):
        told = nursery.hear(30)
        assert (told["said"], told["code"]) == (verb, "lease_lost"), told
    assert nursery.hear(30)["code"] == 0
    after = await queue.get(OWNER, made.task.id)
    assert after == before
    assert (after.task.status, after.task.result_summary) == (Status.COMPLETED, "by the second")
    assert [attempt.outcome for attempt in after.attempts] == ["lost", "completed"]
    await queue.database.close()
