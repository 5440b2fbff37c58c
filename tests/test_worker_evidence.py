"""A worker looks at what its executor made, in its own folder and with its own checks, before it says "done"."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60
CONFIG = """
[worker]
executors = ["shell"]
shell_allow = ["sh", "true", "false"]
shell_folder = {folder}

[worker.checks]
holds = ["test", "-s", "kept.txt"]
fails = ["sh", "-c", "echo the tests are red >&2; exit 3"]
"""


class Shop:
    """A queue, and a worker over stdio that shares its machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self._config = folder / "config.toml"
        self._config.write_text(CONFIG.format(folder=json.dumps(str(self.work))))

    async def made(self, *argv: str, outputs: Any, **options: Any) -> dict[str, Any]:
        """Have the worker do a task, and return what became of it."""
        params = {"argv": list(argv), "cwd": "."}
        created = await self._run(
            "tasks", "create", "Try", "--type", "shell", "--params", json.dumps(params),
            "--options", json.dumps({"outputs": outputs, **options}), "--format", "json",
        )  # fmt: skip
        task_id = json.loads(created)["task"]["id"]
        await self._run("worker", "--once", "--output", str(self.folder / "made"))
        shown: dict[str, Any] = json.loads(await self._run("tasks", "show", task_id, "--format", "json"))
        return dict(shown.get("task", shown))

    async def _run(self, *words: str) -> str:
        ran = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "taskqueue_mcp", *words],
            env={
                **os.environ, "TASKQUEUE_CONFIG": str(self._config),
                "TASKQUEUE_DATABASE": f"sqlite:///{self.folder / 'queue.db'}",
            },
            cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def test_what_changed_in_the_folder_of_the_work_is_seen_there(shop: Shop) -> None:
    (shop.work / "kept.txt").write_text("old\n")
    task = await shop.made("sh", "-c", "echo new >> kept.txt", outputs=[{"changed": "kept.txt", "check": "holds"}])
    assert (task["status"], task["verdict"]) == ("completed", "verified")
    told = task["attempts"][0]["verdict"]
    assert (told["checked_by"], told["by_worker_alone"]) == (["worker"], ["outputs[0].changed", "outputs[0].check"])


async def test_a_command_that_changed_nothing_has_not_done_it(shop: Shop) -> None:
    (shop.work / "kept.txt").write_text("old\n")
    task = await shop.made("true", outputs=[{"changed": "kept.txt"}])
    assert (task["status"], task["verdict"]) == ("failed", "rejected")
    assert task["attempts"][0]["verdict"]["reasons"] == ["kept.txt is what it was before; it was expected to change"]
    assert [each["outcome"] for each in task["attempts"]] == ["failed", "failed"]


async def test_a_repair_attempt_can_put_it_right(shop: Shop) -> None:
    mend = 'case "$TASKQUEUE_ATTEMPT" in *:2) echo mended > kept.txt;; esac'
    task = await shop.made("sh", "-c", mend, outputs=[{"check": "holds"}])
    assert (task["status"], task["verdict"]) == ("completed", "verified")
    assert [each["verdict"]["status"] for each in task["attempts"]] == ["rejected", "verified"]


async def test_a_check_that_fails_says_what_it_said(shop: Shop) -> None:
    task = await shop.made("true", outputs=[{"check": "fails"}])
    assert task["error"] == "the result was rejected: the check 'fails' ended with code 3: the tests are red"


async def test_where_there_was_nothing_to_do_nothing_is_missed(shop: Shop) -> None:
    task = await shop.made("true", outputs=[{"path": "never.csv"}], only_if={"command": ["false"]})
    assert (task["status"], task["verdict"]) == ("completed", "unverified")
