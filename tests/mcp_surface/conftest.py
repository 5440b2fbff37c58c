"""The real MCP server over a queue of its own, and clients of both eras."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from taskqueue_mcp.app.catalogue import Catalogue
from taskqueue_mcp.model import Scope
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.store import open_database
from taskqueue_mcp.surfaces import asgi
from taskqueue_mcp.surfaces.mcp import server as mcp_server
from taskqueue_mcp.taskqueue import Rules, TaskQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAYS = ["auto", "legacy", "short"]
"""Both eras by the SDK's way, in memory; and the short way of tool calls, behind the HTTP application."""
TOKEN = "a-token-for-tests"  # noqa: S105 - it opens a server that lives for one test
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
    rules = Rules(procedures=ProcedureFolder(SOPS), executors=Catalogue())
    queue = TaskQueue(open_database(f"sqlite:///{tmp_path / 'queue.db'}"), rules)
    queue.waiters.attach(queue.database)
    yield queue
    queue.waiters.detach()
    await queue.database.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(task_queue: TaskQueue, way: str) -> Any:
    """Connects a client with these scopes; use it as an async context."""

    @contextlib.asynccontextmanager
    async def connected(*scopes: Scope, name: str | None = "claude") -> AsyncIterator[Agent]:
        who = mcp_server.stdio_caller(name, frozenset(scopes or Scope))
        built = mcp_server.build(task_queue, who)
        if way != "short":
            async with Client(built.server, mode=way) as client:
                yield Agent(client)
            return
        app = asgi.build_app(built.server, authenticate={TOKEN: who("")}.get, calls=built.calls)
        async with (
            served(app) as url,
            httpx2.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield Agent(client)

    return connected


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve `app` on this loop; yield the address of its MCP endpoint."""
    loop = asyncio.get_running_loop()
    listening: asyncio.Future[int] = loop.create_future()
    serving = loop.create_task(
        asgi.serve_http(app, "127.0.0.1", 0, on_stop=lambda: None, ready_callback=listening.set_result)
    )
    try:
        yield f"http://127.0.0.1:{await listening}/mcp"
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
