"""What stands in the way of PostgreSQL: each in one clear line, and whatever it was, nothing is lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest
from click.testing import CliRunner

from taskqueue_mcp import app
from taskqueue_mcp.cli import main
from taskqueue_mcp.errors import Busy, DatabaseRefused, SettingsRefused
from taskqueue_mcp.settings import load_settings
from taskqueue_mcp.store import migrate, open_database
from taskqueue_mcp.store.opening import examine, schema_number, shown
from taskqueue_mcp.store.postgres import PostgresDatabase, faults
from taskqueue_mcp.taskqueue import ClaimRequest
from tests.contract.desk import CLAUDE, Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clock import Clock
    from tests.conftest import OpenQueue
    from tests.postgres import Cluster

pytestmark = pytest.mark.engines("postgres")

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t"  # noqa: S105 - no password but the word for one


def refused(url: str, says: str, kind: type[Exception] = DatabaseRefused) -> None:
    """Opening is refused in one line that says why, also on the command line, and never tells the password."""
    with pytest.raises(kind, match=says) as why:
        open_database(url)
    assert ("\n" in str(why.value), SECRET in str(why.value)) == (False, False)
    result = CliRunner().invoke(main, ["tasks", "list"], env={"TASKQUEUE_DATABASE": url})
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"taskqueue-mcp: {why.value}\n"


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The name of a database of ours."""
    name = cluster.new_database()
    yield name
    cluster.drop(name)


@contextmanager
def empty(cluster: Cluster, more: str = "") -> Iterator[str]:
    """The name of a database with nothing in it."""
    name = cluster.empty_database(more)
    yield name
    cluster.drop(name)


@contextmanager
def role(cluster: Cluster, name: str, more: str = "") -> Iterator[str]:
    """A user without rights."""
    with cluster.admin() as wire:
        wire.execute(f"CREATE ROLE {name} LOGIN {more}")
    yield name
    with cluster.admin() as wire:
        wire.execute(f"DROP ROLE {name}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- URLs


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://host", "names no database"),
        ("postgresql://host/", "names no database"),
        ("postgresql:///queue?schema=Bad-Name", "schema= takes a plain lower-case name"),
        ("postgresql:///queue?pool=0", "pool= takes a number of connections from 1 to 100"),
        ("postgresql:///queue?pool=many", "pool= takes a number"),
        ("postgresql:///queue?hint=maybe", "hint= takes auto, on or off"),
        ("postgresql:///queue?prepare=1", "prepare= takes auto, on or off"),
        ("postgresql:///queue?sslmodus=require", "sslmodus"),
        ("postgres+psycopg://host/queue", "is not understood; use sqlite"),
    ],
)
def test_a_url_that_is_not_understood_is_refused(url: str, says: str) -> None:
    refused(url, says, SettingsRefused)


@pytest.mark.parametrize("mark", ["@", "/", "?", "#", ":"])
def test_a_password_that_cuts_its_url_is_not_told(mark: str) -> None:
    refused(f"postgresql://user:{SECRET}{mark}{SECRET}@127.0.0.1:1/queue", "written %XX|cannot use", Exception)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host/queue", f"postgresql://host/queue?user=u&password={SECRET}",
        f"postgres+psycopg://user:{SECRET}@host/queue", f"postgresql://host/queue?sslpassword={SECRET}",
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str) -> None:
    assert SECRET not in shown(url)
    assert "host/queue" in shown(url)


# --- nobody there, no way in


def test_a_refused_connection_is_told(cluster: Cluster) -> None:
    refused(
        f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/queue", "refused.*check the URL and that the server runs"
    )
    refused("postgresql://no-such-host.invalid/queue", r"no-such-host\.invalid.*check the URL")
    refused(cluster.url("no_such_database"), '"no_such_database" does not exist; let an administrator make it')


