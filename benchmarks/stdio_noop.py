"""What one tool call costs over stdio: the SDK's `stdio_server` against ours, seen from a raw wire client.

    python benchmarks/stdio_noop.py [--seconds 1.0] [--rounds 5] [--era handshake|modern]

Both serve the same bare MCPServer with one tool that does nothing. The rounds are interleaved, each figure is
the median of the rounds, and the ratio is to the SDK's. The clock is the client's, which shares the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from mcp.server import MCPServer

from taskqueue_mcp.surfaces.mcp.stdio import run, serve_stdio

IN_FLIGHT = (1, 32)
SERVERS = ("stock", "asyncio", "ours")
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}


class Server:
    """One server process, and its wire."""

    def __init__(self, kind: str, era: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wire, self._answers = self._process.stdin, self._process.stdout
        self._ids = iter(range(1, sys.maxsize))
        self._extra: dict[str, Any] = {"_meta": ENVELOPE} if era == "modern" else {}
        if era == "handshake":
            client = {"name": "bench", "version": "1"}
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
            self._send(self._line("initialize", hello))
            self._answers.readline()
            self._send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def _line(self, method: str, params: dict[str, Any]) -> bytes:
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        return json.dumps(message).encode() + b"\n"

    def _send(self, data: bytes) -> None:
        self._wire.write(data)
        self._wire.flush()

    def rate(self, in_flight: int, seconds: float) -> float:
        """Calls a second with always so many in flight."""
        params = {"name": "noop", "arguments": {}, **self._extra}
        self._send(b"".join(self._line("tools/call", params) for _ in range(in_flight)))
        answered = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            answer = self._answers.readline()
            assert b'"done"' in answer, answer
            answered += 1
            self._send(self._line("tools/call", params))
        elapsed = time.perf_counter() - begin
        for _ in range(in_flight):
            self._answers.readline()
        return answered / elapsed

    def close(self) -> None:
        self._wire.close()
        assert self._process.wait(5) == 0


def serve(kind: str) -> None:
    server = MCPServer("bench", log_level="ERROR")

    @server.tool(structured_output=False)
    async def noop() -> str:
        """Do nothing."""
        return "done"

    match kind:
        case "stock":
            server.run("stdio")
        case "asyncio":
            asyncio.run(serve_stdio(server))
        case _:
            run(lambda: serve_stdio(server))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--era", choices=("handshake", "modern"), default="handshake")
    parser.add_argument("--serve", choices=SERVERS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    servers = {kind: Server(kind, args.era) for kind in SERVERS}
    rates: dict[tuple[str, int], list[float]] = {(kind, n): [] for kind in SERVERS for n in IN_FLIGHT}
    for server in servers.values():
        server.rate(8, 0.3)
    for _ in range(args.rounds):
        for in_flight in IN_FLIGHT:
            for kind, server in servers.items():
                rates[kind, in_flight].append(server.rate(in_flight, args.seconds))
    for server in servers.values():
        server.close()
    print(f"{args.era}, {args.rounds} rounds of {args.seconds} s")
    for (kind, in_flight), measured in rates.items():
        middle = statistics.median(measured)
        ratio = middle / statistics.median(rates["stock", in_flight])
        print(f"{kind:>8}  {in_flight:>2} in flight  {middle:>7,.0f} calls/s  {ratio:4.2f}x")


if __name__ == "__main__":
    main()
