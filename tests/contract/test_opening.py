"""Opening the SQLite file: what is refused, why, and that it is left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import Busy, DatabaseRefused, InvalidInput, SettingsRefused
from taskqueue_mcp.store import faults, migrate, open_database, startup
from taskqueue_mcp.store.backup import restore_database
from taskqueue_mcp.store.opening import sqlite_file
from taskqueue_mcp.store.sqlite import SqliteDatabase
from tests.contract.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("sqlite")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(folder: Path) -> Path:
    """Where a database can be."""
    return folder / "queue.db"


@pytest.fixture
def made(path: Path) -> Path:
    """A database that was used and closed."""
    database = SqliteDatabase(path)
    database.write_now(lambda transaction: transaction.run("INSERT INTO queues (name) VALUES ('night')"))
    database.close_now()
    return path


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite.connect(str(path))) as connection:
        return list(connection.execute(sql).fetchall())


def refused(path: Path, says: str) -> None:
    """Opening is refused in one line, and the file stays as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DatabaseRefused, match=says) as why:
        open_database(f"sqlite:///{path}")
    assert "\n" not in str(why.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_new_database_is_its_owners_alone(folder: Path) -> None:
    path = folder / "deep" / "down" / "queue.db"
    with closing_now(SqliteDatabase(path)):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        for beside in path.parent.glob("queue.db-*"):
            assert beside.stat().st_mode & 0o077 == 0, beside


def test_what_was_set_is_what_is_in_force(path: Path) -> None:
    with closing_now(SqliteDatabase(path)) as database:
        for connection in (database._connection, database._reader):
            values = {
                pragma: connection.execute(f"PRAGMA {pragma}").fetchone()[0]
                for pragma in ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "trusted_schema")
            }
            values.setdefault("mmap_size", 0)
            assert values == {
                "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0, "trusted_schema": 0,
            }  # fmt: skip
        assert database._reader.execute("PRAGMA query_only").fetchone()[0] == 1


def test_durability_can_be_chosen_and_is_full_otherwise(path: Path) -> None:
    assert sqlite_file(f"sqlite:///{path}") == (path, {})
    for word, number in (("normal", 1), ("full", 2), ("extra", 3), ("off", 0)):
        file, options = sqlite_file(f"sqlite:///{path}?synchronous={word}")
        with closing_now(SqliteDatabase(file, **options)) as database:
            assert database._connection.execute("PRAGMA synchronous").fetchone()[0] == number


@pytest.mark.parametrize(
    "url",
    [
        "queue.db", "", "sqlite://", "sqlite:///", "sqlite://host/queue.db", "mysql://x/y", "sqlite:///q.db?mode=ro",
        "sqlite:///q.db?synchronous=never",
    ],
)  # fmt: skip
def test_a_url_that_is_not_understood_is_refused(url: str) -> None:
    with pytest.raises(SettingsRefused) as why:
        open_database(url)
    assert "\n" not in str(why.value)


def test_a_path_is_relative_absolute_or_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert sqlite_file("sqlite:///queue.db")[0] == folder / "queue.db"
    assert sqlite_file("sqlite:////var/queue.db")[0] == Path("/var/queue.db")
    assert sqlite_file("sqlite:///~/queue.db")[0] == folder / "queue.db"
    assert sqlite_file("sqlite:///with%20blank.db")[0] == folder / "with blank.db"


# --- versions


@pytest.mark.parametrize("version", [(3, 7, 0), (3, 40, 1), (3, 50, 4), (3, 51, 2), (3, 51)])
def test_a_sqlite_that_can_corrupt_the_file_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(DatabaseRefused, match=r"fixed in 3\.51\.3.*pip install"):
        startup.check_library(version)


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 53, 4), (4, 0, 0)])
def test_a_sound_sqlite_is_taken(version: tuple[int, ...]) -> None:
    startup.check_library(version)


def test_the_sqlite_we_run_on_is_sound() -> None:
    startup.check_library()


# --- places


