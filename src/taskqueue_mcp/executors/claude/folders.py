"""A folder that several attempts may work in, one at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATIENCE: Final = 30.0
"""Seconds to wait for a folder before the task is handed back."""
GLANCE: Final = 0.2
BUSY: Final = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@asynccontextmanager
async def alone_in(root: Path | None, home: Path, *, patience: float = PATIENCE) -> AsyncIterator[bool]:
    """Have `root` for oneself, among all processes of this machine; False where another keeps it too long.

    The lock lies in `home`, not in the folder, and ends with the process that holds it. None needs no lock.
    """
    if root is None:
        yield True
        return
    locks = home / "locks"
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(locks / hashlib.sha256(str(root).encode()).hexdigest()[:32], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with anyio.move_on_after(patience) as limit:
            while not _taken(descriptor):  # noqa: ASYNC110 - another process lets go of it
                await anyio.sleep(GLANCE)
        yield not limit.cancelled_caught
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in BUSY:
            raise
        return False
    return True
