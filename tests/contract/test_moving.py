"""A queue moves to another database: whole, checked, and picked up again wherever it was broken off."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.auth import Auth, local_person
from taskqueue_mcp.errors import Conflict, DatabaseRefused, LeaseLost
from taskqueue_mcp.model import Scope
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.store import carrying, events, open_database
from taskqueue_mcp.store.moving import Moved, move
from taskqueue_mcp.store.opening import open_source, open_target, schema_number
from taskqueue_mcp.taskqueue import Rules, TaskQueue
from taskqueue_mcp.taskqueue.handing_back import hand_back
from tests.contract.desk import OWNER, Desk
from tests.contract.stories import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.clock import Clock
    from tests.postgres import Cluster

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.parametrize("other", ["sqlite", "postgres"])


@pytest.fixture
def other_url(other: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database that is not there yet, of the other engine of the pair."""
    if other == "sqlite":
        yield f"sqlite:///{folder / 'other.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = cluster.empty_database()
    yield cluster.url(name)
    cluster.drop(name)


@asynccontextmanager
async def at(url: str, clock: Clock) -> AsyncIterator[Desk]:
    """A desk at the queue of a database, in a process of its own as it were."""
    database = open_database(url, clock=clock)
    rules = Rules(chance=lambda: 0.5, procedures=ProcedureFolder(ROOT / "sops"))
    try:
        yield Desk(TaskQueue(database, rules), clock)
    finally:
        await database.close()


async def live(url: str, clock: Clock, steps: int = 120, *, seed: int = 3) -> str:
    """Fill a database with some of everything; return the secret of a token."""
    async with at(url, clock) as desk:
        await tell(desk, seed, steps)
        claim = await desk.start(
            "Zähle 📦 the stock", sop="inventory/reorder_rules.md", tags=("shop", "Öl", "a b"), task_type="stock",
            params={"deep": [1.5, None, "\u2028"]}, options={"budget_usd": 0.1},
        )  # fmt: skip
        await desk.update(claim, log="line 1\nline 2\n", progress=33.3, artifact="a.csv")
        await desk.complete(claim, result_data={"rows": 3})
        await desk.template("night", title="At {{hour}}", defaults={"hour": "22"})
        await desk.plan("every-hour", "0 * * * *", title="Hourly")
        await desk.pass_time(2 * 3_600)
        await desk.start("under way", priority="urgent")
        await desk.complete(
            await desk.start("dear", options={"budget_usd": 2}), usage={"cost_usd": 2, "account": "acme"}
        )
        await desk.start("paid for", options={"budget_usd": 2, "budget_turns": 7})
        dear = await desk.start("too dear", options={"budget_usd": 0.5})
        await desk.update(dear, usage={"cost_usd": 0.75})
        limited = await desk.start("limited")
        await desk.fail(limited, "used up", "quota", resume_at="1h", usage={"account": "acme"})
        await desk.decide(limited, "run_now")
        await desk.queue.set_queue_state(OWNER, "night", "paused")
        made = await Auth(desk.queue.database, {}).create(local_person(), "laptop", frozenset({Scope.WORK}))
        gone = await desk.cancel(await desk.create("the last one"))
        await desk.queue.database.write(
            lambda transaction: transaction.run("DELETE FROM tasks WHERE id = :id", {"id": gone.id})
        )
    return made.secret


async def moved(source: str, target: str, **more: Any) -> Moved:
    """Move as the command does."""
    one, other = open_source(source), open_target(target)
    try:
        return await move(one, other, hand_back=hand_back, **more)
    finally:
        await one.close()
        await other.close()


def everything(url: str) -> dict[str, carrying.Digest]:
    database = open_database(url)
    try:
        return database.read_now(carrying.digests)
    finally:
        database.close_now()


def tables_of(url: str) -> set[str]:
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table'"
    if url.startswith("postgres"):
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    database = open_database(url)
    try:
        return {name for (name,) in database.read_now(lambda transaction: transaction.all(sql))}
    finally:
        database.close_now()


