"""Processes that use the queue's file are killed at random instants; what they were told still holds."""

from __future__ import annotations

import random
import signal
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp import leases
from taskqueue_mcp.taskqueue import NewSchedule, Wanted
from tests.reliability import clients
from tests.reliability.clients import LANES
from tests.reliability.invariants import broken
from tests.reliability.processes import Diary, read_diary, start, together
from tests.reliability.racers import EVERYONE, SHORT, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskqueue_mcp.store import Transaction

CLIENTS = 6
SECOND = 1_000_000
DRAIN_SECONDS = 45.0
REFUSALS = {"create": {"invalid_input"}, "update": {"lease_lost"}, "complete": {"lease_lost"}, "fail": {"lease_lost"}}
"""What a client may be told: that what its task would depend on has failed, that it came too late."""
ENDED_BY = {"error": "failed", "permanent": "permanent", "release": "released"}


async def kill_and_restart(url: str, folder: Path, seed: int, kills: int) -> None:
    """Keep clients busy and kill one every 50 to 200 ms, which then starts again with its diary."""
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point

    def begin(number: int) -> Any:
        return start(clients.live, url, str(folder / f"client-{number}.diary"), chance.getrandbits(32))

    lives = [begin(number) for number in range(CLIENTS)]
    try:
        for _ in range(kills):
            await anyio.sleep(chance.uniform(0.05, 0.2))
            number = chance.randrange(CLIENTS)
            lives[number].kill()
            lives[number].join(10)
            assert lives[number].exitcode == -signal.SIGKILL, f"client {number} had ended by itself"
            lives[number] = begin(number)
    finally:
        for life in lives:
            life.kill()
            life.join(10)
    assert {life.exitcode for life in lives} == {-signal.SIGKILL}


async def test_whatever_is_killed_whenever_no_promise_breaks_and_the_queue_drains(
    database_url: str, folder: Path, seed: int, soak: bool
) -> None:
    kills, tasks = (3_000, 50_000) if soak else (110, 1_500)
    diaries = [folder / f"client-{number}.diary" for number in range(CLIENTS)]
    async with opened(database_url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
        plan = NewSchedule("each-second", "* * * * * *", Wanted(title="tick"), misfire="all", overlap="allow")
        await queue.put_schedule(EVERYONE, plan)

        await kill_and_restart(database_url, folder, seed, kills)
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, diaries)) == []

        await queue.delete_schedule(EVERYONE, "each-second")
        urls, names = [database_url] * CLIENTS, [str(diary) for diary in diaries]
        seconds = [DRAIN_SECONDS] * CLIENTS
        together(clients.drain, urls, names, range(CLIENTS), seconds, seconds=DRAIN_SECONDS + 10)
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []
        assert await queue.database.read(lambda transaction: untrue(transaction, diaries)) == []
        assert await queue.database.read(gaps) == []
        stored = await queue.database.read(lambda transaction: transaction.all("SELECT status FROM tasks"))
    statuses = Counter(status for (status,) in stored)
    assert set(statuses) <= {"completed", "failed", "cancelled"}
    assert sum(statuses.values()) >= tasks  # or it was not much of a test
    assert statuses["completed"] >= 0.7 * tasks


def untrue(transaction: Transaction, diaries: list[Path]) -> list[str]:
    """Return what the clients were told that is not so."""
    found: list[str] = []
    stored = Stored(transaction)
    for diary in diaries:
        entries = read_diary(diary)
        calls = {entry["n"]: entry for entry in entries if "do" in entry}
        answers = [entry for entry in entries if "to" in entry]
        found += [f"{diary.stem}: {why}" for answer in answers for why in stored.against(calls[answer["to"]], answer)]
        unanswered = calls.keys() - {answer["to"] for answer in answers}
        if len(unanswered) > LANES:
            found.append(f"{diary.stem} has {len(unanswered)} calls unanswered at once")
    return found


