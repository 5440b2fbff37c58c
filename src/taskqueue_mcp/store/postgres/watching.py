"""What other servers commit: looked for again and again, sooner when somebody waits, at once when a hint comes.

The truth is the event log. A commit may become visible after one with a higher position, so the positions that
were passed over are looked for until they come or nobody can still be writing them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import psycopg

from taskqueue_mcp.store.postgres.opening import CONNECT_SECONDS
from taskqueue_mcp.store.postgres.transaction import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from psycopg_pool import ConnectionPool

    from taskqueue_mcp.store.database import Signal
    from taskqueue_mcp.store.postgres.address import Address
    from taskqueue_mcp.store.postgres.transaction import Wire

SOONEST, LATEST, IDLE = 0.02, 0.1, 1.0
"""How long to leave between two looks, in seconds: after news, while somebody waits, and while nobody does."""
SLOWER = 1.3
LONGEST_OPEN = 40.0
"""A transaction is ended by its time-outs before this many seconds; a gap in the positions is one for ever then."""
MOST_NEWS = 1_000
MOST_GAPS = 500
HINT_GAP = 0.01
RETRY = 1.0
CHANNEL = "taskqueue_{}"
OTHERS = """
SELECT EXISTS (SELECT 1 FROM pg_stat_activity
  WHERE application_name = current_setting('application_name') AND datname = current_database()
    AND pid <> pg_backend_pid())