async def test_every_table_arrives_as_it_was_and_the_source_stays(
    database_url: str, other_url: str, clock: Clock
) -> None:
    secret = await live(database_url, clock)
    before = everything(database_url)
    assert all(before[table.name].rows for table in carrying.TABLES if table.name != "meta"), before
    done = await moved(database_url, other_url)
    assert everything(database_url) == before
    assert done.rows == {name: digest.rows for name, digest in before.items()}
    after = everything(other_url)
    same = {name for name in before if before[name] == after[name]}
    handed_back = {"tasks", "attempts", "events", "questions", "reservations", "spending"}
    assert set(before) - same <= handed_back  # what was under way
    async with at(other_url, clock) as desk:
        auth = Auth(desk.queue.database, {})
        assert (await auth.authenticate(secret)) is not None
        assert await desk.rows("SELECT id FROM tasks WHERE status = 'in_progress'") == []


def test_no_table_is_forgotten(database_url: str, other_url: str) -> None:
    for url in (database_url, other_url):
        open_database(url).close_now()
        known = {table.name for table in carrying.TABLES} | carrying.NOT_CARRIED
        found = {name for name in tables_of(url) if not name.startswith(("sqlite_", "search_"))}
        assert found - carrying.NOT_CARRIED == known - carrying.NOT_CARRIED


async def test_numbers_go_on_above_those_of_rows_that_are_gone(database_url: str, other_url: str, clock: Clock) -> None:
    await live(database_url, clock)
    async with at(database_url, clock) as desk:
        expected = await desk.queue.database.read(carrying.numbers)
    await moved(database_url, other_url)
    async with at(other_url, clock) as desk:
        positions = await desk.rows("SELECT position FROM events ORDER BY position")
        assert (await desk.create()).id == expected["tasks"] + 1
        newest = await desk.rows("SELECT max(position) FROM events")
        assert newest[0][0] > expected["events"]
        assert newest[0][0] > positions[-1][0]


async def test_what_was_under_way_is_handed_back_at_no_cost(database_url: str, other_url: str, clock: Clock) -> None:
    async with at(database_url, clock) as desk:
        claim = await desk.start("under way", options={"max_attempts": 2})
        await desk.update(claim, progress=50)
        line = await desk.create("behind it", options={"serial_key": "till"})
    done = await moved(database_url, other_url)
    assert done.handed_back == 1
    async with at(other_url, clock) as desk:
        task = await desk.task(claim)
        assert (task.status.value, task.attempt, task.failures) == ("ready", 1, 0)
        assert (await desk.kinds(claim))[-2:] == ["released", "ready"]
        with pytest.raises(LeaseLost):
            await desk.complete(claim)
        assert (await desk.take(task_id=task.id)).task.attempt == 2
        assert (await desk.task(line)).status.value == "ready"
    async with at(database_url, clock) as desk:
        assert (await desk.task(claim)).status.value == "in_progress"


async def test_a_queue_lives_on_after_its_move(database_url: str, other_url: str, clock: Clock) -> None:
    await live(database_url, clock)
    await moved(database_url, other_url)
    async with at(other_url, clock) as desk:
        fired = len(await desk.ledger("every-hour"))
        await desk.pass_time(3_600)
        assert len(await desk.ledger("every-hour")) == fired + 1
        assert await desk.found("stock") != []
        open_before = await desk.rows("SELECT open_tasks FROM queues WHERE name = 'default'")
        left = await desk.rows("SELECT count(*) FROM tasks WHERE queue = 'default' AND finished_at IS NULL")
        assert open_before == left
        new = await desk.create("after the move")
        assert await desk.found("after the move") == [new.id]
        await tell(desk, 5, 60)


async def test_a_task_whose_history_has_gone_is_found_after_a_move(
    database_url: str, other_url: str, clock: Clock
) -> None:
    async with at(database_url, clock) as desk:
        old = await desk.create("ancient parchment", run_at="in 900 days")
        await desk.queue.index_all()
        clock.advance(366 * 86_400)
        await desk.queue.keep_house()
        assert await desk.events(old) == []
    await moved(database_url, other_url)
    async with at(other_url, clock) as desk:
        assert await desk.found("parchment") == [old.id]


