"""Tool calls over HTTP by the short way: one POST, one JSON answer, or a stream when a parked call says it is alive.

Stands in front of the SDK's application and hands it every request that is no plain call of one of our tools.
"""

from __future__ import annotations

import asyncio
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundModernRoute,
    classify_inbound_request,
)
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from taskqueue_mcp.surfaces.mcp import calls, fitting

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from taskqueue_mcp.surfaces.mcp.calls import Calls, PlainCall

READ = frozenset(
    name.encode()
    for name in ("accept", "content-type", MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER)
)
REQUEST = {"jsonrpc", "id", "method", "params"}
PING_SECONDS = 15.0
"""How long a stream may be silent, so that no proxy takes it for dead: as in the SDK."""

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A plain call and the id to answer it under."""

    id: str | int
    call: PlainCall


class ShortWay:
    """ASGI: answers plain tool calls at `path`, leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, path: str, known: Calls) -> None:
        self._app = app
        self._path = path
        self._calls = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on with the body as it came."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        first = await receive()
        asked = self._read(scope, first)
        if asked is not None:
            await self._answer(asked, receive, send)
            return
        waiting = [first]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)

    def _read(self, scope: Scope, first: Message) -> _Asked | None:
        if first["type"] != "http.request" or first.get("more_body", False):
            return None
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name in READ:
                if name.decode() in headers:
                    return None  # sent twice: the SDK says which of them may be
                headers[name.decode()] = value.decode("latin-1")
        if not _takes_both(headers.get("content-type", ""), headers.get("accept", "")):
            return None
        try:
            message = json.loads(first["body"])
        except (ValueError, RecursionError):
            return None
        return self._plain(message, headers)

    def _plain(self, message: Any, headers: dict[str, str]) -> _Asked | None:
        if not isinstance(message, dict) or message.keys() != REQUEST:
            return None
        number, params = message["id"], message["params"]
        if message["jsonrpc"] != "2.0" or message["method"] != calls.METHOD:
            return None
        if type(number) not in (int, str) or not isinstance(params, dict):
            return None
        version = headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
        if version in MODERN_PROTOCOL_VERSIONS:
            if not isinstance(classify_inbound_request(message, headers=headers), InboundModernRoute):
                return None
        elif version not in HANDSHAKE_PROTOCOL_VERSIONS:
            return None
        call = self._calls.plain(version, params)
        return None if call is None else _Asked(number, call)

    async def _answer(self, asked: _Asked, receive: Receive, send: Send) -> None:
        """Call the tool; a client that goes away meanwhile cancels it."""
        answering = asyncio.current_task()
        assert answering is not None  # noqa: S101 - an ASGI application runs in a task
        watching = asyncio.get_running_loop().create_task(_cancel_when_gone(receive, answering))
        out = _Out(asked, send)
        try:
            answer = await self._calls.answer(asked.call, "", out.beat)
            await out.finish(self._calls.write(asked.id, answer, is_modern=asked.call.is_modern))
        except asyncio.CancelledError:
            if not watching.done():
                raise
            answering.uncancel()  # nobody is left to answer
        finally:
            watching.cancel()


class _Out:
    """The response: JSON, unless a stream was begun to say that the call is alive."""

    def __init__(self, asked: _Asked, send: Send) -> None:
        self._send = send
        self._token = asked.call.progress_token
        self._streams = False
        self._said = 0.0

    async def beat(self, seconds: float) -> None:
        """Report progress if the client wants it; else let no more than `PING_SECONDS` pass in silence."""
        if self._token is not None:
            told = {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": calls.progress(self._token, seconds),
            }
            await self._stream(_event(fitting.write(told).encode()))
        elif seconds - self._said >= PING_SECONDS:
            self._said = seconds
            await self._stream(b": ping\r\n\r\n")

    async def finish(self, response: bytes) -> None:
        """Send the answer."""
        if self._streams:
            await self._send({"type": "http.response.body", "body": _event(response)})
            return
        headers = [(b"content-length", b"%d" % len(response)), (b"content-type", b"application/json")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": response})

    async def _stream(self, piece: bytes) -> None:
        if not self._streams:
            self._streams = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


@functools.lru_cache(maxsize=64)
def _takes_both(content_type: str, accept: str) -> bool:
    """Whether JSON was sent, and both kinds of answer are taken, as the protocol asks for."""
    taken = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return content_type.lower().startswith("application/json") and taken >= {"application/json", "text/event-stream"}


def _event(message: bytes) -> bytes:
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"
