"""The worker against the real server: each a process of its own. This file is also the worker under test."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.to_thread
import httpx2
import pytest

from taskqueue_mcp import sample
from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.base import Executor, Params, Registry, Run
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.model import Completed, Failed, Outcome, Reason, Returned
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.worker import Connection, Options, Worker, over_http, over_stdio, run_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "a-token-for-tests-0123456789"  # noqa: S105 - of a server that lives as long as a test
SECONDS = 30.0
FINAL = {"completed", "failed", "cancelled"}


# ---- the worker under test, and executors that do odd things ----


class NapParams(Params):
    seconds: list[float]
    """By attempt: the first, the second …"""
    heeds_stop: bool = True
    in_a_thread: bool = False
    barrier: str | None = None
    """A folder in which as many files as `seconds` says have to lie before the nap is over."""


class Nap(Executor[NapParams]):
    name: ClassVar[str] = "nap"
    params = NapParams

    async def run(self, params: NapParams, run: Run) -> Outcome:
        seconds = params.seconds[min(run.attempt, len(params.seconds)) - 1]
        if params.in_a_thread:
            await anyio.to_thread.run_sync(time.sleep, seconds)
        elif params.barrier is not None:
            folder = Path(params.barrier)
            (folder / str(run.task_id)).touch()
            while len(list(folder.iterdir())) < seconds:  # noqa: ASYNC110 - other tasks set no event of ours
                await anyio.sleep(0.01)
        elif params.heeds_stop:
            with anyio.move_on_after(seconds):
                await run.stop.wait()
                return Returned(None, "told to stop")
        else:
            await anyio.sleep(seconds)
        return Completed(f"slept in attempt {run.attempt}")


class OddParams(Params):
    what: str
    text: str = ""


class Odd(Executor[OddParams]):
    """Does what the name says, once, and comes back with what it saw."""

    name: ClassVar[str] = "odd"
    params = OddParams

    async def run(self, params: OddParams, run: Run) -> Outcome:
        match params.what:
            case "raise":
                raise ValueError("no such thing:\n\u202e42")
            case "raise in a group":
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.to_thread.run_sync, json.loads, "{")
            case "exit":
                sys.exit("bye")
            case "nothing":
                return None  # type: ignore[return-value]
            case "quota":
                resume_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
                return Returned(Reason.QUOTA, "used up", round(resume_at.timestamp() * 1_000_000))
            case "fail":
                return Failed("it is broken", permanent=True, usage={"cost_usd": 0.5})
            case "chat":
                for number in range(100):
                    run.log(f"{number}: {'x' * 990}\n")
                    await run.progress(number, f"step {number}")
                run.log("half a pair \ud800 and a NUL \0\n")
            case "file":
                run.outputs.write("notes.txt", lambda file: file.write(b"hello"))
                return Completed("wrote", path="notes.txt", artifacts=("notes.txt",))
            case "unwritable":
                return Completed("odd", data={"text": "NUL \0, half \ud800", "set": 1})
            case "no json":
                return Completed("odd", data={"infinity": float("inf")})
            case "too large":
                return Completed("odd", data={"text": "x" * 300_000})
        return Completed(
            "looked",
            data={
                "directory": str(run.directory),
                "mode": oct(run.directory.stat().st_mode & 0o777),
                "due_date": run.due_date.isoformat(),
                "zone": str(run.zone),
                "now": run.now.isoformat(),
                "instructions": hashed(run.instructions),
                "text": hashed(params.text),
                "procedure": hashed(run.procedure.text) if run.procedure else None,
                "inputs": [[each["task"], each["result_summary"], each["result_data"]] for each in run.inputs],
            },
        )


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def work(given: dict[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    given = dict(given)
    connect = over_http(given.pop("url"), given.pop("token")) if "url" in given else over_stdio(given.pop("stdio"))
    sources = {name: Path(path) for name, path in given.pop("sources", {}).items()}
    registry = Registry([Report(sources), Shell(allow=["sh", "python3"], search_path=os.environ["PATH"]), Nap(), Odd()])
    outputs = OutputFolder(Path(given.pop("output")))
    options = Options(outputs=outputs, **{key: tuple(each) if isinstance(each, list) else each for key, each in given.items()})
    return anyio.run(run_worker, connect, registry, options)


# ---- the processes around it ----

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")},
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "TASKQUEUE_TOKEN": TOKEN,
    "TASKQUEUE_RETRY_SECONDS": "0.1",
    "TASKQUEUE_ZONE": "Europe/Berlin",
    "TASKQUEUE_SOPS": str(ROOT / "sops"),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A real server on a file, to be killed and started again at the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'queue.db'}"

    def start(self) -> None:
        command = [sys.executable, "-m", "taskqueue_mcp", "serve", "--port", str(self.port), "--database", self.database]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=ENVIRONMENT, stderr=log, stdout=log)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).status_code == 200:
                    return
            time.sleep(0.02)
        raise TimeoutError((self.folder / "server.log").read_text())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(SECONDS)
            self.process = None

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        async with over_http(self.url, TOKEN)() as client:
            result = await client.call_tool(tool, arguments)
        told: dict[str, Any] = result.structured_content or {}
        assert not result.is_error, told
        return told

    async def create(self, executor: str, params: dict[str, Any] | None = None, **more: Any) -> str:
        options = {"executor": executor, **more.pop("options", {})}
        given = {"title": f"a task for {executor}", "params": params or {}, **more, "options": options}
        return str((await self.ask("create_task", **given))["task"]["id"])

    async def get(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ask("get_task", task_id=task))["task"]
        return found

    async def ended(self, task: str) -> dict[str, Any]:
        """Return the task once it is final."""
        with anyio.fail_after(SECONDS):
            while True:
                found: dict[str, Any] = (await self.ask("get_task", task_id=task, wait_seconds=20))["task"]
                if found["status"] in FINAL:
                    return found

    async def running(self, task: str) -> dict[str, Any]:
        """Return the task once a worker holds it and has confirmed that."""
        return await self.until(task, lambda found: found["status"] == "in_progress")

    async def until(self, task: str, wanted: Any) -> dict[str, Any]:
        with anyio.fail_after(SECONDS):
            while not wanted(found := await self.get(task)):
                await anyio.sleep(0.03)
        return found


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.name = f"w{secrets.token_hex(3)}"
        self._log = folder / f"{self.name}.log"
        self._out = folder / f"{self.name}.out"
        given = {"name": self.name, "output": str(folder / "output"), **options}
        with self._log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(given)],
                env=ENVIRONMENT, stdout=out, stderr=log, cwd=folder, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def says(self, text: str) -> None:
        with anyio.fail_after(SECONDS):
            while text not in self.log:
                assert self.process.poll() is None or text in self.log, self.log
                await anyio.sleep(0.02)

    async def ended(self, seconds: float = SECONDS) -> int:
        with anyio.fail_after(seconds):
            while self.process.poll() is None:
                await anyio.sleep(0.01)
        assert self._out.read_bytes() == b""
        return int(self.process.returncode)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)


class Workers:
    """Starts workers for a test and ends them with it."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._folder = folder
        self._server = server
        self._started: list[WorkerProcess] = []

    def start(self, **options: Any) -> WorkerProcess:
        if "stdio" not in options:
            options = {"url": self._server.url, "token": TOKEN, **options}
        self._started.append(WorkerProcess(self._folder, **options))
        return self._started[-1]

    def over_stdio(self, **options: Any) -> WorkerProcess:
        command = [sys.executable, "-m", "taskqueue_mcp", "stdio", "--database", self._server.database, "--as", "piper"]
        return self.start(stdio=[*command, "--scope", "work"], **options)

    def kill(self) -> None:
        for each in self._started:
            each.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for every test that leaves it running; each test has a queue of its own."""
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, which may kill it."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def queue() -> str:
    return f"q-{secrets.token_hex(4)}"


@pytest.fixture
def workers(tmp_path: Path, shared: Server, request: pytest.FixtureRequest) -> Iterator[Workers]:
    own = request.getfixturevalue("server") if "server" in request.fixturenames else shared
    workers = Workers(tmp_path, own)
    yield workers
    workers.kill()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pids_in(path: Path, count: int) -> list[int]:
    with anyio.fail_after(SECONDS):
        while not path.exists() or len(path.read_text().split()) < count:
            await anyio.sleep(0.01)
    return [int(word) for word in path.read_text().split()]


async def gone(pids: list[int], seconds: float) -> None:
    with anyio.fail_after(seconds):
        while any(map(alive, pids)):
            await anyio.sleep(0.01)


def tree(pids: Path, *, stubborn: bool) -> dict[str, Any]:
    """A command with a child and a grandchild, whose numbers it writes to a file."""
    trap = "trap '' TERM; " if stubborn else ""
    return {"argv": ["sh", "-c", f"{trap}(sh -c 'echo $$; exec sleep 97' & echo $!; exec sleep 98) >> {pids} & echo $$ >> {pids}; wait; sleep 99"]}
