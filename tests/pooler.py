"""A pgbouncer of the tests' own, which gives each transaction to whichever connection is free."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Cluster

SETTINGS = {
    "pool_mode": "transaction",
    "auth_type": "any",
    "max_client_conn": "1000",
    "default_pool_size": "20",
    "server_idle_timeout": "5",
    "query_wait_timeout": "1",  # else a call hangs for two minutes when the database is away
    "server_login_retry": "0.1",
    "listen_addr": "127.0.0.1",
}


def wanted() -> str | None:
    """The program that TASKQUEUE_TEST_PGBOUNCER names: then the tests of the contract go through it."""
    return os.environ.get("TASKQUEUE_TEST_PGBOUNCER")


class Pooler:
    """Stands before a cluster, beside its socket."""

    def __init__(self, cluster: Cluster, program: str) -> None:
        self._folder: Path = cluster.folder / "pooler"
        self._folder.mkdir(mode=0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = {
            **SETTINGS, "listen_port": str(self.port), "unix_socket_dir": str(cluster.folder),
            "logfile": str(cluster.folder / "pooler.log"),
        }  # fmt: skip
        lines = ["[databases]", f"* = host={cluster.folder} port={cluster.port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        file = self._folder / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (self._folder / "said").open("w", encoding="utf-8") as said:
            self._process = subprocess.Popen(
                [program, str(file)], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=cluster.folder,
                **cluster.user,
            )  # fmt: skip
        atexit.register(self.stop)
        self._await(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")

    def stop(self) -> None:
        """End it; connections are cut."""
        self._process.terminate()
        self._process.wait(10)

    def _await(self, url: str) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(url).close()
            except psycopg.OperationalError as error:
                if time.monotonic() >= deadline or self._process.poll() is not None:
                    error.add_note((self._folder / "said").read_text(encoding="utf-8")[-2_000:])
                    raise
                time.sleep(0.02)
            else:
                return
