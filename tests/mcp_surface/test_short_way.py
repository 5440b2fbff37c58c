"""The short way of a tool call against the SDK's: the same messages get the same answers, whoever gives them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.shared.inbound import x_mcp_header_map

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.surfaces import asgi
from taskqueue_mcp.surfaces.mcp import server as mcp_server
from taskqueue_mcp.surfaces.mcp.http import PING_SECONDS, ShortWay
from taskqueue_mcp.taskqueue import NewTask, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Send
    from starlette.types import Scope as AsgiScope

    from taskqueue_mcp.taskqueue import TaskQueue

WORKER = Caller("worker", Kind.AGENT, frozenset({Scope.WORK}))
ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "tester", "version": "1"},
}
BOTH = "application/json, text/event-stream"


class Answer:
    """A response as it went out."""

    def __init__(self, sent: list[Message]) -> None:
        self.status: int = sent[0]["status"]
        self.kind = dict(sent[0]["headers"]).get(b"content-type", b"").decode()
        self.body = b"".join(message.get("body", b"") for message in sent[1:])

    @property
    def message(self) -> Any:
        """The JSON-RPC message, whether it came as JSON or as the last event of a stream."""
        text = self.body.decode()
        if self.kind == "text/event-stream":
            text = text.rsplit("data: ", 1)[1]
        return json.loads(text) if text.startswith("{") else text


class Exchange:
    """One POST to an ASGI application, in its own task; `leave` is the client going away."""

    def __init__(self, app: Any, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.sent: list[Message] = []
        self.said = asyncio.Event()
        self._gone = asyncio.Event()
        self._waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        scope = {
            "type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "root_path": "", "scheme": "http",
            "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        }  # fmt: skip
        self.running = asyncio.create_task(app(scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    async def answer(self) -> Answer:
        await asyncio.wait_for(self.running, 20)
        return Answer(self.sent)

    async def _receive(self) -> Message:
        if self._waiting:
            return self._waiting.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self.said.set()


def modern(name: object = "get_task", arguments: Any = None, **changed: Any) -> tuple[bytes, list[tuple[str, str]]]:
    """A plain call in today's protocol; `changed` names what is different about it."""
    params = {"name": name, "arguments": {"task_id": "T-1"} if arguments is None else arguments, "_meta": ENVELOPE}
    params |= changed.get("params", {})
    params = {key: value for key, value in params.items() if value != "left out"}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params, **changed.get("message", {})}
    message = {key: value for key, value in message.items() if value != "left out"}
    headers = {
        "accept": BOTH, "content-type": "application/json", "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call", "mcp-name": str(name), **changed.get("headers", {}),
    }  # fmt: skip
    sent = [(key, value) for key, value in headers.items() if value != "left out"]
    body = changed.get("body", json.dumps(message).encode())
    return body, [("host", "127.0.0.1"), ("content-length", str(len(body))), *sent, *changed.get("twice", [])]


def earlier(version: str, **changed: Any) -> tuple[bytes, list[tuple[str, str]]]:
    """The same in the protocol before, which names the version in a header and the rest nowhere."""
    headers = {"mcp-protocol-version": version, "mcp-method": "left out", "mcp-name": "left out"}
    return modern(**{"params": {"_meta": "left out"}, "headers": headers, **changed})


