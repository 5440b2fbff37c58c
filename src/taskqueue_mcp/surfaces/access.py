"""Who may come in over HTTP: each request passes every check here before any route sees it.

The checks stand around the whole application and refuse by default, so that a route added later cannot
forget them. A page in the owner's browser is the attacker to think of: it can reach loopback, choose the path
and the method, and with a name that it re-points to 127.0.0.1 pose as the same origin. So the name in `Host`
has to be one of ours, `Origin` (where a browser sends it) too, and a token is wanted always, on loopback as
well.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import math
import re
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from taskqueue_mcp.errors import Forbidden, SettingsRefused, TaskQueueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from taskqueue_mcp.model import Caller

__all__ = ["AccessControl", "Authenticate", "Limit", "caller", "current_caller", "error_body", "too_deep"]

Authenticate: TypeAlias = "Callable[[str], Awaitable[Caller | None] | Caller | None]"
"""Whose token this is; None for nobody's."""

Limit: TypeAlias = "Callable[[Caller], float | None]"
"""How many seconds a caller has to wait before asking again; None for not at all."""

BODY_LIMIT = 4 * 1024 * 1024
NESTING_LIMIT = 40
"""32 levels of arguments, and what MCP and JSON-RPC wrap around them."""

_AUTHORITY = r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?))(?::([0-9]{1,5}))?"
_HOST = re.compile(_AUTHORITY)
_ORIGIN = re.compile(rf"(https?)://{_AUTHORITY}")
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]{1,4096}=*)")
_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"{}[]")
_DEFAULT_PORT = {"http": 80, "https": 443}
_PLACE = frozenset({b"host", b"origin"})
_ASKED = _PLACE | {b"authorization", b"content-length", b"content-type", b"transfer-encoding"}
_MOST_PLACES = 256

current_caller: ContextVar[Caller] = ContextVar("current_caller")
"""Who the running call comes from. HTTP sets it for each request, stdio once for the process."""


def caller() -> Caller:
    """Return who the running call comes from.

    Raises:
        Forbidden: nobody has been let in.
    """
    try:
        return current_caller.get()
    except LookupError:
        raise Forbidden("this call comes from nobody; send a token") from None


