"""The server on stdin and stdout: real processes, and both eras. This file is also the server under test."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import queue
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotation
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.types import SubscriptionsListenRequestParams

from taskqueue_mcp.model import Caller, Kind
from taskqueue_mcp.surfaces.access import caller, current_caller
from taskqueue_mcp.surfaces.mcp.stdio import LINE_LIMIT, run, serve_stdio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
SECONDS = 20.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": "src", "PYTHONUNBUFFERED": ""}  # what is printed waits in a buffer


# ---- the server under test ----


async def slow_hello(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    if ctx.method == "ping":
        raise RuntimeError("the password is hunter2")
    if ctx.method == "initialize":
        await asyncio.sleep(0.02)  # what comes behind has to wait for it
    return await call_next(ctx)


def build(stopping: asyncio.Event, listen: ListenHandler) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("wire", log_level="CRITICAL", subscriptions=False, middleware=[slow_hello])
    server._lowlevel_server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listen)
    add_plain_tools(server, stopping)
    add_odd_tools(server)
    return server


def add_plain_tools(server: MCPServer[Any], stopping: asyncio.Event) -> None:
    cancelled: list[str] = []

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        return text

    @server.tool(structured_output=False)
    async def park() -> str:
        await stopping.wait()
        return "call again"

    @server.tool(structured_output=False)
    async def stubborn(label: str) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(label)
            raise
        return "never"

    @server.tool(structured_output=False)
    async def who_was_cancelled() -> str:
        return ",".join(cancelled)

    @server.tool(structured_output=False)
    async def whoami() -> str:
        return caller().name

    @server.tool(structured_output=False)
    async def threads() -> int:
        return threading.active_count() - 1


def add_odd_tools(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    async def stray() -> str:
        sys.stdout.write("stray, and still in a buffer\n")
        os.write(1, b"stray, past every buffer\n")
        child = await asyncio.create_subprocess_exec("sh", "-c", "echo stray, from a child; cat")
        await child.wait()
        return "clean"

    @server.tool(structured_output=False)
    async def unwritable() -> str:
        return "half a pair: \ud800"

    @server.tool(structured_output=False)
    async def notes(count: int, ctx: Context[Any]) -> str:
        for number in range(1, count + 1):
            await ctx.report_progress(number, message="x" * 1000)
        return "noted"


def main() -> None:
    stopping = asyncio.Event()
    listen = ListenHandler(InMemorySubscriptionBus())
    server = build(stopping, listen)
    if not sys.stdout.isatty():  # a terminal would show it at once
        sys.stdout.write("printed before\n")

    async def serve() -> None:
        current_caller.set(Caller("gemini", Kind.AGENT, frozenset()))
        await serve_stdio(server, stopping=stopping, on_stop=listen.close)

    if "asyncio" in sys.argv:
        asyncio.run(serve())
    else:
        run(serve)
    if "quiet" not in sys.argv:
        sys.stdout.write("printed after\n")


# ---- the client ----


class Peer:
    """A client that speaks raw lines, so that nothing is smoothed over."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, answers: int) -> None:
        self.process = process
        self._to = to
        self._answers = answers
        self._ids = iter(range(1, 1_000_000))
        self._lines: queue.Queue[bytes] = queue.Queue()
        self.reading = threading.Event()
        self.reading.set()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        held = b""
        while self.reading.wait():
            try:
                chunk = os.read(self._answers, 65536)
            except OSError:
                chunk = b""
            if not chunk:
                self._lines.put(b"")
                return
            *lines, held = (held + chunk).split(b"\n") if b"\n" in chunk else (held + chunk,)
            for line in lines:
                self._lines.put(line)

    def raw(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._to, data) :]

    def send(self, *messages: dict[str, Any]) -> None:
        self.raw(b"".join(json.dumps(message, ensure_ascii=False).encode() + b"\n" for message in messages))

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        return message if params is None else {**message, "params": params}

    def line(self) -> bytes:
        return self._lines.get(timeout=SECONDS)

    def answer(self) -> dict[str, Any]:
        line = self.line()
        assert line, "the server closed its end"
        message: dict[str, Any] = json.loads(line)
        return message

    def answers(self, count: int) -> dict[int, dict[str, Any]]:
        got = [self.answer() for _ in range(count)]
        return {answer["id"]: answer for answer in got}

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        request = self.request(method, params)
        self.send(request)
        answer = self.answer()
        assert answer["id"] == request["id"]
        return answer

    def tool(self, name: str, *, modern: bool = False, **arguments: Any) -> dict[str, Any]:
        extra = {"_meta": ENVELOPE} if modern else {}
        return self.request("tools/call", {"name": name, "arguments": arguments, **extra})

    def call(self, name: str, *, modern: bool = False, **arguments: Any) -> str:
        request = self.tool(name, modern=modern, **arguments)
        self.send(request)
        answer = self.answer()
        assert answer["id"] == request["id"]
        return text_of(answer)

    def shake_hands(self) -> Peer:
        assert self.ask("initialize", HELLO)["result"]["protocolVersion"] == "2025-06-18"
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def hang_up(self) -> float:
        """Close stdin and say how long the server took to end."""
        begin = time.monotonic()
        os.close(self._to)
        assert self.process.wait(SECONDS) == 0
        return time.monotonic() - begin


