"""News of other servers on PostgreSQL: what was under way when the watch began, and what a restored database tells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.taskqueue import (
    Completion,
    settling,
)
from tests.contract.desk import CLAUDE, Desk
from tests.contract.interleaving import create, uncommitted

if TYPE_CHECKING:
    import psycopg

    from taskqueue_mcp.store import Database, Transaction

pytestmark = pytest.mark.engines("postgres")


async def test_an_event_that_was_under_way_when_the_watch_began_is_heard(desk: Desk, rival: Database) -> None:
    heard: set[tuple[str, str]] = set()
    began = anyio.Event()

    def hear(signals: frozenset[tuple[str, str]] | None) -> None:
        heard.update(signals or ())
        if signals is None:
            began.set()

    claim = await desk.start()
    complete = partial(settling.complete, rules=desk.queue.rules, caller=CLAUDE, completion=Completion(claim.lease))

    def sent(transaction: Transaction) -> None:
        complete(transaction)
        transaction.first("SELECT count(*) FROM events")  # the event has a position

    with anyio.fail_after(10):
        async with uncommitted(rival, sent):
            await desk.create("another")
            stop = desk.queue.database.listen(hear, needed=lambda: True)
            await began.wait()
        while ("task", str(claim.task.id)) not in heard:
            await anyio.sleep(0.005)
    stop()


async def test_news_of_a_database_that_was_restored_are_heard(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    heard: set[tuple[str, str]] = set()
    news = anyio.Event()

    def hear(signals: frozenset[tuple[str, str]] | None) -> None:
        nonlocal news
        heard.update(signals or ())
        news.set()
        news = anyio.Event()

    for _ in range(5):
        await desk.create()
    stop = desk.queue.database.listen(hear, needed=lambda: True)
    with anyio.fail_after(10):
        await news.wait()
        wire.execute("TRUNCATE taskqueue.events RESTART IDENTITY")
        await news.wait()
        while ("task", "6") not in heard:
            await anyio.sleep(0.01)
            if not await desk.rows("SELECT 1 FROM tasks WHERE id = 6"):
                await rival.write(create(rules=desk.queue.rules))
    stop()
