"""Workers, the server and the commands under them are killed at random during mixed work: everything ends, once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp import sample
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.sample.scripted_model import Call, Say, ScriptedModel
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import NewTask, Rules, TaskQueue, Wanted
from tests.reliability.invariants import broken
from tests.reliability.processes import PATIENCE
from tests.reliability.racers import EVERYONE
from tests.test_worker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-the-killed-0123456789"  # noqa: S105 - of a server that lives as long as a test
LEASE_SECONDS = 4
WORKERS = 2
NOTE = "# A note\n\nOf one line.\n"
CALCULATE = "import json, sys\nprint(json.dumps({'doubled': 2 * json.load(sys.stdin)['number']}))\n"
AWAY = (
    "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        os.execve('/bin/sleep', [sys.argv[1], '97'], {})\n    os._exit(0)\nos.wait()\ntime.sleep(0.2)"
)
"""Leaves a process behind that has a session of its own, no environment, and the name that it is given."""


class Killed:
    """A server and workers, each killed and started again at random; and what they run, Claude Code among it."""

    def __init__(self, folder: Path, chance: random.Random, model: ScriptedModel) -> None:
        self._folder = folder
        self._model = model
        self._chance = chance
        self._port = free_port()
        self._log = (folder / "log").open("ab")
        self.name = f"left-by-{os.getpid()}-{chance.getrandbits(32):08x}"
        self._alive: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def database(self) -> str:
        return f"sqlite:///{self._folder / 'queue.db'}"

    def start(self) -> None:
        for who in ("server", *(f"worker-{number}" for number in range(WORKERS))):
            self._begin(who)

    async def strike(self) -> str:
        """Kill somebody, and start them again if it was one of us; return who it was."""
        if self._chance.random() < 0.5:  # right after a kill there are no commands: everybody starts
            with anyio.move_on_after(3):
                while not (commands := self.commands()):
                    await anyio.sleep(0.01)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._chance.choice(commands), signal.SIGKILL)
                return "commands"
        who = self._chance.choice(sorted(self._alive))
        self._alive[who].kill()
        self._alive[who].wait(PATIENCE)
        self._begin(who)
        return "servers" if who == "server" else "workers"

    def commands(self) -> list[int]:
        """The children of our workers."""
        found = []
        for who, process in self._alive.items():
            if who == "server":
                continue
            for tasks in Path(f"/proc/{process.pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(word) for word in tasks.read_text().split()]
        return found

    def run_once(self) -> None:
        """Have one more worker start and end, which sees to what the dead ones left."""
        subprocess.run([*self._worker("the-last"), "--once"], check=True, timeout=PATIENCE, **self._given())

    def stop(self) -> None:
        for who in sorted(self._alive, reverse=True):  # the server last
            self._alive[who].terminate()
            self._alive[who].wait(PATIENCE)
        self._log.close()

    def _begin(self, who: str) -> None:
        serve = [sys.executable, "-m", "taskqueue_mcp", "serve", "--port", str(self._port), "--database", self.database]
        command = serve if who == "server" else self._worker(who)
        self._alive[who] = subprocess.Popen(command, start_new_session=True, **self._given())

    def _worker(self, name: str) -> list[str]:
        command = [sys.executable, "-m", "taskqueue_mcp", "worker", "--server", f"http://127.0.0.1:{self._port}"]
        command += ["--name", name, "--concurrency", "4", "--executor", "shell", "--executor", "report=2"]
        command += ["--executor", "calculation", "--executor", "claude=1"]
        command += ["--source", f"shop={self._folder / 'shop.db'}"]
        command += ["--allow", "sh", "--allow", sys.executable, "--drain-seconds", "1"]
        return [*command, "--output", str(self._folder / "output")]

    def _given(self) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
        ours = {
            "PYTHONPATH": str(ROOT / "src"),
            "TASKQUEUE_TOKEN": TOKEN,
            "TASKQUEUE_SOPS": str(ROOT / "sops"),
            "TASKQUEUE_LEASE_SECONDS": str(LEASE_SECONDS),
            "TASKQUEUE_RETRY_SECONDS": "0.1",
            "TASKQUEUE_WORKER__CALCULATIONS": str(self._folder / "calculations"),
            "TASKQUEUE_WORKER__CLAUDE__BASE_URL": self._model.url,
            "TASKQUEUE_WORKER__CLAUDE__HOME": str(self._folder / "claude"),
            "ANTHROPIC_API_KEY": "sk-test-local",
        }
        return {"env": kept | ours, "stderr": self._log, "stdout": self._log, "cwd": self._folder}


def wanted(number: int, name: str) -> Wanted:
    """A task of one of the kinds, in turn."""
    options: dict[str, Any] = {"max_attempts": 100}
    if number % 10 == 9:
        options |= {"output": {"path": "notes", "filename_pattern": "note_{task_id}.md"}, "budget_usd": 0.5}
        return Wanted(title="a note by Claude", task_type="writing", instructions="A line.", options=options)
    match number % 4:
        case 0:
            params: Any = {"argv": ["sh", "-c", "sleep 0.1; echo $TASKQUEUE_ATTEMPT"]}
            return Wanted(title="a command", task_type="shell", params=params, options=options)
        case 1:
            params = {"argv": [sys.executable, "-I", "-S", "-c", AWAY, name]}
            return Wanted(title="one that leaves a process", task_type="shell", params=params, options=options)
        case 2:
            params = {"script": "double.py", "params": {"number": number}}
            options["executor"] = "calculation"
            return Wanted(title="a calculation", params=params, options=options)
        case _:
            sop = "inventory/low_stock_calculation.md"
            params = {"threshold": 20, "source": "shop"}
            return Wanted(task_type="report_generation", sop=sop, title="a report", params=params, options=options)


def left(name: str) -> list[int]:
    """Processes that go by this name."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().startswith(name.encode() + b"\0"):
                found.append(int(entry.name))
    return found


