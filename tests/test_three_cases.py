"""The three cases that Gemini and Claude have to get right together: a report now, one each morning, and a mistake."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import anyio
import openpyxl
import pytest

from taskqueue_mcp import sample
from tests.serving import PATIENCE, call, over_http, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp import Client

REPORT = {
    "title": "Low stock report",
    "task_type": "report_generation",
    "sop": "inventory/low_stock_calculation.md",
    "options": {"output": {"format": "xlsx", "path": "Reports/LowStock/", "filename_pattern": "LowStock_{date}.xlsx"}},
}


@pytest.fixture
async def gemini(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a server whose own worker reads the shop's stock and writes to `drive`."""
    stock = tmp_path / "inventory.db"
    sample.build(stock)
    settings = {
        "TASKQUEUE_WORKER__SOURCES__INVENTORY": str(stock),
        "TASKQUEUE_WORKER__OUTPUT": str(tmp_path / "drive"),
    }
    database = f"sqlite:///{tmp_path / 'queue.db'}"
    with serving(tmp_path, database, "--with-worker", **settings) as served:
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            yield client


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    with anyio.fail_after(PATIENCE):
        while True:
            task = (await call(client, "get_task", task_id=task_id, wait_seconds=20))["task"]
            if task["status"] in {"completed", "failed", "cancelled", "waiting"}:
                return dict(task)


async def events(client: Client, task_id: str) -> list[str]:
    found = (await call(client, "get_task", task_id=task_id, detail="events"))["events"]
    return [each["event"] for each in found]


def rows(path: Path) -> int:
    with contextlib.closing(openpyxl.load_workbook(path, read_only=True)) as book:
        return sum(1 for _ in book.worksheets[0].iter_rows()) - 1


async def test_a_report_that_is_asked_for_now_is_ready_at_once_and_lies_in_the_drive_when_it_is_done(
    gemini: Client, tmp_path: Path
) -> None:
    asked_at = time.monotonic()
    made = await call(gemini, "create_task", **REPORT)
    assert made["task"]["status"] == "ready"
    assert time.monotonic() - asked_at < 1
    task = await ended(gemini, made["task"]["id"])
    assert task["status"] == "completed"
    assert await events(gemini, task["id"]) == ["created", "claimed", "progress", "completed"]
    written = tmp_path / "drive" / task["result_path"]
    assert written.parent == tmp_path / "drive" / "Reports" / "LowStock"
    assert f"{rows(written)} products are low" in task["result_summary"]


async def test_a_report_for_every_morning_stands_in_the_queue_runs_and_stands_there_again(
    gemini: Client, tmp_path: Path
) -> None:
    title = REPORT["title"]
    planned = await call(
        gemini, "schedule_task", name="low-stock-daily", cron="0 7 * * *", timezone="Europe/Berlin", **REPORT
    )
    assert [run["local"][11:16] for run in planned["next_runs"][:2]] == ["07:00", "07:00"]
    (standing,) = (await call(gemini, "list_tasks", status="pending"))["tasks"]
    assert (standing["title"], standing["reason"]) == (title, "scheduled")

    run = (await call(gemini, "manage_schedule", name="low-stock-daily", action="run_now"))["task"]
    task = await ended(gemini, run["id"])
    assert (task["status"], (tmp_path / "drive" / task["result_path"]).is_file()) == ("completed", True)
    (again,) = (await call(gemini, "list_tasks", status="pending"))["tasks"]
    assert again["run_at"] == planned["next_runs"][0]["at"]


async def test_a_task_with_wrong_parameters_fails_and_says_why_in_its_history(gemini: Client) -> None:
    wrong = {"threshold": "reorder_point", "include_categories": "no list"}
    made = await call(gemini, "create_task", **REPORT, params=wrong)
    task = await ended(gemini, made["task"]["id"])
    assert task["status"] == "failed"
    (attempt,) = (await call(gemini, "get_task", task_id=task["id"]))["task"]["attempts"]
    assert "include_categories must be a list" in attempt["error"]
    assert attempt["error"] == task["error"]
    assert (await events(gemini, task["id"]))[-1] == "failed"