PLAIN = {
    "a result": modern(),
    "a result under a name": modern(message={"id": "seven"}),
    "letters of all scripts": modern("list_tasks", {"search": "Größe 漢字 🙂"}),
    "half a surrogate pair": modern("get_task", {"task_id": "\ud83d"}),
    "an unknown argument": modern(arguments={"task_id": "T-1", "colour": "red"}),
    "a missing argument": modern(arguments={"detail": "full"}),
    "what is not there": modern(arguments={"task_id": "T-999"}),
    "a scope that is not held": modern("cancel_task", {"task_id": "T-1"}),
    "a stale lease": modern("complete_task", {"lease": "T-1.1.aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
    "a long result": modern("list_tasks", {"limit": 100}),
    "no arguments": modern("list_ready", params={"arguments": "left out"}),
    "null for arguments": modern("list_ready", params={"arguments": None}),
    "a progress token that is not needed": modern(params={"_meta": {**ENVELOPE, "progressToken": "p"}}),
    "a client without a name": modern(params={"_meta": {k: v for k, v in ENVELOPE.items() if "Info" not in k}}),
    "a header that no tool asks for": modern(headers={"mcp-param-colour": "red"}),
    "2025-11-25": earlier("2025-11-25"),
    "2025-06-18": earlier("2025-06-18"),
    "2025-03-26": earlier("2025-03-26"),
    "2025-06-18 with a token": earlier("2025-06-18", params={"_meta": {"progressToken": 3}}),
}
"""Answered by the short way."""

OTHER = {
    "another tool": modern("no_such_tool"),
    "no name": modern(params={"name": "left out"}),
    "a number for a name": modern(7),
    "a list of arguments": modern(arguments=["T-1"]),
    "something beside the arguments": modern(params={"requestState": "x"}),
    "a task is asked for": modern(params={"task": {"ttl": 1000}}),
    "no envelope": modern(params={"_meta": "left out"}),
    "half an envelope": modern(params={"_meta": {k: v for k, v in ENVELOPE.items() if "Cap" not in k}}),
    "capabilities that are none": modern(
        params={"_meta": {**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": 3}}
    ),
    "a client that is no client": modern(params={"_meta": {**ENVELOPE, "io.modelcontextprotocol/clientInfo": "me"}}),
    "a token that is none": modern(params={"_meta": {**ENVELOPE, "progressToken": [1]}}),
    "another version in the body": modern(
        params={"_meta": {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}}
    ),
    "a version to come": modern(headers={"mcp-protocol-version": "2027-01-01"}),
    "no version": earlier("2025-06-18", headers={"mcp-protocol-version": "left out"}),
    "another name in the header": modern(headers={"mcp-name": "claim_task"}),
    "no name in the header": modern(headers={"mcp-name": "left out"}),
    "another method in the header": modern(headers={"mcp-method": "tools/list"}),
    "a header twice": modern(twice=[("mcp-name", "get_task")]),
    "only JSON is taken": modern(headers={"accept": "application/json"}),
    "anything is taken": modern(headers={"accept": "*/*"}),
    "a form": modern(headers={"content-type": "text/plain"}),
    "no id": modern(message={"id": "left out"}),
    "null for an id": modern(message={"id": None}),
    "a truth for an id": modern(message={"id": True}),
    "another JSON-RPC": modern(message={"jsonrpc": "1.0"}),
    "no JSON": modern(body=b"{"),
    "a batch": modern(body=b"[]"),
    "another method": modern(message={"method": "ping"}, headers={"mcp-method": "ping"}),
}
"""Handed on, for the SDK to do or to refuse."""


class Noting:
    """An application that notes whether it was asked."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.asked = 0

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self._app(scope, receive, send)


class Ways:
    """The same queue behind both ways."""

    def __init__(self, queue: TaskQueue) -> None:
        self.built = mcp_server.build(queue, lambda _: WORKER)
        access = asgi.build_app(self.built.server, authenticate=lambda _: WORKER)
        self.sdk = Noting(access.app)
        self.short = ShortWay(self.sdk, "/mcp", self.built.calls)


@pytest.fixture
async def ways(task_queue: TaskQueue) -> AsyncIterator[Ways]:
    owner = local_person()
    for number in range(30):
        wanted = Wanted(title=f"Größe 漢字 🙂 {number}", instructions="x" * 200, task_type="other")
        await task_queue.create(owner, NewTask(wanted))
    ways = Ways(task_queue)
    async with ways.built.server.session_manager.run():
        yield ways


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
async def test_both_ways_give_the_same_answer(ways: Ways, name: str) -> None:
    body, headers = {**PLAIN, **OTHER}[name]
    by_sdk = await Exchange(ways.sdk, body, headers).answer()
    asked, ways.sdk.asked = ways.sdk.asked, 0
    short = await Exchange(ways.short, body, headers).answer()
    assert asked == 1
    assert (ways.sdk.asked == 0) == (name in PLAIN)
    assert (short.status, short.message) == (by_sdk.status, by_sdk.message)


async def test_a_parked_call_streams_its_progress_and_then_its_answer(ways: Ways, task_queue: TaskQueue) -> None:
    meta = {"_meta": {**ENVELOPE, "progressToken": "beats"}}
    body, headers = modern("claim_task", {"queues": "later", "wait_seconds": 20}, params=meta)
    exchange = Exchange(ways.short, body, headers)
    await asyncio.wait_for(exchange.said.wait(), 20)
    told = json.loads(exchange.sent[1]["body"].decode().split("data: ")[1])
    assert told["method"] == "notifications/progress"
    assert told["params"] == {"progressToken": "beats", "progress": told["params"]["progress"], "message": "waiting"}
    wanted = Wanted(title="Late", instructions="x", task_type="other", queue="later")
    await task_queue.create(local_person(), NewTask(wanted))
    answer = await exchange.answer()
    assert answer.kind == "text/event-stream"
    assert answer.message["result"]["structuredContent"]["task"]["title"] == "Late"
    assert exchange.sent[-1].get("more_body", False) is False


async def test_a_long_silence_is_broken_by_a_ping_so_that_no_proxy_hangs_up(ways: Ways) -> None:
    told = []

    async def patient(call: Any, _: Any) -> dict[str, Any]:
        for seconds in (0.0, 5.0, PING_SECONDS, PING_SECONDS + 5, 2 * PING_SECONDS):
            await call.beat(seconds)
            told.append(len(exchange.sent))
        return {"done": True}

    ways.built.calls._tools["get_task"].handler = patient
    exchange = Exchange(ways.short, *modern())
    answer = await exchange.answer()
    assert told == [0, 0, 2, 2, 3]
    assert answer.body.startswith(b": ping\r\n\r\n: ping\r\n\r\nevent: message\r\n")
    assert answer.message["result"]["structuredContent"] == {"done": True}


async def test_a_client_that_goes_away_leaves_its_parked_claim(ways: Ways, task_queue: TaskQueue) -> None:
    exchange = Exchange(ways.short, *modern("claim_task", {"queues": "later", "wait_seconds": 50}))
    while not task_queue.waiters._waiting:
        await asyncio.sleep(0)
    exchange.leave()
    await exchange.running
    assert exchange.sent == []
    assert not task_queue.waiters._waiting


async def test_a_claim_whose_client_goes_away_before_the_answer_is_handed_back(
    ways: Ways, task_queue: TaskQueue
) -> None:
    exchange = Exchange(ways.short, *modern("claim_task", {"task_id": "T-1"}))
    exchange.leave()
    await exchange.running
    assert exchange.sent == []
    with anyio.fail_after(10):
        while (await task_queue.get(local_person(), 1)).task.status != "ready":
            await asyncio.sleep(0.01)


async def test_a_stopping_server_breaks_a_call_off(ways: Ways) -> None:
    exchange = Exchange(ways.short, *modern("claim_task", {"queues": "later", "wait_seconds": 50}))
    await asyncio.sleep(0)
    exchange.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.running


async def test_a_crash_is_told_in_one_line_and_written_to_the_log(ways: Ways, caplog: pytest.LogCaptureFixture) -> None:
    async def crash(*_: Any) -> dict[str, Any]:
        raise RuntimeError("the password is swordfish")

    ways.built.calls._tools["get_task"].handler = crash
    for app in (ways.sdk, ways.short):
        caplog.clear()
        answer = await Exchange(app, *modern()).answer()
        assert answer.message["result"]["isError"] is True
        assert b"swordfish" not in answer.body
        assert "get_task failed" in answer.body.decode()
        assert "swordfish" in caplog.text


async def test_no_tool_asks_for_headers_of_its_own_so_the_short_way_need_not_look_at_them(ways: Ways) -> None:
    offered = await ways.built.server.list_tools()
    assert {tool.name: x_mcp_header_map(tool.input_schema) for tool in offered} == {tool.name: {} for tool in offered}


TRACED = """
from opentelemetry.trace import NoOpTracerProvider, set_tracer_provider
from taskqueue_mcp.surfaces.mcp.calls import Calls
from taskqueue_mcp.surfaces.mcp.tool import make
from taskqueue_mcp.surfaces.mcp.arguments import GetTask
tool = make("get_task", "", GetTask, None, None)
asked = ("2025-11-25", {"name": "get_task", "arguments": {"task_id": "T-1"}})
print(Calls([tool], None, {}).plain(*asked) is not None)
set_tracer_provider(NoOpTracerProvider())
print(Calls([tool], None, {}).plain(*asked) is not None)
"""


def test_a_program_that_traces_keeps_the_spans_of_the_sdk() -> None:
    ran = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False"]
