"""Copies of a database in use: consistent, whole, and never over an existing file."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused, InvalidInput
from taskqueue_mcp.store import migrate, startup


def copy_database(source: Path, target: str) -> None:
    """Write a consistent copy of `source` to the new file `target`, synced to disk.

    Raises:
        InvalidInput: the target exists or cannot be written.
    """
    final = Path(target).expanduser()
    if final.exists():
        raise InvalidInput(f"{final} exists and is not overwritten; name a new file")
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite.connect(str(source))) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.link(partial, final)
    except (OSError, sqlite.Error) as error:
        raise InvalidInput(f"cannot write the backup {final}: {error}; choose a writable folder") from error
    finally:
        partial.unlink(missing_ok=True)


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
    """Put the checked `backup` in the place of `target`, which must not exist.

    Raises:
        InvalidInput: the target exists or cannot be written.
        DatabaseRefused: the backup is not sound.
    """
    check_backup(backup)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make the folder of {target}: {error.strerror}; choose a writable one") from error
    copy_database(backup, str(target))