def cancel(request: dict[str, Any]) -> dict[str, Any]:
    params = {"requestId": request["id"]}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["result"]["content"][0]["text"]
    return text


def a_second() -> float:
    """A second where a process starts in 0.7; more on a machine that is slow or busy now."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import mcp"], check=True)
    return max(1.0, 3 * (time.monotonic() - begin) - 1)


def command(*flags: str) -> list[str]:
    return [sys.executable, __file__, *flags]


@contextlib.contextmanager
def server(*flags: str, through: str = "pipe", **env: str) -> Iterator[Peer]:
    ours: list[int]
    if through == "pipe":
        theirs_in, to = os.pipe()
        answers, theirs_out = os.pipe()
        ours = [answers]
    elif through == "socket":  # one socket for both directions, as Node hands it out
        end, other = socket.socketpair()
        to, theirs_in = end.detach(), other.detach()
        answers, theirs_out = os.dup(to), theirs_in
        ours = [answers]
    else:
        to, theirs_in = pty.openpty()
        tty.setraw(theirs_in)
        answers, theirs_out = to, theirs_in
        ours = []
    process = subprocess.Popen(
        command(*flags),
        stdin=theirs_in,
        stdout=theirs_out,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, **env},
    )
    for fd in {theirs_in, theirs_out}:
        os.close(fd)
    peer = Peer(process, to, answers)
    try:
        yield peer
    finally:
        peer.reading.set()
        process.kill()
        process.wait()
        peer.reader.join(SECONDS)  # or it would read on from whatever has its descriptor's number next
        assert process.stderr is not None
        process.stderr.close()
        for fd in [to, *ours]:
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture(params=["uvloop", "stock"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Our transport and the SDK's: what holds for one has to hold for the other."""
    with server(**({"TASKQUEUE_STDIO": "stock"} if request.param == "stock" else {})) as peer:
        yield peer


