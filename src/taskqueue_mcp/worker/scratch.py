"""The private directories of attempts: each goes with its attempt, and those of a dead worker at the next start."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from taskqueue_mcp.executors.trees import Owner

NAMED: Final = re.compile(r"taskqueue-(\d+)\.(\d+)\.(\d+)-T-\d+\.\d+-\w+")


def make(owner: Owner, attempt: str) -> Path:
    """Return a new directory for an attempt (`T-7.1`), named for the worker too.

    Raises:
        OSError: none can be made.
    """
    return Path(tempfile.mkdtemp(prefix=f"taskqueue-{'.'.join(map(str, owner))}-{attempt}-"))


def is_gone(directory: Path) -> bool:
    """Remove an empty directory, as most are; return whether that was enough."""
    try:
        directory.rmdir()
    except OSError:
        return False
    return True


def remove(directory: Path) -> None:
    """Remove a directory with what lies in it, as far as that can be; blocks."""
    shutil.rmtree(directory, ignore_errors=True)


def sweep(own: Owner) -> int:
    """Remove what workers of this user left that do not live any more; return how many that were; blocks."""
    if not own.started:
        return 0
    count = 0
    for entry in os.scandir(tempfile.gettempdir()):
        found = NAMED.fullmatch(entry.name)
        if found is None or not _is_ours(entry):
            continue
        owner = Owner(*map(int, found.groups()))
        if owner.namespace == own.namespace and not owner.lives():
            remove(Path(entry.path))
            count += 1
    return count


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory of this user's; another worker that starts now may just have removed it."""
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except FileNotFoundError:
        return False
