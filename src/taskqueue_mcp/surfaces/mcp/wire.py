"""Stdin and stdout as lines of JSON, read and written on the event loop itself, or by the SDK where that cannot be."""

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
from typing import TYPE_CHECKING, Protocol

from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)
from pydantic_core import PydanticSerializationError, ValidationError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
    )

    from mcp.types.jsonrpc import JSONRPCMessage, RequestId

logger = logging.getLogger(__name__)

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one message; a longer line is refused when it ends, and not kept until then."""

_CHUNK = 256 * 1024
_KEPT = 4096  # of each end of a line that is too long: enough to find whom to answer
_NOTES_WAIT = 1024 * 1024  # unsent bytes from which a call that sends notifications has to wait
_READING_WAITS = 64 * 1024 * 1024  # unsent bytes from which nothing more is read
_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{1,200}")'
_ID_BEFORE_ANY_OBJECT = re.compile(rb"\s*\{[^{}\[\]]*?" + _ID)
_ID_AT_THE_END = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2.0"\s*)?\}\s*\Z')


class LineTooLong(Exception):
    """A line went past `LINE_LIMIT`; `request_id` is whom to tell, where its ends gave that away."""

    def __init__(self, request_id: RequestId | None) -> None:
        self.request_id = request_id
        self.error = ErrorData(
            code=INVALID_REQUEST,
            message=f"a message may have {LINE_LIMIT} bytes; send less, or send it as a file",
        )
        super().__init__(self.error.message)


class Wire(Protocol):
    """Where lines come from and go to."""

    ended: asyncio.Event
    """Set once nothing more will come, or the client reads no more."""

    def start(self, receive: Callable[[JSONRPCMessage | Exception], None]) -> None:
        """Begin to read."""

    def stop_reading(self) -> None:
        """Leave the rest where it is."""

    def send(self, message: JSONRPCMessage) -> None:
        """Put a message on its way; never waits."""

    def send_line(self, message: bytes) -> None:
        """Put a message on its way that is written already, without its line end."""

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
        self._receive(LineTooLong(_request_id(line)) if too_long else _decode(line))

    def send(self, message: JSONRPCMessage) -> None:
        self._put(_encode(message))

    def send_line(self, message: bytes) -> None:
        self._put(message + b"\n")

    def _put(self, data: bytes) -> None:
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

    def send_line(self, message: bytes) -> None:
        self.send(jsonrpc_message_adapter.validate_json(message, by_name=False))

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
async def open_wire(stop: Callable[[], object]) -> AsyncIterator[Wire]:
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
