"""An MCP server on this process's stdin and stdout, read and written on the event loop itself.

The SDK's transport hands every line to a worker thread and through five memory streams. Here a line goes from
the descriptor to the task that answers it, and all answers of one turn of the loop leave in one write:
`benchmarks/stdio_noop.py` measures what that is worth. What the loop cannot watch (regular files,
`/dev/null`, Windows) and whoever asks for it with `TASKQUEUE_STDIO=stock` is served by the SDK's
`stdio_server` instead.

It differs from the SDK's loop on purpose in four ways. `server/discover` does not lock the connection to an
era: clients probe with it and may still send `initialize`. Calls in flight are given a moment to answer when
stdin ends or a signal comes. An unforeseen exception reaches the client as "Internal server error" in both
eras, never as its text. And nothing is asked of the client, as over stateless HTTP, so that no tool can come
to depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import selectors
import signal
import stat
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

import anyio
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params, progress_token_from_params
from mcp.shared.message import SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp.types import PROTOCOL_VERSION_META_KEY, UnsupportedProtocolVersionErrorData
from mcp.types.jsonrpc import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    UNSUPPORTED_PROTOCOL_VERSION,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from mcp.types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic_core import PydanticSerializationError, ValidationError

if sys.platform != "win32":
    import fcntl
try:
    from uvloop import new_event_loop
except ImportError:  # Windows and PyPy have none
    from asyncio import new_event_loop  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterator,
        Mapping,
    )

    from mcp.server import MCPServer
    from mcp.server.lowlevel import Server
    from mcp.shared.dispatcher import CallOptions
    from mcp.shared.message import MessageMetadata
    from mcp.types.jsonrpc import JSONRPCMessage, RequestId

__all__ = ["Stopping", "run", "serve_stdio"]

logger = logging.getLogger(__name__)

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one message; a longer line is refused when it ends, and not kept until then."""

GRACE_SECONDS = 0.5
"""How long calls in flight may take to answer once stdin has ended or a signal has come."""

_LAST_SECONDS = 0.2  # for a broken-off call to unwind, and again for the last bytes to be taken
_CHUNK = 256 * 1024
_KEPT = 4096  # of each end of a line that is too long: enough to find whom to answer
_NOTES_WAIT = 1024 * 1024  # unsent bytes from which a call that sends notifications has to wait
_READING_WAITS = 64 * 1024 * 1024  # unsent bytes from which nothing more is read

_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{1,200}")'
_ID_BEFORE_ANY_OBJECT = re.compile(rb"\s*\{[^{}\[\]]*?" + _ID)
_ID_AT_THE_END = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2.0"\s*)?\}\s*\Z')

T = TypeVar("T")
_Era = Literal["handshake", "modern"]
_Params: TypeAlias = "Mapping[str, Any] | None"


class Stopping(Protocol):
    """What tells parked calls to answer "call again": an `anyio.Event` or an `asyncio.Event`."""

    def set(self) -> object:
        """Tell them."""

    async def wait(self) -> object:
        """Return once they have been told."""


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on uvloop where it is installed, and on asyncio elsewhere."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


