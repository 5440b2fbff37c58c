"""A model that follows a script: enough of the Anthropic and the Gemini API for their clients, on loopback.

A script is a list of turns. `Call` has the model call a tool, with arguments or with a function of what the calls
before came to; `Say` has it answer in words. Which turn is due follows from the conversation in each request, so that
a client may repeat a request, and side requests without tools are answered without moving on.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from types import TracebackType

Json = dict[str, Any]
Arguments = Json | Callable[[list[Any]], Json]


@dataclass(frozen=True)
class Call:
    """The model calls `tool`; a client may put a prefix such as `mcp__taskqueue__` before its name."""

    tool: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True)
class Say:
    """The model says something and is done."""

    text: str | Callable[[list[Any]], str]


@dataclass(frozen=True)
class Heard:
    """What a request holds: what the calls so far came to, and the tools on offer."""

    results: list[Any]
    tools: list[str]


class ScriptedModel:
    """The server, for the length of a `with`; afterwards `faults` says what went wrong and `results` what was heard."""

    def __init__(self, *script: Call | Say) -> None:
        self._script: Sequence[Call | Say] = script
        self.faults: list[str] = []
        self.results: list[Any] = []
        self.tools: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def came_to_its_end(self) -> bool:
        """Whether the last turn was reached."""
        return len(self.results) == len(self._script) - 1

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def turn(self, heard: Heard) -> tuple[str, Json] | str:
        """Return the call that is due with its arguments, or the words."""
        if not heard.tools:
            return "OK"
        self.tools, self.results = heard.tools, heard.results
        due = self._script[min(len(heard.results), len(self._script) - 1)]
        if isinstance(due, Say):
            return due.text if isinstance(due.text, str) else due.text(heard.results)
        named = [tool for tool in heard.tools if tool == due.tool or tool.endswith(f"__{due.tool}")]
        if not named:
            return self._at_a_loss(f"{due.tool} is not among the tools on offer: {heard.tools}")
        try:
            return named[0], due.arguments if isinstance(due.arguments, dict) else due.arguments(heard.results)
        except (LookupError, TypeError) as error:
            return self._at_a_loss(f"no arguments for {due.tool}: {error!r} after {heard.results}")

    def _at_a_loss(self, why: str) -> str:
        self.faults.append(why)
        return f"I am at a loss: {why}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ClassVar[ScriptedModel]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._answer({"input_tokens": 1})
        elif path.endswith("/v1/messages"):
            message = _anthropic_message(body, self.model.turn(_heard_by_anthropic(body)))
            if body.get("stream"):
                self._send("text/event-stream", "".join(map(_event, _anthropic_events(message))))
            else:
                self._answer(message)
        elif re.search(r"/models/[^/]+:generateContent$", path):
            self._answer(_gemini_response(self.model.turn(_heard_by_gemini(body))))
        else:
            self.model.faults.append(f"POST {path} is not in the script's repertoire")
            self._answer({"error": {"message": "no such route"}}, 404)

    def do_GET(self) -> None:
        self._answer({}, 404)

    do_HEAD = do_GET  # noqa: N815 - the name that the base looks for

    def _answer(self, told: Json, status: int = 200) -> None:
        self._send("application/json", json.dumps(told), status)

    def _send(self, kind: str, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        pass


def _read(text: str) -> Any:
    """A tool's result as a value, where it is JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# The Anthropic Messages API.


def _heard_by_anthropic(body: Json) -> Heard:
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    return Heard(
        [_read(_anthropic_text(block["content"])) for block in blocks], [t["name"] for t in body.get("tools", ())]
    )


def _anthropic_text(content: Any) -> str:
    text = content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
    return re.sub(r"\s*<system-reminder>.*?</system-reminder>\s*", "", text, flags=re.DOTALL)


def _anthropic_message(body: Json, turn: tuple[str, Json] | str) -> Json:
    if isinstance(turn, str):
        block: Json = {"type": "text", "text": turn}
    else:
        name, arguments = turn
        block = {"type": "tool_use", "id": f"toolu_{len(body['messages'])}", "name": name, "input": arguments}
    return {
        "id": f"msg_{len(body['messages'])}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "end_turn" if isinstance(turn, str) else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


def _anthropic_events(message: Json) -> list[Json]:
    (block,) = message["content"]
    if block["type"] == "text":
        start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        start = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    return [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"]}, "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ]


def _event(data: Json) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


# The Gemini API.


def _heard_by_gemini(body: Json) -> Heard:
    answers = [
        part["functionResponse"]["response"]
        for content in body["contents"]
        for part in content["parts"]
        if "functionResponse" in part
    ]
    declared = [each for tool in body.get("tools", ()) for each in tool.get("functionDeclarations", ())]
    return Heard([_gemini_result(answer) for answer in answers], [each["name"] for each in declared])


def _gemini_result(answer: Json) -> Any:
    """What an MCP result came to; google-genai passes it on as it is."""
    result = answer.get("result", answer.get("error"))
    if isinstance(result, dict) and isinstance(result.get("content"), list):
        return _read("".join(block.get("text", "") for block in result["content"]))
    return result


def _gemini_response(turn: tuple[str, Json] | str) -> Json:
    part = {"text": turn} if isinstance(turn, str) else {"functionCall": {"name": turn[0], "args": turn[1]}}
    return {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20},
        "modelVersion": "scripted",
    }
