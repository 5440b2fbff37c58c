"""SQLite: one writer connection on the event loop's thread, group commit, one fsync a batch.

All works that arrive in one tick of the loop share one transaction and are answered after its commit: full
durability costs one fsync a batch and no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import Busy, DatabaseRefused
from taskqueue_mcp.store import faults, migrate, queues, startup
from taskqueue_mcp.store.dialect import SQLITE
from taskqueue_mcp.store.sqlite_transaction import SqliteTransaction
from taskqueue_mcp.store.turns import Turns
from taskqueue_mcp.store.wakeups import Wakeups
from taskqueue_mcp.store.works import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskqueue_mcp.store.database import Signal, Work
    from taskqueue_mcp.store.inspection import Facts
    from taskqueue_mcp.store.queues import Count

T = TypeVar("T")

LOCKED_PAUSE = 0.005
"""How long to leave a file alone that another program has locked, in seconds."""
POLL = 0.25
"""How often `data_version` is looked at, in seconds."""
SYNCHRONOUS = {"off": 0, "normal": 1, "full": 2, "extra": 3}
PLANNER_HINT = ("tasks", "tasks_by_status", "1000000 500000 1")
"""What the planner is told: one status finds half of a million tasks. It would guess ten, take this index for
every hot statement, and read all ready tasks in each claim."""


def wall_clock() -> int:
    """Return the machine's clock in microseconds since the epoch."""
    return time.time_ns() // 1_000


@dataclass(slots=True)
class _Batch:
    """Works that share a transaction, and what they signal."""

    works: list[Waiting]
    signals: set[Signal] = field(default_factory=set)
    counts: dict[str, Count] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """Forget what the works have signalled and counted: they are undone."""
        self.signals.clear()
        self.counts.clear()
        self.marks.clear()


class Undone(Exception):
    """The engine rolled the whole transaction back by itself; run the works one by one."""


class Spoilt(Exception):
    """A work failed after it had written; run the batch again with each work in a savepoint."""


