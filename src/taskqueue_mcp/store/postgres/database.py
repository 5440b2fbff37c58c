"""PostgreSQL: works share transactions on a few connections, and each connection belongs to a thread while it works."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg_pool import ConnectionPool

from taskqueue_mcp.errors import Busy
from taskqueue_mcp.store.dialect import POSTGRES
from taskqueue_mcp.store.postgres import address as addresses
from taskqueue_mcp.store.postgres import faults, opening
from taskqueue_mcp.store.postgres.committing import Committer
from taskqueue_mcp.store.postgres.lanes import Lane
from taskqueue_mcp.store.postgres.transaction import prepare
from taskqueue_mcp.store.postgres.watching import Hints, Watch
from taskqueue_mcp.store.works import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskqueue_mcp.store.database import Listener, Signal, Work
    from taskqueue_mcp.store.inspection import Facts
    from taskqueue_mcp.store.postgres.transaction import Wire

T = TypeVar("T")

UNBOUNDED = 1 << 62
PREPARED_AFTER = 2
"""How often a statement runs on a connection before it is prepared there."""
CLOSE_SECONDS = 2.0
RECONNECT_SECONDS = 1.0
"""How long the pool goes on trying to connect by itself, with growing pauses: calls begin it anew, without a pause."""


class PostgresDatabase:
    """One schema of one database, any number of processes on any number of machines."""

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None) -> None:
        self.address = addresses.read(url)
        self.dialect = POSTGRES
        with opening.connect(self.address) as wire:
            self.server = opening.check(wire, self.address)
            opening.bring_up_to_date(wire, self.address, self.dialect)
            types = opening.column_types(wire, self.address)
        direct = not self.server.pooled
        prepares = direct if self.address.prepare is None else self.address.prepare
        self._pool: ConnectionPool[Wire] = ConnectionPool(
            self.address.dsn,
            connection_class=psycopg.Connection,
            kwargs={"autocommit": True, "prepare_threshold": PREPARED_AFTER if prepares else None},
            min_size=1,
            max_size=self.address.pool,
            configure=prepare,
            timeout=faults.PATIENCE,
            max_idle=300.0,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
        )
        self._pool.open()
        # Two threads more than connections, so that a long read or a backup holds nobody up.
        self._threads = ThreadPoolExecutor(self.address.pool + 2, thread_name_prefix="taskqueue-store")
        self._committer = Committer(self.address, self._pool, self.dialect, clock, types, durable=self.server.durable)
        width = max(1, self.address.pool - 1)
        self._writes = Lane(self._threads, self._committer.write, self._tell, width=width, patience=faults.PATIENCE)
        self._reads = Lane(self._threads, self._committer.read, self._tell, width=width, patience=faults.PATIENCE)
        self._listeners: list[Listener] = []
        self._watch: Watch | None = None
        hinting = direct if self.address.hint is None else self.address.hint
        self._sender = secrets.token_hex(8)
        self._hints = Hints(self._pool, self._threads, self.address.schema, self._sender) if hinting else None
        self._closed = False

    # --- the doors -------------------------------------------------------------------------------------

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one of the next commits and return its result once it is durable.

        Raises:
            Busy: the database is away, or others held what was needed; nothing was changed, unless it says that
                this is not known.
        """
        self._check_open()
        return await self._writes.ask(work)

    def write_now(self, work: Work[T]) -> T:
        """Run `work` in a transaction of its own, on this thread."""
        return self._now(work, self._committer.write)

    def read_now(self, work: Work[T]) -> T:
        """Run a read-only `work` on one snapshot, on this thread."""
        return self._now(work, self._committer.read)

    async def read(self, work: Work[T]) -> T:
        """Run a short, read-only `work` on one snapshot."""
        self._check_open()
        return await self._reads.ask(work)

    async def read_long(self, work: Work[T]) -> T:
        """Run a long, read-only `work` on a connection of its own."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read_now, work)

    def listen(
        self, listener: Callable[[frozenset[Signal] | None], None], *, needed: Callable[[], bool] | None = None
    ) -> Callable[[], None]:
        """Call `listener` after every commit, ours or another server's; return a function that stops it."""
        entry = (listener, needed)
        self._listeners.append(entry)
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            if self._watch is not None:
                self._watch.stop()
            self._watch = Watch(self.address, self._hear, self._is_needed, self._hints, self._sender)
        return lambda: self._listeners.remove(entry)

    async def backup(self, target: str) -> None:
        """Copy everything to the new SQLite file `target`, on one snapshot, while the database is in use."""
        from taskqueue_mcp.store.backup import carry_to_file  # noqa: PLC0415 - keeps start-up short

        await asyncio.get_running_loop().run_in_executor(self._threads, carry_to_file, self, target)

    async def inspect(self, *, whole: bool = False) -> Facts:
        """Return how the database is set up and what it holds; `whole` counts, for it reads every table."""
        from taskqueue_mcp.store.postgres import inspection  # noqa: PLC0415 - keeps start-up short

        del whole
        return await self.read_long(inspection.inspect)

    def free_bytes(self) -> int:
        """Return how many bytes the database may still grow by: PostgreSQL does not tell."""
        return UNBOUNDED

    async def close(self) -> None:
        """Finish the works that were accepted, then release every connection."""
        while not (self._writes.idle and self._reads.idle):  # noqa: ASYNC110 - a work ends within its patience
            await asyncio.sleep(0.001)
        if self._watch is not None:
            await self._watch.stopped()
        await asyncio.get_running_loop().run_in_executor(None, self.close_now)

    def close_now(self) -> None:
        """Release every connection."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.stop()
        self._threads.shutdown(wait=True)
        self._pool.close(CLOSE_SECONDS)

    # --- within ----------------------------------------------------------------------------------------

    def _now(self, work: Work[T], carry: Callable[[list[Waiting]], list[Waiting]]) -> T:
        self._check_open()
        waiting = Waiting(work, None, time.monotonic() + faults.PATIENCE)
        carry([waiting])
        if waiting.error is not None:
            raise waiting.error
        if waiting.signals:
            self._tell(waiting.signals)
        result: T = waiting.result
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise Busy("the database is closed; call again when the server is back")

    def _tell(self, signals: Iterable[Signal]) -> None:
        self._hear(frozenset(signals))
        if self._hints is not None:
            self._hints.ring()

    def _hear(self, signals: frozenset[Signal] | None) -> None:
        for listener, _ in tuple(self._listeners):
            listener(signals)

    def _is_needed(self) -> bool:
        return any(needed is not None and needed() for _, needed in self._listeners)