async def test_a_reader_of_the_log_notices_that_the_database_is_another(
    database_url: str, other_url: str, clock: Clock
) -> None:
    async with at(database_url, clock) as desk:
        task = await desk.create()
        found, cursor = await desk.queue.database.read(lambda t: events.following(t, events.START, 100))
        assert [event.kind for event in found] == ["created"]
        cursor = events.Cursor.parse(str(cursor))
        assert await desk.queue.database.read(lambda t: events.following(t, cursor, 100)) == ([], cursor)
    await moved(database_url, other_url)
    async with at(other_url, clock) as desk:
        found, there = await desk.queue.database.read(lambda t: events.following(t, cursor, 100))
        assert [(event.subject_id, event.kind) for event in found] == [(task.id, "created")]
        assert there.epoch != cursor.epoch
        assert await desk.queue.database.read(lambda t: events.following(t, there, 100)) == ([], there)


# --- what stands in the way


async def test_a_target_that_holds_other_data_is_refused_and_left_alone(
    database_url: str, other_url: str, clock: Clock
) -> None:
    for url in (database_url, other_url):
        async with at(url, clock) as desk:
            await desk.create("already here")
    before = everything(other_url)
    with pytest.raises(Conflict, match=r"holds data already \(.*tasks.*\) and is left as it is"):
        await moved(database_url, other_url)
    assert everything(other_url) == before


@pytest.mark.parametrize("what", ["an event", "a heartbeat"])
async def test_a_source_that_is_written_to_meanwhile_is_noticed(
    database_url: str, other_url: str, clock: Clock, what: str
) -> None:
    async with at(database_url, clock) as desk:
        await desk.create()
        claim = await desk.take()
    one, other = open_source(database_url), open_target(other_url)
    work = {
        "an event": "INSERT INTO events (subject, subject_id, seq, kind, principal, at)"
        " VALUES ('task', 1, 99, 'progress', 'x', 1)",
        "a heartbeat": "UPDATE tasks SET lease_expires_at = lease_expires_at + 1",
    }[what]

    def meddle(line: str) -> None:
        if line.startswith("comparing"):
            with_one = open_database(database_url)
            with_one.write_now(lambda transaction: transaction.run(work))
            with_one.close_now()

    try:
        with pytest.raises((Conflict, DatabaseRefused), match="empty the target and begin again"):
            await move(one, other, hand_back=hand_back, tell=meddle)
    finally:
        await one.close()
        await other.close()
    with pytest.raises(DatabaseRefused, match="holds a part of another one so far; run the same"):
        open_database(other_url)
    assert claim.task.id == 1


async def test_a_half_of_another_database_is_not_gone_on_with(database_url: str, other_url: str, clock: Clock) -> None:
    await live(database_url, clock)
    await broken_off(database_url, other_url, "events")
    async with at(database_url, clock) as desk:
        await desk.create("written after the move began")
    with pytest.raises(Conflict, match="written to since the move began"):
        await moved(database_url, other_url)
    database = open_database(database_url)
    database.write_now(lambda t: t.run("UPDATE meta SET value = 'x' WHERE name = 'epoch'"))
    database.close_now()
    with pytest.raises(Conflict, match="half of a move from another database"):
        await moved(database_url, other_url)


class Broken(Exception):
    """The move ends here."""


async def broken_off(source: str, target: str, table: str) -> None:
    """Begin a move that ends once `table` is told to be there."""

    def tell(line: str) -> None:
        if line.startswith(table):
            raise Broken

    with pytest.raises(Broken):
        await moved(source, target, tell=tell)


@pytest.mark.parametrize("where", ["queues", "tasks", "attempts", "events", "comparing"])
async def test_a_move_that_was_broken_off_goes_on(database_url: str, other_url: str, clock: Clock, where: str) -> None:
    await live(database_url, clock, 60)
    before = everything(database_url)
    await broken_off(database_url, other_url, where)
    said: list[str] = []
    done = await moved(database_url, other_url, tell=said.append)
    assert (done.resumed, done.before) == (True, False)
    assert done.rows == {name: digest.rows for name, digest in before.items()}
    assert any("goes on behind" in line for line in said)
    again = await moved(database_url, other_url)
    assert (again.before, again.handed_back) == (True, 0)


