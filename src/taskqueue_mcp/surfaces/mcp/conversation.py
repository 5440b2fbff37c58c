"""The conversation over a pipe: in which era the client speaks, its calls in flight, and what they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params, progress_token_from_params
from mcp.shared.transport_context import TransportContext
from mcp.types import PROTOCOL_VERSION_META_KEY, UnsupportedProtocolVersionErrorData
from mcp.types.jsonrpc import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    UNSUPPORTED_PROTOCOL_VERSION,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from mcp.types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

from taskqueue_mcp.surfaces.mcp.calls import METHOD, WAITING
from taskqueue_mcp.surfaces.mcp.wire import LineTooLong

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from mcp.server.lowlevel import Server
    from mcp.shared.dispatcher import CallOptions
    from mcp.shared.message import MessageMetadata
    from mcp.types.jsonrpc import JSONRPCMessage, RequestId

    from taskqueue_mcp.surfaces.mcp.calls import Calls, PlainCall
    from taskqueue_mcp.surfaces.mcp.wire import Wire

logger = logging.getLogger(__name__)

GRACE_SECONDS = 0.5
"""How long calls in flight may take to answer once stdin has ended or a signal has come."""

LAST_SECONDS = 0.2
"""How long a call that is broken off may take to unwind, and again the last bytes to be taken."""

_Era = Literal["handshake", "modern"]
_Params: TypeAlias = "Mapping[str, Any] | None"


class Call:
    """A request or notification being handled; to the SDK, its dispatch context."""

    __slots__ = (
        "_asked_to_cancel",
        "_cancelled",
        "_conversation",
        "_progress_token",
        "_scope",
        "closed",
        "request_id",
        "task",
        "was_called_off",
    )

    transport = TransportContext(kind="stdio", can_send_request=False)
    can_send_request = False
    message_metadata: MessageMetadata = None

    def __init__(self, conversation: Conversation, request_id: RequestId | None, params: _Params) -> None:
        self._conversation = conversation
        self._progress_token = progress_token_from_params(params)
        self.request_id = request_id
        self.closed = False
        self.was_called_off = False
        self.task: asyncio.Task[None] | None = None
        self._asked_to_cancel: anyio.Event | None = None
        self._cancelled = False
        self._scope: anyio.CancelScope | None = None

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set once the client calls it off."""
        if self._asked_to_cancel is None:
            self._asked_to_cancel = anyio.Event()
            if self.was_called_off:
                self._asked_to_cancel.set()
        return self._asked_to_cancel

    def call_off(self) -> None:
        """Do what the client asks for: break off, and answer nothing."""
        self.was_called_off = True
        if self._asked_to_cancel is not None:
            self._asked_to_cancel.set()
        self.cancel()

    def scope(self) -> anyio.CancelScope:
        """Return the scope to be handled in; made in its task, since anyio refuses to make one in a callback."""
        self._scope = anyio.CancelScope()
        if self._cancelled:
            self._scope.cancel()
        return self._scope

    def cancel(self) -> None:
        """Break the handling off, at once or as soon as it begins."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()
        elif self.task is not None:
            self.task.cancel()

    async def beat(self, seconds: float) -> None:
        """Report that the call has been parked for so long."""
        await self.progress(seconds, message=WAITING)

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


@dataclass(frozen=True, slots=True)
class _Plain:
    """A call that needs no SDK, and the name of the client that made it."""

    known: Calls
    asked: PlainCall
    client: str


class Conversation:
    """One client from its first line to its last: its era, and its calls in flight."""

    def __init__(self, server: Server[Any], state: object, wire: Wire, known: Calls | None) -> None:
        self._known = known
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
        self._calls: dict[RequestId, Call] = {}
        self._running: dict[asyncio.Task[None], Call] = {}
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
            case LineTooLong():
                self._wire.send(JSONRPCError(jsonrpc="2.0", id=item.request_id, error=item.error))
            case _:
                logger.debug("dropped what is no request and no notification: %r", item)

    async def settle(self) -> None:
        """Give the calls in flight their moment, then break off the rest."""
        await self._quiet(GRACE_SECONDS)
        self._closed = True
        for call in self._running.values():
            call.cancel()
        await self._quiet(LAST_SECONDS)
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
        call = Call(self, request.id, request.params)
        self._calls[coerce_request_id(request.id)] = call
        if request.method == "initialize":  # a client may send its next requests without waiting for this one
            self._behind_initialize = deque()
        plain = None if self._known is None or request.method != METHOD else self._plain(self._known, request, era)
        if plain is not None:
            self._spawn(call, self._answer_plain(call, request.id, plain), scoped=False)
        else:
            self._spawn(call, self._answer(call, request, era))

    def _plain(self, known: Calls, request: JSONRPCRequest, era: _Era) -> _Plain | None:
        """Return the call with the name of the client, or None where the SDK has to look at it."""
        connection = self._handshake.connection
        if era == "modern":
            route = classify_inbound_request({"method": request.method, "params": request.params})
            if isinstance(route, InboundLadderRejection):
                return None
            version, client = route.protocol_version, _named(route.client_info)
        elif connection.initialize_accepted and not _has_envelope(request.params):
            params = connection.client_params
            version, client = connection.protocol_version, "" if params is None else params.client_info.name
        else:
            return None
        asked = known.plain(version, request.params)
        return None if asked is None else _Plain(known, asked, client)

    def _initialized(self) -> None:
        waiting, self._behind_initialize = self._behind_initialize, None
        for item in waiting or ():
            self.receive(item)

    def _note(self, note: JSONRPCNotification) -> None:
        if note.method == "notifications/cancelled":
            named = cancelled_request_id_from_params(note.params)
            call = None if named is None else self._calls.get(coerce_request_id(named))
            if call is not None:
                call.call_off()
        runner = self._modern_notes if self._era == "modern" else self._handshake
        call = Call(self, None, note.params)
        self._spawn(call, self._observe(runner, call, note))

    def _spawn(self, call: Call, work: Coroutine[Any, Any, None], *, scoped: bool = True) -> None:
        task = asyncio.get_running_loop().create_task(work)
        if not scoped:  # then its task is what is broken off
            call.task = task
        self._running[task] = call
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        call = self._running.pop(task)
        call.closed = True
        if call.request_id is not None:
            key = coerce_request_id(call.request_id)
            if self._calls.get(key) is call:  # not so if the client has used its id again
                del self._calls[key]

    async def _observe(self, runner: ServerRunner[Any], call: Call, note: JSONRPCNotification) -> None:
        with call.scope():
            await runner.on_notify(call, note.method, note.params)

    async def _answer_plain(self, call: Call, request_id: RequestId, plain: _Plain) -> None:
        try:
            answer = await plain.known.answer(plain.asked, plain.client, call.beat)
            call.closed = True
            self._wire.send_line(plain.known.write(request_id, answer, is_modern=plain.asked.is_modern))
        except asyncio.CancelledError:
            if not call.was_called_off:
                self._wire.send(_broken_off(request_id))

    async def _answer(self, call: Call, request: JSONRPCRequest, era: _Era) -> None:
        reply: JSONRPCMessage | None = None
        with call.scope():
            try:
                handle = self._handle_modern if era == "modern" else self._handle_handshake
                result = await handle(call, request.method, request.params)
                reply = JSONRPCResponse(jsonrpc="2.0", id=request.id, result=result)
            except Exception as fault:  # noqa: BLE001 - the edge of the wire: a request gets an answer, and it is logged
                reply = JSONRPCError(jsonrpc="2.0", id=request.id, error=modern_error_data(fault))
        call.closed = True
        reply = reply or _broken_off(request.id)
        if not call.was_called_off:  # then the protocol forbids an answer
            self._wire.send(reply)
        if request.method == "initialize":
            self._initialized()

    async def _handle_handshake(self, call: Call, method: str, params: _Params) -> dict[str, Any]:
        if method != "initialize" and _has_envelope(params):
            raise MCPError(INVALID_REQUEST, "this connection began with a handshake; send no envelope")
        return await self._handshake.on_request(call, method, params)

    async def _handle_modern(self, call: Call, method: str, params: _Params) -> dict[str, Any]:
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


def _broken_off(request_id: RequestId) -> JSONRPCError:
    told = ErrorData(code=CONNECTION_CLOSED, message="the server is stopping; call again")
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=told)


def _named(client_info: Any) -> str:
    name = client_info.get("name") if isinstance(client_info, dict) else None
    return name if isinstance(name, str) else ""


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