@pytest.mark.parametrize(
    "name",
    [
        "OneDrive",
        "OneDrive - Contoso",
        "Dropbox",
        "Dropbox (Personal)",
        "Google Drive",
        "My Drive",
        "CloudStorage",
        "Nextcloud",
    ],
)
def test_a_synced_folder_is_refused(folder: Path, name: str) -> None:
    place = folder / name / "data"
    with pytest.raises(
        DatabaseRefused, match=rf"synced folder \({name[:7]}.*keep it in a local folder".replace("(P", r"\(P")
    ):
        open_database(f"sqlite:///{place}/queue.db")
    assert not place.exists()


def test_a_folder_that_onedrive_names_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OneDriveCommercial", str(folder / "office"))
    with pytest.raises(DatabaseRefused, match="synced folder"):
        open_database(f"sqlite:///{folder}/office/data/queue.db")
    with closing_now(SqliteDatabase(folder / "officers.db")):
        pass


def test_a_link_into_a_synced_folder_is_refused(folder: Path) -> None:
    (folder / "OneDrive").mkdir()
    (folder / "local").symlink_to(folder / "OneDrive")
    with pytest.raises(DatabaseRefused, match="synced folder"):
        open_database(f"sqlite:///{folder}/local/queue.db")


@pytest.mark.parametrize("name", ["OneDriver", "My Drives", "drive", "dropbox-like notes"])
def test_a_folder_of_a_similar_name_is_taken(folder: Path, name: str) -> None:
    with closing_now(SqliteDatabase(folder / name / "queue.db")):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of mounts")
@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "fuse.rclone"])
def test_a_network_file_system_is_refused(folder: Path, kind: str) -> None:
    mounts = folder / "mounts"
    share = folder / "a share"
    local = share / "local"
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(f"dev / ext4 rw 0 0\nhost:/ {escaped} {kind} rw 0 0\ndev {escaped}/local ext4 rw 0 0\n")
    with pytest.raises(DatabaseRefused, match=rf"network file system \({kind}\).*keep it on a local disk"):
        startup.check_place(share / "queue.db", mounts)
    startup.check_place(local / "queue.db", mounts)
    startup.check_place(folder / "queue.db", mounts)


def test_a_folder_in_the_place_of_the_file_is_refused(folder: Path) -> None:
    (folder / "queue.db").mkdir()
    with pytest.raises(DatabaseRefused, match="not a regular file"):
        open_database(f"sqlite:///{folder}/queue.db")


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(DatabaseRefused, match="cannot create"):
        open_database(f"sqlite:///{folder}/file/queue.db")


def test_a_link_to_nowhere_is_refused(folder: Path) -> None:
    (folder / "queue.db").symlink_to(folder / "gone" / "queue.db")
    with pytest.raises(DatabaseRefused):
        open_database(f"sqlite:///{folder}/queue.db")


@pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o601])
def test_a_file_that_others_can_read_is_refused_with_the_cure(made: Path, mode: int) -> None:
    made.chmod(mode)
    refused(made, rf"can be read by other users \(mode {mode:04o}\); run: chmod 600 ")
    made.chmod(0o600)
    with closing_now(SqliteDatabase(made)):
        pass


OPEN_AS_NOBODY = """
import os, sys
from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.store import open_database
open_database(sys.argv[2]).close_now()  # what is imported late may be root's alone
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open_database(sys.argv[1])
except TaskQueueError as error:
    print(error.code, error)
else:
    print("opened")
"""


def as_nobody(url: str) -> str:
    """What a user without rights is told; root may write everything."""
    with tempfile.TemporaryDirectory(prefix="taskqueue-") as elsewhere:
        done = subprocess.run(
            [sys.executable, "-B", "-c", OPEN_AS_NOBODY, url, f"sqlite:///{elsewhere}/queue.db"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A database that belongs to whoever `as_nobody` is, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="taskqueue-") as made:
        folder = Path(made)
        SqliteDatabase(folder / "queue.db").close_now()
        if os.geteuid() == 0:
            for file in (folder, *folder.iterdir()):
                os.chown(file, 65_534, 65_534)
        yield folder
        folder.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
def test_a_read_only_file_is_refused(nobodys: Path) -> None:
    assert as_nobody(f"sqlite:///{nobodys}/queue.db") == "opened"
    (nobodys / "queue.db").chmod(0o400)
    before = (nobodys / "queue.db").read_bytes()
    assert as_nobody(f"sqlite:///{nobodys}/queue.db").startswith("database_refused the database ")
    assert "read-only" in as_nobody(f"sqlite:///{nobodys}/queue.db")
    assert (nobodys / "queue.db").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
def test_a_read_only_folder_is_refused(nobodys: Path) -> None:
    nobodys.chmod(0o500)
    assert as_nobody(f"sqlite:///{nobodys}/queue.db").startswith("database_refused ")
    assert as_nobody(f"sqlite:///{nobodys}/new.db").startswith("database_refused cannot create the database ")
    assert as_nobody(f"sqlite:///{nobodys}/sub/new.db").startswith("database_refused ")


# --- content


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"Dear diary, today I was not a database. " * 100)
    path.chmod(0o600)
    refused(path, "not a database.*restore a backup")