class SqliteDatabase:
    """One file, any number of processes, one writer at a time."""

    dialect = SQLITE

    def __init__(self, path: Path, *, clock: Callable[[], int] = wall_clock, synchronous: str = "full") -> None:
        startup.check_library()
        startup.check_place(path)
        startup.prepare_file(path)
        self.path = path
        self._clock = clock
        self._synchronous = synchronous
        self._turns = Turns(path.with_name(path.name + "-turn"))
        self._listeners: list[Callable[[frozenset[Signal] | None], None]] = []
        self._pending: list[Waiting] = []
        self._busy = False
        self._guard = threading.RLock()
        self._threads: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._wakeups: Wakeups | None = None
        try:
            self._connection = self._open()
            in_turn = self._turns.take(faults.PATIENCE)  # `busy_timeout` alone starves beside busy writers
            try:
                self._migrate()
            finally:
                if in_turn:
                    self._turns.give_back()
            startup.check_content(self._connection, path)
            self._reader = self._open()
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite.Error as error:
            self._turns.close()
            raise faults.refusal(error, self.path) from error
        except BaseException:
            self._turns.close()
            raise
        self._wakeups = Wakeups(path)
        self._seen = self._data_version()

    # --- the doors -------------------------------------------------------------------------------------

    async def write(self, work: Work[T]) -> T:
        """Run `work` in the next group commit and return its result once it is durable.

        A caller that is cancelled meanwhile does not undo the work.

        Raises:
            Busy: another process held the file for too long, or the disk is full; nothing was changed.
        """
        if self._closed:
            raise Busy("the database is closed; call again when the server is back")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pending.append(Waiting(work, future, time.monotonic() + faults.PATIENCE))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._flush)
        return await future

    def write_now(self, work: Work[T]) -> T:
        """Run `work` in a transaction of its own and return its result once it is durable."""
        waiting = Waiting(work, None, time.monotonic() + faults.PATIENCE)
        while (signals := self._try([waiting])) is None:
            if time.monotonic() >= waiting.deadline:
                raise faults.held(self.path)
            time.sleep(0.001)
        self._tell(signals)
        if waiting.error is not None:
            raise waiting.error
        result: T = waiting.result
        return result

    def read_now(self, work: Work[T]) -> T:
        """Run a short, read-only `work` on one snapshot, without an event loop."""
        return self._read_on(self._reader, work)

    async def read(self, work: Work[T]) -> T:
        """Run a short, read-only `work` on one snapshot, on this thread."""
        return self._read_on(self._reader, work)

    async def read_long(self, work: Work[T]) -> T:
        """Run a long, read-only `work` on a thread and a connection of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._pool(), self._read_apart, work)

    def listen(
        self, listener: Callable[[frozenset[Signal] | None], None], *, needed: Callable[[], bool] | None = None
    ) -> Callable[[], None]:
        """Call `listener` after every commit, ours or another process's; return a function that stops it."""
        del needed  # other processes wake us, and a look costs next to nothing
        self._listeners.append(listener)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            descriptor = None if self._wakeups is None else self._wakeups.fileno()
            if descriptor is not None:
                with contextlib.suppress(NotImplementedError):
                    loop.add_reader(descriptor, self._woken)
            self._watch = loop.call_later(POLL, self._look)
        return lambda: self._listeners.remove(listener)

    async def backup(self, target: str) -> None:
        """Copy the database, consistent while it is in use, to the new file `target`."""
        from taskqueue_mcp.store.backup import copy_database  # noqa: PLC0415 - keeps start-up short

        await asyncio.get_running_loop().run_in_executor(self._pool(), copy_database, self.path, target)

    async def close(self) -> None:
        """Finish the works that were accepted, then release the file."""
        while self._busy:  # noqa: ASYNC110 - a flush ends within a turn of the loop, or with a time-out
            await asyncio.sleep(0.001)
        self.close_now()

    def close_now(self) -> None:
        """Release the file."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            if self._watch is not None:
                self._watch.cancel()
            descriptor = None if self._wakeups is None else self._wakeups.fileno()
            if descriptor is not None and not self._loop.is_closed():
                with contextlib.suppress(NotImplementedError):
                    self._loop.remove_reader(descriptor)
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        if self._wakeups is not None:
            self._wakeups.close()
        self._reader.close()
        self._connection.close()
        self._turns.close()

    def free_bytes(self) -> int:
        """Return how many bytes are free on the file's disk."""
        return startup.free_bytes(self.path)

    async def inspect(self, *, whole: bool = False) -> Facts:
        """Return how the database is set up and what it holds; with `whole`, read every page first."""
        from taskqueue_mcp.store import inspection  # noqa: PLC0415 - keeps start-up short

        if whole:
            await asyncio.get_running_loop().run_in_executor(self._pool(), inspection.check_whole, self.path)
        return inspection.inspect(self._connection)

    # --- group commit ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        works, self._pending = self._pending, []
        signals = self._try(works)
        if signals is None:
            self._pending = works + self._pending
            loop = asyncio.get_running_loop()
            turn = loop.run_in_executor(self._pool(), self._turns.take, faults.PATIENCE)
            turn.add_done_callback(self._turn_came)
            return
        self._answer(works)
        self._tell(signals)

    def _turn_came(self, turn: asyncio.Future[bool]) -> None:
        works, self._pending = self._pending, []
        signals = self._try(works, held=True) if turn.result() else None
        if signals is not None:
            self._answer(works)
            self._tell(signals)
            return
        now = time.monotonic()
        late = [waiting for waiting in works if waiting.deadline <= now]
        self._pending = [waiting for waiting in works if waiting.deadline > now] + self._pending
        for waiting in late:
            waiting.error = faults.held(self.path)
        self._answer(late, again_in=LOCKED_PAUSE)

    def _answer(self, works: list[Waiting], *, again_in: float = 0) -> None:
        for waiting in works:
            waiting.answer()
        if self._pending:
            asyncio.get_running_loop().call_later(again_in, self._flush)
        else:
            self._busy = False

    def _try(self, works: list[Waiting], *, held: bool = False) -> set[Signal] | None:
        """Commit `works` if the file is free and return what they signal; None when another process is writing."""
        with self._guard:
            if not held and not self._turns.try_take():
                return None
            try:
                batch = _Batch([waiting for waiting in works if not waiting.gone])
                try:
                    self._commit_together(batch)
                except Undone:
                    for waiting in batch.works:
                        self._commit_alone(waiting, batch.signals)
            except sqlite.OperationalError as error:
                if faults.is_busy(error):
                    return None
                raise
            finally:
                self._turns.give_back()
        return batch.signals

    def _commit_together(self, batch: _Batch) -> None:
        """Commit a batch without savepoints, which would copy every page that a work writes: a tenth of its time.

        What a work that failed had written cannot be taken back by itself then, so the batch starts again.
        """
        try:
            self._commit(batch)
        except Spoilt:
            self._commit(batch, apart=True)

    def _commit(self, batch: _Batch, *, apart: bool = False) -> None:
        if not batch.works:
            return
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite.Error as error:
            if faults.is_busy(error):
                raise
            self._fail(batch.works, error)
            return
        several = len(batch.works) > 1
        try:
            for waiting in batch.works:
                self._run(waiting, batch, several=several, apart=apart)
            if batch.counts:
                queues.write_counts(SqliteTransaction(connection, 0, batch.signals, batch.counts, set()))
            connection.execute("COMMIT")
        except Spoilt:
            connection.execute("ROLLBACK")
            batch.forget()
            raise
        except (sqlite.Error, Undone) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            batch.forget()
            if several:
                raise Undone from error
            self._fail(batch.works, error)

    def _run(self, waiting: Waiting, batch: _Batch, *, several: bool, apart: bool) -> None:
        connection = self._connection
        own: set[Signal] = set()
        counts, marks = batch.counts.copy(), batch.marks.copy()
        if apart:
            connection.execute("SAVEPOINT work")
        before = connection.total_changes
        try:
            waiting.error = None
            waiting.result = waiting.work(SqliteTransaction(connection, self._clock(), own, counts, marks))
            batch.signals |= own
            batch.counts, batch.marks = counts, marks
        except Exception as error:
            waiting.error = self._translate(error)
            if not connection.in_transaction:
                raise Undone from error
            if connection.total_changes != before:
                self._take_back(several=several, apart=apart)
        if apart:
            connection.execute("RELEASE work")

    def _take_back(self, *, several: bool, apart: bool) -> None:
        if apart:
            self._connection.execute("ROLLBACK TO work")
        elif several:
            raise Spoilt
        else:
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")

    def _commit_alone(self, waiting: Waiting, signals: set[Signal]) -> None:
        """Commit one work of a batch that was undone; those before it stay committed whatever happens to it."""
        alone = _Batch([waiting])
        try:
            self._commit(alone)
        except sqlite.OperationalError as error:
            self._fail([waiting], error)
        signals |= alone.signals

    def _fail(self, works: list[Waiting], error: BaseException) -> None:
        for waiting in works:
            waiting.error = self._translate(error if waiting.error is None else waiting.error)

    # --- waking ----------------------------------------------------------------------------------------

    def _tell(self, signals: set[Signal]) -> None:
        if not signals:
            return
        if self._wakeups is not None:
            self._wakeups.send(signals)
        self._hear(frozenset(signals))

    def _hear(self, signals: frozenset[Signal] | None) -> None:
        for listener in tuple(self._listeners):
            listener(signals)

    def _woken(self) -> None:
        if self._wakeups is not None:
            signals = self._wakeups.receive()
            if signals is None or signals:
                self._hear(signals)

    def _look(self) -> None:
        if self._closed or self._loop is None:
            return
        version = self._data_version()
        if version != self._seen:
            self._seen = version
            self._hear(None)
        self._watch = self._loop.call_later(POLL, self._look)

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    # --- opening ---------------------------------------------------------------------------------------

    def _open(self) -> sqlite.Connection:
        connection: sqlite.Connection = sqlite.connect(
            str(self.path), isolation_level=None, check_same_thread=False, timeout=0, cached_statements=512
        )
        connection.execute("PRAGMA busy_timeout = 2000")
        journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if journal != "wal":
            raise DatabaseRefused(f"{self.path} cannot use WAL (it is in {journal} mode); keep it on a local disk")
        wanted = SYNCHRONOUS[self._synchronous]
        connection.execute(f"PRAGMA synchronous = {wanted}")
        if connection.execute("PRAGMA synchronous").fetchone()[0] != wanted:
            raise DatabaseRefused(f"{self.path}: this SQLite refuses synchronous={self._synchronous}")
        for pragma in ("foreign_keys = ON", "mmap_size = 0", "trusted_schema = OFF", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _migrate(self) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            have = connection.execute("PRAGMA user_version").fetchone()[0]
            number = have
            for number, statement in migrate.statements(have, "sqlite", SQLITE):  # noqa: B007 - the last one counts
                connection.execute(statement)
            if number != have:
                connection.execute(f"PRAGMA user_version = {number}")
            self._tell_planner()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.close()
            raise
        connection.execute("PRAGMA busy_timeout = 0")

    def _tell_planner(self) -> None:
        connection = self._connection
        connection.execute("ANALYZE sqlite_schema")  # makes the table of hints, if it is missing
        if PLANNER_HINT not in connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall():
            connection.execute("DELETE FROM sqlite_stat1 WHERE tbl = ? AND idx = ?", PLANNER_HINT[:2])
            connection.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", PLANNER_HINT)
            connection.execute("ANALYZE sqlite_schema")  # reads the hints again

    def _translate(self, error: BaseException) -> BaseException:
        return faults.translate(error.__cause__ or error if isinstance(error, Undone) else error, self.path)

    # --- reading ---------------------------------------------------------------------------------------

    def _read_on(self, connection: sqlite.Connection, work: Work[T]) -> T:
        connection.execute("BEGIN")
        try:
            return work(SqliteTransaction(connection, self._clock(), set(), {}, set()))
        except sqlite.Error as error:
            translated = self._translate(error)
            raise translated from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _read_apart(self, work: Work[T]) -> T:
        connection = self._open()
        try:
            connection.execute("PRAGMA query_only = ON")
            return self._read_on(connection, work)
        finally:
            connection.close()

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(4, thread_name_prefix="taskqueue-store")
        return self._threads
