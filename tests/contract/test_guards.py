"""Every guarded statement minds its guard, and the database itself refuses what must not be, on every engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp import leases, lifecycle
from taskqueue_mcp.auth import Auth
from taskqueue_mcp.model import Completed, Reason, Scope, Status, Task
from taskqueue_mcp.store import schedules, tasks
from tests.contract.desk import OWNER, Desk

if TYPE_CHECKING:
    from taskqueue_mcp.store import Transaction

REFUSED = (sqlite.IntegrityError, psycopg.IntegrityError, psycopg.DataError)


async def test_a_due_time_ends_once(desk: Desk) -> None:
    planned = await desk.plan("report", "0 9 * * *")

    def work(transaction: Transaction) -> list[bool]:
        end = partial(schedules.record, transaction, planned.schedule.id, 5)
        return [end("fired", None, 1), end("skipped", "why", 2)]

    assert desk.queue.database.write_now(work) == [True, False]
    assert await desk.rows("SELECT fate, reason, task_id FROM occurrences") == [("fired", None, 1)]


# --- guarded statements


def done(task: Task) -> lifecycle.Change:
    return lifecycle.settle(task, Completed(), 0, 0)


@pytest.mark.parametrize(
    "stale",
    [
        {"attempt": 2},
        {"attempt": 0},
        {"lease_hash": "another"},
        {"principal": "codex"},
        {"id": 999},
    ],
)
@pytest.mark.parametrize("statement", ["settle", "touch"])
async def test_a_statement_under_a_lease_changes_nothing_without_all_of_it(
    desk: Desk, statement: str, stale: dict[str, Any]
) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    given = {
        "attempt": 1,
        "lease_hash": leases.parse(claim.lease).hash,
        "principal": "claude",
        "id": claim.task.id,
        **stale,
    }
    task = claim.task._replace(attempt=given["attempt"], id=given["id"])

    def work(transaction: Transaction) -> Task | None:
        if statement == "settle":
            return tasks.settle(transaction, task, done(task), given["lease_hash"], given["principal"])
        return tasks.touch(
            transaction,
            task,
            given["lease_hash"],
            given["principal"],
            lease_seconds=9,
            progress=1,
            message="x",
            events=1,
        )

    assert desk.queue.database.write_now(work) is None
    assert await desk.snapshot() == before


async def test_a_statement_under_a_lease_changes_nothing_of_a_task_that_is_not_in_progress(desk: Desk) -> None:
    claim = await desk.start()
    hashed = leases.parse(claim.lease).hash
    await desk.complete(claim)
    before = await desk.snapshot()

    def work(transaction: Transaction) -> list[Task | None]:
        return [
            tasks.settle(transaction, claim.task, done(claim.task), hashed, "claude"),
            tasks.touch(transaction, claim.task, hashed, "claude", lease_seconds=9, progress=1, message="x", events=1),
            tasks.readdress(transaction, claim.task, "another", 9),
        ]

    assert desk.queue.database.write_now(work) == [None, None, None]
    assert await desk.snapshot() == before


@pytest.mark.parametrize("stale", [{"seq": 1}, {"status": Status.PENDING}, {"id": 999}])
async def test_a_move_changes_nothing_of_a_task_that_has_moved(desk: Desk, stale: dict[str, Any]) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    task = claim.task._replace(**stale)
    change = lifecycle.cancel(claim.task, "")
    assert desk.queue.database.write_now(lambda t: tasks.move(t, task, change)) is None
    assert await desk.snapshot() == before
    assert desk.queue.database.write_now(lambda t: tasks.move(t, claim.task, change)) is not None


@pytest.mark.parametrize("stale", [{"attempt": 2}, {"lease_principal": "codex"}])
async def test_a_redelivery_changes_nothing_of_another_attempt(desk: Desk, stale: dict[str, Any]) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    task = claim.task._replace(**stale)
    assert desk.queue.database.write_now(lambda t: tasks.readdress(t, task, "another", 9)) is None
    assert await desk.snapshot() == before


async def test_a_redelivery_changes_nothing_of_a_confirmed_attempt(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim)
    before = await desk.snapshot()
    assert desk.queue.database.write_now(lambda t: tasks.readdress(t, claim.task, "another", 9)) is None
    assert await desk.snapshot() == before


async def test_an_unblocking_changes_nothing_of_a_task_that_has_moved(desk: Desk) -> None:
    other = await desk.create()
    task = await desk.create(depends_on=(other.id,))
    before = await desk.snapshot()

    def work(transaction: Transaction) -> list[Task | None]:
        stale = (task._replace(seq=9), other)
        return [tasks.unblock(transaction, one, 0, Status.PENDING, Reason.SCHEDULED) for one in stale]

    assert desk.queue.database.write_now(work) == [None, None]
    assert await desk.snapshot() == before


async def test_a_run_that_has_begun_is_not_retargeted(desk: Desk) -> None:
    task = await desk.create(run_at="in 1 hour")
    values = {
        "title": "x", "task_type": "x", "executor": "x", "queue": "default", "priority": "low", "max_attempts": 1,
        "serial_key": None, "expects": 0, "reason": "scheduled", "due_at": 5, "sort_at": 5,
    }  # fmt: skip
    stale = task._replace(seq=9)
    assert desk.queue.database.write_now(lambda t: tasks.retarget(t, stale, values)) is None
    await desk.decide(task, "run_now")
    claim = await desk.take()
    await desk.fail(claim)
    after = await desk.task(task)
    assert after.status is Status.PENDING
    assert desk.queue.database.write_now(lambda t: tasks.retarget(t, after, values)) is None
    assert await desk.task(task) == after


OPEN_TWICE = """
INSERT INTO attempts (task_id, attempt, principal, salt, lease_hash, claimed_at) VALUES (3, 2, 'x', 'x', 'x', 1)
"""
TWO_HELD = """
UPDATE tasks SET status = 'in_progress', lease_hash = 'x', lease_principal = 'y', lease_expires_at = 1, claim_id = 'c1'
 WHERE status = 'ready'
