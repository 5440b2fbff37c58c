"""A small MCP server over a stock, as a company would have one: `python stock_server.py stdio`, or `http PORT`.

Over HTTP it lets in who shows `Authorization: Bearer stock-token`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STOCK = [(1, "A-1", "Anvil", 3), (2, "B-2", "Büchse ✓", 40), (3, "C-3", None, -5), (4, "D-4", "=1+1", 9)]
TOKEN = "stock-token"  # noqa: S105 - of a server that lives for a test

server = MCPServer("stock")


def _found(sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    wire = sqlite3.connect(":memory:")
    wire.row_factory = sqlite3.Row
    wire.execute("CREATE TABLE stock (id, sku, name, quantity)")
    wire.executemany("INSERT INTO stock VALUES (?, ?, ?, ?)", STOCK)
    return [dict(row) for row in wire.execute(sql, params or {})]


@server.tool()
def run_query(sql: str, params: dict[str, Any] | None = None, limit: int = 0) -> list[dict[str, Any]]:
    """Rows as structured content."""
    return _found(sql, params)[: limit or None]


@server.tool()
def query_as_text(sql: str) -> str:
    """Rows as JSON text."""
    return json.dumps(_found(sql))


@server.tool()
def query_as_columns(sql: str) -> dict[str, Any]:
    """Columns and rows apart."""
    rows = _found(sql)
    return {"columns": [{"name": name} for name in rows[0]], "rows": [list(row.values()) for row in rows]}


@server.tool()
def below(quantity: int) -> list[dict[str, Any]]:
    """A tool that takes no SQL."""
    return _found("SELECT sku FROM stock WHERE quantity < :quantity ORDER BY id", {"quantity": quantity})


@server.tool()
def poem(sql: str) -> str:
    """No rows at all."""
    return f"roses are red, {sql} is blue"


@server.tool()
def secret(sql: str) -> str:
    """An error that holds the secret of the source."""
    raise ToolError(f"cannot read with {os.environ.get('STOCK_TOKEN', TOKEN)}\nfor {sql}")


@server.tool()
async def hang(sql: str) -> str:
    """No answer."""
    await anyio.sleep(600)
    return sql


@server.tool()
def environment(sql: str) -> list[dict[str, Any]]:
    """The names of the environment that it has."""
    return [{"name": name, "sql": sql} for name in sorted(os.environ)]


class _Guarded:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = dict(scope.get("headers", [])).get(b"authorization", b"")
        if scope["type"] == "http" and shown != f"Bearer {TOKEN}".encode():
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
            return
        await self._app(scope, receive, send)


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        app = _Guarded(server.streamable_http_app(stateless_http=True, json_response=True))
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
