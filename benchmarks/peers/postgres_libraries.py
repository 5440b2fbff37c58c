"""Queues on PostgreSQL: `python -m benchmarks.peers.postgres_libraries NAME`, in the peers' environment."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Protocol

import pgmq.install
import procrastinate
import psycopg
from psycopg.types.json import Jsonb

from benchmarks.peers.asking import answer
from benchmarks.peers.postgres_bare import Bare, rows
from benchmarks.peers.threads import share, timed
from benchmarks.peers.work import SUMMARY, TASK

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN_SECONDS = 900


class Blocking(Protocol):
    """A queue that is called from threads, each with its own connection."""

    def open(self, url: str, callers: int) -> None: ...
    def create(self, caller: int) -> None: ...
    def cycle(self, caller: int) -> None: ...
    def left(self) -> int: ...
    def close(self) -> None: ...


class Pgmq:
    """The functions of the extension: `send`, `read` one for as long as our lease, `archive`."""

    @staticmethod
    def prepare(url: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute(pgmq.install.get_embedded_install_sql())
            connection.execute("SELECT pgmq.create('bench')")

    def open(self, url: str, callers: int) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(callers)]

    def create(self, caller: int) -> None:
        self._connections[caller].execute("SELECT * FROM pgmq.send('bench', %s::jsonb)", (Jsonb(TASK),))

    def cycle(self, caller: int) -> None:
        run = self._connections[caller].execute
        ((number, message),) = run(
            "SELECT msg_id, message FROM pgmq.read('bench', %s, 1)", (HIDDEN_SECONDS,)
        ).fetchall()
        assert message == TASK
        assert run("SELECT pgmq.archive('bench', %s::bigint)", (number,)).fetchall() == [(True,)]

    def left(self) -> int:
        ((count,),) = self._connections[0].execute("SELECT queue_length FROM pgmq.metrics('bench')").fetchall()
        return int(count)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Threads:
    """Answers for a queue that blocks."""

    def __init__(self, queue: Blocking) -> None:
        self._queue = queue

    def open(self, url: str, callers: int) -> None:
        self._queue.open(url, callers)

    def fill(self, count: int, callers: int) -> float:
        return self._timed(count, callers, self._queue.create)

    def drain(self, count: int, callers: int) -> float:
        took = self._timed(count, callers, self._queue.cycle)
        assert self._queue.left() == 0
        return took

    def close(self) -> None:
        self._queue.close()

    @staticmethod
    def _timed(count: int, callers: int, work: Callable[[int], None]) -> float:
        def some(number: int) -> None:
            for _ in range(share(count, callers, number)):
                work(number)

        return timed(callers, some)


class Procrastinate:
    """Procrastinate as it is used: deferred by so many coroutines, worked on by one worker with as many at once."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    @staticmethod
    def prepare(url: str) -> None:
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
        with app.open():
            app.schema_manager.apply_schema()

    def open(self, url: str, callers: int) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=callers, max_size=callers)
        self._app = procrastinate.App(connector=connector)
        self._done = 0

        @self._app.task(name="count_low")
        async def count_low(title: str, instructions: str) -> str:
            assert {"title": title, "instructions": instructions} == TASK
            self._done += 1
            return SUMMARY

        self._task = count_low

        async def begin() -> None:
            await self._app.open_async()

        self._runner.run(begin())

    def fill(self, count: int, callers: int) -> float:
        async def some(number: int) -> None:
            for _ in range(share(count, callers, number)):
                await self._task.defer_async(**TASK)

        async def all_of_them() -> float:
            begin = time.perf_counter()
            await asyncio.gather(*(some(number) for number in range(callers)))
            return time.perf_counter() - begin

        return self._runner.run(all_of_them())

    def drain(self, count: int, callers: int) -> float:
        async def work() -> float:
            begin = time.perf_counter()
            await self._app.run_worker_async(
                wait=False, concurrency=callers, listen_notify=False, install_signal_handlers=False
            )
            return time.perf_counter() - begin

        took = self._runner.run(work())
        assert self._done == count, self._done
        return took

    def close(self) -> None:
        self._runner.run(self._app.close_async())


def main(name: str) -> None:
    queue: Threads | Procrastinate
    match name:
        case "procrastinate":
            queue, prepare = Procrastinate(), Procrastinate.prepare
        case "pgmq":
            queue, prepare = Threads(Pgmq()), Pgmq.prepare
        case _:
            queue, prepare = Threads(Bare()), Bare.prepare
    answer(
        {"prepare": prepare, "open": queue.open, "fill": queue.fill, "drain": queue.drain, "close": queue.close,
         "rows": rows}
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
