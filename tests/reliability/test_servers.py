"""A served queue and its workers are killed while they work; every task a client was promised is done once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from taskqueue_mcp.worker import over_http
from taskqueue_mcp.worker.connection import LOST
from tests.reliability import commands, processes
from tests.reliability.invariants import broken
from tests.reliability.racers import OPEN, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerProcess

    from mcp import Client

    from taskqueue_mcp.store import Transaction

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for orphans in /proc")

ROOT = Path(__file__).resolve().parents[2]
TOKEN = secrets.token_hex(16)
PATIENCE = 60.0
WORKERS = 2
LEASE = 2
COMMAND_SECONDS = "0.05"
MARK = "RELIABILITY_MARK"


class Fleet:
    """A server at a fixed address and workers that reach it there, each to be killed and started again."""

    def __init__(self, folder: Path, url: str, mark: str) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.base = f"http://127.0.0.1:{self._port}"
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
        if name == "server":
            arguments = ["serve", "--port", str(self._port)]
        else:
            arguments = ["worker", "--server", self.base, "--name", name, "--allow", "sleep", "--executor", "shell"]
            arguments += ["--concurrency", "2", "--output", str(self._folder / "output")]
        log = str(self._folder / f"{name}.log")
        self._running[name] = processes.start(commands.run, arguments, self._environment, log, str(self._folder))

    async def serves(self) -> None:
        """Wait until the server answers."""
        with anyio.fail_after(PATIENCE):
            async with httpx2.AsyncClient(trust_env=False) as http:
                while self._running["server"].is_alive():
                    with contextlib.suppress(httpx2.TransportError):
                        if (await http.get(f"{self.base}/healthz")).status_code == 200:
                            return
                    await anyio.sleep(0.02)
        raise AssertionError("the server ended by itself")

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


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def fleet(folder: Path, database_url: str, mark: str) -> Iterator[Fleet]:
    fleet = Fleet(folder, database_url, mark)
    yield fleet
    fleet.kill_all()


class FrontEnd:
    """Keeps creating; a call whose answer was lost is repeated with its key until it is answered."""

    def __init__(self, base: str, mark: str) -> None:
        self._connect = over_http(base, TOKEN)
        self._mark = mark
        self.accepted: dict[str, str] = {}
        self.lost = 0

    async def run(self, stop: anyio.Event) -> None:
        """Create until told to stop, a task every few moments."""
        while not stop.is_set():
            try:
                async with self._connect() as client:
                    while not stop.is_set():
                        await self._create(client, f"key-{len(self.accepted)}")
                        await anyio.sleep(0.02)
            except LOST:
                self.lost += 1
                await anyio.sleep(0.05)

    async def _create(self, client: Client, key: str) -> None:
        wanted = {
            "title": key,
            "params": {"argv": ["sleep", COMMAND_SECONDS], "env": {MARK: self._mark}},
            "options": {"executor": "shell", "max_attempts": 100},
            "idempotency_key": key,
        }
        result = await client.call_tool("create_task", wanted, read_timeout_seconds=5)
        assert not result.is_error, result.structured_content
        self.accepted[key] = (result.structured_content or {})["task"]["id"]


def marked(mark: str) -> list[int]:
    """Return the processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


async def settled(url: str) -> None:
    """Wait until no task is open."""
    async with opened(url) as queue:
        with anyio.fail_after(PATIENCE):
            while (await queue.database.read(lambda transaction: transaction.all(OPEN)))[0][0]:
                await anyio.sleep(0.05)


async def test_servers_and_workers_are_killed_and_every_accepted_task_is_completed_once(
    fleet: Fleet, database_url: str, mark: str, seed: int, soak: bool
) -> None:
    kills = 100 if soak else 8
    chance = random.Random(seed)  # noqa: S311 - repeatable chance is the point
    client = FrontEnd(fleet.base, mark)
    workers = [f"worker-{number}" for number in range(WORKERS)]
    victims = ["server"] * kills + [chance.choice(workers) for _ in range(kills)]
    chance.shuffle(victims)
    stop = anyio.Event()
    try:
        fleet.start("server")
        await fleet.serves()
        for name in workers:
            fleet.start(name)
        async with anyio.create_task_group() as group:
            group.start_soon(client.run, stop)
            for victim in victims:
                await anyio.sleep(chance.uniform(0.2, 0.8))
                fleet.kill(victim)
                fleet.start(victim)
                if victim == "server":
                    await fleet.serves()
            stop.set()
        await settled(database_url)
        for name in [*workers, "server"]:
            fleet.stop(name)
    except BaseException as error:
        error.add_note(fleet.said())
        raise
    async with opened(database_url) as queue:
        events, stored = await queue.database.read(ends)
        assert await queue.database.read(lambda transaction: broken(transaction, LEASE)) == []
    assert len(client.accepted) >= 5 * kills  # or it was not much of a test
    assert client.lost
    assert {key: f"T-{task}" for key, task in stored.items()} == client.accepted
    assert events == dict.fromkeys(stored.values(), 1)
    until = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < until:
        await anyio.sleep(0.05)
    assert left == []


def ends(transaction: Transaction) -> tuple[Counter[int], dict[str, int]]:
    """Return how often each task completed, and which task each key made."""
    completed = transaction.all("SELECT subject_id FROM events WHERE subject = 'task' AND kind = 'completed'")
    keys: list[Any] = transaction.all("SELECT idempotency_key, id FROM tasks")
    return Counter(task for (task,) in completed), dict(keys)
