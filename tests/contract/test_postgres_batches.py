"""Works that share a PostgreSQL commit, or a line of them: what befalls one is not the others' business."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Busy
from taskqueue_mcp.model import Status
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.postgres import faults
from taskqueue_mcp.taskqueue import (
    ClaimRequest,
    Completion,
    answering,
    claiming,
    settling,
)
from tests.contract.desk import CLAUDE, CODEX, GEMINI, Desk
from tests.contract.interleaving import Meanwhile

if TYPE_CHECKING:
    import psycopg

    from taskqueue_mcp.store import Transaction
    from tests.postgres import Cluster

pytestmark = pytest.mark.engines("postgres")


async def test_a_task_that_is_claimed_and_cancelled_in_one_commit_can_be_claimed_again(desk: Desk) -> None:
    first = await desk.start("first")
    second = await desk.create("second")
    rules = desk.queue.rules

    def together(transaction: Transaction) -> None:
        settling.complete(transaction, rules, CLAUDE, Completion(first.lease))
        claimed = claiming.claim(transaction, rules, CODEX, ClaimRequest())
        assert claimed is not None
        answering.cancel(transaction, rules, GEMINI, second.id, None)

    await desk.queue.database.write(together)
    assert [each.outcome for each in (await desk.detail(second)).attempts] == ["cancelled"]
    await desk.decide(second, "retry")
    assert (await desk.take()).task.attempt == 2


async def test_a_work_that_cannot_be_sent_fails_alone(desk: Desk) -> None:
    calls = [Meanwhile() for _ in range(8)]

    def entering(number: int, transaction: Transaction) -> int:
        name = "\ud800" if number == 1 else f"q{number}"
        transaction.post("INSERT INTO queues (name) VALUES (:name)", {"name": name})
        return number

    async with anyio.create_task_group() as group:
        for number, each in enumerate(calls):
            group.start_soon(each.run, partial(desk.queue.database.write, partial(entering, number)))
    assert isinstance(calls.pop(1).error, UnicodeEncodeError)
    assert [each.answer() for each in calls] == [0, 2, 3, 4, 5, 6, 7]
    assert await desk.rows("SELECT count(*) FROM queues") == [(7,)]


async def test_a_work_that_waits_for_a_lock_holds_nobody_else_up(desk: Desk, wire: psycopg.Connection[Any]) -> None:
    claims = [await desk.start(f"task {number}") for number in range(6)]
    calls = [Meanwhile() for _ in claims]
    with anyio.fail_after(3.5):  # a lock is waited for for four seconds
        async with anyio.create_task_group() as group:
            with wire.transaction():
                wire.execute("SELECT 1 FROM taskqueue.tasks WHERE id = %s FOR UPDATE", (claims[0].task.id,))
                for claim, each in zip(claims, calls, strict=True):
                    group.start_soon(each.run, partial(desk.complete, claim))
                for each in calls[1:]:
                    await each.done.wait()
                assert not calls[0].done.is_set()
    assert {each.answer().status for each in calls} == {Status.COMPLETED}


async def test_many_calls_are_answered_in_time_while_the_database_is_away(
    database_url: str, cluster: Cluster, wire: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.5)
    database = open_database(database_url)
    calls = [Meanwhile() for _ in range(100)]
    name = wire.info.dbname
    with cluster.admin() as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                for each in calls:
                    group.start_soon(each.run, partial(database.write, lambda transaction: transaction.now))
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert {type(each.error) for each in calls} == {Busy}
    back = Meanwhile()
    with anyio.fail_after(5):
        while back.error is not None or not back.done.is_set():
            back = Meanwhile()
            await back.run(partial(database.write, lambda transaction: transaction.now))
    await database.close()
