"""Numbered, forward only, all or nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused
from taskqueue_mcp.store import migrate, open_database
from taskqueue_mcp.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engines("sqlite")

ROOT = Path(__file__).parents[2]
NEXT = """CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;
INSERT INTO later VALUES (1);
ALTER TABLE queues ADD COLUMN note TEXT"""


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "queue.db"


def schema(path: Path) -> list[Any]:
    with closing(sqlite.connect(str(path))) as connection:
        version = connection.execute("PRAGMA user_version").fetchall()
        return [*version, *connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()]


def open_and_close(path: Path) -> None:
    SqliteDatabase(path).close_now()


def with_another(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the program know one migration more."""
    files = migrate._files

    def more(engine: str) -> list[tuple[int, str]]:
        found = files(engine)
        return [*found, (found[-1][0] + 1, text)]

    monkeypatch.setattr(migrate, "_files", more)


def test_a_new_file_gets_the_newest_schema_and_keeps_it(path: Path) -> None:
    open_and_close(path)
    before = schema(path)
    assert before[0] == (migrate.latest(),)
    open_and_close(path)
    assert schema(path) == before


def test_the_numbers_rise_without_gaps() -> None:
    numbers = [number for number, _ in migrate._files("sqlite")]
    assert sorted(set(numbers)) == list(range(1, migrate.latest() + 1))


def test_every_table_is_strict_or_virtual(path: Path) -> None:
    open_and_close(path)
    tables = [row for row in schema(path)[1:] if row[0] == "table" and not row[1].startswith(("sqlite_", "search_"))]
    assert len(tables) > 15
    for _, name, sql in tables:
        assert "STRICT" in sql or "USING fts5" in sql, name


@pytest.mark.parametrize("ahead", [1, 1_000])
def test_a_file_of_a_newer_program_is_refused_and_not_touched(path: Path, ahead: int) -> None:
    open_and_close(path)
    with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {migrate.latest() + ahead}")
        connection.execute("CREATE TABLE of_the_future (x)")
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused, match=r"a newer taskqueue-mcp wrote it; restart with the new version"):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_of_an_older_program_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_and_close(path)
    with_another(monkeypatch, NEXT)
    open_and_close(path)
    after = schema(path)
    assert after[0] == (migrate.latest(),)
    assert "later" in [row[1] for row in after[1:]]


def test_schedules_of_before_there_were_rights_keep_running(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = migrate._files
    with monkeypatch.context() as older:
        older.setattr(migrate, "_files", lambda engine: [found for found in files(engine) if found[0] == 1])
        open_and_close(path)
    with closing(sqlite.connect(str(path))) as connection, connection:
        connection.execute(
            "INSERT INTO schedules (name, cron, timezone, misfire, overlap, enabled, grace_seconds, body, created_by,"
            " created_at, updated_at)"
            " VALUES ('build', '@daily', 'UTC', 'coalesce', 'skip', 1, 60, '{}', 'gemini', 1, 1)"
        )
    open_and_close(path)
    with closing(sqlite.connect(str(path))) as connection:
        assert connection.execute("SELECT rights, trust, approved FROM schedules").fetchall() == [("*", None, None)]


@pytest.mark.parametrize("statement", range(4))
def test_a_migration_that_fails_half_way_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    open_and_close(path)
    before = schema(path)
    good = NEXT.split(";\n")
    broken = [*good[:statement], "INSERT INTO nowhere VALUES (1)", *good[statement:]]
    with monkeypatch.context() as patched:
        with_another(patched, ";\n".join(broken))
        with pytest.raises(DatabaseRefused, match="no such table: nowhere"):
            open_database(f"sqlite:///{path}")
    assert schema(path) == before
    with_another(monkeypatch, NEXT)
    open_and_close(path)
    assert schema(path)[0] == (migrate.latest(),)


KILLED = """
import os, signal, sys
from pathlib import Path
from taskqueue_mcp.store import migrate
from taskqueue_mcp.store.sqlite import SqliteDatabase

whole = migrate.statements

def until_killed(*args):
    for number, found in enumerate(whole(*args)):
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield found

migrate.statements = until_killed
SqliteDatabase(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("statement", [0, 1, 7, 20, 41])
def test_a_program_killed_in_the_middle_leaves_the_file_as_it_was(path: Path, statement: int) -> None:
    killed = subprocess.run(
        [sys.executable, "-B", "-c", KILLED, str(path), str(statement)], capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert schema(path) == [(0,)]
    open_and_close(path)
    assert schema(path)[0] == (migrate.latest(),)


def test_several_processes_may_bring_a_file_up_to_date_at_once(path: Path) -> None:
    program = "import sys; from taskqueue_mcp.store import open_database; open_database(sys.argv[1]).close_now()"
    running = [
        subprocess.Popen(
            [sys.executable, "-B", "-c", program, f"sqlite:///{path}"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        for _ in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    assert schema(path)[0] == (migrate.latest(),)


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    yield
    gc.collect()
