"""Copies of a database in use: consistent, whole, a SQLite file of either engine, and never over an existing one."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused, InvalidInput
from taskqueue_mcp.store import carrying, migrate, startup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.database import Transaction
    from taskqueue_mcp.store.postgres import PostgresDatabase
    from taskqueue_mcp.store.sqlite import SqliteDatabase


def copy_database(source: Path, target: str) -> None:
    """Write a consistent copy of `source` to the new file `target`, synced to disk.

    Raises:
        InvalidInput: the target exists or cannot be written.
    """
    with _written_whole(target) as partial:
        _vacuum_into(source, partial)


def carry_to_file(source: PostgresDatabase, target: str) -> None:
    """Write everything that `source` holds, on one snapshot, to the new SQLite file `target`, and compare.

    Raises:
        InvalidInput: the target exists or cannot be written.
    """
    from taskqueue_mcp.store.sqlite import SqliteDatabase  # noqa: PLC0415 - imports this module's callers

    with _written_whole(target) as partial, _workplace(partial.parent) as folder:
        written = SqliteDatabase(folder / "queue.db", synchronous="off")
        try:

            def carry(transaction: Transaction) -> None:
                carrying.carry(transaction, written.write_now)
                cure = "the backup was given up; try again"
                carrying.check_equal(carrying.digests(transaction), written.read_now(carrying.digests), cure)

            source.read_now(carry)
        finally:
            written.close_now()
        _vacuum_into(folder / "queue.db", partial)


@contextlib.contextmanager
def opened_copy(backup: Path) -> Iterator[SqliteDatabase]:
    """Yield the checked `backup` as a database, brought up to date: a copy, for it stays as it is.

    Raises:
        DatabaseRefused: the backup is not sound.
    """
    from taskqueue_mcp.store.sqlite import SqliteDatabase  # noqa: PLC0415 - imports this module's callers

    check_backup(backup)
    with _workplace(backup.resolve().parent) as folder:
        copy_database(backup, str(folder / "queue.db"))
        copy = SqliteDatabase(folder / "queue.db", synchronous="off")
        try:
            yield copy
        finally:
            copy.close_now()


def check_backup(file: Path) -> None:
    """Refuse a file that is no sound database of ours.

    Raises:
        DatabaseRefused: it is missing, damaged, empty, or written by a newer program.
    """
    if not file.is_file():
        raise DatabaseRefused(f"no backup at {file}; name the file that `taskqueue-mcp backup` wrote")
    with closing(sqlite.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        startup.check_content(connection, file, whole=True)
        number = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 < number <= migrate.latest():
        raise DatabaseRefused(
            f"{file} has schema {number} and this program knows 1 to {migrate.latest()}; "
            "restore it with the version that wrote it"
        )


def restore_database(backup: Path, target: Path) -> None:
    """Put the checked `backup` in the place of `target`, which must not exist, as a new epoch of it.

    Raises:
        InvalidInput: the target exists or cannot be written.
        DatabaseRefused: the backup is not sound.
    """
    check_backup(backup)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make the folder of {target}: {error.strerror}; choose a writable one") from error
    with _written_whole(str(target)) as partial:
        _vacuum_into(backup, partial)
        with closing(sqlite.connect(str(partial), isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('epoch', ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (secrets.token_hex(8),),
            )


def _vacuum_into(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite.connect(str(source))) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


@contextlib.contextmanager
def _written_whole(target: str) -> Iterator[Path]:
    """Yield a file beside `target` that becomes it, synced, when all has gone well."""
    final = Path(target).expanduser()
    if final.exists():
        raise InvalidInput(f"{final} exists and is not overwritten; name a new file")
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.link(partial, final)
        _sync_folder(final.parent)
    except FileExistsError as error:
        raise InvalidInput(f"{final} exists and is not overwritten; name a new file") from error
    except (OSError, sqlite.Error) as error:
        raise InvalidInput(f"cannot write the backup {final}: {error}; choose a writable folder") from error
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _workplace(wanted: Path) -> Iterator[Path]:
    """Yield a folder for an unfinished database: in the wanted one, or elsewhere where databases must not lie."""
    try:
        startup.check_place(wanted / "queue.db")
        made = tempfile.TemporaryDirectory(prefix=".taskqueue-", dir=wanted)
    except (DatabaseRefused, OSError):
        made = tempfile.TemporaryDirectory(prefix="taskqueue-")
    with made as folder:
        yield Path(folder)


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a power cut, where a folder can be synced."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
