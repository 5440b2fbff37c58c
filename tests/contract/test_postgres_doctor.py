"""What `doctor` finds in a PostgreSQL database, and that what it says to do helps."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner

from taskqueue_mcp.cli import checkup_postgres, main
from taskqueue_mcp.store import events, migrate
from taskqueue_mcp.store.opening import examine
from tests.contract.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clock import Clock
    from tests.conftest import OpenQueue
    from tests.postgres import Cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    name = cluster.new_database()
    yield name
    cluster.drop(name)


def doctor(url: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found of each kind."""
    result = CliRunner().invoke(main, ["doctor", "--format", "json"], env={"TASKQUEUE_DATABASE": url})
    checks = json.loads(result.stdout)["checks"]
    return result.exit_code, {check["check"]: check for check in checks}


def test_a_sound_database_is_found_sound(cluster: Cluster, database: str) -> None:
    code, found = doctor(cluster.url(database))
    assert code == 0
    expected = {
        "server": "PostgreSQL", "rights": "postgres may do what is needed in taskqueue", "durability": "fsync on",
        "schema": f"number {migrate.latest()} of {migrate.latest()}", "clock": "this machine is 0.",
        "connections": "each server takes up to 9", "transactions": "none", "database": "is sound (0 tasks, 0 events)",
        "tokens": "none yet",
    }  # fmt: skip
    for check, text in expected.items():
        assert (found[check]["state"], text in found[check]["text"]) == ("ok", True), found[check]


def test_where_there_is_no_schema_none_is_made(cluster: Cluster) -> None:
    name = cluster.empty_database()
    code, found = doctor(cluster.url(name))
    assert (code, found["schema"]["state"], found["rights"]["state"]) == (0, "warn", "ok")
    assert "the first command that uses it makes it" in found["schema"]["do"]
    with cluster.admin(name) as wire:
        assert wire.execute("SELECT to_regnamespace('taskqueue')").fetchone() == (None,)
        wire.execute("CREATE ROLE visitor LOGIN")
    visitor = f"postgresql://visitor@127.0.0.1:{cluster.port}/{name}"
    code, found = doctor(visitor)
    assert (code, found["rights"]["state"]) == (1, "fail")
    with cluster.admin(name) as wire:
        wire.execute(found["rights"]["do"].partition("run: ")[2])  # what it says to do
    assert doctor(visitor)[0] == 0
    cluster.drop(name)
    with cluster.admin() as wire:
        wire.execute("DROP ROLE visitor")


def test_what_keeps_the_database_from_being_opened_is_told(cluster: Cluster, database: str) -> None:
    for url, says in (
        (cluster.url("nowhere"), "does not exist"),
        ("postgresql://secret:s3cr3t@127.0.0.1:1/queue", "refused"),
    ):
        code, found = doctor(url)
        assert (code, found["database"]["state"]) == (1, "fail")
        assert says in found["database"]["text"]
        assert "s3cr3t" not in str(found)
    with cluster.admin(database) as wire:
        wire.execute("UPDATE taskqueue.schema_number SET number = number + 1")
    code, found = doctor(cluster.url(database))
    assert (code, found["schema"]["do"]) == (1, "restart with the new version")


def test_a_transaction_that_stays_open_is_told_with_its_end(
    cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup_postgres, "LONG_OPEN", 0.0)
    with closing(psycopg.connect(cluster.url(database), application_name="a browser")) as other:
        other.execute("SELECT 1")
        found = doctor(cluster.url(database))[1]["transactions"]
        assert (found["state"], "a browser" in found["text"]) == ("warn", True)
        with cluster.admin(database) as wire:
            wire.execute(found["do"].partition(": ")[2])
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")


@pytest.mark.engines("postgres")
async def test_events_of_another_cluster_are_told_and_set_right(
    cluster: Cluster, open_queue: OpenQueue, clock: Clock, database_url: str
) -> None:
    desk = Desk(open_queue(), clock)
    await desk.create()
    name = database_url.partition("?")[0].rpartition("/")[2]

    async def read() -> int:
        return len((await desk.queue.database.read(lambda t: events.following(t, events.START, 10)))[0])

    with cluster.admin(name) as wire:
        wire.execute("UPDATE taskqueue.events SET xid = '99999999999'")  # as pg_restore leaves them in a new cluster
        assert await read() == 0
        health = examine(cluster.url(name))
        (found,) = [finding for finding in checkup_postgres.findings(health) if finding.check == "events"]
        assert found.state == "fail"
        wire.execute(found.do.removeprefix("run: "))
    assert await read() == 1
    await desk.create()
    assert await read() == 2


@pytest.mark.parametrize(
    ("change", "check", "state", "says"),
    [
        ({"whole": False}, "durability", "fail", "set fsync = on and full_page_writes = on"),
        ({"synchronous": "off"}, "durability", "ok", "on for each of our commits"),
        ({"standbys": "s1"}, "durability", "ok", "synchronous standbys s1"),
        ({"pooled": True}, "pooler", "ok", "nothing is prepared"),
        ({"connections": 92, "most_connections": 97}, "connections", "fail", "lower ?pool"),
        ({"connections": 950, "most_connections": 1_000}, "connections", "warn", "lower ?pool"),
        ({"dead": ("tasks", 60_000, 100)}, "vacuum", "warn", "VACUUM taskqueue.tasks"),
        ({"dead": ("tasks", 60_000, 600_000)}, "vacuum", "ok", "60,000 dead rows"),
        ({"skew": 30.0}, "clock", "warn", "30.000 s ahead of the database"),
        ({"skew": -30.0}, "clock", "warn", "30.000 s behind the database"),
        ({"number": None, "may_create": False}, "rights", "fail", "CREATE SCHEMA taskqueue AUTHORIZATION"),
        ({"may_write": False}, "rights", "fail", "GRANT ALL ON ALL TABLES"),
    ],
)
def test_what_is_not_well_is_told_with_what_to_do(
    cluster: Cluster, database: str, change: dict[str, Any], check: str, state: str, says: str
) -> None:
    health = replace(examine(cluster.url(database)), **change)
    (found,) = [finding for finding in checkup_postgres.findings(health) if finding.check == check]
    assert (found.state, says in found.text + found.do) == (state, True), found
