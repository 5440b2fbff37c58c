"""Raw clients: bytes on a socket or a pipe. The SDK's own client costs more than the server it would measure."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

TOKEN = "benchmark-token-0123456789"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
SERVES = re.compile(r"serves (http://\S+)")


class Server:
    """A server process that says on stderr where it serves."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TASKQUEUE_TOKEN": TOKEN, **environment},
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = SERVES.search(line)
            if found:
                self.port = int(found[1].rsplit(":", 1)[1].split("/")[0])
                return
        raise RuntimeError(f"{command} ended with {self._process.wait()}")

    @classmethod
    def of_queue(cls, database: Path, **environment: str) -> Self:
        """Start the real server on a file."""
        return cls(
            "-m", "taskqueue_mcp", "serve", "--port", "0", "--database", f"sqlite:///{database}", **environment
        )  # fmt: skip

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        return resident(self._process.pid)

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: Any = None  # uvloop's is no asyncio.Transport
        self._ids = 0

    @classmethod
    async def open(cls, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200"), self._buffer
        assert length is not None, head
        if len(body) >= int(length[1]):
            self._buffer = b""
            assert self._answer is not None
            self._answer.set_result(body)

    async def post(self, path: str, value: Any, headers: str = "") -> Any:
        """Send JSON, return JSON."""
        body = json.dumps(value).encode()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode()
            + body
        )
        return json.loads(await self._answer)

    async def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Call a tool; return its structured content, or its text where there is none."""
        self._ids += 1
        params = {"name": tool, "arguments": arguments, "_meta": ENVELOPE}
        headers = (
            "accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n"
            f"mcp-method: tools/call\r\nmcp-name: {tool}\r\n"
        )
        message = {"jsonrpc": "2.0", "id": self._ids, "method": "tools/call", "params": params}
        return _content(await self.post("/mcp", message, headers))

    def close(self) -> None:
        self._transport.close()


class Stdio:
    """A server process at the other end of two pipes, spoken to as most clients do today: with a handshake."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wire, self._answers = self._process.stdin, self._process.stdout
        self._ids = 0
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.hello = self.ask("initialize", hello)
        self._wire.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        return resident(self._process.pid)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self._ids += 1
        message = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params}
        self._wire.write(json.dumps(message).encode() + b"\n")
        self._wire.flush()
        return json.loads(self._answers.readline())

    def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        return _content(self.ask("tools/call", {"name": tool, "arguments": arguments}))

    def close(self) -> None:
        self._wire.close()
        self._process.wait(20)
        self._answers.close()


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1_000


def _content(answer: Any) -> Any:
    result = answer["result"]
    assert not result.get("isError"), result
    return result.get("structuredContent", result["content"][0]["text"])
