"""`serve` as a process, and clients that speak MCP to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE = 30


class Served:
    """A `serve` process, its address, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str], said: Path) -> None:
        self.process = process
        self._said = said

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if words in self.said:
                return self.said
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not say {words!r}:\n{self.said}")

    @property
    def url(self) -> str:
        line = next(line for line in self.wait_for("serves ").splitlines() if "serves " in line)
        return line.partition("serves ")[2].split(" ")[0]


@contextlib.contextmanager
def serving(folder: Path, database: str, *options: str, **environment: str) -> Iterator[Served]:
    said = folder / "stderr.txt"
    with said.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskqueue_mcp", "serve", "--port", "0", "--database", database, *options],
            stderr=stderr, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        try:
            yield Served(process, said)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)


@contextlib.asynccontextmanager
async def over_http(url: str, token: str, mode: str = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def over_stdio(database: str, *options: str, mode: str = "auto") -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "taskqueue_mcp", "stdio", "--database", database, *options],
        env=dict(os.environ),
    )
    async with Client(stdio_client(parameters), mode=mode) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})