class Stored:
    """What the file says of all that the clients did."""

    def __init__(self, transaction: Transaction) -> None:
        keys = transaction.all("SELECT idempotency_key, id FROM tasks WHERE idempotency_key IS NOT NULL")
        self._keys: dict[str, int] = dict(keys)
        tasks = transaction.all("SELECT id, status, result_summary FROM tasks")
        self._tasks = {task: (status, summary) for task, status, summary in tasks}
        attempts = transaction.all(
            "SELECT task_id, attempt, claim_id, lease_hash, outcome, error, result_summary, result_data FROM attempts"
        )
        self._attempts = {row[:2]: row[2:] for row in attempts}
        texts: dict[tuple[int, int], str] = defaultdict(str)
        chunks = transaction.all("SELECT task_id, attempt, text FROM log_chunks ORDER BY task_id, attempt, number")
        for task, attempt, text in chunks:
            texts[task, attempt] += text
        self._lines = Counter((*of, line) for of, text in texts.items() for line in text.splitlines())

    def against(self, call: dict[str, Any], answer: dict[str, Any]) -> Iterator[str]:
        """Compare what was asked and answered with what is stored."""
        what = f"{call} was answered {answer}"
        if "refused" in answer:
            if answer["refused"] not in REFUSALS.get(call["do"], ()):
                yield what
            elif call["do"] in clients.SETTLING and call["told"] in self._attempt(call):
                yield f"{what}, and had its effect"
        elif not self._is_so(call, answer):
            yield f"{what}, and that is not stored"

    def _attempt(self, call: dict[str, Any]) -> tuple[Any, ...]:
        lease = leases.parse(call["lease"])
        return tuple(self._attempts.get((lease.task_id, lease.attempt), (None,) * 6))

    def _is_so(self, call: dict[str, Any], answer: dict[str, Any]) -> bool:
        match call["do"]:
            case "create":
                return bool(self._keys.get(call["key"]) == answer["task"])
            case "claim" if answer["lease"] is not None:
                claim_id, lease_hash, *_ = self._attempts.get((answer["task"], answer["attempt"]), (None, None))
                return (claim_id, lease_hash) == (call["claim_id"], leases.parse(answer["lease"]).hash)
            case "update":
                lease = leases.parse(call["lease"])
                return self._lines[lease.task_id, lease.attempt, call["line"]] == 1
            case "complete":
                _, _, outcome, _, summary, data = self._attempt(call)
                ended = (outcome, summary, data) == ("completed", call["told"], f'{{"by": "{call["told"]}"}}')
                return ended and self._tasks[answer["task"]] == ("completed", call["told"])
            case "fail":
                _, _, outcome, error, *_ = self._attempt(call)
                return (outcome, error) == (ENDED_BY[call["kind"]], call["told"])
            case _:
                return True


def gaps(transaction: Transaction) -> list[str]:
    """Return the due times of the one schedule, of every second, that did not fire exactly once."""
    ledger = transaction.all("SELECT due_at, fate, task_id FROM occurrences ORDER BY due_at")
    dues = {due for due, _, _ in ledger}
    found = [f"{row} did not fire" for row in ledger if row[1] not in {"fired", "late"}]
    found += [f"nothing at {due}" for due in range(min(dues), max(dues), SECOND) if due not in dues]
    runs = transaction.all("SELECT due_at, id FROM tasks WHERE due_at IS NOT NULL AND status <> 'cancelled'")
    if sorted(runs) != [(due, task) for due, _, task in ledger]:
        found.append(f"the runs {sorted(runs)} are not the ledger's {ledger}")
    return found


async def test_a_write_whose_commit_fails_is_not_acknowledged(database_url: str) -> None:
    def work(transaction: Transaction) -> None:
        transaction.run("PRAGMA defer_foreign_keys = ON")  # so that COMMIT is the statement that fails
        transaction.run("INSERT INTO dependencies (task_id, depends_on) VALUES (1, 2)")

    async with opened(database_url) as queue:
        with pytest.raises(sqlite.IntegrityError, match="FOREIGN KEY"):
            await queue.database.write(work)
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []


async def test_a_torn_last_line_of_a_diary_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    path.write_text('{"n": 1}\n{"n": 2', encoding="utf-8")
    diary = Diary(path)
    diary.note(n=3)
    diary.close()
    assert read_diary(path) == [{"n": 1}, {"n": 3}]