class _Authority(NamedTuple):
    """A host and, where it was written, a port."""

    host: str
    port: int | None

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class _Refused(Exception):
    """The request goes no further."""

    def __init__(self, status: HTTPStatus, error: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class AccessControl:
    """ASGI middleware around the whole application: what it does not let through gets one line of JSON.

    Args:
        app: What is protected.
        authenticate: Whose token this is. It is asked on each request, so it should remember.
        hosts: Names this server goes by besides loopback's, such as `tq.example.com` (any port) or
            `tq.example.com:8443`.
        origins: Browser origins let in besides the server's own, such as `https://tools.example.com`.
        open_paths: Exact paths that a GET reaches without a token. Host and Origin are checked there too.
        limit: How long a caller has to wait.
        body_limits: Bytes that a body may have under a path prefix, where that is not 4 MiB. Such a body says
            its length beforehand and is streamed; all others are read here.
        json_paths: Paths whose body is JSON whatever its content type says.

    Raises:
        SettingsRefused: `hosts` or `origins` has an entry that could never match, or would match everything.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Authenticate,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        open_paths: Iterable[str] = ("/healthz",),
        limit: Limit | None = None,
        body_limits: Mapping[str, int] | None = None,
        json_paths: Iterable[str] = ("/mcp",),
    ) -> None:
        self.app = app
        self._authenticate = authenticate
        self._hosts, self._origins = _read_settings(hosts, origins)
        self._open_paths = frozenset(open_paths)
        self._limit = limit
        self._body_limits = dict(body_limits or {})
        self._json_paths = frozenset(json_paths)
        self._checked: set[tuple[bytes, ...]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in with its caller, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                who, receive = await self._admit(scope, receive)
            except _Refused as refused:
                await _respond(refused, send)
                return
            await self._pass(who, scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _pass(self, who: Caller | None, scope: Scope, receive: Receive, send: Send) -> None:
        if who is None:
            await self.app(scope, receive, send)
            return
        token = current_caller.set(who)
        try:
            await self.app({**scope, "state": {**scope.get("state", {}), "caller": who}}, receive, send)
        finally:
            current_caller.reset(token)

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Caller | None, Receive]:
        headers: dict[bytes, list[str]] = {}
        place: list[bytes] = []
        for name, value in scope["headers"]:
            if name in _ASKED:  # ASGI has names in small letters
                headers.setdefault(name, []).append(value.decode("latin-1"))
                if name in _PLACE:
                    place += (name, value)
        self._check_place(tuple(place), headers)
        if scope["path"] in self._open_paths and scope["method"] in ("GET", "HEAD"):
            return None, receive
        who = await self._identify(headers.get(b"authorization", []))
        wait = self._limit(who) if self._limit else None
        if wait is not None:
            seconds = str(max(1, math.ceil(wait)))
            raise _Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "limit_reached",
                f"too many requests; ask again in {seconds} s",
                retry_after=seconds,
            )
        return who, await self._bounded(scope, headers, receive)

    def _check_place(self, place: tuple[bytes, ...], headers: dict[bytes, list[str]]) -> None:
        """Check where the request is for and from; one that passed is known when it comes again."""
        if place in self._checked:
            return
        self._check_origin(headers.get(b"origin", []), self._check_host(headers.get(b"host", [])))
        if len(self._checked) >= _MOST_PLACES:  # loopback has many names and ports
            self._checked.clear()
        self._checked.add(place)

    def _check_host(self, values: list[str]) -> _Authority:
        named = _authority(_HOST.fullmatch(values[0])) if len(values) == 1 else None
        if named and (named.loopback or {named, named._replace(port=None)} & self._hosts):
            return named
        raise _Refused(
            HTTPStatus.MISDIRECTED_REQUEST,
            "unknown_host",
            "this server does not go by that name; add it to the hosts in the settings",
        )

    def _check_origin(self, values: list[str], host: _Authority) -> None:
        if not values:
            return
        origin = _origin(values[0]) if len(values) == 1 else None
        if origin is not None and (origin in self._origins or _is_own(origin, host)):
            return
        raise _Refused(
            HTTPStatus.FORBIDDEN,
            "foreign_origin",
            "pages of that origin may not ask here; add it to the origins in the settings",
        )

    async def _identify(self, values: list[str]) -> Caller:
        sent = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
        who = None
        if sent is not None:
            try:
                found = self._authenticate(sent[1])
                who = await found if inspect.isawaitable(found) else found
            except TaskQueueError as fault:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, fault.code, str(fault), retry_after="1") from fault
        if who is None:
            raise _Refused(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "send a valid token: Authorization: Bearer <token>",
                www_authenticate="Bearer",
            )
        return who

    async def _bounded(self, scope: Scope, headers: dict[bytes, list[str]], receive: Receive) -> Receive:
        length = headers.get(b"content-length", [""])[0]
        if not length and b"transfer-encoding" not in headers:
            return receive
        path: str = scope["path"]
        declared = int(length) if length.isdecimal() else None
        for prefix, bound in self._body_limits.items():
            if path.startswith(prefix):
                if declared is None:
                    raise _Refused(HTTPStatus.LENGTH_REQUIRED, "invalid_input", "send a Content-Length")
                _check_size(declared, bound)
                return receive
        _check_size(declared or 0, BODY_LIMIT)
        body, gone = await _read(receive)
        is_json = path in self._json_paths or "json" in headers.get(b"content-type", [""])[0]
        if is_json and too_deep(body):
            raise _Refused(
                HTTPStatus.BAD_REQUEST,
                "invalid_input",
                f"the JSON nests deeper than {NESTING_LIMIT} levels, or is not closed; make it flatter",
            )
        waiting = [gone or {"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return replay


def too_deep(body: bytes, limit: int = NESTING_LIMIT) -> bool:
    """Say whether a JSON document nests deeper than `limit` levels, in time linear to its length.

    What is no JSON, such as brackets that are never closed, may count as too deep as well.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _JSON_STRING.sub(b"", body).translate(_AS_SQUARE, _NO_BRACKET)
    for _ in range(limit):  # each round takes the innermost level off
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def error_body(error: str, message: str) -> bytes:
    """Write a refusal's body: one line of JSON, an `error` for programs and a `message` for people."""
    return json.dumps({"error": error, "message": message}, ensure_ascii=False).encode() + b"\n"


async def _respond(refused: _Refused, send: Send) -> None:
    body = error_body(refused.error, str(refused))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **refused.headers,
    }
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> tuple[bytes, Message | None]:
    """Read a body up to the limit; and the client's leaving, if it left before the end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body), message
        body += message.get("body", b"")
        _check_size(len(body), BODY_LIMIT)
        if not message.get("more_body", False):
            return bytes(body), None


def _check_size(size: int, bound: int) -> None:
    if size > bound:
        raise _Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "limit_reached",
            f"a body may have {bound} bytes; send less",
            connection="close",
        )


def _authority(match: re.Match[str] | None) -> _Authority | None:
    if match is None:
        return None
    address, name, port = match.groups()[-3:]
    if address is None:
        return _Authority(name.lower(), int(port) if port else None)
    try:
        return _Authority(ipaddress.IPv6Address(address).compressed, int(port) if port else None)
    except ValueError:
        return None


def _origin(value: str) -> tuple[str, str, int] | str | None:
    """Read an origin: of http and https in parts, any other (an editor's, an extension's) as it stands."""
    match = _ORIGIN.fullmatch(value)
    if match is not None:
        named = _authority(match)
        return named and (match[1], named.host, named.port or _DEFAULT_PORT[match[1]])
    scheme, separator, _ = value.partition("://")
    return value if separator and scheme.lower() not in ("http", "https", "file") else None


def _is_own(origin: tuple[str, str, int] | str, host: _Authority) -> bool:
    """Whether a page came from this very server: on loopback, or over https from the name it was asked by."""
    if isinstance(origin, str):
        return False
    scheme, name, port = origin
    same = name == host.host and port == (host.port or _DEFAULT_PORT[scheme])
    return same and (scheme == "https" or host.loopback)


def _read_settings(
    hosts: Iterable[str], origins: Iterable[str]
) -> tuple[frozenset[_Authority], frozenset[tuple[str, str, int] | str]]:
    read_hosts = {text: _authority(_HOST.fullmatch(text)) for text in hosts}
    read_origins = {text: _origin(text) for text in origins}
    faults = [
        f"hosts: {text!r} is no host; write tq.example.com or tq.example.com:8443"
        for text, host in read_hosts.items()
        if host is None
    ] + [
        f"origins: {text!r} is no origin; write https://tq.example.com"
        for text, origin in read_origins.items()
        if origin is None
    ]
    if faults:
        raise SettingsRefused("; ".join(faults))
    return (
        frozenset(host for host in read_hosts.values() if host is not None),
        frozenset(origin for origin in read_origins.values() if origin is not None),
    )
