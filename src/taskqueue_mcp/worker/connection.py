"""The way to the queue: one MCP client, made again whenever it is lost, and calls repeated until they are answered.

The SDK's client ends as a whole when one of its requests is refused, so it lives in a task of its own here and calls
go to whichever client there is. Everything a worker calls may be repeated (a claim by its `claim_id`, a settle by its
lease and body, an update by its `seq`), so a lost answer is asked for again and nobody else needs to know.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation
from pydantic import ValidationError

from taskqueue_mcp import __version__, errors
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.worker import wire
from taskqueue_mcp.worker.wire import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

log = logging.getLogger(__name__)


class Result(Protocol):
    """What a tool answered."""

    @property
    def is_error(self) -> bool | None:
        """Whether it is a refusal."""

    @property
    def structured_content(self) -> dict[str, Any] | None:
        """The answer as JSON."""

    @property
    def content(self) -> Sequence[Any]:
        """The answer for people."""


class Caller(Protocol):
    """Calls tools: the SDK's client, or our own over HTTP."""

    async def call_tool(self, name: str, arguments: dict[str, Any], *, read_timeout_seconds: float) -> Result:
        """Call a tool."""


Connect = Callable[[], AbstractAsyncContextManager[Caller]]
"""Opens a client; called again whenever the last one was lost."""

PATIENCE: Final = 30.0
"""Seconds an answer may take, on top of what its call parks for."""
RECONNECTING: Final = Backoff(first_seconds=0.1, longest_seconds=3.0, jitter=0.5)
ASKING_AGAIN: Final = Backoff(first_seconds=0.1, longest_seconds=5.0, jitter=0.5)
SAID_AT: Final = 3
"""The repetition of one call at which the log says why."""
MICROS: Final = 1_000_000
SHOWN: Final = 300

LOST: Final = (
    MCPError,
    OSError,
    ValidationError,
    httpx2.HTTPError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    ExceptionGroup,
    errors.TaskQueueError,
)
"""How the end of a connection shows, in a call and around the client."""

SHUT_OUT: Final = frozenset({401, 403})
CLIENT_ERRORS: Final = 400
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
UNWRITABLE: Final = re.compile("[\0\ud800-\udfff]")
REFUSALS: Final = {
    refusal.code: refusal
    for refusal in (
        errors.InvalidInput,
        errors.NotFound,
        errors.WrongStatus,
        errors.LeaseLost,
        errors.Conflict,
        errors.Forbidden,
        errors.LimitReached,
        errors.StorageFull,
        errors.Busy,
        errors.ShuttingDown,
    )
}


class Connection:
    """A client that is there whenever the server is."""

    def __init__(self, connect: Connect, *, chance: Callable[[], float] = random.random) -> None:
        self._connect = connect
        self._chance = chance
        self._client: Caller | None = None
        self._arrived = anyio.Event()
        self._left = anyio.Event()
        self._why = ""
        self._attempts = 0
        self._lost_at: float | None = None
        self._ever = False

    async def run(self) -> None:
        """Keep a client connected until cancelled.

        Raises:
            Forbidden, DatabaseRefused: the server does not let us in, or does not start, and never has.
        """
        while True:
            try:
                async with self._connect() as client:
                    self._arrive(client)
                    await self._left.wait()
            except LOST as error:
                self._lose(self._client, error)
            if self._attempts:
                await anyio.sleep(RECONNECTING.delay(self._attempts, self._chance()) / MICROS)
            self._attempts += 1

    async def call(self, tool: str, arguments: Mapping[str, Any], *, parked: float = 0.0) -> dict[str, Any]:
        """Call a tool until it is answered; `parked` is how long it may wait by itself, in seconds.

        Raises:
            TaskQueueError: what the queue answered, as the error that its code names.
        """
        refused = 0
        while True:
            client = await self._present()
            try:
                result = await client.call_tool(tool, writable(dict(arguments)), read_timeout_seconds=parked + PATIENCE)
            except LOST as error:
                self._lose(client, error)
                continue
            self._attempts = 0
            if not result.is_error:
                return result.structured_content or {}
            refusal = _refusal(result)
            if not isinstance(refusal, errors.Busy | errors.ShuttingDown):
                raise refusal
            refused += 1
            if refused == SAID_AT:
                log.warning("the queue cannot take %s now (%r); asking again", tool, str(refusal))
            await anyio.sleep(ASKING_AGAIN.delay(refused, self._chance()) / MICROS)

    async def _present(self) -> Caller:
        while self._client is None:
            await self._arrived.wait()
        return self._client

    def _arrive(self, client: Caller) -> None:
        self._client = client
        self._left = anyio.Event()
        self._arrived.set()
        if not self._ever:
            log.info("connected to the queue")
        elif self._lost_at is not None:
            log.info("the queue is back after %.1f s", anyio.current_time() - self._lost_at)
        self._ever, self._lost_at = True, None

    def _lose(self, client: Caller | None, error: BaseException) -> None:
        """Give `client` up, unless that has been done; say so once until there is another.

        Raises:
            Forbidden, DatabaseRefused: the server does not let us in, or does not start, and never has.
        """
        cause = leaf(error)
        if isinstance(cause, errors.Forbidden | errors.DatabaseRefused) and not self._ever:
            raise cause
        if client is not self._client:
            return
        if self._client is not None:
            self._client = None
            self._arrived = anyio.Event()
            self._left.set()
        if self._lost_at is None:
            self._lost_at = anyio.current_time()
            log.warning("the queue is out of reach (%r); trying until it is back", in_a_line(cause))


