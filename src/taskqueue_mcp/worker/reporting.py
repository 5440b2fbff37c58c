"""What an attempt says on its way: heartbeat, progress and log, in as few updates as will do."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

from taskqueue_mcp.errors import LeaseLost, TaskQueueError

if TYPE_CHECKING:
    from taskqueue_mcp.outputs.folder import WrittenFile
    from taskqueue_mcp.worker.connection import Connection

log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between two updates that have something to say."""
FIRST_PAUSE: Final = 0.25
"""Seconds before the first of them: most of what a command that takes no longer says goes in one."""
FULL: Final = 32 * 1024
"""Characters of log that do not wait for the pause."""
LARGEST_PART: Final = 64 * 1024
MOST_WAITING: Final = 1024 * 1024
"""Characters of log that are kept while the queue is out of reach."""
LONGEST_MESSAGE: Final = 500


class Reporter:
    """Renews a lease for as long as it runs, and takes progress and log along.

    It runs in the loop that it was made in; `log` and `progress` may be called from any thread.
    """

    def __init__(self, connection: Connection, lease: str, *, beat_seconds: float) -> None:
        self._connection = connection
        self._lease = lease
        self._beat_seconds = beat_seconds
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._size = 0
        self._left_out = 0
        self._progress: dict[str, Any] = {}
        self._files: list[WrittenFile] = []
        self._told = 0
        self._number = 0
        self._news = anyio.Event()
        self._hurry = anyio.Event()
        self._closed = False

    def log(self, text: str) -> None:
        """Take text for the log; while the queue is out of reach, the oldest of it gives way."""
        if not text:
            return
        with self._lock:
            self._waiting.append(text[-MOST_WAITING:])
            self._size += len(self._waiting[-1])
            while self._size > MOST_WAITING:
                dropped = len(self._waiting.pop(0))
                self._size -= dropped
                self._left_out += dropped
            self._tell()

    def artifact(self, file: WrittenFile) -> None:
        """Make a file an artifact of the attempt, however that ends."""
        with self._lock:
            self._files.append(file)
            self._tell()

    async def progress(self, percent: float | None, message: str = "") -> None:
        """Note how far the attempt is; the newest word goes out with the next update."""
        with self._lock:
            if percent is not None and math.isfinite(percent):
                self._progress["progress"] = min(max(percent, 0.0), 100.0)
            if message:
                self._progress["message"] = message[:LONGEST_MESSAGE]
            if self._progress:
                self._tell()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Let `run` end once everything has been said."""
        self._closed = True
        self._news.set()
        self._hurry.set()

    def _tell(self) -> None:
        """Wake `run`, once for whatever has come by the time that it looks, and once more when that is much."""
        told = 2 if self._size >= FULL else 1
        if told > self._told:
            self._told = told
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._news.set()
        if self._size >= FULL:
            self._hurry.set()

    async def run(self) -> None:
        """Send what there is, and a heartbeat when there is nothing, until closed.

        Raises:
            LeaseLost: the attempt is not ours any more.
        """
        may_speak_at = anyio.current_time() + FIRST_PAUSE
        while True:
            with anyio.move_on_after(self._beat_seconds):
                await self._news.wait()
                with anyio.move_on_after(may_speak_at - anyio.current_time()):
                    await self._hurry.wait()
            if self._closed and not (self._waiting or self._files):
                return  # how far it is, is of no use once it is over
            may_speak_at = anyio.current_time() + PAUSE
            await self._send()

    async def _send(self) -> None:
        news = self._taken()
        if news:
            self._number += 1
            news["seq"] = self._number
        try:
            answer = await self._connection.call("update_task", {"lease": self._lease, **news})
        except LeaseLost:
            raise
        except TaskQueueError as error:
            # What it refuses (a part over its limits) is left out; the attempt goes on.
            log.warning("the queue refused an update: %r", str(error))
        else:
            if answer.get("stop"):
                raise LeaseLost("the queue says to stop")

    def _taken(self) -> dict[str, Any]:
        with self._lock:
            news, self._progress = self._progress, {}
            text = "".join(self._waiting)
            if self._left_out:
                text = f"… {self._left_out:,} characters left out …\n{text}"
                self._left_out = 0
            part, rest = _parted(text)
            self._waiting, self._size = [rest] if rest else [], len(rest)
            file = self._files.pop(0) if self._files else None
            self._told = 0
        if part:
            news["log"] = part
        if file is not None:
            news["artifact"] = json.dumps(asdict(file), ensure_ascii=False)
        if not self._closed:
            self._hurry = anyio.Event()
            self._news = anyio.Event()
            if rest or self._files:
                self._news.set()
                self._hurry.set()
        return news


def _parted(text: str) -> tuple[str, str]:
    """Return as much as goes into one update, up to the end of a line where there is one, and the rest."""
    if len(text) <= LARGEST_PART:
        return text, ""
    end = text.rfind("\n", 0, LARGEST_PART) + 1 or LARGEST_PART
    return text[:end], text[end:]
