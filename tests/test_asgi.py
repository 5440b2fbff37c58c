"""The HTTP application behind its access control: real sockets, real processes. This file is also the server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.types import SubscriptionsListenRequestParams
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from taskqueue_mcp.errors import Busy, Forbidden, SettingsRefused, TaskQueueError
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.surfaces.access import AccessControl, caller, too_deep
from taskqueue_mcp.surfaces.asgi import build_app, serve_http
from taskqueue_mcp.surfaces.mcp.stdio import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

SECONDS = 20.0
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": "src"}
MIB = 1024 * 1024


# ---- the server under test ----


NAMES = {"gemini-token": "gemini", "claude-token": "claude", "hasty-token": "hasty"}


async def authenticate(sent: str) -> Caller | None:
    if sent == "database-is-locked":
        raise Busy("the database is locked; try again")
    return Caller(NAMES[sent], Kind.AGENT, frozenset({Scope.WORK})) if sent in NAMES else None


def limit(who: Caller) -> float | None:
    return 2.3 if who.name == "hasty" else None


async def created(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"caller": caller().name, "state": request.state.caller.name, "bytes": len(body)})


async def endless(_: AsgiScope, __: Receive, send: Send) -> None:
    """Stream to whoever asks, and never look whether they are still there."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"...", "more_body": True})
    await asyncio.sleep(60)


async def board(scope: AsgiScope, receive: Receive, send: Send) -> None:
    await JSONResponse({"board": scope["path"]})(scope, receive, send)


def application(stopping: asyncio.Event, listen: ListenHandler) -> AccessControl:
    mcp: MCPServer[Any] = MCPServer("queue", log_level="CRITICAL", subscriptions=False)
    mcp._lowlevel_server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listen)

    @mcp.tool(structured_output=False)
    async def whoami(pause: float = 0) -> str:
        await asyncio.sleep(pause)
        return caller().name

    @mcp.tool(structured_output=False)
    async def park() -> str:
        await stopping.wait()
        await asyncio.sleep(0.05)  # a commit on the way out
        return "call again"

    @mcp.tool(structured_output=False)
    async def stubborn() -> str:
        await asyncio.sleep(60)
        return "never"

    async def ready() -> dict[str, bool]:
        if "unreachable" in sys.argv:
            raise ConnectionRefusedError
        return {"database": True, "disk": "unready" not in sys.argv}

    return build_app(
        mcp,
        authenticate=authenticate,
        hosts=["queue.example.com", "ported.example.com:8443", "[fd00::1]"],
        origins=["https://tools.example.com", "vscode-webview://abc"],
        routes=[
            Route("/api/v1/tasks", created, methods=["GET", "POST", "PUT", "DELETE"]),
            Route("/artifacts/{name}", created, methods=["PUT"]),
            Route("/static/board.js", created),
            Mount("/endless", endless),
            *([] if "bare" in sys.argv else [Mount("/", board)]),
        ],
        ready=ready,
        limit=limit,
        body_limits={"/artifacts/": 5 * MIB},
    )


def main() -> None:
    stopping = asyncio.Event()
    listen = ListenHandler(InMemorySubscriptionBus())
    app = application(stopping, listen)

    def on_stop() -> None:
        stopping.set()
        listen.close()

    def report(port: int) -> None:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()

    async def serve() -> None:
        await serve_http(app, "127.0.0.1", int(sys.argv[1]), on_stop=on_stop, ready_callback=report)

    try:
        if "asyncio" in sys.argv:
            asyncio.run(serve())
        else:
            run(serve)
    except TaskQueueError as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(1)


# ---- the client ----


def a_second() -> float:
    """A second where a process starts in 0.7; more on a machine that is slow or busy now."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import mcp"], check=True)
    return max(1.0, 3 * (time.monotonic() - begin) - 1)


@contextlib.contextmanager
def server(*flags: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    process = subprocess.Popen(
        [sys.executable, __file__, str(port), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, int(process.stdout.readline() or 0)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as (_, port):
        yield port


class Answer:
    """Status, headers and body of a response, read to its end."""

    def __init__(self, sock: socket.socket, method: str = "GET") -> None:
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def result(self) -> dict[str, Any]:
        """The JSON-RPC message, whether it came as JSON or as the last event of a stream."""
        text = self.body.decode()
        if self.headers["content-type"].startswith("text/event-stream"):
            text = text.rsplit("data: ", 1)[1]
        read: dict[str, Any] = json.loads(text)
        return read


def raw(port: int, *lines: str, body: bytes = b"") -> Answer:
    """Send exactly these lines, then the body."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(body)
        return Answer(sock, lines[0].partition(" ")[0])


