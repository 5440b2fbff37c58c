"""Files over HTTP: `PUT /artifacts?path=…` under a lease, `GET /artifacts/T-7?path=…` for whoever may look.

The lease goes in the header `Taskqueue-Lease`; `Content-Digest` (RFC 9530) announces a file's hash, so that one that
was broken on the way is refused and one that is here already need not be sent: `HEAD` asks for that.
"""

from __future__ import annotations

import base64
import binascii
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from taskqueue_mcp import checks, errors
from taskqueue_mcp.surfaces import access, views
from taskqueue_mcp.taskqueue.uploading import Upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from taskqueue_mcp.taskqueue import TaskQueue

PATH: Final = "/artifacts"
LEASE: Final = "taskqueue-lease"
CHUNK: Final = 256 * 1024
CLOSED_BY_CLIENT: Final = 499

_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")

STATUSES: Final[dict[type[errors.TaskQueueError], HTTPStatus]] = {
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.LeaseLost: HTTPStatus.CONFLICT,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.WrongStatus: HTTPStatus.CONFLICT,
    errors.LimitReached: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ShuttingDown: HTTPStatus.SERVICE_UNAVAILABLE,
}


def routes(queue: TaskQueue) -> list[BaseRoute]:
    """Return the routes of files over `queue`."""
    files = Files(queue)
    return [
        Route(PATH, _told(files.take_or_ask), methods=["PUT", "HEAD"]),
        Route(f"{PATH}/{{task_id}}", _told(files.give), methods=["GET"]),
    ]


class Files:
    """The handlers, each a translation."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    async def take_or_ask(self, request: Request) -> Response:
        """Take a file in (201, or 200 where it is here already), or say whether it is here (200 or 404)."""
        upload = _upload(request)
        if request.method == "HEAD":
            is_here = await self._queue.has_file(access.caller(), upload)
            return Response(status_code=HTTPStatus.OK if is_here else HTTPStatus.NOT_FOUND)
        try:
            kept = await self._queue.upload(access.caller(), upload, request.stream())
        except ClientDisconnect:
            return Response(status_code=CLOSED_BY_CLIENT)
        view = {"artifact": views.artifact(kept.artifact)}
        return JSONResponse(view, HTTPStatus.CREATED if kept.is_new else HTTPStatus.OK)

    async def give(self, request: Request) -> Response:
        """Return a file, or the list of a task's files."""
        task_id = checks.task_id(request.path_params["task_id"])
        path = request.query_params.get("path")
        if path is None:
            found = await self._queue.get(access.caller(), task_id)
            return JSONResponse({"artifacts": [views.artifact(each) for each in found.artifacts]})
        artifact, opened = await self._queue.open_file(access.caller(), task_id, path)
        headers = {
            "content-length": str(artifact.size),
            # What an agent wrote is not shown as a page of this server.
            "content-disposition": f"attachment; filename*=UTF-8''{quote(artifact.path.rpartition('/')[2])}",
            "content-security-policy": "sandbox",
            "x-content-type-options": "nosniff",
            "cache-control": "private, no-store",
        }
        if artifact.sha256 is not None:
            headers["content-digest"] = digest(artifact.sha256)
        sent = _sent(opened)
        next(sent)  # a file that is gone is said before the answer begins
        return StreamingResponse(sent, headers=headers, media_type=artifact.media_type or "application/octet-stream")


def digest(sha256: str) -> str:
    """Return a hash as `Content-Digest` has it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _upload(request: Request) -> Upload:
    path = request.query_params.get("path")
    if not path:
        raise errors.InvalidInput("path: say as ?path=… where the file belongs, relative to the output folder")
    lease = request.headers.get(LEASE)
    if not lease:
        raise errors.InvalidInput("Taskqueue-Lease: send the lease of claim_task in this header")
    written = request.headers.get("content-digest")
    sha256 = None
    if written is not None:
        found = _DIGEST.fullmatch(written.strip())
        try:
            sha256 = base64.b64decode(found[1], validate=True).hex() if found else None
        except binascii.Error:
            sha256 = None
        if sha256 is None:
            raise errors.InvalidInput("Content-Digest: must be sha-256=:<base64>:")
    length = request.headers.get("taskqueue-size" if request.method == "HEAD" else "content-length", "")
    if not length.isdecimal():
        raise errors.InvalidInput("Content-Length (Taskqueue-Size for HEAD): say how many bytes the file has")
    return Upload(lease, path, int(length), sha256)


def _sent(opened: AbstractContextManager[BinaryIO]) -> Iterator[bytes]:
    with opened as file:
        yield b""
        while chunk := file.read(CHUNK):
            yield chunk


def _told(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer a refusal with its status and one line of JSON."""

    async def handled(request: Request) -> Response:
        try:
            return await handle(request)
        except errors.TaskQueueError as error:
            status = STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
            headers: dict[str, Any] = {"connection": "close"} if request.method == "PUT" else {}
            return Response(access.error_body(error.code, str(error)), status, headers, "application/json")

    return handled
