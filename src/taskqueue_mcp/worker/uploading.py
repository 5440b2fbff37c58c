"""The files of an attempt on their way to a server on another machine; what it has already is not sent."""

from __future__ import annotations

import base64
import hashlib
import logging
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2

from taskqueue_mcp.errors import InvalidInput, NotFound
from taskqueue_mcp.retries import Backoff

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import AsyncIterator, Iterable

    from taskqueue_mcp.outputs.folder import OutputFolder

log = logging.getLogger(__name__)

CHUNK: Final = 256 * 1024
TRIES: Final = 6
AGAIN: Final = Backoff(first_seconds=0.2, longest_seconds=5.0, jitter=0.5)
MICROS: Final = 1_000_000
MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Uploads:
    """Sends files to the server at `url`, as the worker whose token this is."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.netloc}/artifacts"
        self._token = token
        self._is_near = parts.hostname in LOOPBACK

    async def send(self, lease: str, paths: Iterable[str], outputs: OutputFolder) -> None:
        """Send what lies at `paths` of the output folder; what cannot be sent is logged, and the verdict says so.

        Whether a file has to be there is for the queue to judge: it has seen it, or it has not.
        """
        wanted = list(dict.fromkeys(paths))
        if not wanted:
            return
        http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._token}", "Taskqueue-Lease": lease},
            timeout=httpx2.Timeout(30.0, read=120.0),
            trust_env=not self._is_near,  # a proxy of the machine does not reach the machine
        )
        async with http:
            for path in wanted:
                try:
                    with outputs.opened(path) as (file, status):
                        why = await self._sent(http, path, file, status)
                except (NotFound, InvalidInput, OSError) as error:
                    why = str(error)
                if why:
                    log.warning("%r was not uploaded: %r", path, why)

    async def _sent(
        self, http: httpx2.AsyncClient, path: str, file: io.BufferedReader, status: os.stat_result
    ) -> str:  # fmt: skip
        """Send one file, again where that may help; return why it could not be sent."""
        hashed = await anyio.to_thread.run_sync(lambda: hashlib.file_digest(file, "sha256").digest())
        announced = {
            "Content-Digest": f"sha-256=:{base64.b64encode(hashed).decode()}:",
            "Taskqueue-Size": str(status.st_size),
        }
        why = ""
        for number in range(1, TRIES + 1):
            try:
                asked = await http.head(self._url, params={"path": path}, headers=announced)
                if asked.status_code == httpx2.codes.OK:
                    return ""
                file.seek(0)
                answer = await http.put(
                    self._url, params={"path": path}, content=_chunks(file),
                    headers={**announced, "Content-Length": str(status.st_size)},
                )  # fmt: skip
            except httpx2.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return ""
                why = _said(answer)
                if answer.status_code not in MAY_PASS:
                    return why
            await anyio.sleep(AGAIN.delay(number, random.random()) / MICROS)  # noqa: S311 - spreads the repetitions
        return why


async def _chunks(file: io.BufferedReader) -> AsyncIterator[bytes]:
    while chunk := await anyio.to_thread.run_sync(file.read, CHUNK):
        yield chunk


def _said(answer: httpx2.Response) -> str:
    try:
        told: Any = answer.json()
    except ValueError:
        told = None
    message = told.get("message") if isinstance(told, dict) else None
    return f"HTTP {answer.status_code}" + (f": {message}" if message else "")
