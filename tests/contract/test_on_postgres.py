"""What holds on PostgreSQL alone: works that meet on several connections, commits in doubt, the server's own clock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Busy, InvalidInput
from taskqueue_mcp.store import events, open_database, queues
from taskqueue_mcp.taskqueue import Rules, TaskQueue
from tests.clock import micros
from tests.contract.desk import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import psycopg

    from taskqueue_mcp.store import Database, Transaction
    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("postgres")

ADD = "INSERT INTO queues (name) VALUES (:name)"
LATER = micros("2100-01-01T00:00:00Z")
OTHER_CLOCK = f"""
CREATE OR REPLACE FUNCTION taskqueue.clock() RETURNS BIGINT LANGUAGE sql VOLATILE AS 'SELECT CAST({LATER} AS BIGINT)'
"""
CUT_AT_THE_COMMIT = """
CREATE FUNCTION taskqueue.cut() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON taskqueue.queues DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.name = 'cut') EXECUTE FUNCTION taskqueue.cut()
"""
RECORD = """
INSERT INTO taskqueue.events (subject, subject_id, seq, kind, principal, at)
VALUES ('schedule', 7, 1, 'late', 'taskqueue', 1)
"""


@pytest.fixture
async def database(database_url: str, wire: psycopg.Connection[Any]) -> AsyncIterator[Database]:
    """The database by its own clock, whatever was done to it by `wire` before."""
    del wire
    opened = open_database(database_url)
    yield opened
    await opened.close()


def adding(name: str) -> Callable[[Transaction], str]:
    def work(transaction: Transaction) -> str:
        transaction.run(ADD, {"name": name})
        return name

    return work


async def names(database: Database) -> list[str]:
    return [row[0] for row in await database.read(lambda t: t.all("SELECT name FROM queues ORDER BY name"))]


# --- one connection


async def test_the_clock_is_the_servers(wire: psycopg.Connection[Any], database: Database, clock: Clock) -> None:
    wire.execute(OTHER_CLOCK)
    queue = TaskQueue(database, Rules())
    assert await queue.now() == LATER
    claim = await Desk(queue, clock).start()
    assert (claim.task.created_at, claim.task.claimed_at) == (LATER, LATER)
    assert claim.task.lease_expires_at == LATER + 900 * 1_000_000


async def test_a_commit_waits_for_the_disk_even_where_the_server_would_not(
    wire: psycopg.Connection[Any], database_url: str
) -> None:
    name = wire.info.dbname
    wire.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = open_database(database_url)
    told = await database.write(lambda t: t.first("SELECT current_setting('synchronous_commit')"))
    assert told == ("on",)
    await database.close()


async def test_of_a_work_that_fails_nothing_is_left_alone_or_in_company(database: Database) -> None:
    def failing(name: str) -> Callable[[Transaction], None]:
        def work(transaction: Transaction) -> None:
            transaction.run(ADD, {"name": name})
            raise InvalidInput("changed its mind")

        return work

    refused = 0

    async def one(work: Callable[[Transaction], Any]) -> None:
        nonlocal refused
        try:
            await database.write(work)
        except InvalidInput:
            refused += 1

    with pytest.raises(InvalidInput, match="changed its mind"):
        await database.write(failing("alone"))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(one, (adding if number % 3 else failing)(f"q{number}"))
    assert (await names(database), refused) == ([f"q{number}" for number in range(9) if number % 3], 3)


async def test_a_read_writes_nothing(database: Database) -> None:
    for read in (database.read, database.read_long):
        with pytest.raises(Exception, match="read-only"):
            await read(adding("a"))
    assert await names(database) == []


async def test_a_read_is_of_one_moment(database: Database, wire: psycopg.Connection[Any]) -> None:
    def work(transaction: Transaction) -> tuple[Any, Any]:
        first = transaction.all("SELECT name FROM queues")
        wire.execute("INSERT INTO taskqueue.queues (name) VALUES ('meanwhile')")
        return first, transaction.all("SELECT name FROM queues")

    assert await database.read(work) == ([], [])
    assert await names(database) == ["meanwhile"]


async def test_calls_that_share_a_commit_store_every_row_of_each(database: Database, clock: Clock) -> None:
    desk = Desk(TaskQueue(database, Rules()), clock)
    made = [f"task {number}" for number in range(40)]
    ended: list[int] = []

    async def live(title: str) -> None:
        await desk.create(title)
        claim = await desk.take()
        await desk.update(claim, progress=50)
        ended.append((await desk.complete(claim, f"{claim.task.title} is done")).id)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for title in made:
                group.start_soon(live, title)
    assert sorted(ended) == [row[0] for row in await desk.rows("SELECT id FROM tasks ORDER BY id")]
    for task_id in ended:
        found = await desk.detail(task_id)
        assert [event.kind for event in await desk.events(task_id)] == ["created", "claimed", "progress", "completed"]
        assert [(each.outcome, each.result_summary) for each in found.attempts] == [
            ("completed", f"{found.task.title} is done")
        ]
        assert all(0 < each.claimed_at <= (each.ended_at or 0) for each in found.attempts)


# --- others are in the way


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_work_that_others_are_in_the_way_of_is_run_again(database: Database, code: str) -> None:
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.run(ADD, {"name": f"run {runs}"})
        if runs < 3:
            transaction.run(f"DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END $$")

    await database.write(work)
    assert (runs, await names(database)) == (3, ["run 3"])


async def test_a_work_that_others_are_always_in_the_way_of_is_given_up(database: Database) -> None:
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.run("DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Busy, match="nothing was changed; call again"):
        await database.write(work)
    assert 1 < runs < 20


async def test_a_commit_whose_answer_was_lost_is_not_made_a_second_time(
    database: Database, wire: psycopg.Connection[Any]
) -> None:
    wire.execute(CUT_AT_THE_COMMIT)
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.run(ADD, {"name": "cut"})

    with pytest.raises(Busy, match="whether it was stored is not known"):
        await database.write(work)
    assert runs == 1
    await database.write(adding("after"))  # on another connection


@pytest.mark.parametrize("asked", [{}, {"queues": ("day", "night")}, {"task_types": ("count",)}], ids=str)
async def test_a_claim_passes_by_what_others_are_just_claiming(
    queue: TaskQueue, clock: Clock, wire: psycopg.Connection[Any], asked: dict[str, Any]
) -> None:
    desk = Desk(queue, clock)
    first = [await desk.create(f"day {number}", queue="day", task_type="count") for number in range(2)]
    clock.advance(1)
    other = await desk.create("night", queue="night", task_type="count")
    with wire.transaction():
        wire.execute("SELECT 1 FROM taskqueue.tasks WHERE id = %s FOR UPDATE", (first[0].id,))
        assert (await desk.take(**asked)).task.id == first[1].id
        assert (await desk.take(**asked)).task.id == other.id  # all of the queue whose turn it is are held
        assert await desk.claim(**asked) is None
    assert (await desk.take(**asked)).task.id == first[0].id


async def test_two_that_enter_a_queue_at_once_do_not_overfill_it(database: Database, database_url: str) -> None:
    other = open_database(database_url)
    both_have_counted = threading.Barrier(2)
    answers: list[Any] = []

    def entering() -> Callable[[Transaction], Any]:
        runs = 0

        def work(transaction: Transaction) -> Any:
            nonlocal runs
            runs += 1
            full = queues.enter(transaction, "narrow", 1, inner=False)
            if runs == 1:
                both_have_counted.wait(5)
            return full

        return work

    async def enter(through: Database) -> None:
        answers.append(await through.write(entering()))

    await database.write(adding("narrow"))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(enter, database)
            group.start_soon(enter, other)
    assert sorted(answers, key=str) == [("open", 1), None]
    assert await database.read(lambda t: t.all("SELECT open_tasks FROM queues")) == [(1,)]
    await other.close()


async def test_a_database_that_closes_finishes_what_it_accepted(
    database_url: str, wire: psycopg.Connection[Any]
) -> None:
    database = open_database(f"{database_url}&pool=2")  # one writes, the others wait
    acked: list[str] = []
    closed = anyio.Event()

    async def one(number: int) -> None:
        acked.append(await database.write(adding(f"q{number}")))

    async def close() -> None:
        await database.close()
        closed.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            with wire.transaction():
                wire.execute("LOCK TABLE taskqueue.queues IN ACCESS EXCLUSIVE MODE")
                for number in range(5):
                    group.start_soon(one, number)
                    await anyio.wait_all_tasks_blocked()
                group.start_soon(close)
                with anyio.move_on_after(0.2):
                    await closed.wait()
                assert (acked, closed.is_set()) == ([], False)
    assert (len(acked), closed.is_set()) == (5, True)
    with pytest.raises(Busy, match="closed"):
        await database.write(adding("late"))


# --- what others commit


async def test_an_event_that_is_committed_late_is_heard_late_and_not_passed_over(
    open_queue: OpenQueue, clock: Clock, wire: psycopg.Connection[Any]
) -> None:
    heard: set[tuple[str, str]] = set()
    news = anyio.Event()

    def hear(signals: frozenset[tuple[str, str]] | None) -> None:
        nonlocal news
        heard.update(signals or ())
        news.set()
        news = anyio.Event()

    async def until_heard(signal: tuple[str, str]) -> None:
        with anyio.fail_after(10):
            while signal not in heard:
                await news.wait()

    stop = open_queue().database.listen(hear, needed=lambda: True)
    await news.wait()  # it follows from now on
    with wire.transaction():
        wire.execute(RECORD)  # has a position, but is not there yet
        task = await Desk(open_queue(), clock).create()
        await until_heard(("task", str(task.id)))
        assert ("schedule", "7") not in heard
    await until_heard(("schedule", "7"))
    stop()


async def test_who_reads_the_events_in_order_misses_none_that_is_committed_late(
    queue: TaskQueue, clock: Clock, wire: psycopg.Connection[Any]
) -> None:
    cursor = events.START
    seen: list[tuple[str, int]] = []

    async def read_on() -> None:
        nonlocal cursor
        found, cursor = await queue.database.read(lambda t: events.following(t, cursor, 100))
        seen.extend((event.subject, event.subject_id) for event in found)

    with wire.transaction():
        wire.execute(RECORD)
        await Desk(queue, clock).create()
        await read_on()
        assert seen == []
    await read_on()
    await read_on()
    assert sorted(seen) == [("schedule", 7), ("task", 1)]
