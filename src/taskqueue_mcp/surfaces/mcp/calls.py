"""The short way of a tool call: from the message to the tool and back, without the SDK's general machinery.

The SDK wraps each call in what a server may need that asks its client back, keeps state over several rounds or
describes its results by a schema, and it validates the result twice: more work than the queue itself does for a
claim. Ours does none of that. So a call of one of our tools that has the protocol's plain shape is answered here,
after the SDK's own check of its parameters; everything else goes the SDK's way, which also knows how to refuse what
is malformed. The same messages get the same answers on both ways, and a test says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.types import SERVER_INFO_META_KEY, methods
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider
from pydantic import ValidationError

from taskqueue_mcp.surfaces.mcp import fitting
from taskqueue_mcp.surfaces.mcp.tool import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.surfaces.mcp.tool import Answer, QueueTool

METHOD = "tools/call"
PLAIN = frozenset({"name", "arguments", "_meta"})
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class PlainCall:
    """A call of one of our tools, with nothing about it that only the SDK understands."""

    tool: QueueTool
    arguments: dict[str, Any]
    progress_token: str | int | None
    is_modern: bool


class Calls:
    """Answers plain calls; `who` says who speaks, given the name that the client goes by."""

    def __init__(
        self, tools: Iterable[QueueTool], who: Callable[[str], Caller], server_info: Mapping[str, Any]
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._who = who
        self._stamp = ',"_meta":' + fitting.write({SERVER_INFO_META_KEY: server_info})
        # A program that traces wants the SDK's span around each call.
        self._traced = not isinstance(get_tracer_provider(), ProxyTracerProvider)

    def plain(self, version: str, params: Mapping[str, Any] | None) -> PlainCall | None:
        """Return what the parameters of `tools/call` ask for, or None where the SDK has to look at them."""
        if params is None or self._traced or not params.keys() <= PLAIN:
            return None
        name, arguments = params.get("name"), params.get("arguments") or {}
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(arguments, dict):
            return None
        try:
            methods.validate_client_request(METHOD, version, params)
        except (ValidationError, ValueError, KeyError):
            return None
        return PlainCall(tool, arguments, progress_token_from_params(params), version in MODERN_PROTOCOL_VERSIONS)

    async def answer(self, asked: PlainCall, client: str, beat: Callable[[float], Awaitable[None]]) -> Answer:
        """Call the tool for the client of this name."""
        return await asked.tool.answer(Call(self._who(client), beat), asked.arguments)

    def write(self, request_id: str | int, answer: Answer, *, is_modern: bool) -> bytes:
        """Return the JSON-RPC response; the document goes in as it was written."""
        parts = [
            '{"jsonrpc":"2.0","id":', json.dumps(request_id),
            ',"result":{"content":[{"text":', fitting.write(answer.text), ',"type":"text"}],"isError":',
            "true" if answer.is_error else "false",
        ]  # fmt: skip
        if is_modern:
            parts.append(',"resultType":"complete"')
        if answer.document is not None:
            parts += (',"structuredContent":', answer.document)
        if is_modern:
            parts.append(self._stamp)
        parts.append("}}")
        # Half a surrogate pair has no UTF-8: it goes out as JSON's escape of it.
        return "".join(parts).encode("utf-8", "backslashreplace")


def progress(token: str | int, seconds: float) -> dict[str, Any]:
    """Return the parameters of the notification that a parked call is alive."""
    return {"progressToken": token, "progress": seconds, "message": WAITING}