@pytest.mark.parametrize("where", ["schema", "index", "middle"])
def test_a_damaged_file_is_refused(made: Path, where: str) -> None:
    with closing(sqlite.connect(str(made), isolation_level=None)) as connection:
        connection.executemany("INSERT INTO queues (name) VALUES (?)", [(f"{number:0200}",) for number in range(500)])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(made.read_bytes())
    begin = {"schema": 110, "index": len(whole) - 3 * 4_096, "middle": len(whole) // 2}[where]
    whole[begin : begin + 3_000] = b"\xa5" * 3_000
    made.write_bytes(whole)
    refused(made, "damaged|cannot be used|malformed")


def test_a_file_that_was_cut_off_is_refused(made: Path) -> None:
    os.truncate(made, made.stat().st_size // 2)
    refused(made, "damaged|cannot be used|malformed")


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch(0o600)
    with closing_now(SqliteDatabase(path)):
        pass
    assert rows(path, "PRAGMA user_version") == [(migrate.latest(),)]


def test_a_file_that_another_program_holds_is_busy(made: Path) -> None:
    with closing(sqlite.connect(str(made), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="locked by another program; close it or try again"):
            open_database(f"sqlite:///{made}")
        other.execute("ROLLBACK")
        with closing_now(SqliteDatabase(made)):
            pass


async def test_a_write_waits_for_another_program_and_then_says_that_it_is_busy(
    open_queue: OpenQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.3)
    desk = Desk(open_queue(), clock)
    task = await desk.create()
    before = await desk.snapshot()
    with closing(sqlite.connect(str(path_of(desk)), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="nothing was changed; call again"):
            await desk.create()
        with pytest.raises(Busy):
            desk.queue.database.write_now(lambda transaction: transaction.run("DELETE FROM tasks"))
        assert await desk.snapshot() == before  # reading goes on
        other.execute("ROLLBACK")
    assert (await desk.take()).task.id == task.id


async def test_a_write_goes_through_when_the_other_program_lets_go(desk: Desk) -> None:
    with closing(sqlite.connect(str(path_of(desk)), isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(desk.create)
                await anyio.wait_all_tasks_blocked()
                assert await desk.rows("SELECT count(*) FROM tasks") == [(0,)]
                other.execute("ROLLBACK")
    assert await desk.rows("SELECT count(*) FROM tasks") == [(1,)]


def path_of(desk: Desk) -> Path:
    database: Any = desk.queue.database
    return Path(database.path)


async def test_a_backup_is_whole_and_never_overwrites(desk: Desk, folder: Path) -> None:
    task = await desk.create("Count the stock")
    target = folder / "backup.db"
    await desk.queue.database.backup(str(target))
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidInput, match="exists and is not overwritten"):
        await desk.queue.database.backup(str(target))
    await desk.cancel(task)
    restore_database(target, folder / "restored.db")
    assert rows(folder / "restored.db", "SELECT id, status FROM tasks") == [(task.id, "ready")]
    assert rows(folder / "restored.db", "PRAGMA integrity_check") == [("ok",)]
    assert (await desk.task(task)).status.value == "cancelled"


class closing_now:  # noqa: N801 - reads like contextlib.closing
    """Close a database at the end of a block."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database

    def __enter__(self) -> SqliteDatabase:
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.close_now()
