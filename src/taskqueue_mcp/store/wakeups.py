"""Waking the other processes that share a database file: a datagram each, to sockets beside the file.

A datagram is only a hint; `PRAGMA data_version` is the truth behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskqueue_mcp.store.database import Signal

LONGEST_SOCKET_PATH = 100
LONGEST_DATAGRAM = 8_192
STILL = 100_000_000
"""Nanoseconds; file systems note times to some milliseconds."""


class Wakeups:
    """This process's socket and the way to its peers. Without Unix sockets it is silent."""

    def __init__(self, database: Path) -> None:
        self._folder = _folder(database)
        self._own: Path | None = None
        self._peers: list[str] = []
        self._listed_at = -1
        self._socket: socket.socket | None = None
        if hasattr(socket, "AF_UNIX") and self._folder is not None:
            self._bind(self._folder)

    def fileno(self) -> int | None:
        """Return the descriptor that becomes readable when a peer has committed."""
        return None if self._socket is None else self._socket.fileno()

    def send(self, signals: Iterable[Signal]) -> None:
        """Tell every peer what changed."""
        if self._socket is None or self._folder is None:
            return
        peers = self._named(self._folder)
        if len(peers) <= 1:
            return
        message = json.dumps(list(signals)).encode()
        if len(message) > LONGEST_DATAGRAM:
            message = b"null"
        for name in peers:
            peer = self._folder / name
            if peer != self._own:
                self._send_to(peer, message)

    def _named(self, folder: Path) -> list[str]:
        """Return the names of the sockets, read again when the folder has changed.

        The time of its last change is not exact, so a list is remembered only when the folder has been still a while.
        """
        changed_at = os.stat(folder).st_mtime_ns  # noqa: PTH116 - asked at every commit
        if changed_at != self._listed_at:
            self._peers = [name for name in os.listdir(folder) if name.endswith(".wake")]  # noqa: PTH208 - names, not paths
            self._listed_at = changed_at if time.time_ns() - changed_at > STILL else -1
        return self._peers

    def receive(self) -> frozenset[Signal] | None:
        """Return what peers have signalled since the last call; None means look at everything."""
        signals: set[Signal] = set()
        everything = False
        while self._socket is not None:
            try:
                message = json.loads(self._socket.recv(LONGEST_DATAGRAM))
            except BlockingIOError:
                break
            except (OSError, ValueError):
                everything = True
                break
            if isinstance(message, list):
                signals.update((str(subject), str(name)) for subject, name in message)
            else:
                everything = True
        return None if everything else frozenset(signals)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._own is not None:
            self._own.unlink(missing_ok=True)

    def _bind(self, folder: Path) -> None:
        own = folder / f"{os.getpid()}-{secrets.token_hex(4)}.wake"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.lstat().st_uid != os.getuid() or not stat.S_ISDIR(folder.lstat().st_mode):
                return
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bound.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            bound.bind(str(own))
        except OSError:
            return
        self._own, self._socket = own, bound

    def _send_to(self, peer: Path, message: bytes) -> None:
        assert self._socket is not None  # noqa: S101 - narrows the type for the checker
        try:
            self._socket.sendto(message, str(peer))
        except (ConnectionRefusedError, FileNotFoundError):
            peer.unlink(missing_ok=True)
        except OSError:
            return


def _folder(database: Path) -> Path | None:
    beside = database.with_name(database.name + "-wake")
    if len(os.fsencode(beside)) + len("/1234567890-12345678.wake") <= LONGEST_SOCKET_PATH:
        return beside
    if not hasattr(os, "getuid"):
        return None
    digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"taskqueue-{os.getuid()}" / digest
