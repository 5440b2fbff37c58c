"""A model that follows a script: as much of the Anthropic Messages API as Claude Code needs, on loopback.

With it the real Claude Code works without an account, for the demo and for tests. A script is a list of turns; each
answer that a conversation holds already counts as one of them, so a client may repeat a request, resume a session or
go on in a new process. What goes wrong on the way (`Fault`, `BreakOff`, `Hang`) is served as often as it says and
then counts no more. Requests without tools (titles, summaries) are answered without moving on.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

Json = dict[str, Any]
SIDE_ANSWER: Final = "OK"
CHUNK: Final = 200
"""Characters in one piece of a streamed answer."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a request holds: the results of the calls so far as text, the tools on offer, and the whole body."""

    results: list[str]
    tools: list[str]
    body: Json

    @property
    def prompt(self) -> str:
        """The first message of the conversation."""
        content = self.body["messages"][0]["content"]
        return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)

    @property
    def file_asked_for(self) -> str:
        """The file that the prompt of our Claude executor wants written; empty where it wants none."""
        return self.prompt.partition("Write the result to the file `")[2].partition("`")[0]


@dataclass(frozen=True, slots=True)
class Call:
    """The model calls `tool`, with arguments or with a function of what it heard; `say` comes before the call.

    A client may put a prefix such as `mcp__taskqueue__` before the tool's name.
    """

    tool: str
    arguments: Json | Callable[[Heard], Json] = field(default_factory=dict)
    say: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """The model says something and is done; `stop_reason` may be `refusal`."""

    text: str | Callable[[Heard], str]
    stop_reason: str = "end_turn"


@dataclass(frozen=True, slots=True)
class Fault:
    """The API answers with an error, `times` times."""

    status: int
    kind: str = "api_error"
    message: str = "Internal server error"
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True, slots=True)
class BreakOff:
    """The API begins an answer and breaks the connection, `times` times."""

    text: str = "I was about to"
    times: int = 1


@dataclass(frozen=True, slots=True)
class Hang:
    """The API begins an answer and says nothing more until the client goes or the server is closed."""

    text: str = "Let me think"
    times: int = 1


Turn = Call | Say
Mishap = Fault | BreakOff | Hang
Tokens = tuple[int, int]


class ScriptedModel:
    """The server, for the length of a `with`.

    `faults` says what did not fit the script, `requests` holds what was asked, each with its `headers` and `body`.
    `tokens` are what each answer is said to have cost: in and out. The last turn is repeated for ever.
    """

    def __init__(self, *script: Turn | Mishap, tokens: Tokens = (100, 50), port: int = 0) -> None:
        self._script: Sequence[Turn | Mishap] = script
        self._tokens = tokens
        self._served: dict[int, int] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.hanging = threading.Event()
        self.faults: list[str] = []
        self.requests: list[Json] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"model": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def prompts(self) -> list[str]:
        """The text of the last message of a person in each request with tools, in order."""
        return [_last_text(each["body"]) for each in self.requests if each["body"].get("tools")]

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hear(self, headers: Mapping[str, str], body: Json) -> Mishap | Json:
        """Return the message that answers a request, or what goes wrong with it."""
        self.requests.append({"headers": headers, "body": body})
        heard = Heard(_results(body), [tool["name"] for tool in body.get("tools") or ()], body)
        if not heard.tools:
            return self.message(body, [{"type": "text", "text": SIDE_ANSWER}], "end_turn")
        due = self._due(sum(message["role"] == "assistant" for message in body["messages"]))
        if isinstance(due, Say):
            text = due.text if isinstance(due.text, str) else due.text(heard)
            return self.message(body, [{"type": "text", "text": text}], due.stop_reason)
        if isinstance(due, Call):
            return self._call(due, heard)
        return due

    def _due(self, answered: int) -> Turn | Mishap:
        """The turn after `answered` ones, or a mishap before it that has not been served often enough."""
        with self._lock:
            last: Turn | Mishap = Say("The script is empty.")
            for place, turn in enumerate(self._script):
                if isinstance(turn, Call | Say):
                    last = turn
                    if answered == 0:
                        return turn
                    answered -= 1
                elif answered == 0 and self._served.get(place, 0) < turn.times:
                    self._served[place] = self._served.get(place, 0) + 1
                    return turn
            return last

    def _call(self, due: Call, heard: Heard) -> Json:
        named = [tool for tool in heard.tools if tool == due.tool or tool.endswith(f"__{due.tool}")]
        if not named:
            self.faults.append(f"{due.tool} is not among the tools on offer: {', '.join(heard.tools)}")
            return self.message(heard.body, [{"type": "text", "text": self.faults[-1]}], "end_turn")
        arguments = due.arguments if isinstance(due.arguments, dict) else due.arguments(heard)
        number = f"toolu_{len(heard.body['messages']):04}"
        block = {"type": "tool_use", "id": number, "name": named[0], "input": arguments}
        said = [{"type": "text", "text": due.say}] if due.say else []
        return self.message(heard.body, [*said, block], "tool_use")

    def message(self, body: Json, content: list[Json], stop_reason: str | None) -> Json:
        """Return a message of the model as the API shows it."""
        return {
            "id": f"msg_{len(self.requests):06}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "scripted"),
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": self._tokens[0], "output_tokens": self._tokens[1]},
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ClassVar[ScriptedModel]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._answer({"input_tokens": 1})
        elif path.endswith("/v1/messages"):
            self._serve(self.model.hear(dict(self.headers), body), is_streamed=bool(body.get("stream")))
        else:
            self._answer(_error("not_found_error", "no such route"), 404)

    def do_GET(self) -> None:
        self._answer(_error("not_found_error", "no such route"), 404)

    do_HEAD = do_GET  # noqa: N815 - the name that the base looks for

    def _serve(self, due: Mishap | Json, *, is_streamed: bool) -> None:
        match due:
            case Fault():
                self._answer(_error(due.kind, due.message), due.status, due.headers)
            case BreakOff() | Hang():
                self._begin(due.text)
                if isinstance(due, Hang):
                    self.model.hanging.set()
                    self.model.closing.wait()
                self.close_connection = True
            case _ if is_streamed:
                self._send("text/event-stream", "".join(map(_event, _events(due))))
            case _:
                self._answer(due)

    def _begin(self, text: str) -> None:
        """The head of a stream and nothing of its end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        body: Json = {"model": "scripted", "messages": []}
        started = self.model.message(body, [], None)
        for event in (
            {"type": "message_start", "message": started},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        ):
            self.wfile.write(_event(event).encode())
        self.wfile.flush()

    def _answer(self, told: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send("application/json", json.dumps(told), status, headers)

    def _send(self, kind: str, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        pass


def _results(body: Json) -> list[str]:
    return [
        _text(block.get("content") or "")
        for message in body.get("messages", ())
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]


def _text(content: str | list[Json]) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _last_text(body: Json) -> str:
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    texts = [
        text
        for content in said
        if (text := content if isinstance(content, str) else _text([b for b in content if b["type"] == "text"]))
    ]
    return texts[-1] if texts else ""


def _error(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _events(message: Json) -> Iterator[Json]:
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start, key, kind, whole = {**block, "text": ""}, "text", "text_delta", block["text"]
        else:
            start, key, kind, whole = (
                {**block, "input": {}},
                "partial_json",
                "input_json_delta",
                json.dumps(block["input"]),
            )
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for at in range(0, len(whole), CHUNK):
            delta = {"type": kind, key: whole[at : at + CHUNK]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        "usage": {"output_tokens": message["usage"]["output_tokens"]},
    }
    yield {"type": "message_stop"}


def _event(data: Json) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"
