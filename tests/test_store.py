"""The seam below the service: what a write promises, and that every guarded statement minds its guard."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp import leases
from taskqueue_mcp.errors import Busy, InvalidInput
from taskqueue_mcp.store.turns import Turns
from tests.contract.desk import CLAUDE, Desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("sqlite")

ADD = "INSERT INTO queues (name) VALUES (:name)"


@pytest.fixture
async def desk(queue: TaskQueue, clock: Clock) -> Desk:
    return Desk(queue, clock)


def adding(name: str) -> Callable[[Transaction], str]:
    def work(transaction: Transaction) -> str:
        transaction.run(ADD, {"name": name})
        transaction.signal("queue", name)
        return name

    return work


def failing(name: str) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        transaction.run(ADD, {"name": name})
        transaction.signal("queue", name)
        raise InvalidInput("changed its mind")

    return work


def failing_at_the_commit(transaction: Transaction) -> None:
    transaction.run("PRAGMA defer_foreign_keys = ON")
    transaction.run("INSERT INTO bodies (task_id, instructions, on_dependency_failure) VALUES (999, '', 'fail')")


async def names(desk: Desk) -> list[str]:
    return [row[0] for row in await desk.rows("SELECT name FROM queues ORDER BY name")]


# --- writing


async def test_a_write_that_returned_is_seen_by_every_other_program(desk: Desk) -> None:
    database: Any = desk.queue.database
    with closing(sqlite.connect(str(database.path))) as other:
        for number in range(20):
            assert await database.write(adding(f"q{number}")) == f"q{number}"
            assert other.execute("SELECT count(*) FROM queues").fetchone()[0] == 2 * number + 1
            assert database.write_now(adding(f"r{number}")) == f"r{number}"
            assert other.execute("SELECT count(*) FROM queues").fetchone()[0] == 2 * number + 2


async def test_of_a_work_that_fails_nothing_is_left(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="changed its mind"):
        await desk.queue.database.write(failing("a"))
    with pytest.raises(InvalidInput):
        desk.queue.database.write_now(failing("b"))
    assert await names(desk) == []
    await desk.queue.database.write(adding("c"))
    assert await names(desk) == ["c"]


async def test_of_works_that_share_a_commit_only_those_that_failed_are_left_out(desk: Desk) -> None:
    heard: list[Any] = []
    stop = desk.queue.database.listen(heard.append)
    outcomes: list[str] = []

    async def one(work: Callable[[Transaction], Any]) -> None:
        try:
            outcomes.append(await desk.queue.database.write(work))
        except InvalidInput:
            outcomes.append("refused")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, (failing if number % 3 == 0 else adding)(f"q{number}"))
    kept = [f"q{number}" for number in range(10) if number % 3]
    assert await names(desk) == kept
    assert outcomes.count("refused") == 4
    assert sorted(outcome for outcome in outcomes if outcome != "refused") == kept
    assert {name for signals in heard for _, name in signals} == set(kept)
    stop()


@pytest.mark.parametrize("company", [0, 3])
async def test_what_fails_at_the_commit_is_not_acknowledged(desk: Desk, company: int) -> None:
    refused: list[BaseException] = []

    async def one() -> None:
        try:
            await desk.queue.database.write(failing_at_the_commit)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be a success
            refused.append(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(company):
                group.start_soon(desk.queue.database.write, adding(f"q{number}"))
            group.start_soon(one)
    assert len(refused) == 1
    assert len(await names(desk)) == company
    assert await desk.rows("SELECT * FROM bodies") == []
    await desk.queue.database.write(adding("after"))


async def test_works_that_arrive_together_share_a_commit(desk: Desk) -> None:
    database: Any = desk.queue.database
    seen: list[str] = []
    database._connection.set_trace_callback(seen.append)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(database.write, adding(f"q{number}"))
    database._connection.set_trace_callback(None)
    assert len(await names(desk)) == 100
    assert seen.count("COMMIT") <= 3


async def test_a_write_keeps_other_programs_out_from_its_first_statement(desk: Desk) -> None:
    database: Any = desk.queue.database
    with closing(sqlite.connect(str(database.path), isolation_level=None, timeout=0)) as other:

        def work(transaction: Transaction) -> None:
            transaction.all("SELECT * FROM queues")
            with pytest.raises(sqlite.OperationalError, match="locked"):
                other.execute("INSERT INTO queues (name) VALUES ('meanwhile')")
            transaction.run(ADD, {"name": "mine"})

        database.write_now(work)
        await database.write(lambda t: (t.all("SELECT * FROM queues"), t.run(ADD, {"name": "mine too"})))
    assert await names(desk) == ["mine", "mine too"]


async def test_a_read_writes_nothing(desk: Desk) -> None:
    for read in (desk.queue.database.read, desk.queue.database.read_long):
        with pytest.raises(Exception, match=r"read-only|readonly"):
            await read(adding("a"))
    assert await names(desk) == []


async def test_a_read_is_of_one_moment(desk: Desk, open_queue: OpenQueue, clock: Clock) -> None:
    other = open_queue().database

    def work(transaction: Transaction) -> tuple[Any, Any]:
        first = transaction.all("SELECT name FROM queues")
        other.write_now(adding("meanwhile"))
        return first, transaction.all("SELECT name FROM queues")

    assert await desk.queue.database.read(work) == ([], [])
    assert await names(desk) == ["meanwhile"]
    assert clock.micros == await desk.queue.now()


async def test_signals_are_sent_after_the_commit_and_to_other_processes(desk: Desk, open_queue: OpenQueue) -> None:
    other: Any = open_queue().database
    seen: list[list[str]] = []
    heard = anyio.Event()

    def here(_: Any) -> None:
        with closing(sqlite.connect(str(other.path))) as connection:
            seen.append([row[0] for row in connection.execute("SELECT name FROM queues").fetchall()])

    def there(signals: Any) -> None:
        if signals and ("queue", "a") in signals:
            heard.set()

    stops = [desk.queue.database.listen(here), other.listen(there)]
    await desk.queue.database.write(adding("a"))
    with anyio.fail_after(5):
        await heard.wait()
    assert seen[0] == ["a"]
    for stop in stops:
        stop()


async def test_a_database_that_closes_finishes_what_it_accepted(open_queue: OpenQueue, clock: Clock) -> None:
    database: Any = open_queue().database
    another_process = Turns(database.path.with_name(database.path.name + "-turn"))
    acked: list[str] = []
    closed = anyio.Event()

    async def one(number: int) -> None:
        acked.append(await database.write(adding(f"q{number}")))

    async def close() -> None:
        await database.close()
        closed.set()

    assert another_process.try_take()  # so that what is accepted has to wait
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            assert (acked, closed.is_set()) == ([], False)
            another_process.give_back()
    another_process.close()
    assert len(acked) == 5
    with pytest.raises(Busy, match="closed"):
        await database.write(adding("late"))
    assert len(await names(Desk(open_queue(), clock))) == 5


async def test_processes_take_turns_at_the_file(folder: Path) -> None:
    first, second = Turns(folder / "turn"), Turns(folder / "turn")
    assert first.try_take()
    assert not second.try_take()
    assert not second.take(0.01)
    first.give_back()
    assert second.take(0.01)
    assert not first.try_take()
    second.close()  # as when its process is killed
    assert first.try_take()
    first.close()


# --- leases


def test_a_lease_by_claim_id_is_the_same_again_and_without_one_never() -> None:
    assert leases.new_secret("c1", "salt") == leases.new_secret("c1", "salt")
    assert len({leases.new_secret(None, "salt") for _ in range(100)}) == 100
    assert len({leases.new_secret(*given) for given in (("c1", "salt"), ("c2", "salt"), ("c1", "other"))}) == 3


def test_a_lease_names_its_task_and_attempt() -> None:
    lease = leases.parse(leases.write(142, 3, leases.new_secret(None, "salt")))
    assert (lease.task_id, lease.attempt) == (142, 3)
    assert CLAUDE.name not in lease.hash
    assert len({leases.new_salt() for _ in range(100)}) == 100
    assert len(leases.new_salt()) >= 32