def ask(
    port: int,
    method: str = "GET",
    path: str = "/api/v1/tasks",
    *,
    key: str | None = "gemini-token",
    host: str | None = None,
    body: bytes = b"",
    **headers: str,
) -> Answer:
    sent = {"Host": host or f"127.0.0.1:{port}", "Connection": "close"}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    if body or method in ("POST", "PUT"):
        sent["Content-Length"] = str(len(body))
        sent["Content-Type"] = "application/json"
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return raw(port, *lines, body=body)


def rpc(port: int, method: str, params: dict[str, Any], *, modern: bool, key: str = "claude-token") -> socket.socket:
    """Send one MCP request and leave its connection open."""
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    if modern:
        params = {**params, "_meta": ENVELOPE}
        headers |= {
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
            "Mcp-Name": params.get("name", ""),
        }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers |= {"Host": "localhost", "Authorization": f"Bearer {key}", "Content-Length": str(len(body))}
    sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    sock.sendall("\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + body)
    return sock


def call(port: int, tool: str, *, modern: bool, key: str = "claude-token", **arguments: Any) -> socket.socket:
    return rpc(port, "tools/call", {"name": tool, "arguments": arguments}, modern=modern, key=key)


def text_of(answer: Answer) -> str:
    text: str = answer.result["result"]["content"][0]["text"]
    return text


# ---- tokens ----


def test_every_route_and_method_wants_a_token(port: int) -> None:
    control = application(asyncio.Event(), ListenHandler(InMemorySubscriptionBus()))
    assert isinstance(control.app, Starlette)
    routes: list[Any] = control.app.routes
    paths = {route.path.replace("{name}", "x") or "/" for route in routes}
    assert {"/mcp", "/healthz", "/readyz", "/api/v1/tasks", "/artifacts/x", "/"} <= paths
    paths |= {
        "/docs",
        "/openapi.json",
        "/metrics",
        "/nothing/here",
        "//healthz",
        "/healthz/",
        "/mcp/",
        "/%2e/healthz",
    }
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
    for path, method in itertools.product(sorted(paths), methods):
        answer = ask(port, method, path, key=None)
        if path in ("/healthz", "/readyz") and method in ("GET", "HEAD"):
            assert answer.status == 200
        else:
            assert (path, method, answer.status) == (path, method, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                assert answer.json["error"] == "unauthorized"
                assert answer.body.count(b"\n") == 1


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer nobody",
        "Bearer",
        "Bearer ",
        "gemini-token",
        "Basic gemini-token",
        "Bearer gemini-token, Bearer claude-token",
        "Bearer gemini-token x",
        "Bearer \xe9",
        "Bearer " + "x" * 5000,
    ],
)
def test_what_is_no_token_is_refused(port: int, sent: str) -> None:
    assert ask(port, key=None, Authorization=sent).status == 401


def test_two_tokens_are_refused(port: int) -> None:
    head = ["GET /api/v1/tasks HTTP/1.1", "Host: localhost", "Connection: close"]
    one = "Authorization: Bearer gemini-token"
    assert raw(port, *head, one).status == 200
    assert raw(port, *head, one, one).status == 401


def test_the_scheme_is_read_in_any_case(port: int) -> None:
    answer = ask(port, key=None, Authorization="bEARER gemini-token")
    assert answer.json == {"caller": "gemini", "state": "gemini", "bytes": 0}


def test_a_locked_database_is_no_wrong_token(port: int) -> None:
    answer = ask(port, key="database-is-locked")
    assert (answer.status, answer.json["error"]) == (503, "busy")


def test_a_token_in_the_path_opens_nothing(port: int) -> None:
    assert ask(port, path="/api/v1/tasks?access_token=gemini-token", key=None).status == 401


def test_a_caller_over_the_limit_is_told_when_to_come_back(port: int) -> None:
    answer = ask(port, key="hasty-token")
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert answer.json["error"] == "limit_reached"


def test_outside_a_request_there_is_no_caller() -> None:
    with pytest.raises(Forbidden):
        caller()


# ---- names and origins ----