"""

log = logging.getLogger(__name__)


class Watch:
    """Follows the event log of other servers on the running event loop, on a connection of its own."""

    def __init__(
        self,
        address: Address,
        hear: Callable[[frozenset[Signal] | None], None],
        needed: Callable[[], bool],
        hints: Hints | None,
        sender: str,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._address = address
        self._hear = hear
        self._needed = needed
        self._hints = hints
        self._sender = sender
        self._top = -1
        self._gaps: dict[int, float] = {}
        self._counted_at = 0.0
        self._checked_at = 0.0
        self._news = _news(address.schema)
        self._task = self.loop.create_task(self._run(), name="taskqueue-watch")

    def stop(self) -> None:
        """Stop following."""
        if not self.loop.is_closed():
            self._task.cancel()

    async def stopped(self) -> None:
        """Stop following and wait until the connection is released."""
        self.stop()
        if self.loop is asyncio.get_running_loop():
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                wire = await psycopg.AsyncConnection.connect(
                    self._address.dsn,
                    autocommit=True,
                    connect_timeout=CONNECT_SECONDS,
                    prepare_threshold=None,
                    application_name=f"{CHANNEL.format(self._address.schema)} watch",
                )
                async with wire:
                    prepare(wire)
                    await self._follow(wire)
            except psycopg.Error as error:
                log.warning("the watch on %s broke off and begins again: %s", self._address.place, error)
                await asyncio.sleep(RETRY)
                self._hear(None)

    async def _follow(self, wire: psycopg.AsyncConnection[Any]) -> None:
        self._top, self._gaps = -1, {}  # the database may have been restored since
        if self._hints is not None:
            await wire.execute(f"LISTEN {CHANNEL.format(self._address.schema)}")
        pause, looked_at, hinted = SOONEST, 0.0, False
        while True:
            if hinted or self._needed() or time.monotonic() - looked_at >= IDLE:
                looked_at = time.monotonic()
                pause = SOONEST if await self._look(wire) else min(pause * SLOWER, LATEST)
            hinted = await self._sleep(wire, pause)

    async def _sleep(self, wire: psycopg.AsyncConnection[Any], seconds: float) -> bool:
        """Sleep until the time is over or a hint comes; whether one did."""
        if self._hints is not None:
            heard = [notice.payload async for notice in wire.notifies(timeout=seconds, stop_after=1)]
            return heard not in ([], [self._sender])
        await asyncio.sleep(seconds)
        return False

    async def _look(self, wire: psycopg.AsyncConnection[Any]) -> bool:
        """Tell what is new; whether anything is."""
        if self._hints is not None and time.monotonic() - self._counted_at >= IDLE:
            self._counted_at = time.monotonic()
            others = await (await wire.execute(OTHERS)).fetchone()
            self._hints.wanted = others is None or others[0]
        if self._top < 0:
            rows = await (await wire.execute(self._news.last)).fetchall()
            self._top = max(0, min((row[0] for row in rows), default=1) - 1)
            self._note([row[0] for row in rows])
            self._hear(None)
            return False
        cursor = await wire.execute(self._news.since, (self._top, list(self._gaps)))
        rows = await cursor.fetchall()
        if not rows:
            self._forget()
            await self._check(wire)
            return False
        self._note([row[0] for row in rows])
        if len(rows) >= MOST_NEWS:
            self._hear(None)
        else:
            self._hear(_signals(rows))
        return True

    async def _check(self, wire: psycopg.AsyncConnection[Any]) -> None:
        """Begin anew when the log ends before what was seen of it: the database was restored."""
        if time.monotonic() - self._checked_at >= IDLE:
            self._checked_at = time.monotonic()
            row = await (await wire.execute(self._news.end)).fetchone()
            if row is not None and row[0] < self._top:
                self._top, self._gaps = -1, {}

    def _note(self, positions: list[int]) -> None:
        for position in positions:
            self._gaps.pop(position, None)
        top = max(positions, default=0)
        if top > self._top:
            came = set(positions)
            now = time.monotonic()
            missing = [position for position in range(self._top + 1, top) if position not in came]
            self._gaps.update(dict.fromkeys(missing[-MOST_GAPS:], now))
            self._top = top
        self._forget()

    def _forget(self) -> None:
        oldest = time.monotonic() - LONGEST_OPEN
        for position in [position for position, since in self._gaps.items() if since < oldest]:
            del self._gaps[position]


class _news:  # noqa: N801 - a pair of statements
    def __init__(self, schema: str) -> None:
        self.last = f"SELECT position FROM {schema}.events ORDER BY position DESC LIMIT {MOST_GAPS}"
        self.end = f"SELECT coalesce(max(position), 0) FROM {schema}.events"
        columns = "events.position, events.subject, events.subject_id, events.kind, tasks.queue, events.data"
        joined = f"{schema}.events LEFT JOIN {schema}.tasks ON events.subject = 'task' AND tasks.id = events.subject_id"
        self.since = f"""
        (SELECT {columns} FROM {joined} WHERE events.position > %s ORDER BY events.position LIMIT {MOST_NEWS})
        UNION ALL SELECT {columns} FROM {joined} WHERE events.position = ANY(%s)
        """


def _signals(rows: list[tuple[Any, ...]]) -> frozenset[Signal]:
    """Return whom the events concern, as the works that recorded them said it to their own process."""
    signals: set[Signal] = set()
    for _, subject, number, kind, queue, data in rows:
        if subject == "queue":
            signals.add(("queue", json.loads(data)["queue"]))
            continue
        signals.add((subject, str(number)))
        if queue is not None and kind in {"created", "ready"}:
            signals.add(("queue", queue))
    return frozenset(signals)


class Hints:
    """Tells the other servers, after a commit and apart from it, that there is news; at most one in `HINT_GAP`.

    Within the transaction itself a NOTIFY would let no other one commit meanwhile.
    """

    def __init__(self, pool: ConnectionPool[Wire], threads: ThreadPoolExecutor, schema: str, sender: str) -> None:
        self._pool = pool
        self._threads = threads
        notify = f"NOTIFY {CHANNEL.format(schema)}, '{sender}'"
        self._ring = f"BEGIN; SET LOCAL synchronous_commit = off; {notify}; COMMIT"
        self.wanted = True
        """Whether any other server listens, as far as is known."""
        self._due = False
        self._sent_at = 0.0

    def ring(self) -> None:
        """Send a hint now, or a little later together with those that come meanwhile."""
        if self._due or not self.wanted:
            return
        self._due = True
        with contextlib.suppress(RuntimeError):  # no loop, or the threads are going: other servers look by themselves
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._sent_at + HINT_GAP - time.monotonic()), self._send)
            return
        self._due = False

    def _send(self) -> None:
        self._due = False
        self._sent_at = time.monotonic()
        with contextlib.suppress(RuntimeError):
            self._threads.submit(self._notify)

    def _notify(self) -> None:
        with contextlib.suppress(psycopg.Error), self._pool.connection() as wire:
            wire.execute(self._ring, prepare=False)