def working_for(home: str) -> list[int]:
    """Processes whose environment says that they are sessions of this home."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"={home}/".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.fixture
def killed(tmp_path: Path, seed: int) -> Iterator[Killed]:
    sample.build(tmp_path / "shop.db")
    (tmp_path / "calculations").mkdir()
    (tmp_path / "calculations" / "double.py").write_text(CALCULATE, encoding="utf-8")
    write = Call("Write", lambda heard: {"file_path": heard.file_asked_for, "content": NOTE})
    with ScriptedModel(write, Say("The note is written.")) as model:
        killed = Killed(tmp_path, random.Random(seed), model)  # noqa: S311 - repeatable chance is the point
        yield killed
        killed.stop()
    for pid in (*left(killed.name), *working_for(str(tmp_path / "claude"))):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.engines("sqlite")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has marks")
async def test_whoever_is_killed_during_mixed_work_everything_ends_once_and_nothing_is_left(
    killed: Killed, tmp_path: Path, seed: int, size: Size, tell: Tell
) -> None:
    count, strikes = size(100, 2_000), size(10, 600)
    chance = random.Random(seed + 1)  # noqa: S311 - the same
    database = open_database(killed.database)
    queue = TaskQueue(database, Rules(procedures=ProcedureFolder(ROOT / "sops")))
    try:
        for number in range(count):
            await queue.create(EVERYONE, NewTask(wanted(number, killed.name)))
        killed.start()
        for _ in range(strikes):
            await anyio.sleep(chance.uniform(0.2, 0.8))
            tell(**{f"killed_{await killed.strike()}": 1})
        with anyio.fail_after(size(60, 900)):
            while await database.read(lambda found: found.all("SELECT 1 FROM tasks WHERE finished_at IS NULL")):
                await anyio.sleep(0.1)
        killed.run_once()

        ends = await database.read(lambda found: found.all(ENDS))
        files = await database.read(lambda found: found.all(FILES))
        wrong = await database.read(lambda found: broken(found, LEASE_SECONDS))
    finally:
        await database.close()
    assert wrong == []
    assert [row for row in ends if row[1:] != ("completed", 1)] == []
    assert len(ends) == count
    assert left(killed.name) == []
    assert working_for(str(tmp_path / "claude")) == []
    tell(tasks=count, files=check_files(tmp_path / "output", files))


ENDS = """
SELECT id, status, (SELECT count(*) FROM events WHERE subject = 'task' AND subject_id = tasks.id AND kind = 'completed')
  FROM tasks
"""
FILES = """
SELECT artifacts.path, artifacts.size, artifacts.sha256 FROM artifacts
  JOIN attempts ON attempts.task_id = artifacts.task_id AND attempts.attempt = artifacts.attempt
 WHERE attempts.outcome = 'completed'
"""


def check_files(output: Path, named: list[Any]) -> int:
    """See that every file that was named is as it was, and that every file that can be seen is whole."""
    for path, length, sha256 in named:
        content = (output / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (length, sha256), path
    seen = [path for path in output.rglob("*.xlsx") if not path.name.startswith(".")]
    for path in seen:
        with zipfile.ZipFile(path) as book:
            assert book.testzip() is None
    notes = [path for path in output.glob("notes/*.md") if not path.name.startswith(".")]
    assert notes
    assert {path.read_text(encoding="utf-8") for path in notes} == {NOTE}
    assert len(seen) + len(notes) + len(list(output.glob("claude/*/*.jsonl"))) >= len(named) > 0
    return len(seen) + len(notes)
