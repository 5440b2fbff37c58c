"""Each example is run as its reader would run it: real SDKs, a real server; only the model follows a script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.scripted_model import Call, Say, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LONGEST_EXAMPLE = 60
pytestmark = pytest.mark.timeout(180)


def needs(distribution: str) -> None:
    """Skip where an SDK is missing; where all of it has to be tested, fail."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        why = f"{distribution} is not installed; `make test-examples` installs it"
        if os.environ.get("TASKQUEUE_CI"):
            pytest.fail(why)
        pytest.skip(why)


@dataclass(frozen=True)
class Queue:
    """A running server and its database."""

    url: str
    database: str

    def token(self, name: str, scope: str) -> str:
        command = ("tokens", "create", "--name", name, "--scope", scope, "--database", self.database)
        return subprocess.run(
            [sys.executable, "-m", "taskqueue_mcp", *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    async def call(self, token: str, tool: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=90) as http,
            Client(streamable_http_client(f"{self.url}/mcp", http_client=http)) as client,
        ):
            result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        told: dict[str, Any] = result.structured_content or {}
        return told


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A server process on a fresh database."""
    database = f"sqlite:///{tmp_path / 'state' / 'queue.db'}"
    command = [sys.executable, "-m", "taskqueue_mcp", "serve", "--port", "0", "--database", database]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stderr is not None
        found = re.search(r"serves (http://\S+)/mcp", server.stderr.readline())
        assert found
        yield Queue(found[1], database)
        server.terminate()


@contextmanager
def example(name: str, *arguments: str | Path, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """An example, running; nothing of this machine's own accounts reaches it."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=cwd,
        env={**os.environ, "HOME": str(cwd), "NO_PROXY": "127.0.0.1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


async def said_by(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for an example; return its exit code, stdout and stderr."""
    out, err = await anyio.to_thread.run_sync(lambda: running.communicate(timeout=120))
    return running.returncode, out, err


async def test_gemini_turns_a_sentence_into_a_task_and_says_what_came_of_it(queue: Queue, tmp_path: Path) -> None:
    needs("google-genai")
    worker = queue.token("worker", "work")
    script = ScriptedModel(
        Call(
            "create_task",
            {
                "title": "Low stock report",
                "sop": "inventory/low_stock_calculation.md",
                "params": '{"threshold": 5}',
                "idempotency_key": "low-stock-today",
            },
        ),
        Call("get_task", lambda heard: {"task_id": heard[0]["task"]["id"], "wait_seconds": 50}),
        Say(lambda heard: f"Done: {heard[1]['task']['result_summary']} It is in {heard[1]['task']['result_path']}."),
    )
    with (
        script as model,
        example(
            "gemini_enqueues.py",
            "What is running out?",
            cwd=tmp_path,
            TASKQUEUE_SERVER=queue.url,
            TASKQUEUE_TOKEN=queue.token("gemini", "enqueue"),
            GEMINI_API_KEY="not-a-key",
            GOOGLE_GEMINI_BASE_URL=model.url,
        ) as gemini,
    ):
        claim = await queue.call(worker, "claim_task", worker="stockroom", wait_seconds=50)
        assert claim["task"], (await said_by(gemini), script.faults)
        await queue.call(
            worker,
            "complete_task",
            lease=claim["lease"],
            result_summary="3 products are low.",
            result_path="Reports/low.xlsx",
        )
        code, out, err = await said_by(gemini)
    assert (code, out, script.faults) == (0, "Done: 3 products are low. It is in Reports/low.xlsx.\n", []), err
    assert script.came_to_its_end
    assert set(script.tools) == {
        "create_task", "schedule_task", "list_tasks", "cancel_task", "manage_schedule", "get_task"
    }  # fmt: skip
    assert claim["task"]["created_by"] == "gemini"
    assert claim["task"]["params"]["threshold"] == 5


async def test_claude_claims_a_task_does_it_with_files_and_completes_it(queue: Queue, tmp_path: Path) -> None:
    needs("claude-agent-sdk")
    asking = queue.token("front-end", "enqueue")
    made = await queue.call(asking, "create_task", title="Write a haiku about stock", instructions="Into haiku.txt")
    script = ScriptedModel(
        Call("claim_task", {"worker": "claude", "task_types": ["executor:claude"], "wait_seconds": 20}),
        Call("Write", {"file_path": str(tmp_path / "work" / "haiku.txt"), "content": "Empty shelves at dawn\n"}),
        Call(
            "complete_task",
            lambda heard: {
                "lease": heard[0]["lease"],
                "result_summary": "The haiku is written.",
                "result_path": "haiku.txt",
            },
        ),
        Call("claim_task", {"worker": "claude", "task_types": ["executor:claude"]}),
        Say("One task is done and nothing is left."),
    )
    with (
        script as model,
        example(
            "claude_worker.py",
            tmp_path / "work",
            cwd=tmp_path,
            TASKQUEUE_SERVER=queue.url,
            TASKQUEUE_TOKEN=queue.token("claude", "work"),
            ANTHROPIC_API_KEY="not-a-key",
            ANTHROPIC_BASE_URL=model.url,
            CLAUDE_CONFIG_DIR=str(tmp_path / "claude"),
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
            DISABLE_TELEMETRY="1",
            DISABLE_ERROR_REPORTING="1",
        ) as claude,
    ):
        code, out, err = await said_by(claude)
    assert (code, script.faults) == (0, []), err + out
    assert script.came_to_its_end
    assert out.splitlines()[:5] == [
        "claim_task",
        "Write",
        "complete_task",
        "claim_task",
        "One task is done and nothing is left.",
    ]
    assert (tmp_path / "work" / "haiku.txt").read_text() == "Empty shelves at dawn\n"
    assert not any("Bash" in tool for tool in script.tools)
    task = (await queue.call(asking, "get_task", task_id=made["task"]["id"]))["task"]
    assert (task["status"], task["result_summary"]) == ("completed", "The haiku is written.")
    assert task["attempts"][0]["by"] == "claude"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_enough_to_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST_EXAMPLE
