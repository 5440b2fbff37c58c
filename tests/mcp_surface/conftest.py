"""The real MCP server over a queue of its own, and clients of both eras."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client

from taskqueue_mcp.model import Scope
from taskqueue_mcp.procedures import ProcedureFolder
from taskqueue_mcp.store import open_database
from taskqueue_mcp.surfaces.mcp import server as mcp_server
from taskqueue_mcp.taskqueue import Rules, TaskQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ERAS = ["auto", "legacy"]
SOPS = Path(__file__).parents[2] / "sops"


class Agent:
    """A client, and what its calls came to."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed; text and structured content say the same."""
        result = await self.client.call_tool(tool, arguments)
        text = result.content[0].text  # type: ignore[union-attr]  # every result of ours is text
        assert not result.is_error, text
        assert result.structured_content is not None
        assert json.loads(text) == result.structured_content
        assert len(text) <= 10_000
        return dict(result.structured_content)

    async def refused(self, tool: str, **arguments: Any) -> tuple[str, str]:
        """Call a tool that must be refused; return the code and the line."""
        result = await self.client.call_tool(tool, arguments)
        text = result.content[0].text  # type: ignore[union-attr]  # every result of ours is text
        assert result.is_error, text
        assert "\n" not in text
        assert result.structured_content is not None
        assert result.structured_content["message"] == text
        return str(result.structured_content["code"]), text


@pytest.fixture
async def task_queue(tmp_path: Path) -> AsyncIterator[TaskQueue]:
    queue = TaskQueue(open_database(f"sqlite:///{tmp_path / 'queue.db'}"), Rules(procedures=ProcedureFolder(SOPS)))
    queue.waiters.attach(queue.database)
    yield queue
    queue.waiters.detach()
    await queue.database.close()


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(task_queue: TaskQueue, era: str) -> Any:
    """Connects a client with these scopes; use it as an async context."""

    @contextlib.asynccontextmanager
    async def connected(*scopes: Scope, name: str | None = "claude") -> AsyncIterator[Agent]:
        built = mcp_server.build(task_queue, mcp_server.stdio_caller(name, frozenset(scopes or Scope)))
        async with Client(built.server, mode=era) as client:
            yield Agent(client)

    return connected
