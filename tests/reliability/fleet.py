"""Whole servers and workers, as processes with addresses of their own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx2

from tests.reliability import commands, processes
from tests.reliability.processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerProcess

ROOT = Path(__file__).resolve().parents[2]
TOKEN = secrets.token_hex(16)
LEASE = 2
MARK = "RELIABILITY_MARK"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fleet:
    """Servers at fixed addresses and workers that reach the first one, each to be killed and started again."""

    def __init__(self, folder: Path, url: str, *, mark: str = "", servers: Sequence[str] = ("server",)) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in servers}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "TASKQUEUE_TOKEN": TOKEN,
            "TASKQUEUE_DATABASE": url,
            "TASKQUEUE_LEASE_SECONDS": str(LEASE),
            "TASKQUEUE_RETRY_SECONDS": "0.1",
            "TASKQUEUE_WORKER__SHELL_ENV": json.dumps([MARK]),
            MARK: mark,
        }
        self._running: dict[str, ForkServerProcess] = {}

    def start(self, name: str) -> None:
        if name in self._ports:
            arguments = ["serve", "--port", str(self._ports[name])]
        else:
            base = self.base(next(iter(self._ports)))
            arguments = ["worker", "--server", base, "--name", name, "--allow", "sleep", "--executor", "shell"]
            arguments += ["--concurrency", "2", "--output", str(self._folder / "output")]
        log = str(self._folder / f"{name}.log")
        self._running[name] = processes.start(commands.run, arguments, self._environment, log, str(self._folder))

    def port(self, server: str) -> int:
        return self._ports[server]

    def base(self, server: str) -> str:
        return f"http://127.0.0.1:{self._ports[server]}"

    async def serves(self, server: str) -> None:
        """Wait until the server answers."""
        with anyio.fail_after(PATIENCE):
            async with httpx2.AsyncClient(trust_env=False) as http:
                while self._running[server].is_alive():
                    with contextlib.suppress(httpx2.TransportError):
                        if (await http.get(f"{self.base(server)}/healthz")).status_code == 200:
                            return
                    await anyio.sleep(0.02)
        raise AssertionError(f"{server} ended by itself")

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL, f"{name} had ended by itself"

    def stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        processes.all_ended([process])

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.join(PATIENCE)

    def said(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(self._folder.glob("*.log")))
