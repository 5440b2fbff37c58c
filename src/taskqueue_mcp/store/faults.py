"""What SQLite complains of, in words that say what to do; whatever it was, nothing was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import Busy, DatabaseRefused

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 5.0
"""How long a work waits for its turn at the file, in seconds."""


def is_busy(error: BaseException) -> bool:
    """Whether another program holds the database."""
    return isinstance(error, sqlite.OperationalError) and "locked" in str(error)


def held(path: Path) -> Busy:
    """Return what to tell a caller whose turn did not come."""
    return Busy(
        f"another process held the database {path.name} for {PATIENCE:.0f} s and nothing was changed; call again"
    )


def refusal(error: sqlite.Error, path: Path) -> DatabaseRefused | Busy:
    """Return why a database cannot be opened."""
    if is_busy(error):
        return Busy(f"the database {path} is locked by another program; close it or try again")
    if "readonly" in str(error) or "read-only" in str(error):
        return DatabaseRefused(f"the database {path} is read-only; give this user write permission")
    return DatabaseRefused(
        f"the database {path} cannot be used ({error}); it was left untouched: "
        "restore a backup (taskqueue-mcp restore FILE) or choose another file"
    )


def translate(error: BaseException, path: Path) -> BaseException:
    """Return the error that a caller understands; a mistake in our own statements stays what it is."""
    text = str(error)
    found = error
    if not isinstance(error, sqlite.Error) or isinstance(error, sqlite.IntegrityError):
        return found
    if "full" in text:
        found = Busy(f"the disk of {path} is full and nothing was changed; free some space, then call again")
    elif is_busy(error):
        found = held(path)
    elif "disk I/O error" in text:
        found = Busy(f"the disk of {path} reported an error and nothing was changed; check it, then call again")
    elif any(word in text for word in ("readonly", "malformed", "not a database")):
        found = refusal(error, path)
    return found
