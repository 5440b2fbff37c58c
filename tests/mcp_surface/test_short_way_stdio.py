"""The short way of a tool call over stdio against the SDK's. This file is also the server."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.app import opened
from taskqueue_mcp.model import Scope
from taskqueue_mcp.settings import load_settings
from taskqueue_mcp.surfaces.mcp import server as mcp_server
from taskqueue_mcp.surfaces.mcp import stdio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "A Tester!", "version": "1"},
}
HELLO = {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "A Tester!", "version": "1"},
}  # fmt: skip
ERAS = ["handshake", "modern"]


async def serve(database: str, way: str) -> None:
    async with opened(load_settings(database=database)) as app:
        built = mcp_server.build(app.queue, mcp_server.stdio_caller(None, frozenset(Scope)))
        calls = built.calls if way == "short" else None
        await stdio.serve_stdio(built.server, calls=calls, on_stop=app.queue.waiters.stop)


class Pipe:
    """A server at the other end of two pipes."""

    def __init__(self, process: subprocess.Popen[bytes], era: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._wire, self._answers = process.stdin, process.stdout
        self._extra: dict[str, Any] = {"_meta": ENVELOPE} if era == "modern" else {}
        self._ids = iter(range(1, 1000))
        if era == "handshake":
            self.ask("initialize", **HELLO)
            self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message: Any) -> None:
        self._wire.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self._wire.flush()

    def heard(self) -> Any:
        return json.loads(self._answers.readline())

    def ask(self, method: str, **params: Any) -> Any:
        self.send({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params})
        return self.heard()

    def call(self, name: Any, arguments: Any = None, **more: Any) -> Any:
        return self.ask("tools/call", **{"name": name, "arguments": arguments, **self._extra, **more})

    def begin(self, number: int, name: str, **arguments: Any) -> None:
        params = {"name": name, "arguments": arguments, **self._extra}
        self.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


@contextlib.contextmanager
def piped(folder: Path, way: str, era: str) -> Iterator[Pipe]:
    database = f"sqlite:///{folder / f'{way}.db'}"
    process = subprocess.Popen(
        [sys.executable, __file__, database, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Pipe(process, era)
    finally:
        process.kill()
        process.communicate()


def conversation(pipe: Pipe) -> list[Any]:
    made = pipe.call("create_task", {"title": "Größe 漢字 🙂", "instructions": "x", "idempotency_key": "k"})
    assert made["result"]["structuredContent"]["task"]["created_by"] == "A-Tester"
    return [
        pipe.call("get_task", {"task_id": "T-9"}),
        pipe.call("get_task", {"task_id": "T-1", "colour": "red"}),
        pipe.call("list_ready", {"queue": "none"}),
        pipe.call("list_ready", None),
        pipe.call("claim_task", {"queues": "none"}),
        pipe.call("complete_task", {"lease": "T-1.1.aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
        pipe.call("no_such_tool", {}),
        pipe.call(7, {}),
        pipe.call("get_task", ["T-1"]),
        pipe.call("get_task", {"task_id": "T-9"}, requestState="x"),
        pipe.call("get_task", {"task_id": "T-9"}, _meta={"progressToken": [1]}),
        pipe.call("get_task", {"task_id": "T-9"}, _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"}),
    ]


def without_times(answers: list[Any]) -> str:
    """Every instant is another one."""
    text = json.dumps(answers)
    return "".join("#" if letter.isdigit() else letter for letter in text)


@pytest.mark.parametrize("era", ERAS)
def test_both_ways_give_the_same_answers(tmp_path: Path, era: str) -> None:
    with piped(tmp_path, "short", era) as short, piped(tmp_path, "long", era) as by_sdk:
        assert without_times(conversation(short)) == without_times(conversation(by_sdk))


def test_a_call_before_the_handshake_is_refused_on_both_ways(tmp_path: Path) -> None:
    answers = []
    for way in ("short", "long"):
        with piped(tmp_path, way, "none yet") as pipe:
            answers.append(pipe.call("list_ready", {}))
    assert answers[0] == answers[1]
    assert "error" in answers[0]


@pytest.mark.parametrize("era", ERAS)
def test_a_parked_call_that_is_called_off_gets_no_answer_and_others_go_on(tmp_path: Path, era: str) -> None:
    with piped(tmp_path, "short", era) as pipe:
        pipe.begin(500, "claim_task", wait_seconds=50)
        pipe.begin(501, "claim_task", wait_seconds=50)
        pipe.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 500}})
        assert pipe.call("create_task", {"title": "For one"})["result"]["isError"] is False
        assert pipe.heard()["id"] == 501
        assert pipe.call("list_ready", {})["result"]["structuredContent"]["count"] == 0


def test_a_call_that_is_called_off_with_its_own_line_does_nothing(tmp_path: Path) -> None:
    with piped(tmp_path, "short", "handshake") as pipe:
        call = {"jsonrpc": "2.0", "id": 500, "method": "tools/call", "params": {"name": "create_task", "arguments": {}}}
        call["params"]["arguments"] = {"title": "Never mind"}  # type: ignore[index]  # of the dict above
        off = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 500}}
        pipe.send(json.dumps(call).encode() + b"\n" + json.dumps(off).encode())
        assert pipe.call("list_tasks", {})["result"]["structuredContent"]["count"] == 0


@pytest.mark.parametrize("era", ERAS)
def test_a_parked_call_is_answered_when_the_server_is_told_to_stop(tmp_path: Path, era: str) -> None:
    with piped(tmp_path, "short", era) as pipe:
        pipe.begin(500, "claim_task", wait_seconds=50)
        assert pipe.call("list_ready", {})["result"]["isError"] is False
        pipe.process.send_signal(signal.SIGTERM)
        answer = pipe.heard()
        assert answer["id"] == 500
        assert answer["result"]["structuredContent"]["code"] == "call_again"
        assert pipe.process.wait(20) == 0


def test_progress_is_told_before_the_answer(tmp_path: Path) -> None:
    with piped(tmp_path, "short", "handshake") as pipe:
        meta = {"progressToken": "p"}
        params = {"name": "claim_task", "arguments": {"wait_seconds": 0.2}, "_meta": meta}
        pipe.send({"jsonrpc": "2.0", "id": 500, "method": "tools/call", "params": params})
        told = [pipe.heard()]
        while "id" not in told[-1]:
            told.append(pipe.heard())
    *beats, answer = told
    assert beats
    assert {(each["params"]["progressToken"], each["params"]["message"]) for each in beats} == {("p", "waiting")}
    assert answer["id"] == 500


if __name__ == "__main__":
    stdio.run(lambda: serve(*sys.argv[1:]))
