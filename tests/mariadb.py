"""A MariaDB of the tests' own: Debian's `mariadbd`, in a folder of its own, ended with the tests."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql

PROGRAM = shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
INSTALL = shutil.which("mariadb-install-db")
SETTINGS = ("--skip-name-resolve", "--skip-log-bin", "--innodb-buffer-pool-size=32M", "--performance-schema=OFF")
SECONDS_TO_START = 60


def is_here() -> bool:
    """Whether its programs are installed; where the tests must not be partial, they must be."""
    return bool(PROGRAM and INSTALL) or bool(os.environ.get("TASKQUEUE_CI"))


class Server:
    """A server with one owner, who needs no password on this machine."""

    def __init__(self) -> None:
        if PROGRAM is None or INSTALL is None:
            raise RuntimeError("mariadbd and mariadb-install-db are missing: apt-get install mariadb-server")
        self.folder = Path(tempfile.mkdtemp(prefix="taskqueue-mariadb-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        user = _user(self.folder)
        self._where = [f"--datadir={self.folder / 'data'}", *([f"--user={user}"] if user else [])]
        self._run(INSTALL, "--no-defaults", *self._where, "--auth-root-authentication-method=normal", "--skip-test-db")
        self.start()
        atexit.register(self.remove)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), "--no-defaults", *self._where, *SETTINGS, "--bind-address=127.0.0.1",
                 f"--port={self.port}", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                self.admin().close()
            except pymysql.OperationalError:
                if self._process.poll() is not None or time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the server; connections are cut."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """End the server and delete its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, database: str | None = None) -> Any:
        """Return a connection of the owner."""
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", database=database, autocommit=True)

    def new_database(self, name: str, *statements: str) -> str:
        """Make a database, run `statements` in it, and return its name."""
        with self.admin() as wire, wire.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            cursor.execute(f"USE {name}")
            for statement in statements:
                cursor.execute(statement)
        return name

    def url(self, database: str, user: str = "root") -> str:
        """Return the URL of a database."""
        return f"mysql://{user}@127.0.0.1:{self.port}/{database}"

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-2_000:]}")


def _user(folder: Path) -> str | None:
    """MariaDB refuses to run as root, so root lets the user of Debian's package run it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    shutil.chown(folder, "mysql", "mysql")
    return "mysql"