# --- the command


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "taskqueue_mcp", *args]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "TASKQUEUE_SOPS": str(ROOT / "sops")}


async def test_killed_at_any_instant_and_run_again_it_moves_everything(
    database_url: str, other_url: str, clock: Clock, seed: int
) -> None:
    await live(database_url, clock, 250)
    before = everything(database_url)
    told = moved_under_kills(database_url, other_url, random.Random(seed))  # noqa: S311 - when to kill
    if not told["moved_before"]:
        assert told["resumed"] is True
        assert told["rows"] == {name: digest.rows for name, digest in before.items()}
    assert everything(database_url) == before
    after = everything(other_url)
    assert all(before[name] == after[name] for name in ("bodies", "task_tags", "log_chunks", "schedules", "tokens"))
    kinds = open_and_read(other_url, "SELECT count(*) FROM events WHERE kind = 'released' AND principal = 'taskqueue'")
    held = open_and_read(database_url, "SELECT count(*) FROM tasks WHERE status = 'in_progress'")
    assert kinds == held


def moved_under_kills(source: str, target: str, chance: random.Random) -> Any:
    """Run the command and kill it in the middle, again and again, then to its end; return what that tells."""
    arguments = command("migrate", "--from", source, "--to", target)
    for _ in range(4):
        process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stderr is not None
        for _ in range(chance.randint(1, 17)):  # it says a line for each table, and one when it compares
            process.stderr.readline()
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.communicate()
    done = subprocess.run(
        [*arguments, "--format", "json"], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def run(*args: str, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*args), env={**environment(), **more}, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stdout + done.stderr).strip()


def test_the_command_refuses_what_cannot_be_moved(database_url: str, other_url: str) -> None:
    code, said = run("migrate", "--from", other_url, "--to", database_url)
    assert (code, "no database of ours" in said) == (1, True), said
    assert schema_number(other_url) is None  # and none was made
    code, said = run("migrate", "--to", database_url, TASKQUEUE_DATABASE=database_url)
    assert (code, "is the source and the target" in said) == (1, True), said
    assert run("migrate")[0] == 2


async def test_a_backup_of_either_engine_is_restored_into_either(
    database_url: str, other_url: str, clock: Clock, folder: Path
) -> None:
    await live(database_url, clock)
    before = everything(database_url)
    copy = folder / "copy" / "backup.db"
    copy.parent.mkdir()
    code, said = run("backup", str(copy), TASKQUEUE_DATABASE=database_url)
    assert code == 0, said
    assert copy.stat().st_mode & 0o777 == 0o600
    code, said = run("restore", str(copy), TASKQUEUE_DATABASE=other_url)
    assert code == 0, said
    assert list(copy.parent.iterdir()) == [copy]
    assert everything(other_url) == before
    epochs = [open_and_read(url, "SELECT value FROM meta WHERE name = 'epoch'")[0] for url in (database_url, other_url)]
    assert len(set(epochs)) == 2
    code, said = run("restore", str(copy), TASKQUEUE_DATABASE=other_url)
    if other_url.startswith("sqlite"):
        assert (code, "not overwritten" in said) == (1, True), said
    async with at(other_url, clock) as desk:
        await desk.create("life goes on")
    if other_url.startswith("postgres"):
        code, said = run("restore", str(copy), TASKQUEUE_DATABASE=other_url)
        assert code == 0, said  # it had been restored; nothing was left to do, and nothing was undone
    assert len(open_and_read(other_url, "SELECT id FROM tasks WHERE title = 'life goes on'")) == 1


def open_and_read(url: str, sql: str) -> list[Any]:
    database = open_database(url)
    try:
        return database.read_now(lambda transaction: transaction.all(sql))
    finally:
        database.close_now()
