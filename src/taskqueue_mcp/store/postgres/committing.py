"""Works become durable: together when they can, each by itself when one of them stands in the way."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import psycopg

from taskqueue_mcp.store import queues
from taskqueue_mcp.store.postgres import faults
from taskqueue_mcp.store.postgres.transaction import SHORT_LOCK_TIMEOUT, PostgresTransaction, Statements, beginning

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from psycopg_pool import ConnectionPool

    from taskqueue_mcp.store.dialect import Dialect
    from taskqueue_mcp.store.postgres.address import Address
    from taskqueue_mcp.store.postgres.gathering import Types
    from taskqueue_mcp.store.postgres.transaction import Wire
    from taskqueue_mcp.store.queues import Count
    from taskqueue_mcp.store.works import Waiting

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25
SHORTEST_WAIT = 0.05
MOST_CONFLICTS = 8
"""How often a work is run that others are in the way of."""


class Spoilt(Exception):
    """A work failed after it had written, or was in another's way: the works go one by one."""


class Committer:
    """Runs works on connections of a pool. Every method blocks; threads call them."""

    def __init__(
        self,
        address: Address,
        pool: ConnectionPool[Wire],
        dialect: Dialect,
        clock: Callable[[], int] | None,
        types: Types,
        *,
        durable: bool,
    ) -> None:
        self._address = address
        self._pool = pool
        self._dialect = dialect
        self._clock = clock
        self._statements = Statements(dialect, types)
        self._write = beginning(address.schema, "write", durable=durable)
        self._hurry = beginning(address.schema, "write", durable=durable, lock_timeout=SHORT_LOCK_TIMEOUT)
        self._read = beginning(address.schema, "read")

    def write(self, works: list[Waiting]) -> list[Waiting]:
        """Commit works; each carries its result or its error afterwards, but for those that are returned.

        These have to be run again, each by itself; others that came with them do not wait for that.
        """
        works = [waiting for waiting in works if not waiting.gone]
        if len(works) > 1:
            try:
                self._together(works)
            except faults.Unknown as error:
                for waiting in works:
                    self._fail(waiting, error)
                return []
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the work that it belongs to
                if faults.is_gone(error):
                    return works
            else:
                return []
            return [waiting for waiting in works if not self._soon(waiting)]
        for waiting in works:
            self._alone(waiting)
        return []

    def read(self, works: list[Waiting]) -> list[Waiting]:
        """Run works that only read, on one snapshot; the same, but that none is returned."""
        if len(works) > 1:
            try:
                self._look(works)
            except psycopg.Error:
                pass
            else:
                return []
        for waiting in works:
            self._patiently(waiting, lambda waiting=waiting: self._look([waiting]))  # type: ignore[misc]
        return []

    def _look(self, works: list[Waiting]) -> None:
        with self._connection(works) as wire:
            transaction = self._begin(wire, self._read, {})
            try:
                for waiting in works:
                    _do(waiting, transaction)
            finally:
                _roll_back(wire)

    def _together(self, works: list[Waiting]) -> None:
        with self._connection(works) as wire:
            try:
                counts: dict[str, Count] = {}
                transaction = self._begin(wire, self._hurry, counts)
                for waiting in works:
                    self._run(waiting, transaction)
                self._commit(wire, transaction)
            except BaseException:
                _roll_back(wire)
                raise

    def _run(self, waiting: Waiting, transaction: PostgresTransaction) -> None:
        transaction.signals, transaction.wrote = set(), False
        counted = transaction.counts.copy()
        if not _do(waiting, transaction):
            if transaction.wrote:
                raise Spoilt
            transaction.counts = counted

    def _alone(self, waiting: Waiting) -> None:
        self._patiently(waiting, lambda: self._commit_one(waiting, self._write))

    def _soon(self, waiting: Waiting) -> bool:
        """Commit a work; False when it has to be run again."""
        try:
            self._commit_one(waiting, self._hurry)
        except faults.Unknown as error:
            self._fail(waiting, error)
        except Exception:  # noqa: BLE001 - if it stays, it is told when it is run again
            return False
        return True

    def _commit_one(self, waiting: Waiting, begin: str) -> None:
        with self._connection([waiting]) as wire:
            try:
                transaction = self._begin(wire, begin, {})
                if _do(waiting, transaction):
                    self._commit(wire, transaction)
                else:
                    _roll_back(wire)
            except BaseException:
                _roll_back(wire)
                raise

    def _patiently(self, waiting: Waiting, step: Callable[[], None]) -> None:
        """Take `step` until it succeeds, its time is over, or it fails for a reason that stays."""
        pause, conflicts = FIRST_PAUSE, 0
        while True:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to whoever asked
                conflicts += faults.is_conflict(error)
                again = conflicts < MOST_CONFLICTS if faults.is_conflict(error) else faults.is_gone(error)
                if not again or time.monotonic() + pause >= waiting.deadline:
                    self._fail(waiting, error)
                    return
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads what collided
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    def _connection(self, works: list[Waiting]) -> AbstractContextManager[Wire]:
        """Wait for a connection for no longer than the works have time."""
        left = min(waiting.deadline for waiting in works) - time.monotonic()
        return self._pool.connection(timeout=max(left, SHORTEST_WAIT))

    def _begin(self, wire: Wire, begin: str, counts: dict[str, Count]) -> PostgresTransaction:
        return PostgresTransaction(wire, self._dialect, self._statements, begin, self._clock, counts)

    def _commit(self, wire: Wire, transaction: PostgresTransaction) -> None:
        transaction.send_posted()
        if transaction.counts and not queues.write_counts(transaction):
            raise faults.Filled
        try:
            wire.execute("COMMIT", prepare=False)
        except psycopg.Error as error:
            if faults.is_gone(error):
                raise faults.Unknown from error
            raise

    def _fail(self, waiting: Waiting, error: BaseException) -> None:
        waiting.signals = set()
        waiting.error = faults.translate(error, self._address)
        if waiting.error is not error:
            waiting.error.__cause__ = error


def _do(waiting: Waiting, transaction: PostgresTransaction) -> bool:
    """Run a work; whether it came to its end. What the database itself complains of is raised."""
    waiting.error, waiting.signals = None, set()
    try:
        waiting.result = waiting.work(transaction)
    except psycopg.Error:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to whoever asked
        waiting.error = error
        return False
    waiting.signals = transaction.signals
    return True


def _roll_back(wire: Wire) -> None:
    if not wire.closed and wire.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        try:
            wire.execute("ROLLBACK", prepare=False)
        except psycopg.Error:
            wire.close()
