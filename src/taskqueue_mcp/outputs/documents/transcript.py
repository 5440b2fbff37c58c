"""The transcript of a session with an agent: who said what, which tools were called, and what came back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]
LONGEST_TEXT: Final = 20_000
"""Characters of one message, or of what one tool gave back."""
MOST_MESSAGES: Final = 2_000


def read(lines: Iterable[str | bytes]) -> tuple[list[Json], list[Json]]:
    """Return messages `{who, text}` and tool calls `{tool, input, result, is_error}` from lines of JSON.

    Each names the `place` it has in the session, by which both are told in order. A line that is no message of
    an agent's stream is passed over: a transcript comes from a program that is not ours.
    """
    messages: list[Json] = []
    calls: list[Json] = []
    by_id: dict[str, Json] = {}
    for place, found in enumerate(_said(lines)):
        if place >= MOST_MESSAGES:
            break
        for block in _blocks(found):
            match block.get("type"):
                case "text" if str(block.get("text") or "").strip():
                    who = "agent" if found.get("type") == "assistant" else "user"
                    messages.append({"place": place, "who": who, "text": _cut(str(block["text"]))})
                case "tool_use":
                    call = {
                        "place": place, "tool": str(block.get("name")), "input": block.get("input"), "result": None,
                        "is_error": False,
                    }  # fmt: skip
                    calls.append(call)
                    by_id[str(block.get("id"))] = call
                case "tool_result" if str(block.get("tool_use_id")) in by_id:
                    call = by_id[str(block["tool_use_id"])]
                    call["result"] = _cut(_text(block.get("content")))
                    call["is_error"] = bool(block.get("is_error"))
                case _:
                    pass
    return messages, calls


def _said(lines: Iterable[str | bytes]) -> Iterator[Json]:
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("type") in {"assistant", "user"}:
            yield found


def _blocks(found: Json) -> list[Json]:
    message = found.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(block.get("text", block.get("type"))) for block in content if isinstance(block, dict))
    return "" if content is None else str(content)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
