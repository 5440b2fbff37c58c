"""Usage limits and budgets, from the queue to the real Claude Code and back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.sample.scripted_model import Call, Fault, Say, ScriptedModel
from tests.executors.claude.test_whole_way import until, worker
from tests.serving import call, over_http, serving

if TYPE_CHECKING:
    from pathlib import Path

WORK: dict[str, Any] = {"params": {"cwd": "shop"}, "options": {"output": {"format": "txt"}}}


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()


def command(database: str, *words: str) -> Any:
    """What a command of the owner answers beside the running server."""
    line = [sys.executable, "-m", "taskqueue_mcp", *words, "--database", database, "--format", "json"]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True, timeout=30).stdout)


async def test_while_an_account_is_used_up_its_other_tasks_wait_untouched(tmp_path: Path) -> None:
    script = (
        Fault(429, "rate_limit_error", "This request would exceed your account's rate limit"),
        Say("Here it is."),
    )
    database = f"sqlite:///{tmp_path / 'queue.db'}"
    with (
        ScriptedModel(*script) as model,
        serving(tmp_path, database, "--with-worker", **worker(tmp_path, model)) as served,
    ):
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            first = (await call(client, "create_task", title="One"))["task"]["id"]
            waits = await until(client, first, "pending", "completed", "failed")
            other = (await call(client, "create_task", title="Another"))["task"]["id"]
            looked = (await call(client, "get_task", task_id=other, wait_seconds=3))["task"]
            (gate,) = command(database, "gates", "list")["gates"]
            command(database, "gates", "open", "default")
            done = await until(client, other, "completed", "failed")
            await call(client, "answer_task", task_id=first, action="run_now")
            ended = await until(client, first, "completed", "failed")

    assert (waits["status"], waits["reason"]) == ("pending", "quota")
    assert (looked["status"], looked["attempt"]) == ("ready", 0)
    assert (gate["account"], gate["executor"], gate["state"]) == ("default", "claude", "closed")
    assert (done["status"], done["attempt"], ended["status"], ended["attempt"]) == ("completed", 1, "completed", 2)
    assert len([each for each in model.requests if each["body"].get("tools")]) == 3


async def test_at_its_budget_a_task_asks_and_with_more_the_same_session_goes_on(tmp_path: Path) -> None:
    script = (
        Call("Write", lambda heard: {"file_path": heard.file_asked_for, "content": "half\n"}),
        Call("Glob", {"pattern": "*"}),
        Call("Glob", {"pattern": "*"}),
        Call("Glob", {"pattern": "*"}),
        Say("Here is the rest."),
    )
    database = f"sqlite:///{tmp_path / 'queue.db'}"
    with (
        ScriptedModel(*script, tokens=(100_000, 1_000)) as model,
        serving(tmp_path, database, "--with-worker", **worker(tmp_path, model)) as served,
    ):
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            wanted = {**WORK, "options": {**WORK["options"], "budget_usd": 1.0}}
            created = (await call(client, "create_task", title="Write", **wanted))["task"]["id"]
            asked = await until(client, created, "waiting", "completed", "failed")
            await call(client, "answer_task", task_id=created, action="answer", answer="continue with +5")
            done = await until(client, created, "waiting", "completed", "failed")
            (today,) = command(database, "budgets", "list")["budgets"]

    assert (asked["status"], asked["reason"]) == ("waiting", "budget"), asked
    spent = asked["budget"]["usd"]["spent"]
    assert spent >= 1
    assert asked["budget"]["usd"] == {"ceiling": 1.0, "spent": spent, "reserved": 0.0}
    assert any(each["path"].endswith(".partial.txt") for each in asked["artifacts"])
    assert done["status"] == "completed", done
    first, second = (each["usage"] for each in done["attempts"])
    assert first["session_id"] == second["session_id"]
    assert done["budget"]["usd"]["ceiling"] == 6.0
    assert done["budget"]["usd"]["spent"] == pytest.approx(first["cost_usd"] + second["cost_usd"])
    assert today["spent"] == pytest.approx(done["budget"]["usd"]["spent"])
    assert today["reserved"] == 0
