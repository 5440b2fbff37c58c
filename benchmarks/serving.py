"""The servers that ours are measured against: `python -m benchmarks.serving bare FILE | noop | stdio`."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.wire import TOKEN
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.store import open_database
from taskqueue_mcp.surfaces import asgi
from taskqueue_mcp.surfaces.mcp import stdio
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Rules, TaskQueue

if TYPE_CHECKING:
    from starlette.requests import Request

CALLER = local_person()


async def bare(path: str) -> None:
    """Two plain routes that do the database work of claim_task and complete_task, and nothing besides."""
    database = open_database(f"sqlite:///{path}")
    queue = TaskQueue(database, Rules())

    async def claim(request: Request) -> Response:
        given = await request.json()
        found = await queue.claim(CALLER, ClaimRequest(worker=given["worker"]))
        assert found is not None
        return _json({"lease": found.lease, "title": found.task.title, "instructions": found.body.instructions})

    async def complete(request: Request) -> Response:
        given = await request.json()
        settled = await queue.complete(CALLER, Completion(given["lease"], given["result_summary"]))
        return _json({"id": settled.task.id, "status": settled.task.status.value})

    app = Starlette(
        routes=[Route("/claim", claim, methods=["POST"]), Route("/complete", complete, methods=["POST"])]
    )  # fmt: skip
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, loop="uvloop", http="httptools", ws="none", log_config=None, access_log=False)
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _say(listening.getsockname()[1])
        await server.serve([listening])
    await database.close()


async def noop() -> None:
    """A tool that does nothing, on our own HTTP application."""
    await asgi.serve_http(
        asgi.build_app(nothing(), authenticate={TOKEN: CALLER}.get),
        "127.0.0.1",
        0,
        on_stop=lambda: None,
        ready_callback=_say,
    )


def nothing() -> MCPServer[Any]:
    """Build the SDK's server with one tool that does nothing."""
    server: MCPServer[Any] = MCPServer("bench", log_level="ERROR")

    @server.tool(structured_output=False)
    async def noop() -> str:
        """Do nothing."""
        return "done"

    return server


def _json(value: Any) -> Response:
    return Response(json.dumps(value, separators=(",", ":")).encode(), media_type="application/json")


def _say(port: int) -> None:
    sys.stderr.write(f"serves http://127.0.0.1:{port}\n")
    sys.stderr.flush()


def main(kind: str, *rest: str) -> None:
    match kind:
        case "bare":
            stdio.run(lambda: bare(*rest))
        case "noop":
            stdio.run(noop)
        case _:
            stdio.run(lambda: stdio.serve_stdio(nothing()))


if __name__ == "__main__":
    main(*sys.argv[1:])
