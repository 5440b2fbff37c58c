"""What a session says on its way, kept as far as its outcome follows from it, and told to the task's log in lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_INPUT: Final = 400
LONGEST_OUTPUT: Final = 1_000
UNRECORDED: Final = frozenset(
    {"stream_event", "control_request", "control_response", "control_cancel_request", "keep_alive"}
)
SYNTHETIC: Final = "<synthetic>"
"""What Claude Code names as the model of words that are its own."""

Message = dict[str, Any]


@dataclass(slots=True)
class Heard:
    """What came out of one process; `result` is its last result, as it stands in the stream."""

    session: str | None = None
    model: str | None = None
    result: Message | None = None
    limit: Message | None = None
    """The last word on a usage limit that refuses more."""
    fault: str | None = None
    """The kind of error that the last answer of the API was, as Claude Code names it."""
    retry: Message | None = None
    was_refused: bool = False
    denied: list[str] = field(default_factory=list)
    last_text: str = ""

    def take(self, message: Message) -> None:
        """Note what a message says about the session."""
        if message.get("session_id"):
            self.session = str(message["session_id"])
        match message.get("type"), message.get("subtype"):
            case "system", "init":
                self.model = message.get("model")
            case "system", "api_retry":
                self.retry = message
            case "system", "permission_denied":
                self.denied.append(f"{message.get('tool_name')}: {message.get('decision_reason') or 'not allowed'}")
            case "system", subtype if "refusal" in str(subtype):
                self.was_refused = True
            case "rate_limit_event", _:
                info = message.get("rate_limit_info") or {}
                self.limit = info if info.get("status") == "rejected" else None
            case "assistant", _:
                self.fault = message.get("error")
                if message.get("parent_tool_use_id") is None and _model_of(message) != SYNTHETIC:
                    self.last_text = _text_of(message) or self.last_text
            case "result", _:
                self.result = message
            case _:
                pass


class Teller:
    """Tells the log what a session does: its words as they come, its tool calls, what they came to."""

    def __init__(self, log: Callable[[str], None], doing: Callable[[str], None]) -> None:
        self._log = log
        self._doing = doing
        self._tools: dict[str, str] = {}
        self._is_in_a_line = False
        self._is_streamed = False

    def tell(self, message: Message) -> None:
        """Tell one message."""
        match message.get("type"):
            case "stream_event":
                self._piece(message)
            case "assistant":
                self._said(message)
            case "user":
                self._came_back(message)
            case "system":
                self._noted(message)
            case "rate_limit_event":
                info = message.get("rate_limit_info") or {}
                if info.get("status") != "allowed":
                    self._line(f"usage limit: {info.get('status')} ({info.get('rateLimitType', 'unknown')})")
            case "result":
                self._line(_result(message))
            case _:
                pass

    def _piece(self, message: Message) -> None:
        event = message.get("event") or {}
        if message.get("parent_tool_use_id") is not None:
            return
        if event.get("type") == "content_block_delta":
            text = (event.get("delta") or {}).get("text")
            if text:
                self._log(text)
                self._is_in_a_line = not text.endswith("\n")
                self._is_streamed = True
        elif event.get("type") == "content_block_stop" and self._is_in_a_line:
            self._log("\n")
            self._is_in_a_line = False

    def _said(self, message: Message) -> None:
        is_own = message.get("parent_tool_use_id") is None
        for block in _blocks(message):
            if block.get("type") == "tool_use":
                name, given = str(block.get("name")), block.get("input") or {}
                self._tools[str(block.get("id"))] = name
                self._line(f"[{name}] {_short(json.dumps(given, ensure_ascii=False), LONGEST_INPUT)}")
                self._doing(_about(name, given))
            elif block.get("type") == "text" and is_own and not self._is_streamed:
                self._line(str(block.get("text")))
        self._is_streamed = False

    def _came_back(self, message: Message) -> None:
        for block in _blocks(message):
            if block.get("type") == "tool_result":
                name = self._tools.get(str(block.get("tool_use_id")), "tool")
                text = _short(_text(block.get("content")), LONGEST_OUTPUT)
                self._line(f"[{name}] {'failed: ' if block.get('is_error') else '→ '}{text}")

    def _noted(self, message: Message) -> None:
        match message.get("subtype"):
            case "init":
                self._line(f"session {message.get('session_id')}, model {message.get('model')}")
                for server in message.get("mcp_servers") or ():
                    self._line(f"MCP server {server.get('name')}: {server.get('status')}")
            case "api_retry":
                seconds = float(message.get("retry_delay_ms") or 0) / 1_000
                self._line(
                    f"the API answered {message.get('error_status') or 'nothing'} ({message.get('error')}); "
                    f"try {message.get('attempt')} of {message.get('max_retries')} in {seconds:.1f} s"
                )
            case "permission_denied":
                self._line(f"[{message.get('tool_name')}] denied: {message.get('decision_reason') or 'not allowed'}")
            case _:
                pass

    def _line(self, text: str) -> None:
        begun = "\n" if self._is_in_a_line else ""
        self._log(f"{begun}{text}\n")
        self._is_in_a_line = False


def is_recorded(message: Message) -> bool:
    """Whether a message belongs into the transcript: the pieces of a streamed answer come again whole."""
    return message.get("type") not in UNRECORDED


def _blocks(message: Message) -> list[Message]:
    content = (message.get("message") or {}).get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _model_of(message: Message) -> Any:
    return (message.get("message") or {}).get("model")


def _text_of(message: Message) -> str:
    return "\n".join(str(block.get("text")) for block in _blocks(message) if block.get("type") == "text")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", block.get("type"))) for block in content or () if isinstance(block, dict))


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _about(name: str, given: Mapping[str, Any]) -> str:
    for key in ("file_path", "command", "pattern", "path", "url", "query", "description"):
        if isinstance(given.get(key), str):
            return f"{name}: {given[key]}"[:200]
    return name


def _result(message: Message) -> str:
    cost = message.get("total_cost_usd")
    return f"{message.get('subtype')}: {message.get('num_turns')} turns" + ("" if cost is None else f", ${cost:.4f}")
