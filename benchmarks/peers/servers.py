"""The servers that peers need: PostgreSQL and Redis, started here on unix sockets and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.environment import MissingProgram, program

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {"listen_addresses": "''", "fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB"}
NO_ROOT = "postgres"
"""Who runs PostgreSQL when root measures: it refuses root itself."""


class Postgres:
    """A cluster of its own, at full durability: reached over a unix socket by anybody on this machine."""

    def __init__(self, where: Path, binaries: Path) -> None:
        self._where, self._binaries = where, binaries
        self._data = where / "data"
        self._as = ["setpriv", f"--reuid={NO_ROOT}", f"--regid={NO_ROOT}", "--init-groups"] if _is_root() else []
        self._run("initdb", "-D", str(self._data), "-U", "bench", "--auth=trust", "-E", "UTF8", "--no-locale")
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-l", str(where / "log"), "-o", f"-k {where} {options}", "start"
        )

    @property
    def version(self) -> str:
        return self.psql("postgres", "SHOW server_version").split()[0]

    def url(self, database: str) -> str:
        return f"postgresql://bench@/{database}?host={self._where}"

    def psql(self, database: str, statement: str, schema: str = "public") -> str:
        command = ["psql", "-h", str(self._where), "-U", "bench", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1"]
        return self._run(*command, "-c", f"SET search_path = {schema}", "-c", statement)

    def database(self, name: str, template: str = "template0") -> str:
        """Make an empty database, or a copy of one that nobody is connected to; return its URL."""
        self.psql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, name: str) -> None:
        self.psql("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def _run(self, name: str, *arguments: str) -> str:
        command = [*self._as, str(self._binaries / name), *arguments]
        # pg_ctl leaves the server with what it was given: a pipe would stay open as long as that lives.
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd="/", check=False
            )
            out.seek(0)
            said = out.read().decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"{name} failed: {said}")
        return said.strip()


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a cluster in a folder that goes with it.

    Raises:
        MissingProgram: PostgreSQL is not on this machine.
    """
    binaries = _postgres_binaries()
    with tempfile.TemporaryDirectory(prefix="taskqueue-pg-", ignore_cleanup_errors=True) as name:
        if _is_root():
            owner = pwd.getpwnam(NO_ROOT)
            os.chown(name, owner.pw_uid, owner.pw_gid)
        Path(name).chmod(0o755)
        server = Postgres(Path(name), binaries)
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Start a Redis that has a write on the disk before it answers, as ours and PostgreSQL have; yield its socket.

    Raises:
        MissingProgram: Redis is not on this machine.
    """
    binary = program("redis-server", "redis-server")
    with tempfile.TemporaryDirectory(prefix="taskqueue-redis-", ignore_cleanup_errors=True) as name:
        socket = Path(name) / "s"
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", name, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 10
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"redis-server did not start ({server.poll()})")
                time.sleep(0.01)
            yield str(socket)
        finally:
            server.terminate()
            server.wait(20)


def _postgres_binaries() -> Path:
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    found = shutil.which("postgres")
    for place in [*packaged, *([Path(found).resolve().parent] if found else [])]:
        if all((place / name).exists() for name in ("initdb", "pg_ctl", "psql")):
            return place
    raise MissingProgram("PostgreSQL was not found: install postgresql")


def _is_root() -> bool:
    return os.geteuid() == 0
