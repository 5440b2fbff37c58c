"""SQLite queues of other libraries: `python -m benchmarks.peers.sqlite_libraries NAME`, in the peers' environment."""

from __future__ import annotations

import sqlite3
import sys
import threading

import pysqlite3

OLDER = "litequeue on the interpreter's SQLite"
if OLDER not in sys.argv:
    sys.modules["sqlite3"] = pysqlite3  # the same library of SQLite under all of them, and under ours

import huey  # noqa: E402 - after the line above
import huey.storage  # noqa: E402 - the same
import litequeue  # noqa: E402 - the same
import persistqueue  # noqa: E402 - the same
import persistqueue.serializers.json  # noqa: E402 - the same

from benchmarks.peers.asking import answer  # noqa: E402 - the same
from benchmarks.peers.threads import share, timed  # noqa: E402 - the same
from benchmarks.peers.work import SUMMARY, TASK, TASK_TEXT  # noqa: E402 - the same

LEVELS = {"off": 0, "normal": 1, "full": 2}


class LiteQueue:
    """One queue that all callers share behind a lock: with a connection each they starve one another."""

    def open(self, path: str, synchronous: str) -> None:
        self._queue = litequeue.LiteQueue(path)
        self._queue.conn.execute(f"PRAGMA synchronous = {synchronous}")
        self._turn = threading.Lock()

    def create(self) -> None:
        with self._turn:
            self._queue.put(TASK_TEXT)

    def cycle(self) -> None:
        with self._turn:
            message = self._queue.pop()
        assert message is not None
        assert message.data == TASK_TEXT
        with self._turn:
            self._queue.done(message.message_id)

    def left(self) -> int:
        return self._queue.qsize()

    def connections(self) -> list[pysqlite3.Connection]:
        return [self._queue.conn]

    def close(self) -> None:
        self._queue.close()


class PersistQueue:
    """One SQLiteAckQueue for all threads, as its documentation has it; JSON instead of pickle."""

    def open(self, path: str, synchronous: str) -> None:
        self._queue = persistqueue.SQLiteAckQueue(
            path, multithreading=True, auto_commit=True, serializer=persistqueue.serializers.json
        )
        for connection in self.connections():
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")

    def create(self) -> None:
        self._queue.put(TASK)

    def cycle(self) -> None:
        item = self._queue.get(block=False, raw=True)
        assert item["data"] == TASK
        self._queue.ack(id=item["pqid"])

    def left(self) -> int:
        return self._queue.qsize()

    def connections(self) -> list[pysqlite3.Connection]:
        return [self._queue._putter, self._queue._getter]  # noqa: SLF001 - durability has no door of its own

    def close(self) -> None:
        self._queue.close()


class HueyStorage:
    """Huey's storage alone: handing a task out deletes it, and nothing is kept of its end."""

    def open(self, path: str, synchronous: str) -> None:
        self._storage = huey.storage.SqliteStorage(filename=path, fsync=True, strict_fifo=True)
        self._storage.conn.execute(f"PRAGMA synchronous = {synchronous}")

    def create(self) -> None:
        self._storage.enqueue(TASK_TEXT.encode())

    def cycle(self) -> None:
        assert self._storage.dequeue() == TASK_TEXT.encode()

    def left(self) -> int:
        return self._storage.queue_size()

    def connections(self) -> list[pysqlite3.Connection]:
        return [self._storage.conn]

    def close(self) -> None:
        self._storage.close()


class Huey(HueyStorage):
    """Huey as it is used: a call is enqueued, taken out, run, and its result kept."""

    def open(self, path: str, synchronous: str) -> None:
        self._huey = huey.SqliteHuey(filename=path, fsync=True, strict_fifo=True)
        self._storage = self._huey.storage
        self._storage.conn.execute(f"PRAGMA synchronous = {synchronous}")
        self._count_low = self._huey.task()(count_low)

    def create(self) -> None:
        self._count_low(**TASK)

    def cycle(self) -> None:
        self._huey.execute(self._huey.dequeue())


def count_low(title: str, instructions: str) -> str:
    assert {"title": title, "instructions": instructions} == TASK
    return SUMMARY


KINDS = {
    "litequeue": LiteQueue,
    OLDER: LiteQueue,
    "persist-queue": PersistQueue,
    "huey's storage": HueyStorage,
    "huey": Huey,
}


def main(name: str) -> None:
    library = KINDS[name]()

    def begin(path: str, synchronous: str) -> str:
        library.open(path, synchronous)
        for connection in library.connections():
            ((level,),) = connection.execute("PRAGMA synchronous").fetchall()
            ((mode,),) = connection.execute("PRAGMA journal_mode").fetchall()
            assert (level, mode) == (LEVELS[synchronous], "wal"), (name, level, mode)
        return sqlite3.sqlite_version if name == OLDER else pysqlite3.sqlite_version

    def fill(count: int, callers: int) -> float:
        def some(number: int) -> None:
            for _ in range(share(count, callers, number)):
                library.create()

        return timed(callers, some)

    def drain(count: int, callers: int) -> float:
        def some(number: int) -> None:
            for _ in range(share(count, callers, number)):
                library.cycle()

        took = timed(callers, some)
        assert library.left() == 0
        return took

    answer({"open": begin, "fill": fill, "drain": drain, "close": library.close})


if __name__ == "__main__":
    main(*sys.argv[1:])
