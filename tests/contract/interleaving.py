"""Two works that meet on PostgreSQL: one is held just before its commit while the other one comes."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.taskqueue import NewTask, Wanted, creating
from tests.contract.desk import GEMINI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from taskqueue_mcp.store import Database, Transaction

WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@asynccontextmanager
async def uncommitted(database: Database, work: Callable[[Transaction], Any]) -> AsyncIterator[list[Any]]:
    """Hold `work` between its last statement and its commit; its result is in the list afterwards."""
    reached, go = threading.Event(), threading.Event()
    results: list[Any] = []

    def held(transaction: Transaction) -> None:
        result = work(transaction)
        reached.set()
        go.wait(10)
        results.append(result)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(database.write, held)
            try:
                await anyio.to_thread.run_sync(reached.wait, 10)
                yield results
            finally:
                go.set()


class Meanwhile:
    """A call that is under way: its answer or its error, when it is there."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None

    async def run(self, call: Callable[[], Any]) -> None:
        try:
            self.result = await call()
        except (TaskQueueError, psycopg.Error, ValueError) as error:
            self.error = error
        self.done.set()

    def answer(self) -> Any:
        assert self.done.is_set(), "it has not been answered"
        if self.error is not None:
            raise self.error
        return self.result


async def while_uncommitted(
    wire: psycopg.Connection[Any], rival: Database, work: Callable[[Transaction], Any], call: Callable[[], Any]
) -> Meanwhile:
    """Begin `call` while the rival's `work` is uncommitted, and let that commit when `call` is through or waits."""
    meanwhile = Meanwhile()
    async with anyio.create_task_group() as group, uncommitted(rival, work):
        group.start_soon(meanwhile.run, call)
        while not meanwhile.done.is_set() and wire.execute(WAITING).fetchone() == (0,):
            await anyio.sleep(0.002)
    return meanwhile


def create(**asked: Any) -> Callable[[Transaction], Any]:
    """The work of a create, as another server runs it."""
    outer = {name: asked.pop(name) for name in ("depends_on", "idempotency_key", "lease") if name in asked}
    caller = asked.pop("by", GEMINI)
    rules = asked.pop("rules")
    return partial(creating.create, rules=rules, caller=caller, new=NewTask(Wanted(**{"title": "t", **asked}), **outer))