async def serve_stdio(
    server: MCPServer[Any],
    *,
    stopping: Stopping | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve `server` to the one client at stdin and stdout, until stdin ends or SIGTERM or SIGINT comes.

    Then `stopping` is set and `on_stop` called (close listen streams there), calls in flight have
    `GRACE_SECONDS` to answer, and the rest is broken off. Setting `stopping` elsewhere ends the serving in
    the same way. Handlers run in a copy of the context that this was called in.
    """
    stopping = stopping or asyncio.Event()
    # MCPServer keeps the object that handlers are registered on to itself, and the one public way to it,
    # `run_stdio_async`, brings the SDK's own transport along.
    low: Server[Any] = server._lowlevel_server  # noqa: SLF001
    async with _open_wire(stopping.set) as wire, low.lifespan(low) as state:
        conversation = _Conversation(low, state, wire)
        wire.start(conversation.receive)
        await _either(stopping.wait(), wire.ended.wait())
        wire.stop_reading()
        stopping.set()
        if on_stop is not None:
            on_stop()
        await conversation.settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wire.flushed(), _LAST_SECONDS)


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


# ---- the conversation: eras, calls, answers ----


class _Call:
    """A request or notification being handled; to the SDK, its dispatch context."""

    __slots__ = ("_conversation", "_progress_token", "cancel_requested", "closed", "request_id", "scope")

    transport = TransportContext(kind="stdio", can_send_request=False)
    can_send_request = False
    message_metadata: MessageMetadata = None

    def __init__(self, conversation: _Conversation, request_id: RequestId | None, params: _Params) -> None:
        self._conversation = conversation
        self._progress_token = progress_token_from_params(params)
        self.request_id = request_id
        self.cancel_requested = anyio.Event()
        self.closed = False
        self.scope = anyio.CancelScope()

    async def send_raw_request(self, method: str, params: _Params, opts: CallOptions | None = None) -> dict[str, Any]:
        """Refuse: nothing is asked of the client."""
        return await self._conversation.send_raw_request(method, params, opts)

    async def notify(self, method: str, params: _Params, opts: CallOptions | None = None) -> None:
        """Send a notification, unless the call has been answered."""
        if not self.closed:
            await self._conversation.notify(method, params, opts)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the client asked for it."""
        if self._progress_token is not None:
            facts = {
                "progressToken": self._progress_token,
                "progress": progress,
                "total": total,
                "message": message,
            }
            await self.notify(
                "notifications/progress", {name: fact for name, fact in facts.items() if fact is not None}
            )


class _Conversation:
    """One client from its first line to its last: its era, and its calls in flight."""

    def __init__(self, server: Server[Any], state: object, wire: _Wire) -> None:
        self._server = server
        self._state = state
        self._wire = wire
        self._era: _Era | None = None
        self._modern_outbound = NotifyOnlyOutbound(self)
        self._handshake = ServerRunner(server, Connection.for_loop(self), state)
        self._modern_notes = ServerRunner(
            server,
            Connection.from_envelope(LATEST_MODERN_VERSION, None, None, outbound=self._modern_outbound),
            state,
        )
        self._calls: dict[RequestId, _Call] = {}
        self._running: dict[asyncio.Task[None], _Call] = {}
        self._behind_initialize: deque[JSONRPCMessage | Exception] | None = None
        self._closed = False

    def receive(self, item: JSONRPCMessage | Exception) -> None:
        """Take what one line held: a message, or why it is none."""
        if self._closed:
            return
        if self._behind_initialize is not None:
            self._behind_initialize.append(item)
            return
        match item:
            case JSONRPCRequest():
                self._begin(item)
            case JSONRPCNotification():
                self._note(item)
            case _LineTooLong():
                self._wire.send(JSONRPCError(jsonrpc="2.0", id=item.request_id, error=item.error))
            case _:
                logger.debug("dropped what is no request and no notification: %r", item)

    async def settle(self) -> None:
        """Give the calls in flight their moment, then break off the rest."""
        await self._quiet(GRACE_SECONDS)
        self._closed = True
        for call in self._running.values():
            call.scope.cancel()
        await self._quiet(_LAST_SECONDS)
        for runner in (self._handshake, self._modern_notes):
            await aclose_shielded(runner.connection)

    async def _quiet(self, seconds: float) -> None:
        """Return once no call runs, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.wait(self._running)

    def _begin(self, request: JSONRPCRequest) -> None:
        era = self._era
        if era is None:
            era = "handshake" if _opens_handshake(request) else "modern"
            if request.method != "server/discover":
                self._era = era
        call = _Call(self, request.id, request.params)
        self._calls[coerce_request_id(request.id)] = call
        if request.method == "initialize":  # a client may send its next requests without waiting for this one
            self._behind_initialize = deque()
        self._spawn(call, self._answer(call, request, era))

    def _initialized(self) -> None:
        waiting, self._behind_initialize = self._behind_initialize, None
        for item in waiting or ():
            self.receive(item)

    def _note(self, note: JSONRPCNotification) -> None:
        if note.method == "notifications/cancelled":
            named = cancelled_request_id_from_params(note.params)
            call = None if named is None else self._calls.get(coerce_request_id(named))
            if call is not None:
                call.cancel_requested.set()
                call.scope.cancel()
        runner = self._modern_notes if self._era == "modern" else self._handshake
        call = _Call(self, None, note.params)
        self._spawn(call, self._observe(runner, call, note))

    def _spawn(self, call: _Call, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = call
        task.add_done_callback(self._running.__delitem__)

    async def _observe(self, runner: ServerRunner[Any], call: _Call, note: JSONRPCNotification) -> None:
        with call.scope:
            await runner.on_notify(call, note.method, note.params)

    async def _answer(self, call: _Call, request: JSONRPCRequest, era: _Era) -> None:
        reply: JSONRPCMessage | None = None
        with call.scope:
            try:
                handle = self._handle_modern if era == "modern" else self._handle_handshake
                result = await handle(call, request.method, request.params)
                reply = JSONRPCResponse(jsonrpc="2.0", id=request.id, result=result)
            except Exception as fault:  # noqa: BLE001 - the edge of the wire: a request gets an answer, and it is logged
                reply = JSONRPCError(jsonrpc="2.0", id=request.id, error=modern_error_data(fault))
        call.closed = True
        key = coerce_request_id(request.id)
        if self._calls.get(key) is call:  # not so if the client has used its id again
            del self._calls[key]
        if reply is None:
            broken_off = ErrorData(code=CONNECTION_CLOSED, message="the server is stopping; call again")
            reply = JSONRPCError(jsonrpc="2.0", id=request.id, error=broken_off)
        if not call.cancel_requested.is_set():  # then the protocol forbids an answer
            self._wire.send(reply)
        if request.method == "initialize":
            self._initialized()

    async def _handle_handshake(self, call: _Call, method: str, params: _Params) -> dict[str, Any]:
        if method != "initialize" and _has_envelope(params):
            raise MCPError(INVALID_REQUEST, "this connection began with a handshake; send no envelope")
        return await self._handshake.on_request(call, method, params)

    async def _handle_modern(self, call: _Call, method: str, params: _Params) -> dict[str, Any]:
        if method == "initialize":
            raise _initialize_too_late(params)
        route = classify_inbound_request({"method": method, "params": params})
        if isinstance(route, InboundLadderRejection):
            raise MCPError(route.code, route.message, route.data)
        connection = Connection.from_envelope(
            route.protocol_version,
            route.client_info,
            route.client_capabilities,
            outbound=self._modern_outbound,
        )
        return await serve_one(self._server, call, method, params, connection=connection, lifespan_state=self._state)

    async def notify(self, method: str, params: _Params, _opts: CallOptions | None = None) -> None:
        """Send a notification; wait when the client reads too slowly."""
        note: dict[str, Any] = {} if params is None else {"params": dict(params)}
        self._wire.send(JSONRPCNotification(jsonrpc="2.0", method=method, **note))
        await self._wire.room()

    async def send_raw_request(self, method: str, _params: _Params, _opts: CallOptions | None = None) -> dict[str, Any]:
        """Refuse: nothing is asked of the client."""
        raise NoBackChannelError(method)


def _opens_handshake(request: JSONRPCRequest) -> bool:
    if request.method == "server/discover":
        return False
    return request.method == "initialize" or not _has_envelope(request.params)


def _has_envelope(params: _Params) -> bool:
    meta = params.get("_meta") if params else None
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def _initialize_too_late(params: _Params) -> MCPError:
    supported = list(MODERN_PROTOCOL_VERSIONS)
    requested = (params or {}).get("protocolVersion")
    data: dict[str, Any] = {"supported": supported}
    if isinstance(requested, str):
        data = UnsupportedProtocolVersionErrorData(supported=supported, requested=requested).model_dump()
    return MCPError(UNSUPPORTED_PROTOCOL_VERSION, "this connection speaks 2026-07-28, which has no initialize", data)


# ---- the wire: lines in, lines out ----


class _LineTooLong(Exception):
    """A line went past `LINE_LIMIT`; `request_id` is whom to tell, where its ends gave that away."""

    def __init__(self, request_id: RequestId | None) -> None:
        self.request_id = request_id
        self.error = ErrorData(
            code=INVALID_REQUEST,
            message=f"a message may have {LINE_LIMIT} bytes; send less, or send it as a file",
        )
        super().__init__(self.error.message)


class _Wire(Protocol):
    """Where lines come from and go to."""

    ended: asyncio.Event
    """Set once nothing more will come, or the client reads no more."""

    def start(self, receive: Callable[[JSONRPCMessage | Exception], None]) -> None:
        """Begin to read."""

    def stop_reading(self) -> None:
        """Leave the rest where it is."""

    def send(self, message: JSONRPCMessage) -> None:
        """Put a message on its way; never waits."""

    async def room(self) -> None:
        """Wait until the client has taken enough of what was sent."""

    async def flushed(self) -> None:
        """Wait until the client has taken everything."""


class _LoopWire:
    """Two descriptors that the event loop watches: nothing stands between them and the calls."""

    def __init__(self, source: int, sink: int) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._receive: Callable[[JSONRPCMessage | Exception], None] | None = None
        self._reading = False
        self._partial = bytearray()
        self._too_long = False
        self._queue: list[bytes] = []
        self._rest = memoryview(b"")
        self._unsent = 0
        self._blocked = False
        self._room = asyncio.Event()
        self._flushed = asyncio.Event()
        self._room.set()
        self._flushed.set()

    def start(self, receive: Callable[[JSONRPCMessage | Exception], None]) -> None:
        self._receive = receive
        self._reading = True
        self._loop.add_reader(self._source, self._readable)

    def stop_reading(self) -> None:
        self._reading = False
        self._receive = None
        self._loop.remove_reader(self._source)

    def close(self) -> None:
        self.stop_reading()
        self._loop.remove_writer(self._sink)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._source, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as gone:  # a socket that was reset, a terminal that hung up
            logger.debug("stdin failed: %s", gone)
            chunk = b""
        if not chunk:
            if self._partial:
                self._line(bytes(self._partial))
            self.stop_reading()
            self.ended.set()
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            if self._partial:
                self._partial += line
                self._line(bytes(self._partial))
                self._partial.clear()
            else:
                self._line(line)
        self._partial += rest
        if len(self._partial) > LINE_LIMIT:
            self._too_long = True
            del self._partial[_KEPT:-_KEPT]

    def _line(self, line: bytes) -> None:
        too_long, self._too_long = self._too_long or len(line) > LINE_LIMIT, False
        if self._receive is None or not line.strip():
            return
        self._receive(_LineTooLong(_request_id(line)) if too_long else _decode(line))

    def send(self, message: JSONRPCMessage) -> None:
        data = _encode(message)
        if not self._unsent:  # all that is sent in this turn of the loop leaves in one write
            self._flushed.clear()
            self._loop.call_soon(self._flush)
        self._queue.append(data)
        self._unsent += len(data)
        if self._unsent > _NOTES_WAIT:
            self._room.clear()
            if self._unsent > _READING_WAITS and self._reading:
                self._reading = False
                self._loop.remove_reader(self._source)

    def _flush(self) -> None:
        try:
            while self._unsent:
                if not self._rest:
                    self._rest = memoryview(b"".join(self._queue))
                    self._queue.clear()
                taken = os.write(self._sink, self._rest)
                self._rest = self._rest[taken:]
                self._unsent -= taken
        except (BlockingIOError, InterruptedError):
            if not self._blocked:
                self._blocked = True
                self._loop.add_writer(self._sink, self._flush)
            return
        except OSError as gone:  # the client closed its end
            logger.debug("stdout failed: %s", gone)
            self._queue.clear()
            self._rest = memoryview(b"")
            self._unsent = 0
            self.ended.set()
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._sink)
        self._room.set()
        self._flushed.set()
        if self._receive is not None and not self._reading:
            self.start(self._receive)

    async def room(self) -> None:
        await self._room.wait()

    async def flushed(self) -> None:
        await self._flushed.wait()


class _StockWire:
    """The SDK's transport, for what the loop cannot watch. It has no limit to a line."""

    def __init__(
        self,
        lines: AsyncIterable[SessionMessage | Exception],
        write: Callable[[SessionMessage], Awaitable[None]],
    ) -> None:
        self.ended = asyncio.Event()
        self._lines = lines
        self._write = write
        self._queue: asyncio.Queue[JSONRPCMessage] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, receive: Callable[[JSONRPCMessage | Exception], None]) -> None:
        self._tasks = [asyncio.create_task(self._read(receive)), asyncio.create_task(self._send())]

    def stop_reading(self) -> None:
        self._tasks[0].cancel()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self, receive: Callable[[JSONRPCMessage | Exception], None]) -> None:
        async for item in self._lines:
            receive(item.message if isinstance(item, SessionMessage) else item)
        self.ended.set()

    async def _send(self) -> None:
        while True:
            await self._write(SessionMessage(await self._queue.get()))
            self._queue.task_done()

    def send(self, message: JSONRPCMessage) -> None:
        self._queue.put_nowait(message)

    async def room(self) -> None:
        await self._queue.join()

    async def flushed(self) -> None:
        await self._queue.join()


