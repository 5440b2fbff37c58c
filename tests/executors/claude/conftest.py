"""The real Claude Code of the Agent SDK, and a model on loopback that follows a script."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import psutil
import pytest

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.claude import Claude, Leave
from taskqueue_mcp.executors.claude.command import MARK
from taskqueue_mcp.sample.scripted_model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Ended
    from taskqueue_mcp.sample.scripted_model import Mishap, Turn

SECONDS = 60.0


def living(home: Path) -> dict[int, str]:
    """The processes that sessions of this `home` started, with their command lines; others may have theirs."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            is_ours = MARK in environment and environment.get("CLAUDE_CONFIG_DIR", "").startswith(str(home))
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:80]
    return found


class Play(Protocol):
    """Has Claude Code talk to a model that follows `script`, once an attempt, and returns what came of it."""

    async def __call__(self, run: Run, *script: Turn | Mishap, **given: Any) -> Ended: ...


@pytest.fixture(autouse=True)
def _a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-local")


@pytest.fixture
def models() -> list[ScriptedModel]:
    """The models that were played, in order."""
    return []


@pytest.fixture
def leave(tmp_path: Path) -> dict[str, Any]:
    """What the owner leaves to tasks, to be changed by a test."""
    return {"home": tmp_path / "home", "retries": 1}


@pytest.fixture
def play(leave: dict[str, Any], models: list[ScriptedModel]) -> Iterator[Play]:
    async def played(run: Run, *script: Turn | Mishap, tokens: tuple[int, int] = (100, 50), **params: Any) -> Ended:
        with ScriptedModel(*script, tokens=tokens) as model:
            models.append(model)
            executor = Claude(Leave(**{"base_url": model.url, **leave}))
            with anyio.fail_after(SECONDS):
                return await executor.run(validate_params(executor, params), run)

    yield played
    assert [fault for model in models for fault in model.faults] == []
