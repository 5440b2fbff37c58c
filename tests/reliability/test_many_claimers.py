"""Nobody dies here; everybody comes at once."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import UniqueViolation
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.taskqueue import NewSchedule, NewTask, Wanted
from tests.clock import Clock
from tests.reliability import racers
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE, all_ended, barrier, start, together
from tests.reliability.racers import EVERYONE, opened

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.conftest import Size
    from tests.reliability.conftest import Tell

MINUTE = 60 * 1_000_000
LEASE = 900
LONGEST_CALL = 4.0


@pytest.fixture
def patience(size: Size) -> float:
    """How long a race may take, in seconds."""
    return size(int(PATIENCE), 20 * int(PATIENCE))


async def fill(queue: TaskQueue, count: int, lines: int | None = None) -> None:
    for number in range(count):
        options = None if lines is None else {"serial_key": f"line {number % lines}"}
        await queue.create(EVERYONE, NewTask(Wanted(title=f"task {number}", options=options)))


def told(folder: Path, names: list[str]) -> list[Any]:
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in names]


async def violations(queue: TaskQueue) -> list[str]:
    return await queue.database.read(lambda transaction: broken(transaction, LEASE))


def race(url: str, folder: Path, processes: int, claimers: int, seconds: float) -> list[Any]:
    """Let claimers in several processes drain the queue; return what each process tells."""
    names = [f"process-{number}" for number in range(processes)]
    paths = [str(folder / name) for name in names]
    gate = barrier(processes)
    together(racers.drain, [url] * processes, [gate] * processes, paths, [claimers] * processes, seconds=seconds)
    return told(folder, names)


async def test_sixteen_claimers_in_four_processes_get_every_task_once_and_a_fair_share(
    database_url: str, folder: Path, size: Size, patience: float, tell: Tell
) -> None:
    count = size(2_000, 50_000)
    async with opened(database_url) as queue:
        await fill(queue, count)
        ends = race(database_url, folder, 4, 4, patience)
        handed = [tuple(each) for end in ends for each in end["handed"]]
        assert sorted(task for task, _, _ in handed) == list(range(1, count + 1))
        tell(claimers=16, processes=4, tasks=count)
        assert {attempt for _, attempt, _ in handed} == {1}
        assert max(end["longest"] for end in ends) < LONGEST_CALL
        assert min(len(end["handed"]) for end in ends) >= 0.4 * count / 4
        query = "SELECT id, status, attempt, result_summary FROM tasks ORDER BY id"
        stored = await queue.database.read(lambda transaction: transaction.all(query))
        assert stored == [(task, "completed", 1, name) for task, _, name in sorted(handed)]
        assert await violations(queue) == []


async def test_eight_processes_that_create_with_the_same_keys_at_once_make_one_task_a_key(
    database_url: str, folder: Path, size: Size, patience: float
) -> None:
    keys = [f"key {number}" for number in range(size(150, 3_000))]
    names = [f"process-{number}" for number in range(8)]
    orders = [keys[offset * 7 :] + keys[: offset * 7] for offset in range(8)]
    async with opened(database_url) as queue:
        paths = [str(folder / name) for name in names]
        together(racers.create_all, [database_url] * 8, [barrier(8)] * 8, paths, orders, seconds=patience)
        made: dict[str, set[int]] = {key: set() for key in keys}
        makers = 0
        for order, answers in zip(orders, told(folder, names), strict=True):
            for key, (task, created) in zip(order, answers, strict=True):
                made[key].add(task)
                makers += created
        assert all(len(tasks) == 1 for tasks in made.values())
        assert makers == len(keys)
        query = "SELECT idempotency_key, id FROM tasks"
        stored = await queue.database.read(lambda transaction: transaction.all(query))
        assert sorted(stored) == sorted((key, min(tasks)) for key, tasks in made.items())
        assert await violations(queue) == []


async def test_four_processes_that_tick_at_once_fire_each_due_time_once(
    database_url: str, clock: Clock, size: Size, patience: float
) -> None:
    minutes = size(120, 2_000)
    every = {"minutely": 1, "each-five": 5, "quarterly": 15}
    async with opened(database_url, clock) as queue:
        for name, step in every.items():
            plan = NewSchedule(name, f"*/{step} * * * *", Wanted(title=name), timezone="UTC", overlap="allow")
            await queue.put_schedule(EVERYONE, plan)
        begun = clock.micros
        instants = [begun + number * MINUTE for number in range(1, minutes + 1)]
        together(racers.tick, [database_url] * 4, [barrier(4)] * 4, [instants] * 4, seconds=patience)
        for name, step in every.items():
            expected = [begun + number * MINUTE for number in range(step, minutes + 1, step)]
            found = await queue.database.read(partial(fired, name=name))
            assert found == {"ledger": expected, "ready tasks": expected, "events": expected}
        assert await violations(queue) == []


def fired(transaction: Transaction, name: str) -> dict[str, list[int]]:
    """Return the due times of a schedule as three tables tell them."""
    queries = {
        "ledger": "SELECT due_at FROM occurrences WHERE schedule_id = schedules.id AND fate = 'fired'",
        "ready tasks": "SELECT due_at FROM tasks WHERE schedule_id = schedules.id AND status = 'ready'",
        "events": "SELECT data FROM events WHERE subject = 'schedule' AND subject_id = schedules.id AND kind = 'fired'",
    }
    found = {}
    for table, query in queries.items():
        text = query.replace("schedules.id", "(SELECT id FROM schedules WHERE name = :name)")
        rows = transaction.all(text, {"name": name})
        found[table] = sorted(json.loads(row)["due_at"] if table == "events" else row for (row,) in rows)
    return found


async def test_of_a_serial_line_that_eight_claimers_race_for_one_task_at_a_time_is_in_progress(
    database_url: str, folder: Path, size: Size, patience: float
) -> None:
    count = size(300, 4_000)
    async with opened(database_url) as queue:
        await fill(queue, count, lines=3)
        ends = race(database_url, folder, 4, 2, patience)
        assert sorted(task for end in ends for task, _, _ in end["handed"]) == list(range(1, count + 1))
        assert await violations(queue) == []  # among them: two of a line at once


@pytest.mark.engines("sqlite")
async def test_who_opens_the_file_waits_for_its_turn_like_everyone(database_url: str, folder: Path) -> None:
    writer = start(racers.write_slowly, database_url, str(folder), 2.5)  # longer than SQLite itself would wait
    await racers.appears(folder / "writing")
    async with opened(database_url) as queue:
        assert await racers.count_open(queue) == 0
    all_ended([writer])


GUARDS = {
    "one due time": "UPDATE tasks SET schedule_id = 7, due_at = 1",
    "one key": "UPDATE tasks SET created_by = 'someone', idempotency_key = 'k'",
    "one of a line": "UPDATE tasks SET serial_key = 'line', status = 'ready', reason = NULL",
    "one row in the ledger": """
        INSERT INTO occurrences (schedule_id, due_at, fate, recorded_at)
        SELECT schedules.id, 1, 'fired', 1 FROM schedules, tasks""",
    "one open attempt": """
        INSERT INTO attempts (task_id, attempt, principal, salt, lease_hash, claimed_at)
        SELECT min(tasks.id), other.id, 'p', '', '', 1 FROM tasks, tasks AS other GROUP BY other.id""",
    "one event a number": """
        INSERT INTO events (subject, subject_id, seq, kind, principal, at)
        SELECT 'task', 7, 7, 'kind', 'p', 1 FROM tasks""",
}


@pytest.mark.parametrize("guard", GUARDS)
async def test_what_the_races_turn_on_the_database_itself_refuses_twice(database_url: str, guard: str) -> None:
    async with opened(database_url, Clock()) as queue:
        plan = NewSchedule("yearly", "0 0 1 1 *", Wanted(title="yearly"), timezone="UTC")
        await queue.put_schedule(EVERYONE, plan)
        await fill(queue, 2)
        with pytest.raises((sqlite.IntegrityError, UniqueViolation), match=r"UNIQUE|unique constraint"):
            await queue.database.write(lambda transaction: transaction.run(GUARDS[guard]))