OURS = [
    "127.0.0.1:{port}",
    "127.0.0.1",
    "localhost:9000",
    "LocalHost",
    "127.8.9.1",
    "[::1]:{port}",
    "[0:0::0:1]",
]
CONFIGURED = ["queue.example.com", "Queue.Example.com:1234", "ported.example.com:8443", "[fd00:0:0::1]:80"]
FOREIGN = [
    "evil.example",
    "evil.example:{port}",
    "a/?x=",
    "a/?x=127.0.0.1",
    "127.0.0.1/?x=",
    "127.0.0.1:{port}/x",
    "evil@127.0.0.1",
    "127.0.0.1@evil.example",
    "localhost.",
    "localhost.:{port}",
    "queue.example.com.",
    "queue.example.com.evil.example",
    "evil.queue.example.com",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0.0.0.0",  # noqa: S104 - the name of nobody, not an address to bind to
    "[::]",
    "[::ffff:127.0.0.1%25x]",
    "[evil]",
    "::1",
    "localhost:",
    "localhost:x",
    "localhost:999999",
    "localhost, evil.example",
    "localhost evil",
    "http://localhost",
    "ported.example.com",
    "ported.example.com:8444",
    "*",
    "",
    "\xe9",
]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/mcp", "/api/v1/tasks", "/static/board.js", "/nowhere"])
def test_only_our_own_names_are_answered(port: int, path: str) -> None:
    for host in FOREIGN:
        head = f"GET {path} HTTP/1.1"
        answer = raw(port, head, f"Host: {host.format(port=port)}", "Authorization: Bearer gemini-token")
        assert (host, answer.status) == (host, 421)
        assert answer.json["error"] == "unknown_host"
    for host in OURS + CONFIGURED:
        assert (host, ask(port, path=path, host=host.format(port=port)).status) != (host, 421)


def test_a_request_names_one_host(port: int) -> None:
    bearer = "Authorization: Bearer gemini-token"
    assert raw(port, "GET /healthz HTTP/1.1", bearer).status == 421
    assert raw(port, "GET /healthz HTTP/1.0").status == 421
    assert raw(port, "GET /healthz HTTP/1.1", "Host: localhost", "Host: localhost").status == 421
    assert raw(port, "GET /healthz HTTP/1.1", "Host: localhost", "host: evil.example").status == 421


def test_a_path_that_poses_as_a_name_changes_nothing(port: int) -> None:
    for target in (
        "http://localhost/api/v1/tasks",
        "//localhost/healthz",
        "/@evil",
        "/healthz@evil",
        "/a/../healthz",
    ):
        assert raw(port, f"GET {target} HTTP/1.1", "Host: evil.example", "Connection: close").status == 421
        assert raw(port, f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close").status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/mcp", "/api/v1/tasks", "/nowhere"])
