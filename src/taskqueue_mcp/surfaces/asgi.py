"""The one HTTP application: MCP at `/mcp`, health, what else is mounted, and access control around it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import uvicorn
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.server import HANDLED_SIGNALS

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.surfaces.access import BODY_LIMIT, AccessControl, error_body
from taskqueue_mcp.surfaces.mcp.http import ShortWay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
    from types import FrameType

    from mcp.server import MCPServer
    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from taskqueue_mcp.surfaces.access import Authenticate, Limit
    from taskqueue_mcp.surfaces.mcp.calls import Calls

__all__ = ["CannotListen", "build_app", "serve_http"]

MCP_PATH = "/mcp"
OPEN_PATHS = ("/healthz", "/readyz")

GRACE_SECONDS = 0.4
"""How long requests in flight may take to finish once the server stops."""

_LAST_SECONDS = 0.1  # for a broken-off request to unwind
_KEEP_ALIVE_SECONDS = 30  # longer than clients keep an idle connection, so that none writes into a closing one


class CannotListen(TaskQueueError):
    """The address is taken, or not this machine's."""

    code = "cannot_listen"


def build_app(
    mcp: MCPServer[Any],
    *,
    authenticate: Authenticate,
    calls: Calls | None = None,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    routes: Sequence[BaseRoute] = (),
    open_paths: Iterable[str] = (),
    ready: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
    limit: Limit | None = None,
    body_limits: Mapping[str, int] | None = None,
) -> AccessControl:
    """Build the application; `AccessControl` explains what it lets in.

    Args:
        mcp: Served without sessions, so that a restart is invisible and any worker can answer.
        authenticate: Whose token this is.
        calls: Answers the plain calls of our own tools; without it everything goes the SDK's way.
        hosts: Names this server goes by besides loopback's.
        origins: Browser origins let in besides the server's own.
        routes: What else is served (REST, the dashboard); a `Mount("/")` stands last.
        open_paths: Further paths that a GET reaches without a token.
        ready: Named checks; the server is ready when all are true. What they say is not shown.
        limit: How long a caller has to wait.
        body_limits: Bytes a body may have, by path prefix, where that is not 4 MiB.
    """
    # Called for the session manager it makes. The SDK's own Host and Origin checks are off: access control
    # stands around every route, theirs would around one, and two lists that have to agree are one too many.
    mcp.streamable_http_app(
        stateless_http=True,
        json_response=False,
        max_request_body_size=BODY_LIMIT,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            missing = [what for what, holds in (await ready() if ready else {}).items() if not holds]
        except (TaskQueueError, OSError):
            missing = ["all"]
        if missing:
            return PlainTextResponse(f"unready: {', '.join(missing)}", 503)
        return PlainTextResponse("ready", 200)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route(MCP_PATH, _PostOnly(StreamableHTTPASGIApp(mcp.session_manager))),
            *routes,
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _in_one_line},
    )
    return AccessControl(
        app if calls is None else ShortWay(app, MCP_PATH, calls),
        authenticate=authenticate,
        hosts=hosts,
        origins=origins,
        open_paths=(*OPEN_PATHS, *open_paths),
        limit=limit,
        body_limits=body_limits,
        json_paths=(MCP_PATH,),
    )


async def serve_http(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    on_stop: Callable[[], None],
    ready_callback: Callable[[int], None] | None = None,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT comes.

    Then `on_stop` is called (tell parked calls to answer, close listen streams), requests in flight have
    `GRACE_SECONDS` to finish, and the rest is broken off.

    Args:
        app: From `build_app`.
        host: Address or name to listen at.
        port: 0 for any that is free.
        on_stop: Called once, on the event loop, before anything is closed.
        ready_callback: Called with the port once the server listens.
        before_stop: Awaited when the first signal comes, while everything is still served. A second signal does
            not wait for it.

    Raises:
        CannotListen: the address is taken, or not this machine's.
    """
    sockets = _listen(host, port)
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    try:
        await _Server(config, on_stop, ready_callback, before_stop).serve(sockets)
    finally:
        for listening in sockets:
            listening.close()


class _PostOnly:
    """Refuses all but POST. To a GET the SDK would open a stream on which nothing ever comes.

    The protocol provides for 405 here, and clients take it for "no stream" (the TypeScript SDK, hence Gemini
    CLI and Claude Code, and the Python one).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise HTTPException(405, "MCP is spoken by POST", headers={"Allow": "POST"})
        await self._app(scope, receive, send)


def _in_one_line(_: Request, fault: Exception) -> Response:
    status, detail, headers = 500, "", None
    if isinstance(fault, HTTPException):
        status, detail, headers = fault.status_code, fault.detail, fault.headers
    error = "not_found" if status == HTTPStatus.NOT_FOUND else "invalid_input"
    return Response(error_body(error, detail), status, headers, "application/json")


class _Server(uvicorn.Server):
    """Uvicorn, ending within a second and with exit code 0, whatever is still open."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_stop: Callable[[], None],
        ready_callback: Callable[[int], None] | None,
        before_stop: Callable[[], Awaitable[None]] | None,
    ) -> None:
        super().__init__(config)
        self._before_stop = before_stop
        self._leaving: asyncio.Task[None] | None = None
        self._on_stop: Callable[[], None] | None = on_stop
        self._ready_callback = ready_callback

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_callback is not None and sockets:
            self._ready_callback(sockets[0].getsockname()[1])

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle signals on the loop.

        Uvicorn's way raises the signal again at the end, which makes it the exit code; and sse-starlette
        looks for it, to cut off the answers that the grace is for.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as taken:
            try:
                for number in HANDLED_SIGNALS:
                    loop.add_signal_handler(number, self.handle_exit, number, None)
                    taken.callback(loop.remove_signal_handler, number)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                taken.enter_context(super().capture_signals())
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        before, self._before_stop = self._before_stop, None
        if before is None:
            self._leave()
        else:
            self._leaving = asyncio.get_running_loop().create_task(self._leave_after(before))

    async def _leave_after(self, before: Callable[[], Awaitable[None]]) -> None:
        try:
            await before()
        finally:
            self._leave()

    def _leave(self) -> None:
        self.should_exit = True
        self._stop()

    def _stop(self) -> None:
        on_stop, self._on_stop = self._on_stop, None
        if on_stop is not None:
            on_stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # an idle one closes, any other when it has answered
        await self._finished(GRACE_SECONDS)
        for task in self.server_state.tasks:
            task.cancel()
        await self._finished(_LAST_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # a client that does not read its answer
        await super().shutdown(sockets)

    async def _finished(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.server_state.tasks:
                    await asyncio.wait(self.server_state.tasks)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Bind before uvicorn would: a name with two addresses gets one port, and a taken one gets one line."""
    sockets: list[socket.socket] = []
    fault: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as unknown:
        found, fault = [], unknown
    for family, _, _, _, address in found:
        # The protocol is named, or asyncio would leave Nagle's algorithm on: it cost 40 ms an answer without uvloop.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address[0], port, *address[2:]))
            listening.listen(2048)
        except OSError as refused:
            listening.close()
            fault = refused
        else:
            sockets.append(listening)
            port = listening.getsockname()[1]
    taken = fault is not None and fault.errno == errno.EADDRINUSE
    if sockets and not taken:  # localhost may have an address that this machine has not
        return sockets
    for listening in sockets:
        listening.close()
    why = "something else listens there" if taken else getattr(fault, "strerror", None) or "no such address"
    raise CannotListen(f"cannot listen on {host} port {port}: {why}; stop it, or choose another") from fault
