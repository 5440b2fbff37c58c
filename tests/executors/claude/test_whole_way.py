"""From the queue to the result: a real server, its worker, the real Claude Code, a model that follows a script."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.sample.scripted_model import Call, Fault, Hang, Say, ScriptedModel
from tests.executors.claude.conftest import living
from tests.executors.waiting import eventually
from tests.serving import call, over_http, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp import Client

SECONDS = 90.0


def worker(tmp_path: Path, model: ScriptedModel, **more: str) -> dict[str, str]:
    """The environment of a server whose worker has Claude."""
    return {
        "ANTHROPIC_API_KEY": "sk-test-local",
        "TASKQUEUE_WORKER__EXECUTORS": "claude",
        "TASKQUEUE_WORKER__OUTPUT": str(tmp_path / "drive"),
        "TASKQUEUE_WORKER__CLAUDE__HOME": str(tmp_path / "home"),
        "TASKQUEUE_WORKER__CLAUDE__BASE_URL": model.url,
        "TASKQUEUE_WORKER__CLAUDE__RETRIES": "0",
        "TASKQUEUE_WORKER__CLAUDE__FOLDERS": json.dumps({"shop": str(tmp_path / "shop")}),
        **more,
    }


async def until(client: Client, task: str, *statuses: str) -> dict[str, Any]:
    with anyio.fail_after(SECONDS):
        while True:
            found: dict[str, Any] = (await call(client, "get_task", task_id=task, wait_seconds=20))["task"]
            if found["status"] in statuses:
                return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "prices.txt").write_text("tea 3.00\n")
    return folder


async def test_claude_edits_a_file_and_writes_a_report_with_its_own_tools(tmp_path: Path, shop: Path) -> None:
    prices = str(shop / "prices.txt")
    script = (
        Call("Read", {"file_path": prices}, say="First I look at the prices."),
        Call("Edit", {"file_path": prices, "old_string": "3.00", "new_string": "3.20"}),
        Call("Write", lambda heard: {"file_path": heard.file_asked_for, "content": "# Prices\n\nTea is 3.20 now.\n"}),
        Say("Tea costs 3.20 now; the report says so."),
    )
    with (
        ScriptedModel(*script) as model,
        serving(tmp_path, f"sqlite:///{tmp_path / 'queue.db'}", "--with-worker", **worker(tmp_path, model)) as served,
    ):
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            created = await call(
                client, "create_task", title="Raise the price of tea", instructions="To 3.20. Then report.",
                params={"cwd": "shop"}, options={"output": {"path": "reports", "filename_pattern": "Prices_{date}.md"}},
            )  # fmt: skip
            task = await until(client, created["task"]["id"], "completed", "failed")
            log = (await call(client, "get_task", task_id=task["id"], detail="log"))["text"]

    assert model.faults == []
    assert task["status"] == "completed", task
    assert task["result_summary"] == "Tea costs 3.20 now; the report says so."
    assert (shop / "prices.txt").read_text() == "tea 3.20\n"
    report = tmp_path / "drive" / task["result_path"]
    assert report.read_text() == "# Prices\n\nTea is 3.20 now.\n"
    kept = {each["path"]: each["sha256"] for each in task["artifacts"]}
    assert kept[task["result_path"]] == digest(report)
    (transcript,) = (tmp_path / "drive").glob("claude/*/transcript-1.jsonl")
    assert kept[transcript.relative_to(tmp_path / "drive").as_posix()] == digest(transcript)
    usage = task["attempts"][0]["usage"]
    assert (usage["turns"], usage["account"], usage["tokens"]) == (4, "default", 600)
    assert usage["cost_usd"] > 0
    assert "First I look at the prices.\n[Read] " in log
    assert "[Edit] → " in log
    assert str(shop) in model.requests[0]["body"]["messages"][1]["content"][0]["text"]


@pytest.mark.usefixtures("shop")
async def test_a_used_up_limit_hands_the_task_back_and_the_same_session_goes_on(tmp_path: Path) -> None:
    script = (
        Call("Write", lambda heard: {"file_path": heard.file_asked_for, "content": "half\n"}),
        Fault(429, "rate_limit_error", "This request would exceed your account's rate limit"),
        Say("Here is the rest."),
    )
    with (
        ScriptedModel(*script) as model,
        serving(tmp_path, f"sqlite:///{tmp_path / 'queue.db'}", "--with-worker", **worker(tmp_path, model)) as served,
    ):
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            created = await call(
                client, "create_task", title="Write", params={"cwd": "shop"}, options={"output": {"format": "txt"}}
            )
            waits = await until(client, created["task"]["id"], "pending", "completed", "failed")
            await call(client, "answer_task", task_id=waits["id"], action="run_now")
            task = await until(client, waits["id"], "completed", "failed")

    assert (waits["status"], waits["reason"]) == ("pending", "quota")
    assert task["status"] == "completed", task
    assert "failures" not in task
    assert (tmp_path / "drive" / task["result_path"]).read_text() == "half\n"
    first, second = (each["usage"] for each in task["attempts"])
    assert first["session_id"] == second["session_id"]
    assert first["cost_usd"] == pytest.approx(second["cost_usd"])


@contextlib.contextmanager
def working(tmp_path: Path, environment: dict[str, str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own."""
    command = [sys.executable, "-m", "taskqueue_mcp", "worker", "--server", url]
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=tmp_path, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.usefixtures("shop")
async def test_a_killed_workers_session_is_ended_by_the_next_worker_and_its_task_done_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        ScriptedModel(Hang(), Say("Done by the second.")) as model,
        serving(tmp_path, f"sqlite:///{tmp_path / 'queue.db'}", TASKQUEUE_LEASE_SECONDS="4") as served,
    ):
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        environment = {**worker(tmp_path, model), "TASKQUEUE_TOKEN": token, "TASKQUEUE_LEASE_SECONDS": "4"}
        async with over_http(served.url, token) as client:
            created = await call(client, "create_task", title="Work")
            with working(tmp_path, environment, served.url) as first:
                await eventually(model.hanging.is_set, SECONDS)
                orphans = set(living(home))
                first.kill()
                first.wait()
                assert orphans
                assert set(living(home)) == orphans
            with working(tmp_path, environment, served.url):
                await eventually(lambda: not orphans & set(living(home)), SECONDS)
                task = await until(client, created["task"]["id"], "completed", "failed")

    assert task["status"] == "completed", task
    assert task["result_summary"] == "Done by the second."
    assert living(home) == {}
