"""One attempt, with real folders, for any executor."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

import anyio
import pytest

from taskqueue_mcp import sample
from taskqueue_mcp.executors.base import Run
from taskqueue_mcp.outputs.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests import mariadb


class MakeRun(Protocol):
    """Makes an attempt; what is given replaces the usual."""

    def __call__(self, **given: Any) -> Run: ...


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def make_run(tmp_path: Path, log: list[str]) -> MakeRun:
    async def progress(percent: float | None, message: str = "") -> None:
        log.append(f"[{percent} {message}]\n")

    def make(**given: Any) -> Run:
        directory = tmp_path / "work"
        directory.mkdir(exist_ok=True)
        usual: dict[str, Any] = {
            "task_id": 142,
            "attempt": 1,
            "title": "A task",
            "instructions": "",
            "task": {},
            "procedure": None,
            "inputs": [],
            "earlier_attempts": [],
            "answers": [],
            "due_date": date(2026, 11, 20),
            "now": datetime(2026, 11, 20, 6, 5, 9, tzinfo=UTC),
            "zone": ZoneInfo("Europe/Berlin"),
            "outputs": OutputFolder(tmp_path / "out"),
            "directory": directory,
            "log": log.append,
            "progress": progress,
            "stop": anyio.Event(),
            "timeout_seconds": None,
        }
        return Run(**(usual | given))

    return make


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "shop.db"
    sample.build(path)
    return path


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[mariadb.Server]:
    from tests import mariadb as programs  # noqa: PLC0415 - only who needs one

    server = programs.Server()
    yield server
    server.remove()