@pytest.fixture(scope="module", params=["uvloop", "stock"])
def shaken(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """One connection of either kind, after its handshake, for tests that leave it as they found it."""
    with server(**({"TASKQUEUE_STDIO": "stock"} if request.param == "stock" else {})) as peer:
        yield peer.shake_hands()


@pytest.fixture(params=["uvloop", "asyncio"])
def fast(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Our transport, on either loop."""
    with server(request.param) as peer:
        yield peer


# ---- eras ----


def test_discover_twice_then_initialize_shakes_hands(peer: Peer) -> None:
    for _ in range(2):
        result = peer.ask("server/discover", {"_meta": ENVELOPE})["result"]
        assert result["supportedVersions"] == ["2026-07-28"]
    peer.shake_hands()
    assert peer.call("echo", text="after the handshake") == "after the handshake"


def test_discover_then_modern_calls_stay_modern(peer: Peer) -> None:
    peer.ask("server/discover", {"_meta": ENVELOPE})
    assert peer.call("echo", modern=True, text="modern") == "modern"
    refused = peer.ask("initialize", HELLO)["error"]
    assert refused["code"] == -32022
    assert refused["data"] == {"supported": ["2026-07-28"], "requested": "2025-06-18"}
    assert peer.call("echo", modern=True, text="still") == "still"


def test_a_handshake_straight_away_opens_the_old_era(peer: Peer) -> None:
    peer.shake_hands()
    assert len(peer.ask("tools/list")["result"]["tools"]) == 9
    refused = peer.ask("tools/list", {"_meta": ENVELOPE})["error"]
    assert refused["code"] == -32600


def test_what_a_client_sends_in_one_write_is_taken_in_order(peer: Peer) -> None:
    discover = peer.request("server/discover", {"_meta": ENVELOPE})
    hello = peer.request("initialize", HELLO)
    called = peer.tool("echo", text="at once")
    peer.send(discover, hello, {"jsonrpc": "2.0", "method": "notifications/initialized"}, called)
    answers = peer.answers(3)
    assert "supportedVersions" in answers[discover["id"]]["result"]
    assert answers[hello["id"]]["result"]["protocolVersion"] == "2025-06-18"
    assert text_of(answers[called["id"]]) == "at once"


def test_discover_without_an_envelope_is_refused_and_decides_nothing(peer: Peer) -> None:
    assert peer.ask("server/discover")["error"]["code"] == -32602
    peer.shake_hands()


def test_a_call_before_the_handshake_is_refused(peer: Peer) -> None:
    assert peer.ask("tools/list")["error"]["code"] == -32602
    peer.shake_hands()


def test_a_tool_knows_on_whose_behalf_the_process_serves(shaken: Peer) -> None:
    assert shaken.call("whoami") == "gemini"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_python_client_is_served_in_both_eras(mode: Any) -> None:
    parameters = StdioServerParameters(command=sys.executable, args=command()[1:], env=ENVIRONMENT)
    with anyio.fail_after(SECONDS):
        async with Client(stdio_client(parameters), mode=mode) as client:
            result = await client.call_tool("echo", {"text": "hello"})
            assert result.content[0].model_dump()["text"] == "hello"


# ---- lines ----


@pytest.mark.parametrize("text", ["naïve ☃ 😀 日本語", "a\nb\r\nc\u2028d\x7f\x01", "x" * 1024 * 1024, "é" * 2_500_000])
def test_text_of_any_kind_and_length_comes_back_as_it_went(shaken: Peer, text: str) -> None:
    assert shaken.call("echo", text=text) == text


def test_a_line_that_is_no_message_is_dropped_and_the_next_one_served(shaken: Peer) -> None:
    shaken.raw(b'\n   \n{"jsonrpc": "2.0", "id": 7\n[]\nnull\n{"id": 5}\n\xff\xfe\n')
    assert shaken.call("echo", text="still here") == "still here"


def test_bytes_that_are_no_utf_8_become_replacement_characters(shaken: Peer) -> None:
    shaken.raw(json.dumps(shaken.tool("echo", text="a?b")).encode().replace(b"?", b"\xff") + b"\n")
    assert text_of(shaken.answer()) == "a\ufffdb"


def test_a_last_line_without_a_newline_is_still_served(fast: Peer) -> None:
    fast.shake_hands()
    fast.raw(json.dumps(fast.tool("echo", text="last")).encode())
    fast.hang_up()
    assert text_of(fast.answer()) == "last"


@pytest.mark.parametrize("id_first", [True, False])
def test_a_line_past_the_limit_is_refused_to_whom_it_came_from(fast: Peer, id_first: bool) -> None:
    fast.shake_hands()
    request = fast.tool("echo", text='{"id": 666, ' + "x" * (LINE_LIMIT + 10))
    if not id_first:
        request = {**{key: request[key] for key in ("method", "params", "jsonrpc")}, "id": request["id"]}
    fast.send(request)
    answer = fast.answer()
    assert answer["id"] == request["id"]
    assert answer["error"]["code"] == -32600
    assert str(LINE_LIMIT) in answer["error"]["message"]
    assert fast.call("echo", text="next") == "next"


def test_a_line_past_the_limit_without_a_visible_id_is_refused_to_nobody(fast: Peer) -> None:
    fast.shake_hands()
    fast.raw(b'{"params": {"id": 666, "x": "' + b"x" * (3 * LINE_LIMIT) + b'"}, "id": 5, "method": "ping"}\n')
    answer = fast.answer()
    assert answer["id"] is None
    assert answer["error"]["code"] == -32600
    assert fast.call("echo", text="next") == "next"


def test_a_line_past_the_limit_is_not_kept_in_memory() -> None:
    with server() as peer:
        peer.shake_hands()
        before = resident(peer.process.pid)
        peer.raw(b'{"id": 5, "x": "')
        for _ in range(64):
            peer.raw(b"x" * 1024 * 1024)
        assert resident(peer.process.pid) - before < 40 * 1024 * 1024
        peer.raw(b'"}\n')
        assert peer.answer()["id"] == 5


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as pages:  # noqa: PTH123 - not a file on any disk
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# ---- many at once, slowly read ----


def test_two_hundred_calls_at_once_are_all_answered(shaken: Peer) -> None:
    requests = [shaken.tool("echo", text=f"call {number}") for number in range(200)]
    shaken.send(*requests)
    answers = shaken.answers(200)
    for number, request in enumerate(requests):
        assert text_of(answers[request["id"]]) == f"call {number}"


def test_parked_calls_hold_up_nobody(shaken: Peer) -> None:
    parked = [shaken.tool("stubborn", label="parked") for _ in range(50)]
    shaken.send(*parked)
    assert shaken.call("echo", text="past them") == "past them"
    shaken.send(*(cancel(request) for request in parked))


def test_a_slow_reader_loses_nothing(fast: Peer) -> None:
    fast.shake_hands()
    requests = [fast.tool("echo", text=f"{number:03}" * 30_000) for number in range(40)]
    fast.reading.clear()
    fast.send(*requests)
    slowly_filled(fast)
    fast.reading.set()
    answers = fast.answers(40)
    for number, request in enumerate(requests):
        assert text_of(answers[request["id"]]) == f"{number:03}" * 30_000


def test_a_slow_reader_holds_up_whoever_sends_notifications(fast: Peer) -> None:
    fast.shake_hands()
    before = resident(fast.process.pid)
    fast.reading.clear()
    request = fast.tool("notes", count=20_000)
    request["params"]["_meta"] = {"progressToken": "t"}
    fast.send(request)
    slowly_filled(fast)
    assert resident(fast.process.pid) - before < 10 * 1024 * 1024
    fast.reading.set()
    for number in range(1, 20_001):
        assert fast.answer()["params"]["progress"] == number
    assert text_of(fast.answer()) == "noted"


def test_what_nobody_reads_is_bounded_and_comes_later() -> None:
    with server() as peer:
        peer.shake_hands()
        before = resident(peer.process.pid)
        peer.reading.clear()
        requests = [peer.tool("echo", text="x" * 2 * 1024 * 1024) for _ in range(60)]
        sent: list[int] = []

        def write() -> None:
            for request in requests:
                peer.send(request)
                sent.append(request["id"])

        writing = threading.Thread(target=write)
        writing.start()
        slowly_filled(peer)
        seen = -1
        while seen < len(sent):
            seen = len(sent)
            writing.join(1)
        assert writing.is_alive()
        assert resident(peer.process.pid) - before < 160 * 1024 * 1024
        peer.reading.set()
        answers = peer.answers(60)
        writing.join(SECONDS)
        assert answers.keys() == {request["id"] for request in requests}


def slowly_filled(peer: Peer) -> None:
    """Wait until the pipe, which nobody reads, is as good as full."""
    end = time.monotonic() + SECONDS
    unread = bytearray(4)
    while int.from_bytes(unread, sys.byteorder) < 32_768:
        assert time.monotonic() < end
        time.sleep(0.01)
        fcntl.ioctl(peer._answers, termios.FIONREAD, unread)


# ---- ending ----


def test_a_parked_call_is_answered_when_stdin_ends(peer: Peer) -> None:
    peer.shake_hands()
    peer.send(peer.tool("park"))
    assert peer.call("echo", text="parked by now") == "parked by now"
    allowed = a_second()
    assert peer.hang_up() < allowed
    assert text_of(peer.answer()) == "call again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("modern", [False, True])
def test_a_parked_call_is_answered_when_a_signal_comes(fast: Peer, number: signal.Signals, modern: bool) -> None:
    if not modern:
        fast.shake_hands()
    fast.send(fast.tool("park", modern=modern))
    assert fast.call("echo", modern=modern, text="parked by now") == "parked by now"
    allowed, begin = a_second(), time.monotonic()
    fast.process.send_signal(number)
    assert text_of(fast.answer()) == "call again"
    assert fast.process.wait(SECONDS) == 0
    assert time.monotonic() - begin < allowed


def test_a_listen_stream_is_closed_in_order_when_a_signal_comes(fast: Peer) -> None:
    wanted = {"toolsListChanged": True}
    fast.send(fast.request("subscriptions/listen", {"notifications": wanted, "_meta": ENVELOPE}))
    assert fast.answer()["method"] == "notifications/subscriptions/acknowledged"
    allowed, begin = a_second(), time.monotonic()
    fast.process.terminate()
    assert fast.answer()["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1
    assert fast.process.wait(SECONDS) == 0
    assert time.monotonic() - begin < allowed


def test_a_call_that_will_not_end_is_broken_off(peer: Peer) -> None:
    peer.shake_hands()
    peer.send(peer.tool("stubborn", label="a"))
    assert peer.call("echo", text="begun by now") == "begun by now"
    allowed = a_second()
    assert peer.hang_up() < allowed
    assert peer.answer()["error"] == {"code": -32000, "message": "the server is stopping; call again"}


def test_stdin_may_end_before_anything_was_said(peer: Peer) -> None:
    assert peer.hang_up() < SECONDS


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_a_client_that_closes_its_end_ends_the_server(flag: str) -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    line = json.dumps(hello).encode() + b"\n"
    with subprocess.Popen(
        command(flag, "quiet"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        assert b"protocolVersion" in process.stdout.read(4096)
        process.stdout.close()
        allowed, begin = a_second(), time.monotonic()
        process.stdin.write(line)
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - begin < allowed


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_a_client_that_reads_no_more_does_not_hold_up_the_end(flag: str) -> None:
    with server(flag, "quiet") as peer:
        peer.shake_hands()
        peer.reading.clear()
        peer.send(*(peer.tool("echo", text="x" * 1024 * 1024) for _ in range(5)))
        slowly_filled(peer)
        allowed = a_second()
        assert peer.hang_up() < allowed


# ---- cancelling, failing ----


def test_a_cancelled_call_is_interrupted_and_never_answered(shaken: Peer) -> None:
    request = shaken.tool("stubborn", label="this one")
    shaken.send(request, shaken.request("tools/list"))
    assert "tools" in shaken.answer()["result"]
    shaken.send(cancel(request))
    assert shaken.call("who_was_cancelled").endswith("this one")


def test_an_answer_that_json_cannot_carry_becomes_an_error(fast: Peer) -> None:
    fast.shake_hands()
    request = fast.tool("unwritable")
    fast.send(request)
    answer = fast.answer()
    assert (answer["id"], answer["error"]["code"]) == (request["id"], -32603)
    assert fast.call("echo", text="still here") == "still here"


def test_an_unforeseen_exception_reaches_the_client_without_its_text(shaken: Peer) -> None:
    assert shaken.ask("ping")["error"] == {"code": -32603, "message": "Internal server error"}


# ---- what stdin and stdout are ----


def test_stray_prints_never_reach_the_wire() -> None:
    with server() as peer:
        peer.shake_hands()
        assert peer.call("stray") == "clean"
        assert peer.call("stray") == "clean"
        peer.hang_up()
        assert peer.line() == b"printed after"  # the process has its stdout back
        assert peer.line() == b""
        assert peer.process.stderr is not None
        said = peer.process.stderr.read()
        for text in (b"printed before", b"in a buffer", b"past every buffer", b"from a child"):
            assert text in said


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_one_socket_may_be_both_stdin_and_stdout(flag: str) -> None:
    with server(flag, through="socket") as peer:
        peer.shake_hands()
        assert peer.call("echo", text="é" * 500_000) == "é" * 500_000
        peer.send(peer.tool("park"))
        assert peer.call("echo", text="parked by now") == "parked by now"
        peer.process.terminate()
        assert text_of(peer.answer()) == "call again"
        assert peer.process.wait(SECONDS) == 0


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_a_client_gets_its_socket_back_as_it_gave_it(flag: str) -> None:
    end, other = socket.socketpair()
    with end, other:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
        end.sendall(json.dumps(hello).encode() + b"\n")
        with subprocess.Popen(command(flag), stdin=other.fileno(), stdout=other.fileno(), env=ENVIRONMENT) as process:
            assert b"protocolVersion" in end.recv(65536)
            assert not os.get_blocking(other.fileno())
            process.terminate()
            assert process.wait(SECONDS) == 0
        assert os.get_blocking(other.fileno())


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_a_terminal_may_be_both_stdin_and_stdout(flag: str) -> None:
    with server(flag, through="terminal") as peer:
        peer.shake_hands()
        assert peer.call("echo", text="typed") == "typed"
        peer.process.terminate()
        assert peer.process.wait(SECONDS) == 0


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
def test_stdin_and_stdout_may_be_files(flag: str, tmp_path: Path) -> None:
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "park", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/list"},
    ]
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with asked.open("rb") as source, answered.open("wb") as sink:
        ended = subprocess.run(
            command(flag),
            stdin=source,
            stdout=sink,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
            env=ENVIRONMENT,
        )
    assert ended.returncode == 0
    written = answered.read_text(encoding="utf-8").splitlines()
    assert written.pop() == "printed after"
    answers = {answer["id"]: answer for answer in map(json.loads, written)}
    assert answers.keys() == {1, 2, 3}
    assert text_of(answers[2]) == "call again"


def test_an_empty_stdin_ends_the_server_at_once() -> None:
    ended = subprocess.run(
        command(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=True,
        env=ENVIRONMENT,
    )
    assert ended.stdout == b"printed after\n"


def test_no_thread_stands_between_a_pipe_and_the_calls(fast: Peer) -> None:
    fast.shake_hands()
    assert fast.call("threads") == "0"


def test_the_sdk_transport_serves_whoever_asks_for_it() -> None:
    with server(TASKQUEUE_STDIO="stock") as peer:
        peer.shake_hands()
        assert peer.call("threads") != "0"


if __name__ == "__main__":
    main()