def test_the_page_that_asks_is_one_of_ours(port: int, path: str) -> None:
    own = f"127.0.0.1:{port}"
    let_in = {
        (own, f"http://127.0.0.1:{port}"),
        (own, "https://tools.example.com"),
        (own, "vscode-webview://abc"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("queue.example.com", "https://queue.example.com"),
        ("queue.example.com", "https://tools.example.com"),
        ("ported.example.com:8443", "https://ported.example.com:8443"),
    }
    refused = {
        (own, "null"),
        (own, ""),
        (own, "http://evil.example"),
        (own, "http://localhost:3000"),
        (own, f"http://localhost:{port}"),
        (own, "http://127.0.0.1"),
        (own, f"http://127.0.0.1:{port}/"),
        (own, f"http://evil@127.0.0.1:{port}"),
        (own, f"http://127.0.0.1:{port}.evil.example"),
        (own, "http://tools.example.com"),
        (own, "https://tools.example.com:444"),
        (own, "https://tools.example.com.evil.example"),
        (own, "https://tools.example.com, https://evil.example"),
        (own, "file://"),
        (own, "vscode-webview://abcd"),
        (own, "https://queue.example.com"),
        ("queue.example.com", "http://queue.example.com"),
        ("queue.example.com", "https://evil.queue.example.com"),
        ("queue.example.com", "http://localhost"),
        ("localhost", "http://localhost:3000"),
    }
    expected = ask(port, path=path).status
    for host, origin in sorted(let_in):
        answer = ask(port, path=path, host=host, Origin=origin)
        assert (host, origin, answer.status) == (host, origin, expected)
    for host, origin in sorted(refused):
        answer = ask(port, path=path, host=host, Origin=origin)
        assert (host, origin, answer.status) == (host, origin, 403)
        assert answer.json["error"] == "foreign_origin"


def test_two_origins_are_refused(port: int) -> None:
    own = "Origin: https://tools.example.com"
    assert raw(port, "GET /healthz HTTP/1.1", "Host: localhost", own, own).status == 403


def test_all_faults_in_the_lists_are_named_at_once() -> None:
    with pytest.raises(SettingsRefused) as refused:
        AccessControl(
            board,
            authenticate=authenticate,
            hosts=["fine.example.com", "https://a.example.com", "*"],
            origins=["https://fine.example.com", "b.example.com", "null", "https://c.example.com/"],
        )
    for wrong in ("https://a.example.com'", "'*'", "b.example.com", "null", "https://c.example.com/"):
        assert wrong in str(refused.value)
    assert "fine" not in str(refused.value)


# ---- methods and bodies ----


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_mcp_is_spoken_by_post_only(port: int, method: str, accept: str) -> None:
    answer = ask(port, method, "/mcp", Accept=accept)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    modern = ask(port, method, "/mcp", Accept=accept, MCP_Protocol_Version="2026-07-28")
    assert modern.status == 405


def test_what_is_not_there_is_said_so_in_one_line() -> None:
    with server("bare") as (_, port):
        missing = ask(port, path="/nowhere")
        assert (missing.status, missing.json) == (404, {"error": "not_found", "message": "Not Found"})
        wrong = ask(port, "POST", "/healthz")
        assert (wrong.status, wrong.json) == (405, {"error": "invalid_input", "message": "Method Not Allowed"})


def test_a_body_ends_at_four_mebibytes(port: int) -> None:
    assert ask(port, "POST", body=b"x" * 4 * MIB).json["bytes"] == 4 * MIB
    for path in ("/api/v1/tasks", "/mcp"):
        answer = ask(port, "POST", path, body=b"x" * (4 * MIB + 1))
        assert (answer.status, answer.json["error"]) == (413, "limit_reached")


def test_a_body_that_hides_its_length_ends_there_too(port: int) -> None:
    head = ["POST /api/v1/tasks HTTP/1.1", "Host: localhost", "Authorization: Bearer gemini-token"]
    chunk = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    fits = raw(port, *head, "Transfer-Encoding: chunked", body=chunk * 4 + b"0\r\n\r\n")
    assert fits.json["bytes"] == 4 * MIB
    assert raw(port, *head, "Transfer-Encoding: chunked", body=chunk * 5 + b"0\r\n\r\n").status == 413


def test_a_route_for_files_has_its_own_limit_and_wants_a_length(port: int) -> None:
    assert ask(port, "PUT", "/artifacts/a", body=b"x" * 5 * MIB).json["bytes"] == 5 * MIB
    assert ask(port, "PUT", "/artifacts/a", body=b"x" * (5 * MIB + 1)).status == 413
    head = ["PUT /artifacts/a HTTP/1.1", "Host: localhost", "Authorization: Bearer gemini-token"]
    assert raw(port, *head, "Transfer-Encoding: chunked", body=b"0\r\n\r\n").status == 411


def test_a_body_is_not_read_before_its_sender_is_known(port: int) -> None:
    head = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Length: 4000000"]
    assert raw(port, *head).status == 401


@pytest.mark.parametrize("deep", [b"[" * 41 + b"]" * 41, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 2_000_000])
def test_deep_json_is_refused_before_anything_parses_it(port: int, deep: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":%s}}}' % deep
    for path, content_type in (
        ("/mcp", "application/json"),
        ("/mcp", "text/plain"),
        ("/api/v1/tasks", "a/b+json"),
    ):
        answer = ask(port, "POST", path, body=body, Content_Type=content_type)
        assert (answer.status, answer.json["error"]) == (400, "invalid_input")
        assert "nests" in answer.json["message"]


def test_brackets_in_text_are_no_nesting(port: int) -> None:
    with call(port, "whoami", modern=True, ignored="[" * 500 + '"{' * 500) as sock:
        assert text_of(Answer(sock)) == "claude"


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(alphabet='ab[]{}"\\é☃\n')),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(alphabet='[]{}"\\'), inner)),
    max_leaves=60,
)


def depth(document: Any) -> int:
    match document:
        case list():
            return 1 + max(map(depth, document), default=0)
        case dict():
            return 1 + max(map(depth, document.values()), default=0)
        case _:
            return 0


