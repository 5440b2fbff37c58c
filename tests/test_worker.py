"""The worker against the real server: each a process of its own. This file is also the worker under test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.abc
import anyio.to_thread
import httpx2
import pytest
from pydantic import ConfigDict

from taskqueue_mcp import sample
from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.base import Executor, Params, Registry, Run
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.model import Asked, Completed, Ended, Failed, Outcome, Reason, Returned
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.worker import Connection, Options, Worker, over_http, over_stdio, over_wire, run_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "a-token-for-tests-0123456789"  # noqa: S105 - of a server that lives as long as a test
SECONDS = 30.0
FINAL = {"completed", "failed", "cancelled"}


# ---- the worker under test, and executors that do odd things ----


class NapParams(Params):
    seconds: list[float]
    """By attempt: the first, the second …"""
    heeds_stop: bool = True
    fails_when_stopped: bool = False
    in_a_thread: bool = False
    blocks: bool = False
    """Sleep in the event loop itself."""
    barrier: str | None = None
    """A folder in which as many files as `seconds` says have to lie before the nap is over."""


class Nap(Executor[NapParams]):
    name: ClassVar[str] = "nap"
    params = NapParams

    async def run(self, params: NapParams, run: Run) -> Outcome:
        seconds = params.seconds[min(run.attempt, len(params.seconds)) - 1]
        await run.progress(None, "napping")
        if params.blocks:
            time.sleep(seconds)  # noqa: ASYNC251 - as no executor should
        elif params.in_a_thread:
            await anyio.to_thread.run_sync(time.sleep, seconds)
        elif params.barrier is not None:
            await meet(Path(params.barrier), run.task_id, seconds)
        elif params.heeds_stop:
            with anyio.move_on_after(seconds):
                await run.stop.wait()
                return Failed("stopped in the middle") if params.fails_when_stopped else Returned(None, "told to stop")
        else:
            await anyio.sleep(seconds)
        return Completed(f"slept in attempt {run.attempt}")


async def meet(folder: Path, number: int, count: float) -> None:
    (folder / str(number)).touch()
    await eventually(lambda: len(list(folder.iterdir())) >= count)


class OddParams(Params):
    model_config = ConfigDict(extra="allow", frozen=True)

    what: str
    text: str = ""


class Odd(Executor[OddParams]):
    """Does what `what` says; "look" comes back with what it saw."""

    name: ClassVar[str] = "odd"
    params = OddParams

    async def run(self, params: OddParams, run: Run) -> Ended:
        if params.what in ODDITIES:
            outcome: Outcome = ODDITIES[params.what]
            return outcome
        if params.what.startswith("raise"):
            await throw(params.what)
        if params.what == "chat":
            for number in range(100):
                run.log(f"{number}: {'x' * 990}\n")
                await run.progress(number, f"step {number}")
            run.log("half a pair \ud800 and a NUL \0\n")
        if params.what == "file":
            run.outputs.write("notes.txt", lambda file: file.write(b"hello"))
            return Completed("wrote", path="notes.txt", artifacts=("notes.txt",))
        if params.what == "ask" and run.attempt == 1:
            file = run.outputs.write("draft.txt", lambda file: file.write(b"half of it"))
            run.keep(file)
            return Asked(LONG_QUESTION, usage={"cost_usd": 0.25})
        return Completed("looked", data=seen(params, run))


LONG_QUESTION = "This is the plan.\n" + "one more step\n" * 700


class Fussy(Executor[NapParams]):
    """Cannot work while there is a file that says why."""

    name: ClassVar[str] = "fussy"
    params = NapParams

    def __init__(self, reason: Path) -> None:
        self._reason = reason

    async def preflight(self) -> str | None:
        if not self._reason.exists():
            return None
        if (text := self._reason.read_text()) == "raise":
            raise ValueError("no such thing:\n\u202e42")
        return text

    async def run(self, params: NapParams, run: Run) -> Outcome:
        if params.barrier is not None:
            await meet(Path(params.barrier), run.task_id, params.seconds[0])
        if self._reason.exists():
            return Failed("broken after all")
        return Completed("done by fussy")


RESUME_AT = round((time.time() + 86_400) * 1_000_000)
"""A day after the process of the worker began."""
ODDITIES: dict[str, Any] = {
    "nothing": None,
    "quota": Returned(Reason.QUOTA, "used up", RESUME_AT),
    "fail": Failed("it is broken", permanent=True, usage={"cost_usd": 0.5}),
    "unwritable": Completed("odd", data={"text": "NUL \0, half \ud800", "set": 1}),
    "no json": Completed("odd", data={"infinity": float("inf")}),
    "too large": Completed("odd", data={"text": "x" * 300_000}),
}


async def throw(what: str) -> None:
    async def read() -> None:
        json.loads("{")

    match what:
        case "raise in a group":
            async with anyio.create_task_group() as group:
                group.start_soon(read)
        case "raise an exit":
            sys.exit("bye")
        case "raise a cancel":
            raise asyncio.CancelledError
        case _:
            raise ValueError("no such thing:\n\u202e42")


def seen(params: OddParams, run: Run) -> dict[str, Any]:
    return {
        "directory": str(run.directory),
        "mode": oct(run.directory.stat().st_mode & 0o777),
        "due_date": run.due_date.isoformat(),
        "zone": str(run.zone),
        "now": run.now.isoformat(),
        "instructions": hashed(run.instructions),
        "text": hashed(params.text),
        "procedure": hashed(run.procedure.text) if run.procedure else None,
        "inputs": [[each["task"], each["result_summary"], each["result_data"]] for each in run.inputs],
        "answers": [[hashed(each["question"]), hashed(each["answer"])] for each in run.answers],
        "earlier": [[each["outcome"], each.get("usage")] for each in run.earlier_attempts],
    }


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def work(given: dict[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    connect = over_wire(given["url"], given["token"]) if "url" in given else over_stdio(given["stdio"])
    sources = {name: Path(path) for name, path in given.get("sources", {}).items()}
    shell = Shell(allow=["sh"], search_path=os.environ["PATH"])
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in given.items()
        if key not in {"url", "token", "stdio", "sources", "output", "fussy", "only"}
    }
    read = {name: SqliteFile(path) for name, path in sources.items()}
    made: list[Executor[Any]] = [
        Report(read),
        Query(read),
        shell,
        Nap(),
        Odd(),
        *([Fussy(Path(given["fussy"]))] if "fussy" in given else []),
    ]
    registry = Registry(each for each in made if each.name in given.get("only", [each.name]))
    outputs = OutputFolder(Path(given["output"]))
    return anyio.run(run_worker, connect, registry, Options(outputs=outputs, **options))


async def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what another process does: it sets no event of ours, so it is looked at."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


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
        command = [
            sys.executable,
            "-m",
            "taskqueue_mcp",
            "serve",
            "--port",
            str(self.port),
            "--database",
            self.database,
        ]
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
        """Return the task once its executor has said something."""
        return await self.until(task, lambda found: found["status"] == "in_progress" and "message" in found)

    async def until(self, task: str, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        with anyio.fail_after(SECONDS):
            while True:
                found = await self.get(task)
                if wanted(found):
                    return found
                await anyio.sleep(0.03)


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
        def said() -> bool:
            over = self.process.poll() is not None
            assert text in self.log or not over, self.log
            return text in self.log

        await eventually(said)

    async def ended(self, seconds: float = SECONDS) -> int:
        await eventually(lambda: self.process.poll() is not None, seconds)
        assert self._out.read_bytes() == b""
        return int(self.process.returncode)

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

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


@pytest.fixture(scope="module")
def hand(shared: Server) -> Iterator[WorkerProcess]:
    """A worker for every test that leaves it as it was; it takes the queue `common`."""
    hand = WorkerProcess(shared.folder, url=shared.url, token=TOKEN, queues=["common"], concurrency=4)
    yield hand
    hand.kill()


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


def numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


async def pids_in(path: Path, count: int) -> list[int]:
    await eventually(lambda: len(numbers(path)) >= count)
    return numbers(path)


async def gone(pids: list[int], seconds: float) -> None:
    await eventually(lambda: not any(map(alive, pids)), seconds)


def tree(pids: Path, *, stubborn: bool) -> dict[str, Any]:
    """Return a command with a child and a grandchild; each writes its number to a file."""
    trap = "trap '' TERM; " if stubborn else ""
    child = f"echo $$ >> {pids}; sleep 97 & echo $! >> {pids}; wait"
    return {"argv": ["sh", "-c", f'{trap}sh -c "$1" & echo $$ >> {pids}; wait; sleep 98', "tree", child]}


# ---- the whole way ----


@pytest.mark.parametrize("over", ["http", "stdio"])
async def test_a_report_is_written_and_its_task_completes(
    shared: Server, workers: Workers, queue: str, tmp_path: Path, over: str
) -> None:
    sample.build(tmp_path / "shop.db")
    start = workers.start if over == "http" else workers.over_stdio
    start(queues=[queue], sources={"shop": str(tmp_path / "shop.db")})
    made = await shared.ask(
        "create_task",
        title="What is running out?",
        task_type="report_generation",
        sop="inventory/low_stock_calculation.md",
        queue=queue,
        params={"threshold": 20, "source": "shop"},
    )

    task = await shared.ended(made["task"]["id"])

    assert task["status"] == "completed", task
    file = tmp_path / "output" / task["result_path"]
    assert file.name.startswith("LowStock_")
    assert file.suffix == ".xlsx"
    assert "threshold: 20" in task["result_summary"]
    assert task["result_data"]["rows"] > 0
    assert task["artifacts"][0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [each["outcome"] for each in task["attempts"]] == ["completed"]


@pytest.mark.parametrize("over", ["http", "stdio"])
async def test_a_command_runs_and_its_output_comes_back(
    shared: Server, workers: Workers, queue: str, over: str
) -> None:
    worker = (workers.start if over == "http" else workers.over_stdio)(queues=[queue])
    task = await shared.create("shell", {"argv": ["sh", "-c", "echo one; echo two"]}, queue=queue)

    found = await shared.ended(task)

    assert found["status"] == "completed", found
    assert found["result_summary"] == "two"
    assert found["result_data"]["stdout"] == "one\ntwo\n"
    log = await shared.ask("get_task", task_id=task, detail="log")
    assert log["text"].split() == ["one", "two"]
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert f"{task} attempt 1 claimed: 'a task for shell'" in worker.log
    assert f"{task} attempt 1 completed in" in worker.log


@pytest.mark.usefixtures("hand")
async def test_an_executor_sees_the_whole_attempt_however_long_its_texts_are(shared: Server) -> None:
    first = await shared.create("odd", {"what": "too small", "text": "ü" * 9_000}, queue="common")
    instructions, text = "do it\n" * 5_000, '\\"é\U0001f600' * 10_000
    second = await shared.create(
        "odd",
        {"what": "look", "text": text},
        queue="common",
        instructions=instructions,
        depends_on=[first],
        sop="inventory/reorder_rules.md",
    )

    found = await shared.ended(second)
    assert found["status"] == "completed", found["error"]
    saw = json.loads(found["result_data"])  # the answer is long, so it comes as text

    assert saw["mode"] == "0o700"
    assert not os.path.exists(saw["directory"])  # noqa: PTH110 - a look at one name
    assert saw["zone"] == "Europe/Berlin"
    assert saw["due_date"] == saw["now"][:10]
    now = datetime.fromisoformat(saw["now"])
    assert abs(now.timestamp() - time.time()) < SECONDS
    assert now.utcoffset() in (timedelta(hours=1), timedelta(hours=2))
    assert saw["instructions"] == hashed(instructions)
    assert saw["text"] == hashed(text)
    assert saw["procedure"] == hashed((ROOT / "sops/inventory/reorder_rules.md").read_text())
    ((name, summary, data),) = saw["inputs"]
    assert (name, summary, data["text"]) == (first, "looked", hashed("ü" * 9_000))


@pytest.mark.usefixtures("hand")
async def test_what_was_asked_and_answered_comes_whole_with_the_next_attempt(shared: Server) -> None:
    answer = "but not like this\n" * 1_000
    task = await shared.create("odd", {"what": "ask"}, queue="common")
    asked = await shared.until(task, lambda found: found["status"] == "waiting")

    await shared.ask("answer_task", task_id=task, action="answer", answer=answer)
    found = await shared.ended(task)

    assert found["status"] == "completed", found
    saw = found["result_data"]
    saw = json.loads(saw) if isinstance(saw, str) else saw
    assert asked["status"] == "waiting"
    assert saw["answers"] == [[hashed(LONG_QUESTION.strip()[:10_000].strip()), hashed(answer.strip())]]
    assert saw["earlier"] == [["question", {"cost_usd": 0.25}]]


@pytest.mark.usefixtures("hand")
async def test_a_file_is_kept_although_the_attempt_does_not_complete(shared: Server) -> None:
    task = await shared.create("odd", {"what": "ask"}, queue="common")

    found = await shared.until(task, lambda found: found["status"] == "waiting")

    assert [(each["path"][:5], each["size"], each["sha256"]) for each in found["artifacts"]] == [
        ("draft", 10, hashed("half of it"))
    ]


async def test_an_executor_that_is_cancelled_from_within_fails(shared: Server, hand: WorkerProcess) -> None:
    task = await shared.create("odd", {"what": "raise a cancel"}, queue="common", options={"max_attempts": 1})

    assert (await shared.ended(task))["error"] == "CancelledError: the executor was cancelled from within"
    assert hand.process.poll() is None


@pytest.mark.usefixtures("hand")
async def test_a_file_that_an_executor_names_is_measured(shared: Server) -> None:
    task = await shared.create("odd", {"what": "file"}, queue="common")

    found = await shared.ended(task)

    assert found["result_path"] == "notes.txt"
    assert [(each["path"], each["size"], each["sha256"]) for each in found["artifacts"]] == [
        ("notes.txt", 5, hashed("hello"))
    ]


@pytest.mark.usefixtures("hand")
async def test_progress_and_log_arrive_whole_and_in_order(shared: Server) -> None:
    task = await shared.create("odd", {"what": "chat"}, queue="common")

    found = await shared.ended(task)

    assert (found["progress"], found["message"]) == (99, "step 99")
    text = await whole_log(shared, task)
    lines = [line for line in text.split("\n") if line]
    assert [line.partition(":")[0] for line in lines[:-1]] == [str(number) for number in range(100)]
    assert lines[-1] == "half a pair \ufffd and a NUL \ufffd"


async def whole_log(server: Server, task: str) -> str:
    text = ""
    more: dict[str, str] = {}
    while True:
        page = await server.ask("get_task", task_id=task, detail="log", **more)
        text += str(page["text"])
        if page["next_cursor"] is None:
            return text
        more = {"cursor": page["next_cursor"]}


# ---- what goes wrong ----


async def test_a_task_for_an_unknown_executor_fails_for_good_and_names_the_known_ones(
    shared: Server, workers: Workers, queue: str
) -> None:
    workers.start(queues=[queue], types=["poetry"])
    task = await shared.create("claude", queue=queue, task_type="poetry")

    found = await shared.ended(task)

    assert found["status"] == "failed"
    assert found["error"] == "this worker has no executor 'claude'; it has nap, odd, query, report, shell"
    assert len(found["attempts"]) == 1


@pytest.mark.usefixtures("hand")
@pytest.mark.parametrize(
    ("executor", "params", "error"),
    [
        (
            "nap",
            {"seconds": 1, "deep": True},
            (
                "params of nap: seconds: input should be a valid list; deep is unknown; "
                "it takes seconds, heeds_stop, fails_when_stopped, in_a_thread, blocks, barrier"
            ),
        ),
        ("odd", {}, "params of odd: what is missing; it takes what, text"),
    ],
)  # fmt: skip
async def test_bad_parameters_fail_for_good_in_one_line(
    shared: Server, executor: str, params: dict[str, Any], error: str
) -> None:
    task = await shared.create(executor, params, queue="common")

    found = await shared.ended(task)

    assert (found["status"], found["error"]) == ("failed", error)
    assert len(found["attempts"]) == 1


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("raise", "ValueError: no such thing: \u202e42"),
        ("raise in a group", "JSONDecodeError: Expecting property name"),
        ("raise an exit", "SystemExit: bye"),
    ],
)
async def test_what_an_executor_throws_is_a_failure_with_its_traceback_in_the_log(
    shared: Server, hand: WorkerProcess, what: str, error: str
) -> None:
    task = await shared.create("odd", {"what": what}, queue="common", options={"max_attempts": 2})

    found = await shared.ended(task)

    assert found["status"] == "failed"
    assert found["error"].startswith(error)
    assert "\n" not in found["error"]
    assert len(found["attempts"]) == 2
    log = await shared.ask("get_task", task_id=task, detail="log")
    assert "Traceback (most recent call last)" in log["text"]
    assert "test_worker.py" in log["text"]
    assert "\u202e" not in hand.log
    assert hand.process.poll() is None


@pytest.mark.usefixtures("hand")
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("nothing", "the executor returned a NoneType and no outcome"),
        ("no json", "the result cannot be written as JSON: Out of range float values are not JSON compliant"),
        ("too large", "the queue refused the result: result_data is"),
        ("fail", "it is broken"),
    ],
)
async def test_an_outcome_that_cannot_be_kept_fails_for_good(shared: Server, what: str, error: str) -> None:
    task = await shared.create("odd", {"what": what}, queue="common")

    found = await shared.ended(task)

    assert found["status"] == "failed"
    assert found["error"].startswith(error)
    assert len(found["attempts"]) == 1


@pytest.mark.usefixtures("hand")
async def test_characters_that_no_text_may_hold_are_replaced(shared: Server) -> None:
    task = await shared.create("odd", {"what": "unwritable"}, queue="common")

    assert (await shared.ended(task))["result_data"] == {"text": "NUL \ufffd, half \ufffd", "set": 1}


@pytest.mark.usefixtures("hand")
async def test_a_used_up_quota_hands_the_task_back_until_it_can_go_on(shared: Server) -> None:
    task = await shared.create("odd", {"what": "quota"}, queue="common")

    found = await shared.until(task, lambda found: found["status"] == "pending")

    assert found["reason"] == "quota"
    wait = datetime.fromisoformat(found["run_at"]).timestamp() - time.time()
    assert 86_400 - 300 < wait < 86_400
    assert "failures" not in found


async def test_a_task_that_outlives_its_timeout_is_ended_whatever_its_executor_does(
    shared: Server, workers: Workers, queue: str
) -> None:
    workers.start(queues=[queue])
    params = {"seconds": [60], "heeds_stop": False}
    task = await shared.create("nap", params, queue=queue, options={"timeout_seconds": 1, "max_attempts": 1})

    found = await shared.ended(task)

    assert found["error"] == "timed out after 1 s; give it longer with timeout_seconds"
    assert found["attempts"][0]["seconds"] < 10


# ---- leases ----


async def test_a_lease_of_two_seconds_lasts_through_a_task_of_five(
    shared: Server, workers: Workers, queue: str
) -> None:
    workers.start(queues=[queue], lease_seconds=2, concurrency=2)
    tasks = [
        await shared.create("nap", {"seconds": [5]}, queue=queue),
        await shared.create("nap", {"seconds": [5], "in_a_thread": True}, queue=queue),
    ]

    for task in tasks:
        found = await shared.ended(task)
        assert [each["outcome"] for each in found["attempts"]] == ["completed"]
        assert found["result_summary"] == "slept in attempt 1"


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_cancel_kills_the_whole_process_tree_within_a_second(
    shared: Server, workers: Workers, queue: str, tmp_path: Path, *, stubborn: bool
) -> None:
    worker = workers.start(queues=[queue])
    took: list[float] = []
    while not took or (min(took) >= 1 and len(took) < 3):  # a busy machine gets three tries
        command = tree(tmp_path / f"pids{len(took)}", stubborn=stubborn)
        task = await shared.create("shell", command, queue=queue)
        pids = await pids_in(tmp_path / f"pids{len(took)}", 3)

        await shared.ask("cancel_task", task_id=task, reason="not needed")

        begun = time.monotonic()
        await gone(pids, SECONDS)
        took.append(time.monotonic() - begun)
        await worker.says(f"{task} attempt 1 was dropped: 'the task is cancelled: not needed'")
        assert (await shared.get(task))["status"] == "cancelled"
    assert min(took) < 1
    after = await shared.create("odd", {"what": "look"}, queue=queue)
    assert (await shared.ended(after))["status"] == "completed"


async def test_a_worker_that_slept_through_its_lease_stops_and_lets_the_other_one_finish(
    shared: Server, workers: Workers, queue: str, tmp_path: Path
) -> None:
    worker = workers.start(queues=[queue], lease_seconds=1)
    task = await shared.create("shell", tree(tmp_path / "pids", stubborn=False), queue=queue)
    pids = await pids_in(tmp_path / "pids", 3)
    await shared.running(task)

    worker.signal(signal.SIGSTOP)
    with anyio.fail_after(SECONDS):
        while (claim := await shared.ask("claim_task", queues=[queue], wait_seconds=5))["task"] is None:
            pass
    assert claim["task"]["attempt"] == 2
    worker.signal(signal.SIGCONT)

    await gone(pids, 10.0)
    await worker.says(f"{task} attempt 1 was dropped")
    await shared.ask("complete_task", lease=claim["lease"], result_summary="by the other one")
    found = await shared.ended(task)
    assert (found["status"], found["result_summary"]) == ("completed", "by the other one")


async def test_the_task_of_a_killed_worker_is_taken_back_and_finished_by_another(
    shared: Server, workers: Workers, queue: str
) -> None:
    first = workers.start(queues=[queue], lease_seconds=2)
    task = await shared.create("nap", {"seconds": [60, 0]}, queue=queue)
    await shared.running(task)

    first.kill()
    workers.start(queues=[queue], lease_seconds=2)

    found = await shared.ended(task)
    assert found["result_summary"] == "slept in attempt 2"
    assert found["attempts"][0]["outcome"] != "completed"


# ---- a server that goes and comes back ----


@pytest.mark.parametrize("downtime", [0.0, 2.5])
async def test_an_attempt_goes_on_while_the_server_is_killed_and_completes_once(
    server: Server, workers: Workers, downtime: float
) -> None:
    worker = workers.start(lease_seconds=30, concurrency=2)
    task = await server.create("nap", {"seconds": [2]})
    await server.running(task)

    server.kill()
    await anyio.sleep(downtime)  # shorter than the task, or longer: then its outcome has to wait
    await anyio.to_thread.run_sync(server.start)

    found = await server.ended(task)
    assert [each["outcome"] for each in found["attempts"]] == ["completed"]
    assert worker.log.count("out of reach") == 1
    assert worker.log.count("the queue is back after") == 1
    assert "Traceback" not in worker.log
    after = await server.create("odd", {"what": "look"})
    assert (await server.ended(after))["status"] == "completed"


async def test_a_server_that_ends_by_itself_is_waited_for(server: Server, workers: Workers) -> None:
    worker = workers.start(concurrency=3)
    await worker.says("connected")
    await anyio.to_thread.run_sync(server.kill, signal.SIGTERM)
    await worker.says("out of reach")
    await anyio.to_thread.run_sync(server.start)

    task = await server.create("odd", {"what": "look"})

    assert (await server.ended(task))["status"] == "completed"
    assert "Traceback" not in worker.log


async def test_a_worker_may_be_there_before_its_server(workers: Workers, server: Server) -> None:
    server.kill()
    worker = workers.start()
    await worker.says("out of reach")

    await anyio.to_thread.run_sync(server.start)

    task = await server.create("odd", {"what": "look"})
    assert (await server.ended(task))["status"] == "completed"


async def test_a_killed_stdio_server_is_started_again_and_the_attempt_goes_on(
    shared: Server, workers: Workers, queue: str
) -> None:
    worker = workers.over_stdio(queues=[queue])
    task = await shared.create("nap", {"seconds": [2]}, queue=queue)
    await shared.running(task)

    for child in worker.children():
        os.kill(child, signal.SIGKILL)

    found = await shared.ended(task)
    assert [each["outcome"] for each in found["attempts"]] == ["completed"]
    assert "the queue is back" in worker.log


# ---- the end of a worker ----


@pytest.mark.parametrize("over", ["http", "stdio"])
async def test_a_stopped_worker_kills_its_children_and_hands_its_task_back_at_no_cost(
    shared: Server, workers: Workers, queue: str, tmp_path: Path, over: str
) -> None:
    start = workers.start if over == "http" else workers.over_stdio
    worker = start(queues=[queue], drain_seconds=0)
    task = await shared.create("shell", tree(tmp_path / "pids", stubborn=True), queue=queue)
    pids = await pids_in(tmp_path / "pids", 3)

    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 0
    assert not any(map(alive, pids))
    found = await shared.get(task)
    assert found["status"] in {"pending", "ready"}
    assert "failures" not in found
    assert [each["outcome"] for each in found["attempts"]] == ["released"]
    assert f"{task} attempt 1 was handed back (release)" in worker.log


@pytest.mark.parametrize("manner", ["fails_when_stopped", "heeds_stop"])
async def test_however_an_executor_takes_the_stop_it_costs_no_failure(
    shared: Server, workers: Workers, queue: str, manner: str
) -> None:
    worker = workers.start(queues=[queue], drain_seconds=0)
    params = {
        "seconds": [60],
        "fails_when_stopped": manner == "fails_when_stopped",
        "heeds_stop": manner != "heeds_stop",
    }
    task = await shared.create("nap", params, queue=queue)
    await shared.running(task)

    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 0
    found = await shared.get(task)
    assert "failures" not in found
    assert [each["outcome"] for each in found["attempts"]] == ["released"]


async def test_a_stopped_worker_lets_its_task_come_to_an_end_first(
    shared: Server, workers: Workers, queue: str
) -> None:
    worker = workers.start(queues=[queue], drain_seconds=20)
    task = await shared.create("nap", {"seconds": [1.5]}, queue=queue)
    waiting = await shared.create("nap", {"seconds": [0]}, queue=queue)
    await shared.running(task)

    worker.signal(signal.SIGINT)

    assert await worker.ended(10.0) == 0
    assert (await shared.get(task))["status"] == "completed"
    assert (await shared.get(waiting))["status"] == "ready"


async def test_an_idle_worker_stops_at_once_and_takes_nothing_along(
    shared: Server, workers: Workers, queue: str
) -> None:
    worker = workers.start(queues=[queue], concurrency=4)
    await worker.says("connected")
    await anyio.sleep(0.3)

    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 0
    task = await shared.create("nap", {"seconds": [0]}, queue=queue)
    assert (await shared.get(task))["attempt"] == 0


async def test_a_second_signal_ends_the_worker_and_its_children_at_once(
    shared: Server, workers: Workers, queue: str, tmp_path: Path
) -> None:
    worker = workers.start(queues=[queue], drain_seconds=60)
    await shared.create("shell", tree(tmp_path / "pids", stubborn=True), queue=queue)
    pids = await pids_in(tmp_path / "pids", 3)

    worker.signal(signal.SIGTERM)
    await worker.says("stopping; 1 running")
    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 1
    await gone(pids, 1.0)


async def test_an_executor_that_never_ends_does_not_keep_the_worker(
    shared: Server, workers: Workers, queue: str
) -> None:
    worker = workers.start(queues=[queue], drain_seconds=0)
    task = await shared.create("nap", {"seconds": [600], "in_a_thread": True}, queue=queue)
    await shared.running(task)

    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 0
    assert "is left behind" in worker.log
    found = await shared.get(task)
    assert [each["outcome"] for each in found["attempts"]] == ["released"]


async def test_a_worker_that_cannot_hand_back_ends_all_the_same_and_says_so(server: Server, workers: Workers) -> None:
    worker = workers.start(drain_seconds=0)
    task = await server.create("nap", {"seconds": [60]})
    await server.running(task)
    server.kill()

    worker.signal(signal.SIGTERM)

    assert await worker.ended(10.0) == 1
    assert "1 attempts could not be handed back" in worker.log


# ---- claiming ----


async def test_slots_work_side_by_side(shared: Server, workers: Workers, queue: str, tmp_path: Path) -> None:
    workers.start(queues=[queue], concurrency=4)
    (tmp_path / "barrier").mkdir()
    params = {"seconds": [4], "barrier": str(tmp_path / "barrier")}
    tasks = [await shared.create("nap", params, queue=queue) for _ in range(4)]

    for task in tasks:
        assert (await shared.ended(task))["status"] == "completed"


async def test_with_once_a_worker_does_what_is_ready_and_ends(shared: Server, workers: Workers, queue: str) -> None:
    tasks = [await shared.create("odd", {"what": "look"}, queue=queue) for _ in range(7)]
    failing = await shared.create("odd", {"what": "fail"}, queue=queue)

    worker = workers.start(queues=[queue], concurrency=3, once=True)

    assert await worker.ended() == 0
    assert {(await shared.get(task))["status"] for task in tasks} == {"completed"}
    assert (await shared.get(failing))["status"] == "failed"


async def test_slots_that_claim_at_once_never_meet_at_one_task(shared: Server, workers: Workers, queue: str) -> None:
    options = json.dumps({"executor": "odd"})
    params = {"what": "look"}
    async with over_http(shared.url, TOKEN)() as client, anyio.create_task_group() as group:
        for number in range(40):
            given = {"title": f"number {number}", "queue": queue, "options": options, "params": params}
            group.start_soon(client.call_tool, "create_task", given)

    worker = workers.start(queues=[queue], concurrency=16, once=True)

    assert await worker.ended() == 0
    assert worker.log.count("claimed:") == 40
    assert worker.log.count("completed in") == 40


async def test_a_parked_worker_spends_nothing_and_is_there_at_once(
    shared: Server, workers: Workers, queue: str
) -> None:
    worker = workers.start(queues=[queue], concurrency=8)
    await worker.says("connected")
    await anyio.sleep(1)
    before = cpu_seconds(worker.process.pid)
    await anyio.sleep(2)
    assert cpu_seconds(worker.process.pid) - before < 0.2

    begun = time.monotonic()
    task = await shared.create("odd", {"what": "look"}, queue=queue)
    await shared.ended(task)

    assert time.monotonic() - begun < 5  # a look a second would do, a wait for the end of the poll would not


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def test_short_polls_do_not_become_a_spin(workers: Workers, queue: str) -> None:
    worker = workers.start(queues=[queue], concurrency=2, wait_seconds=0)
    await worker.says("connected")
    await anyio.sleep(1)
    before = cpu_seconds(worker.process.pid)
    await anyio.sleep(2)

    assert cpu_seconds(worker.process.pid) - before < 0.4


async def test_a_wrong_token_ends_the_worker_with_a_line(workers: Workers) -> None:
    worker = workers.start(token="wrong-token-0123456789")  # noqa: S106 - it is wrong

    assert await worker.ended() == 1
    assert "does not take this worker: 'HTTP 401: send a valid token" in worker.log
    assert "Traceback" not in worker.log


async def test_a_token_without_the_scope_ends_the_worker_with_a_line(workers: Workers, shared: Server) -> None:
    command = [sys.executable, "-m", "taskqueue_mcp", "tokens", "create", "--name", "asker", "--scope", "enqueue"]
    made = await anyio.run_process([*command, "--database", shared.database], env=ENVIRONMENT)
    worker = workers.start(token=made.stdout.decode().strip())

    assert await worker.ended() == 1
    assert "does not take this worker: 'asker lacks the scope work" in worker.log


async def test_a_database_that_cannot_be_used_ends_the_worker_with_a_line(workers: Workers) -> None:
    command = [sys.executable, "-m", "taskqueue_mcp", "stdio", "--database", "sqlite:////proc/no/queue.db"]
    worker = workers.start(stdio=command)

    assert await worker.ended() == 1
    assert worker.log.count("cannot create the database") == 1
    assert "does not take this worker: 'our own server ended before it answered" in worker.log
    assert "Traceback" not in worker.log


async def test_a_worker_without_executors_is_refused(tmp_path: Path) -> None:
    options = Options(name="idle", outputs=OutputFolder(tmp_path))

    with pytest.raises(SettingsRefused, match="at least one executor"):
        Worker(over_http("http://127.0.0.1:1", TOKEN), Registry([]), options)


# ---- calls that are repeated ----


async def test_a_call_is_repeated_until_it_is_answered(server: Server) -> None:
    connection = Connection(over_http(server.url, TOKEN))
    async with anyio.create_task_group() as group:
        group.start_soon(connection.run)
        assert "task" in await connection.call("create_task", {"title": "before"})
        server.kill()
        group.start_soon(anyio.to_thread.run_sync, server.start)
        with anyio.fail_after(SECONDS):
            answer = await connection.call("create_task", {"title": "during", "idempotency_key": "k"})
            again = await connection.call("create_task", {"title": "during", "idempotency_key": "k"})
        assert again["task"]["id"] == answer["task"]["id"]
        group.cancel_scope.cancel()


class CuttingWire:
    """A way to the server that swallows the first answers of each tool, and the connection with them."""

    def __init__(self, to: int, **swallow: int) -> None:
        self._to = to
        self.swallow = swallow

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[int]:
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, self._carry)
            yield listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django here
            group.cancel_scope.cancel()

    async def _carry(self, near: anyio.abc.SocketStream) -> None:
        asked = bytearray()
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with near, await anyio.connect_tcp("127.0.0.1", self._to) as far, anyio.create_task_group() as group:

                async def there() -> None:
                    async for data in near:
                        asked.extend(data)
                        await far.send(data)
                    await far.send_eof()

                group.start_soon(there)
                await self._back(asked, far, near)
                group.cancel_scope.cancel()

    async def _back(self, asked: bytearray, far: anyio.abc.SocketStream, near: anyio.abc.SocketStream) -> None:
        answer = bytearray()
        async for data in far:
            named = list(re.finditer(rb"^mcp-name: (\w+)", asked, re.IGNORECASE | re.MULTILINE))
            tool = named[-1][1].decode() if named else ""
            if tool and b'"log":' in asked[named[-1].start() :]:
                tool += "_with_log"
            answer += data
            if self.swallow.get(tool, 0) == 0:
                await near.send(bytes(answer))
                answer.clear()
            elif b'"content"' in answer:
                self.swallow[tool] -= 1
                return


@pytest.mark.parametrize(("what", "settled_by"), [("chat", "complete_task"), ("fail", "fail_task")])
async def test_lost_answers_cost_neither_a_task_nor_an_attempt_nor_a_line(
    shared: Server, workers: Workers, queue: str, what: str, settled_by: str
) -> None:
    wire = CuttingWire(shared.port, claim_task=2, update_task=1, update_task_with_log=2, **{settled_by: 2})
    async with wire.laid() as port:
        worker = workers.start(url=f"http://127.0.0.1:{port}", queues=[queue], concurrency=2, lease_seconds=60)
        task = await shared.create("odd", {"what": what}, queue=queue)
        found = await shared.ended(task)
        await worker.says(f"{task} attempt 1 {found['status']}")

    assert found["status"] == {"chat": "completed", "fail": "failed"}[what]
    assert [each["attempt"] for each in found["attempts"]] == [1]
    assert [name for name, left in wire.swallow.items() if left] == ([] if what == "chat" else ["update_task_with_log"])
    log = await whole_log(shared, task)
    assert len(re.findall(r"^\d+:", log, re.MULTILINE)) == (100 if what == "chat" else 0)


async def test_a_url_without_a_path_means_the_servers_mcp_path(shared: Server) -> None:
    for url in (f"http://127.0.0.1:{shared.port}", f"http://127.0.0.1:{shared.port}/"):
        async with over_http(url, TOKEN)() as client:
            assert not (await client.call_tool("list_ready", {})).is_error


if __name__ == "__main__":
    sys.exit(work(json.loads(sys.argv[1])))