"""
TWO_NAMED = """
INSERT INTO schedules (name, cron, timezone, misfire, overlap, enabled, grace_seconds, body, created_by, created_at,
                       updated_at)
SELECT name, cron, timezone, misfire, overlap, enabled, grace_seconds, body, created_by, created_at, updated_at
  FROM schedules
"""
TWO_TOKENS = (
    "INSERT INTO tokens (name, principal, hash, scopes, created_at) SELECT {}, principal, {}, '[]', 1 FROM tokens"
)
ANSWERED_BY_NOBODY = """
INSERT INTO questions (task_id, number, attempt, kind, text, asked_at, answered_at)
VALUES (1, 1, 0, 'question', 'Which shop?', 1, 1)
"""
IMPOSSIBLE = {
    "a task in progress without a lease": "UPDATE tasks SET status = 'in_progress'",
    "a ready task with a lease": "UPDATE tasks SET lease_hash = 'x', lease_principal = 'y', lease_expires_at = 1",
    "a lease without its holder": "UPDATE tasks SET lease_principal = NULL WHERE status = 'in_progress'",
    "a lease without an end": "UPDATE tasks SET lease_expires_at = NULL WHERE status = 'in_progress'",
    "a pending task without a reason": "UPDATE tasks SET status = 'pending'",
    "a ready task with a reason": "UPDATE tasks SET reason = 'retry'",
    "a waiting task that waits for no person": "UPDATE tasks SET status = 'waiting', reason = 'retry' WHERE id = 1",
    "a pending task that waits for a person": "UPDATE tasks SET status = 'pending', reason = 'approval' WHERE id = 1",
    "a final task without an end": "UPDATE tasks SET status = 'completed'",
    "an open task with an end": "UPDATE tasks SET finished_at = 1",
    "a ready task that is blocked": "UPDATE tasks SET blockers = 1",
    "a task that waits for nothing": "UPDATE tasks SET status = 'pending', reason = 'dependency' WHERE id = 1",
    "less than no blockers": "UPDATE tasks SET blockers = -1 WHERE status = 'pending'",
    "a task that may never be tried": "UPDATE tasks SET max_attempts = 0",
    "more failures than attempts": "UPDATE tasks SET failures = 1",
    "an unknown status": "UPDATE tasks SET status = 'done' WHERE id = 1",
    "an unknown priority": "UPDATE tasks SET priority = 'highest'",
    "a task without a title": "UPDATE tasks SET title = ''",
    "text in a number": "UPDATE tasks SET run_at = 'soon'",
    "two tasks of one line at once": "UPDATE tasks SET serial_key = 'till'",
    "two tasks under one claim id": TWO_HELD,
    "two live schedules of one name": TWO_NAMED,
    "two live tokens of one name": TWO_TOKENS.format("name", "'another'"),
    "two tokens of one secret": TWO_TOKENS.format("'another'", "hash"),
    "two ends of one due time": """
        INSERT INTO occurrences VALUES (1, 1, 'fired', NULL, NULL, 1), (1, 1, 'late', NULL, NULL, 1)""",
    "two tasks of one key": "UPDATE tasks SET idempotency_key = 'k1'",
    "two tasks of one due time": "UPDATE tasks SET schedule_id = 1, due_at = 1",
    "a dependency on itself": "INSERT INTO dependencies VALUES (1, 1)",
    "a dependency on nothing": "INSERT INTO dependencies VALUES (1, 999)",
    "a queue with less than nothing in it": "UPDATE queues SET open_tasks = -1",
    "an unknown state of a queue": "UPDATE queues SET state = 'closed'",
    "an answer of nobody": ANSWERED_BY_NOBODY,
    "an unknown fate of a due time": "INSERT INTO occurrences VALUES (1, 1, 'forgotten', NULL, NULL, 1)",
    "an attempt that ended without an outcome": "UPDATE attempts SET ended_at = 1",
    "two open attempts of a task": OPEN_TWICE,
    "two events of one number": "UPDATE events SET subject_id = 1, seq = 1",
    "a due time skipped without a reason": "INSERT INTO occurrences VALUES (1, 1, 'skipped', NULL, NULL, 1)",
}


@pytest.mark.parametrize("what", list(IMPOSSIBLE))
async def test_the_database_itself_refuses(desk: Desk, what: str) -> None:
    await desk.create()
    await desk.create()
    await desk.start()
    await desk.plan("report", "0 9 * * *")
    await Auth(desk.queue.database).create(OWNER, "laptop", frozenset({Scope.WORK}))
    before = await desk.snapshot()
    with pytest.raises(REFUSED):
        await desk.queue.database.write(lambda transaction: transaction.run(IMPOSSIBLE[what]))
    assert await desk.snapshot() == before