def over_wire(url: str, token: str) -> Connect:
    """Return what connects to a server at `url` at the least cost, through the machine's proxy where there is one."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK and parts.scheme in getproxies() and not proxy_bypass(parts.netloc):
        return over_http(url, token)
    return lambda: wire.connected(_endpoint(url), token)


def _endpoint(url: str) -> str:
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/mcp"


def over_http(url: str, token: str) -> Callable[[], AbstractAsyncContextManager[Client]]:
    """Return what connects the SDK's client to a server at `url`; the path is `/mcp` unless it says another."""
    parts = urlsplit(url)
    endpoint = _endpoint(url)
    headers = {"Authorization": f"Bearer {token}"}

    @asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(10.0, read=120.0),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            event_hooks={"response": [_look_at]},
            trust_env=parts.hostname not in LOOPBACK,  # a proxy of the machine does not reach the machine
        )
        async with http, _client(streamable_http_client(endpoint, http_client=http)) as client:
            yield client

    return connect


def over_stdio(command: Sequence[str], **environment: str) -> Callable[[], AbstractAsyncContextManager[Client]]:
    """Return what starts `command` (`taskqueue-mcp stdio …`) and speaks to it over its pipes."""
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env={**os.environ, **environment})

    @asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        is_there = False
        try:
            async with _client(stdio_client(server, errlog=sys.stderr)) as client:
                is_there = True
                yield client
        except (MCPError, ExceptionGroup) as error:
            if is_there:
                raise
            raise errors.DatabaseRefused("our own server ended before it answered; it says why above") from error

    return connect


def _client(transport: Any) -> Client:
    info = Implementation(name="taskqueue-mcp-worker", version=__version__)
    return Client(transport, read_timeout_seconds=PATIENCE, client_info=info, cache=None)


async def _look_at(response: httpx2.Response) -> None:
    """Say what a refusal by HTTP says; the SDK would pass on that there was one, and no more.

    Raises:
        Forbidden: the token is not let in.
        Unreachable: it was refused for another reason, or by somebody else on the way.
    """
    if response.status_code < CLIENT_ERRORS:
        return
    await response.aread()
    try:
        told = response.json()
    except ValueError:
        told = None
    if isinstance(told, dict) and "jsonrpc" in told:
        return
    message = told.get("message") if isinstance(told, dict) else None
    why = f"HTTP {response.status_code}" + (f": {message}" if message else "")
    raise errors.Forbidden(why) if response.status_code in SHUT_OUT else Unreachable(why)


def _refusal(result: Result) -> errors.TaskQueueError:
    """Return the queue's refusal as the error that its code names; one without a code may pass."""
    told = result.structured_content or {}
    text = " ".join(part.text for part in result.content if hasattr(part, "text"))
    if not isinstance(code := told.get("code"), str):
        return errors.Busy(text)
    return REFUSALS.get(code, errors.TaskQueueError)(str(told.get("message", text)))


def leaf(error: BaseException) -> BaseException:
    """Return the first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def in_a_line(error: BaseException) -> str:
    """Return an error as one readable line: its type and text."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def writable(value: Any) -> Any:
    """Return a value with U+FFFD where its texts hold NUL or half a surrogate pair, which the queue refuses."""
    if isinstance(value, str):
        return UNWRITABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [writable(item) for item in value]
    return value
