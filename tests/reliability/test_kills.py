"""Processes killed and stopped at random instants: nothing that was acknowledged is lost, nothing ends twice."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Busy
from taskqueue_mcp.model import FINAL, Status
from taskqueue_mcp.store import faults, open_database
from taskqueue_mcp.store.rows import EVENT, TASK, as_event, as_task
from taskqueue_mcp.store.sqlite import wall_clock
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, TaskQueue, Wanted
from tests.contract.desk import OWNER
from tests.contract.stories import illegal_step
from tests.reliability.nursery import Gate, Nursery
from tests.reliability.programs import RULES, Diary, caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskqueue_mcp.model import Event, Task

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="has neither fork nor SIGKILL"),
    pytest.mark.timeout(600),
]
SLOTS, LANES = 4, 3
HOUR = 3_600 * 1_000_000


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    made = Gate(folder / "gate")
    yield made
    made.close()


class Evidence:
    """What is stored, and what the callers were told."""

    def __init__(self, rows: Any, folder: Path) -> None:
        self.tasks: dict[int, Task] = {row[0]: as_task(row) for row in rows(f"SELECT {TASK} FROM tasks")}  # noqa: S608
        self.events: dict[int, list[Event]] = defaultdict(list)
        for row in rows(f"SELECT {EVENT} FROM events WHERE subject = 'task' ORDER BY subject_id, seq"):  # noqa: S608
            event = as_event(row)
            self.events[event.subject_id].append(event)
        self.attempts = {
            (row[0], row[1]): row[2:]
            for row in rows("SELECT task_id, attempt, principal, outcome, result_summary, error FROM attempts")
        }
        self.keys = {(row[0], row[1]): row[2] for row in rows("SELECT created_by, idempotency_key, id FROM tasks")}
        self.told = {
            path.stem: [line for line in Diary.read(path) if line["what"] == "told"] for path in folder.glob("*.diary")
        }

    def check(self) -> None:
        for task_id, task in self.tasks.items():
            events = self.events[task_id]
            assert [event.seq for event in events] == list(range(1, task.seq + 1))
            assert illegal_step(events) is None, [event.kind for event in events]
            kinds = Counter(event.kind for event in events)
            assert kinds["completed"] + kinds["failed"] + kinds["cancelled"] <= 1
            assert task.attempt == kinds["claimed"]
        ended: set[int] = set()
        for name, lines in self.told.items():
            for line in lines:
                self.check_told(name, line, ended)

    def check_told(self, name: str, line: dict[str, Any], ended: set[int]) -> None:
        if line["verb"] == "create":
            assert self.keys[name, line["key"]] == line["task"]
        elif line["verb"] == "claim" and line["task"] is not None:
            assert self.attempts[line["task"], line["attempt"]][0] == name
        elif line["verb"] in {"complete", "fail", "release"} and "refused" not in line:
            head, _, _ = line["lease"].rpartition(".")
            task_id, attempt = (int(part) for part in head.removeprefix("T-").split("."))
            principal, outcome, summary, error = self.attempts[task_id, attempt]
            assert principal == name
            if line["verb"] == "complete":
                assert (outcome, summary) == ("completed", line["words"])
                task = self.tasks[task_id]
                assert (task.status, task.result_summary) == (Status.COMPLETED, line["words"])
                assert task_id not in ended
                ended.add(task_id)
            else:
                assert (outcome, error) == ({"fail": "failed", "release": "released"}[line["verb"]], line["words"])


async def test_killed_at_any_instant_nothing_acknowledged_is_lost(
    nursery: Nursery, folder: Path, seed: int, soak: bool
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    url = f"sqlite:///{folder / 'queue.db'}"
    idle = open_database(url)  # stays open, like a server that is idle
    wanted, wanted_tasks = (3_000, 30_000) if soak else (120, 1_000)
    kills, failed = 0, list[str]()

    async def made_so_far() -> int:
        counted: int = await idle.read(lambda t: t.all("SELECT count(*) FROM tasks")[0][0])
        return counted

    def start(slot: int) -> int:
        return nursery.start(
            "churn", url=url, folder=str(folder), name=f"slot{slot}", lanes=LANES, seed=chance.randrange(1 << 32),
            kill_after=chance.uniform(0.05, 0.8),
            pauses=(chance.uniform(0.02, 0.3),) if chance.random() < 0.25 else (),
        )  # fmt: skip

    slots = {start(slot): slot for slot in range(SLOTS)}
    while slots:
        told = nursery.hear(120)
        if "gone" in told:
            assert told["signal"] == signal.SIGKILL, (told, failed)
            kills += 1
            slot = slots.pop(told["gone"])
            if kills < wanted or await made_so_far() < wanted_tasks:
                slots[start(slot)] = slot
        elif told.get("said") == "failed":
            failed.append(told["why"])
    assert not failed, failed[0]
    assert kills >= wanted

    ahead = TaskQueue(open_database(url, clock=lambda: wall_clock() + HOUR), RULES)  # every lease has run out
    await finish_everything(ahead)

    async def rows(sql: str) -> list[Any]:
        return await ahead.database.read(lambda transaction: transaction.all(sql))

    assert await rows("PRAGMA integrity_check") == [("ok",)]
    assert await rows("PRAGMA foreign_key_check") == []
    loaded: dict[str, list[Any]] = {}

    def all_rows(sql: str) -> list[Any]:
        return loaded[sql]

    for sql in QUERIES:
        loaded[sql] = await rows(sql)
    evidence = Evidence(all_rows, folder)
    evidence.check()
    verbs = Counter(line["verb"] for lines in evidence.told.values() for line in lines if "refused" not in line)
    assert verbs["create"] >= 0.9 * wanted_tasks  # the others were killed before they heard of it
    assert verbs["complete"] >= 100
    assert verbs["claim"] >= 200
    assert all(task.status in FINAL for task in evidence.tasks.values())
    assert await rows("SELECT open_tasks FROM queues") == [(0,)]
    await ahead.database.close()
    await idle.close()


QUERIES = (
    f"SELECT {TASK} FROM tasks",  # noqa: S608 - our own columns
    f"SELECT {EVENT} FROM events WHERE subject = 'task' ORDER BY subject_id, seq",  # noqa: S608 - our own columns
    "SELECT task_id, attempt, principal, outcome, result_summary, error FROM attempts",
    "SELECT created_by, idempotency_key, id FROM tasks",
)


async def finish_everything(queue: TaskQueue) -> None:
    """The queue drains: whatever was left behind is claimed, answered and completed."""
    who = caller("undertaker")
    with anyio.fail_after(120):
        while True:
            await queue.tick()
            open_ = await queue.database.read(
                lambda t: t.all("SELECT id, status, reason FROM tasks WHERE finished_at IS NULL")
            )
            if not open_:
                return
            for task_id, status, reason in open_:
                if status == "waiting":
                    await queue.answer(OWNER, task_id, "answer", "Go on.")
                elif reason in {"retry", "snooze"}:
                    await queue.answer(OWNER, task_id, "run_now", None)
            while (claim := await queue.claim(who, ClaimRequest())) is not None:
                await queue.complete(who, Completion(claim.lease, "at last"))


async def test_a_process_killed_inside_a_transaction_leaves_nothing_of_it(
    nursery: Nursery, gate: Gate, folder: Path
) -> None:
    url = f"sqlite:///{folder / 'queue.db'}"
    queue = TaskQueue(open_database(url), RULES)
    nursery.start("own", url=url, gate=gate.path, kill_after=0.3)
    assert nursery.hear(30)["said"] == "owning"
    with anyio.fail_after(30):
        made = await queue.create(OWNER, NewTask(Wanted(title="after it")))  # waits for the turn, and gets it
    assert made.created
    assert nursery.hear(30)["signal"] == signal.SIGKILL
    assert await queue.database.read(lambda t: t.all("SELECT name FROM queues")) == [("default",)]
    await queue.database.close()


async def test_a_stopped_process_that_holds_the_file_makes_the_others_busy_and_no_worse(
    nursery: Nursery, gate: Gate, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.3)
    url = f"sqlite:///{folder / 'queue.db'}"
    queue = TaskQueue(open_database(url), RULES)
    pid = nursery.start("own", url=url, gate=gate.path)
    assert nursery.hear(30)["said"] == "owning"
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Busy, match="nothing was changed; call again"):
        await queue.create(OWNER, NewTask(Wanted(title="meanwhile")))
    assert (await queue.counts(OWNER)) == []  # reading goes on
    os.kill(pid, signal.SIGCONT)
    gate.let_through()
    assert nursery.hear(30)["said"] == "let go"
    monkeypatch.undo()
    with anyio.fail_after(30):
        await queue.create(OWNER, NewTask(Wanted(title="after it")))
    names = await queue.database.read(lambda t: t.all("SELECT name FROM queues ORDER BY name"))
    assert names == [("default",), ("half done",)]
    await queue.database.close()