def test_a_wrong_password_is_told(cluster: Cluster, database: str) -> None:
    access = cluster.data / "pg_hba.conf"
    before = access.read_text()
    with role(cluster, "locked", f"PASSWORD '{SECRET}'"):
        try:
            access.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
            with cluster.admin() as wire:
                wire.execute("SELECT pg_reload_conf()")
            url = f"postgresql://locked:{SECRET}wrong@127.0.0.1:{cluster.port}/{database}"
            deadline = time.monotonic() + 10
            while _lets_in(url) and time.monotonic() < deadline:
                time.sleep(0.02)
            refused(url, 'authentication failed for user "locked"; check the user and the password')
            refused(url.replace(f":{SECRET}wrong", ""), "no password supplied; check the user and the password")
            with psycopg.connect(url.replace("wrong", "")):
                pass
        finally:
            access.write_text(before)
            with cluster.admin() as wire:
                wire.execute("SELECT pg_reload_conf()")


def _lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_user_that_there_is_not_is_told(cluster: Cluster, database: str) -> None:
    url = f"postgresql://nobody:{SECRET}@127.0.0.1:{cluster.port}/{database}"
    refused(url, 'role "nobody" does not exist; check the user of the URL')


def test_too_few_rights_are_told(cluster: Cluster, database: str) -> None:
    with role(cluster, "reader"), empty(cluster) as name:
        as_reader = f"postgresql://reader@127.0.0.1:{cluster.port}/"
        refused(as_reader + name, r"too few rights .* CREATE SCHEMA taskqueue AUTHORIZATION the_role")
        refused(as_reader + database, "too few rights")
        with cluster.admin(name) as wire:
            wire.execute("CREATE SCHEMA taskqueue AUTHORIZATION reader")
        open_database(as_reader + name).close_now()


async def test_rights_that_are_taken_away_are_told_and_lose_nothing(
    cluster: Cluster, database: str, clock: Clock
) -> None:
    del clock
    with role(cluster, "worker"), cluster.admin(database) as wire:
        wire.execute("GRANT USAGE ON SCHEMA taskqueue TO worker")
        wire.execute("GRANT ALL ON ALL TABLES IN SCHEMA taskqueue TO worker")
        opened = open_database(f"postgresql://worker@127.0.0.1:{cluster.port}/{database}")
        add = "INSERT INTO queues (name) VALUES (:name)"
        await opened.write(lambda transaction: transaction.run(add, {"name": "a"}))
        wire.execute("REVOKE INSERT ON taskqueue.queues FROM worker")
        with pytest.raises(DatabaseRefused, match=r"does not let us work .*; nothing was changed"):
            await opened.write(lambda transaction: transaction.run(add, {"name": "b"}))
        assert await opened.read(lambda transaction: transaction.all("SELECT name FROM queues")) == [("a",)]
        await opened.close()
        wire.execute("DROP OWNED BY worker")


def test_a_server_that_is_full_is_told(cluster: Cluster, database: str) -> None:
    with role(cluster, "crowd", "CONNECTION LIMIT 1"):
        url = f"postgresql://crowd@127.0.0.1:{cluster.port}/{database}"
        with closing(psycopg.connect(url)):
            refused(url, r"too many connections .*; give each server fewer connections \(\?pool=4\)")