def _decode(line: bytes) -> JSONRPCMessage | Exception:
    """Read one line as the SDK does, which takes bytes that are no UTF-8 for U+FFFD."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        try:
            return jsonrpc_message_adapter.validate_json(line.decode("utf-8", "replace"), by_name=False)
        except ValidationError as fault:
            return fault


def _encode(message: JSONRPCMessage) -> bytes:
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except PydanticSerializationError:
        logger.exception("a message cannot be written as JSON")
        if isinstance(message, JSONRPCRequest | JSONRPCNotification):
            return b""  # nobody waits for it
        unwritable = ErrorData(code=INTERNAL_ERROR, message="the answer cannot be written as JSON")
        return _encode(JSONRPCError(jsonrpc="2.0", id=message.id, error=unwritable))


def _request_id(line: bytes) -> RequestId | None:
    """Find the id of a message of which only the ends are there: never that of an object inside it."""
    found = _ID_BEFORE_ANY_OBJECT.match(line) or _ID_AT_THE_END.search(line)
    if found is None:
        return None
    text = found[1].decode("utf-8", "replace")
    return text[1:-1] if text.startswith('"') else int(text)


# ---- the descriptors ----


@contextlib.asynccontextmanager
async def _open_wire(stop: Callable[[], object]) -> AsyncIterator[_Wire]:
    """Open stdin and stdout as a wire; SIGTERM and SIGINT call `stop` while it is open."""
    if _stock():
        # The SDK's thread cannot be called back from its read, so a signal ends the process as it stands.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            async with stdio_server() as (lines, sink), sink:  # leaving the sink lets it finish what it holds
                with contextlib.closing(_StockWire(lines, sink.send)) as stock:
                    yield stock
                _flush_prints()
        finally:
            signal.signal(signal.SIGINT, before)
        return
    with _claimed() as fds, _signals(stop), contextlib.closing(_LoopWire(*fds)) as wire:
        yield wire


def _stock() -> bool:
    if sys.platform == "win32" or os.environ.get("TASKQUEUE_STDIO") == "stock":
        return True
    try:
        if (sys.stdin.fileno(), sys.stdout.fileno()) != (0, 1) or stat.S_ISREG(os.fstat(0).st_mode):
            return True
        with selectors.DefaultSelector() as probe:
            probe.register(0, selectors.EVENT_READ)
    except (AttributeError, OSError, ValueError):  # no stdin, a replaced one, /dev/null
        return True
    return False


@contextlib.contextmanager
def _claimed() -> Iterator[tuple[int, int]]:
    """Yield private copies of stdin and stdout; meanwhile fd 0 reads as empty and fd 1 is stderr.

    So neither a stray print nor a child process can write between two messages, or read one.
    """
    if sys.platform == "win32":  # for the type checker; `_stock` keeps Windows out
        raise NotImplementedError
    source, sink = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
    blocking = [(fd, os.get_blocking(fd)) for fd in (source, sink)]
    try:
        empty = os.open(os.devnull, os.O_RDWR)
        os.dup2(empty, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # started without a stderr
            os.dup2(empty, 1)
        os.close(empty)
        _flush_prints()
        if stat.S_ISFIFO(os.fstat(sink).st_mode) or stat.S_ISSOCK(os.fstat(sink).st_mode):
            os.set_blocking(sink, False)
        yield source, sink
    finally:
        _flush_prints()
        for fd, was in blocking:  # shared with whoever holds the same end, a terminal with everyone
            os.set_blocking(fd, was)
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.close(source)
        os.close(sink)


def _flush_prints() -> None:
    """What was printed and still waits in a buffer belongs to stderr, not behind the last message."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()


@contextlib.contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    taken = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread: its signals are not ours
            loop.add_signal_handler(number, stop)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