@given(documents, st.integers(min_value=0, max_value=8), st.booleans())
def test_too_deep_counts_as_a_parser_does(document: Any, limit: int, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert too_deep(body, limit) == (depth(document) > limit)


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b"[" * 4 * MIB, id="openers"),
        pytest.param(b"[]" * 2 * MIB, id="pairs"),
        pytest.param((b"[" * 100 + b"]" * 100) * 20_000, id="hills"),
        pytest.param(b"[" * 50 + b'"' * 4 * MIB, id="quotes"),
        pytest.param(b"[" * 50 + b'"' + b'\\"' * 2 * MIB, id="a text without an end"),
        pytest.param(b"[" * 50 + b'"' + b"\\" * 4 * MIB, id="backslashes"),
    ],
)
def test_no_document_keeps_too_deep_busy(hostile: bytes) -> None:
    begin = time.monotonic()
    too_deep(hostile)
    assert time.monotonic() - begin < 2


# ---- health ----


def test_health_is_open_and_says_little(port: int) -> None:
    assert ask(port, path="/healthz", key=None).json == {"status": "ok"}
    ready = ask(port, path="/readyz", key=None)
    assert (ready.status, ready.body) == (200, b"ready")
    assert "server" not in ready.headers


@pytest.mark.parametrize(("flag", "says"), [("unready", b"unready: disk"), ("unreachable", b"unready: all")])
def test_one_check_that_fails_makes_the_server_unready(flag: str, says: bytes) -> None:
    with server(flag) as (_, port):
        unready = ask(port, path="/readyz", key=None)
        assert (unready.status, unready.body) == (503, says)
        assert ask(port, path="/healthz", key=None).status == 200


# ---- callers reach the tools ----


@pytest.mark.parametrize("modern", [True, False])
def test_a_tool_knows_its_caller_among_many(port: int, modern: bool) -> None:
    keys = ["gemini-token", "claude-token"] * 10
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(call(port, "whoami", modern=modern, key=key, pause=0.2)) for key in keys]
        assert [text_of(Answer(sock)) for sock in calls] == ["gemini", "claude"] * 10


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_python_client_reaches_a_tool_that_knows_it(port: int, mode: Any) -> None:
    url = f"http://127.0.0.1:{port}/mcp"
    for token, name in (("gemini-token", "gemini"), ("claude-token", "claude")):
        with anyio.fail_after(SECONDS):
            async with (
                httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http_client,
                Client(streamable_http_client(url, http_client=http_client), mode=mode) as client,
            ):
                result = await client.call_tool("whoami", {})
                assert result.content[0].model_dump()["text"] == name


# ---- starting and ending ----


@pytest.mark.parametrize("flag", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_parked_calls_are_answered_and_streams_closed_when_a_signal_comes(flag: str, number: signal.Signals) -> None:
    with server(flag) as (process, port), contextlib.ExitStack() as stack:
        parked = [stack.enter_context(call(port, "park", modern=modern)) for modern in (True, False)]
        wanted = {"notifications": {"toolsListChanged": True}}
        listening = stack.enter_context(rpc(port, "subscriptions/listen", wanted, modern=True))
        stream = http.client.HTTPResponse(listening)
        stream.begin()
        assert b"acknowledged" in stream.read1()
        idle = stack.enter_context(call(port, "whoami", modern=True))
        assert text_of(Answer(idle)) == "claude"  # and its connection stays
        allowed, begin = a_second(), time.monotonic()
        process.send_signal(number)
        assert [text_of(Answer(sock)) for sock in parked] == ["call again", "call again"]
        assert b'"result"' in stream.read()
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - begin < allowed
        assert idle.recv(1) == b""


@pytest.mark.parametrize("modern", [True, False])
def test_a_call_that_will_not_end_does_not_hold_up_the_end(modern: bool) -> None:
    with server() as (process, port), call(port, "stubborn", modern=modern):
        assert ask(port, path="/healthz").status == 200
        allowed, begin = a_second(), time.monotonic()
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - begin < allowed


def test_an_endless_stream_does_not_hold_up_the_end() -> None:
    with server() as (process, port), socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        sock.sendall(b"GET /endless/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer gemini-token\r\n\r\n")
        assert sock.recv(1)
        allowed, begin = a_second(), time.monotonic()
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - begin < allowed


def test_a_port_that_is_taken_gets_one_line_and_exit_code_1(port: int) -> None:
    with server(port=port) as (process, _):
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert said.decode().splitlines() == [
        f"cannot listen on 127.0.0.1 port {port}: something else listens there; stop it, or choose another"
    ]


def test_a_name_that_is_nobodys_gets_one_line() -> None:
    with pytest.raises(TaskQueueError, match=r"cannot listen on nobody\.invalid port 0"):
        asyncio.run(serve_http(board, "nobody.invalid", 0, on_stop=lambda: None))


if __name__ == "__main__":
    main()