# --- databases that are none for us


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_refused(cluster: Cluster, encoding: str) -> None:
    with empty(cluster, f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'") as name:
        refused(cluster.url(name), f"is encoded in {encoding}; make one with ENCODING 'UTF8'")
        assert schema_number(cluster.url(name)) is None


async def test_a_client_encoding_of_the_roles_own_changes_no_text(
    cluster: Cluster, database: str, clock: Clock, open_queue: OpenQueue
) -> None:
    del database
    with cluster.admin() as wire:
        wire.execute("ALTER ROLE postgres SET client_encoding = 'LATIN1'")
        try:
            desk = Desk(open_queue(), clock)
            task = await desk.create("Zähle 📦")
            assert (await desk.task(task)).title == "Zähle 📦"
        finally:
            wire.execute("ALTER ROLE postgres RESET client_encoding")


@pytest.mark.parametrize("ahead", [1, 1_000])
def test_a_schema_of_a_newer_program_is_refused_and_not_touched(cluster: Cluster, database: str, ahead: int) -> None:
    with cluster.admin(database) as wire:
        wire.execute("UPDATE taskqueue.schema_number SET number = number + %s", (ahead,))
        refused(cluster.url(database), "a newer taskqueue-mcp wrote it; restart with the new version")
        assert wire.execute("SELECT number FROM taskqueue.schema_number").fetchall() == [(migrate.latest() + ahead,)]


def test_an_older_schema_is_brought_up_to_date_all_or_nothing(
    cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = migrate._files
    step = "CREATE TABLE later (id {integer} PRIMARY KEY);\nALTER TABLE queues ADD COLUMN note TEXT"

    def more(text: str) -> None:
        monkeypatch.setattr(migrate, "_files", lambda engine: [*files(engine), (migrate_to, text)])

    migrate_to = migrate.latest() + 1
    with cluster.admin(database) as wire:
        more(step + ";\nSELECT no_such_function()")
        refused(cluster.url(database), "no_such_function")
        assert wire.execute("SELECT to_regclass('taskqueue.later')").fetchone() == (None,)
        more(step)
        open_database(cluster.url(database)).close_now()
        assert wire.execute("SELECT note FROM taskqueue.queues").fetchall() == []
    assert schema_number(cluster.url(database)) == migrate_to


def test_a_database_that_takes_no_writes_is_refused(cluster: Cluster, database: str) -> None:
    with cluster.admin() as wire:
        wire.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    refused(cluster.url(database), "is read-only .*point --database at the primary")


def test_a_standby_is_refused_and_of_several_servers_the_primary_is_taken(cluster: Cluster, database: str) -> None:
    with standby(cluster) as port:
        at_standby = f"postgresql://postgres@127.0.0.1:{port}/{database}"
        refused(at_standby, "is a read-only standby; point --database at the primary")
        both = f"postgresql://postgres@127.0.0.1:{port},127.0.0.1:{cluster.port}/{database}"
        opened = open_database(both)
        opened.write_now(lambda transaction: transaction.run("INSERT INTO queues (name) VALUES ('night')"))
        opened.close_now()
        refused(f"{at_standby}?target_session_attrs=read-write", "read-only; point --database at the primary")


@contextmanager
def standby(cluster: Cluster) -> Iterator[int]:
    """A standby that follows the cluster, and its port."""
    data, port = cluster.folder / "standby", free_port()
    cluster.pg("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-d", cluster.url(), "-D", str(data))
    with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(f"port = {port}\n")
    cluster.pg("pg_ctl", "-w", "-t", "60", "-D", str(data), "-l", str(cluster.folder / "standby.log"), "start")
    try:
        yield port
    finally:
        cluster.pg("pg_ctl", "-w", "-D", str(data), "stop", "-m", "immediate")
        shutil.rmtree(data)


def test_a_pooler_is_noticed_and_what_needs_a_session_is_off(cluster: Cluster, database: str) -> None:
    for url, pooled in (
        (cluster.url(database), False),
        (cluster.url(database, pooled=True), cluster.pooler is not None),
    ):
        opened = PostgresDatabase(url)
        assert (opened.server.pooled, opened._hints is None) == (pooled, pooled)
        assert examine(url).pooled == pooled
        opened.close_now()


def test_no_statement_is_compiled_whatever_the_server_would_do(cluster: Cluster, database: str) -> None:
    with cluster.admin() as wire:
        wire.execute(f"ALTER DATABASE {database} SET jit = on")
        wire.execute(f"ALTER DATABASE {database} SET jit_above_cost = 0")
    opened = open_database(cluster.url(database))
    asked = "SELECT current_setting('jit')"
    assert opened.read_now(lambda transaction: transaction.first(asked)) == ("off",)
    assert opened.write_now(lambda transaction: transaction.first(asked)) == ("off",)
    opened.close_now()


# --- gone in the middle of it


async def test_a_database_that_goes_and_comes_back_costs_only_the_calls_meanwhile(
    cluster: Cluster, clock: Clock, open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.5)
    desk = Desk(open_queue(), clock)
    task = await desk.create("accepted before")
    claim = await desk.start("held meanwhile")
    await anyio.to_thread.run_sync(cluster.stop)
    try:
        for call in (lambda: desk.create("refused"), lambda: desk.complete(claim), lambda: desk.task(task), desk.claim):
            with pytest.raises(Busy, match="nothing was changed; call again"):
                await call()
    finally:
        await anyio.to_thread.run_sync(cluster.start)
    with anyio.fail_after(20):
        while True:
            try:
                assert (await desk.task(task)).status.value == "ready"
                break
            except Busy:
                await anyio.sleep(0.05)
    assert (await desk.complete(claim)).status.value == "completed"
    assert (await desk.take()).task.id == task.id
    assert await desk.rows("SELECT count(*) FROM tasks") == [(2,)]


async def test_a_probe_is_told_within_a_second_that_the_database_is_away(cluster: Cluster, database: str) -> None:
    async with app.opened(load_settings(database=cluster.url(database))) as opened:
        assert await app._ready(opened) == {"database": True, "taking calls": True}
        await anyio.to_thread.run_sync(cluster.stop)
        try:
            begun = time.monotonic()
            assert await app._ready(opened) == {"database": False, "taking calls": True}
            assert time.monotonic() - begun < 3  # 0.8 s, on a machine that has nothing else to do
        finally:
            await anyio.to_thread.run_sync(cluster.start)
        with anyio.fail_after(20):
            while not (await app._ready(opened))["database"]:
                await anyio.sleep(0.05)


async def test_a_claim_that_is_parked_while_the_database_goes_wakes_afterwards(
    cluster: Cluster, clock: Clock, open_queue: OpenQueue
) -> None:
    waiting, other = Desk(open_queue(), clock), Desk(open_queue(), clock)
    waiting.queue.waiters.attach(waiting.queue.database)
    got: list[Any] = []

    async def park() -> None:
        while not got:
            try:
                claim = await waiting.queue.claim_when_ready(CLAUDE, ClaimRequest(), 30)
            except Busy:
                continue
            if claim is not None:
                got.append(claim)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(park)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(cluster.crash)
            await anyio.to_thread.run_sync(cluster.start)
            while True:
                try:
                    task = await other.create()
                    break
                except Busy:
                    continue
    assert [claim.task.id for claim in got] == [task.id]


async def test_a_pool_that_is_taken_up_refuses_and_goes_on_afterwards(
    cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.5)
    opened = open_database(cluster.url(database, pool="1"))
    add = "INSERT INTO queues (name) VALUES ('night')"
    with closing(psycopg.connect(cluster.url(database))) as other:
        other.execute("INSERT INTO taskqueue.queues (name) VALUES ('night')")  # and leaves its transaction open
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(_refused_for, opened, add, "for too long|in its way|call again")
                await anyio.sleep(0.1)
                with pytest.raises(Busy, match=r"no connection to .* came free .*more than \?pool=1"):
                    await opened.read(lambda transaction: transaction.first("SELECT 1"))
        other.rollback()
    await opened.write(lambda transaction: transaction.run(add))
    assert await opened.read(lambda transaction: transaction.all("SELECT name FROM queues")) == [("night",)]
    await opened.close()


async def _refused_for(opened: Any, sql: str, says: str) -> None:
    with pytest.raises(Busy, match=says):
        await opened.write(lambda transaction: transaction.run(sql))


# --- the extra


WITHOUT = """
import sys
sys.modules["psycopg"] = sys.modules["psycopg_pool"] = None  # as where it is not installed
from taskqueue_mcp.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", [["tasks", "list"], ["doctor"], ["serve"], ["migrate", "--to", "sqlite:///x.db"]])
def test_without_the_extra_it_is_named(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TASKQUEUE_DATABASE": "postgresql://host/queue"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "pip install 'taskqueue-mcp[postgres]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
