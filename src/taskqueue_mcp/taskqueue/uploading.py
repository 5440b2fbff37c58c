"""Files that a worker on another machine made: taken in under its lease, whole or not at all, and handed out again."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

from taskqueue_mcp.errors import Conflict, InvalidInput, NotFound, StorageFull, TaskQueueError
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.store import attempts
from taskqueue_mcp.taskqueue import holding, moving, settling
from taskqueue_mcp.taskqueue.settling import Update
from taskqueue_mcp.taskqueue.threads import in_a_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractContextManager

    from taskqueue_mcp.model import Artifact, Caller
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
    from taskqueue_mcp.store import Database, Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

RENEW_SECONDS: Final = 20.0
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is about to come: `path` as the attempt names it, `sha256` in hexadecimal if it was announced."""

    lease: str
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was taken in; `is_new` is false when the server had it before."""

    artifact: Artifact
    is_new: bool


class _Same(Exception):
    """The bytes that came are those that are kept already."""


@dataclass(slots=True)
class _Feed:
    """Hands the chunks of a request to the thread that writes them, and lets it end when nobody sends any more."""

    loop: asyncio.AbstractEventLoop
    chunks: AsyncIterator[bytes]
    is_over: bool = False
    _waiting: set[asyncio.Task[bytes]] = field(default_factory=set)

    def __iter__(self) -> Iterator[bytes]:
        while chunk := asyncio.run_coroutine_threadsafe(self._next(), self.loop).result():
            yield chunk

    def break_off(self) -> None:
        self.is_over = True
        for task in self._waiting:
            task.cancel()

    async def _next(self) -> bytes:
        """Return the next chunk that is not empty, or b"" at the end."""
        if self.is_over:
            raise InvalidInput("the upload was broken off")
        task = asyncio.ensure_future(self._chunk())
        self._waiting.add(task)
        try:
            return await task
        except (asyncio.CancelledError, OSError):
            raise InvalidInput("the upload was broken off; send the file again") from None
        finally:
            self._waiting.discard(task)

    async def _chunk(self) -> bytes:
        async for chunk in self.chunks:
            if chunk:
                return chunk
        return b""


class Uploads:
    """Takes files in and hands them out."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self._database = database
        self._rules = rules

    async def has(self, caller: Caller, upload: Upload) -> bool:
        """Whether these very bytes lie here already, as they do where the attempt runs on this machine."""
        await self._held(caller, upload)
        outputs = self._outputs()
        return await in_a_thread(lambda: upload.sha256 is not None and _lies_there(outputs, upload))

    async def take(self, caller: Caller, upload: Upload, chunks: AsyncIterator[bytes]) -> Kept:
        """Take a file in. The lease is checked before the first byte and again when the last one is on the disk.

        Raises:
            InvalidInput: the path is not clean, or the bytes are not those that were announced.
            LeaseLost: the lease is not valid, or was lost meanwhile; nothing remains.
            Conflict: another file was taken in under this name before, in this attempt.
            StorageFull: there is no room.
        """
        paths.check(upload.path)
        outputs = self._outputs()
        before = await self._held(caller, upload)
        if upload.sha256 is not None and before is not None and before.sha256 == upload.sha256:
            async for _ in chunks:
                pass
            return Kept(before, is_new=False)
        if upload.sha256 is not None and before is not None:
            raise _another(upload)
        feed = _Feed(asyncio.get_running_loop(), chunks)
        writing = in_a_thread(partial(_write, outputs, upload, feed, before))
        renewing = asyncio.ensure_future(self._renew(caller, upload))
        try:
            written, is_ours = await asyncio.shield(writing)
        except _Same:
            assert before is not None  # noqa: S101 - it is what they are the same as
            return Kept(before, is_new=False)
        except OSError as error:
            raise _no_room(error) from error
        except asyncio.CancelledError:
            feed.break_off()
            with suppress(Exception):
                written, is_ours = await writing
                await _take_back(outputs, written, is_ours=is_ours)
            raise
        finally:
            renewing.cancel()
        try:
            return await self._database.write(partial(_keep, caller=caller, upload=upload, written=written))
        except TaskQueueError:
            await _take_back(outputs, written, is_ours=is_ours)
            raise
        except _SameMeanwhile as same:
            await _take_back(outputs, written, is_ours=is_ours)
            return Kept(same.artifact, is_new=False)

    async def find(self, task_id: int, path: str) -> tuple[Artifact, AbstractContextManager[BinaryIO]]:
        """Return a file that a task's attempts made and that is kept here, and what opens it.

        Raises:
            NotFound: there is none of this path, or nobody but its worker has it.
        """
        artifact = await self._database.read(partial(_find, task_id=task_id, path=path))
        return artifact, _opened(self._outputs(), artifact)

    async def _held(self, caller: Caller, upload: Upload) -> Artifact | None:
        """Check the lease and renew it; return what was taken in under this path before."""
        return await self._database.write(partial(_check, rules=self._rules, caller=caller, upload=upload))

    async def _renew(self, caller: Caller, upload: Upload) -> None:
        with suppress(TaskQueueError):  # the check at the end says what became of it
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                await self._held(caller, upload)

    def _outputs(self) -> OutputFolder:
        if self._rules.outputs is None:
            raise NotFound("this server keeps no output folder; set TASKQUEUE_OUTPUT")
        return self._rules.outputs


class _SameMeanwhile(Exception):
    """Somebody else has taken the same bytes in under the same path."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.artifact = artifact


def _check(transaction: Transaction, rules: Rules, caller: Caller, upload: Upload) -> Artifact | None:
    held = settling.update(transaction, rules, caller, Update(upload.lease))
    return attempts.stored_artifact(transaction, held.task.id, held.task.attempt, upload.path)


def _keep(transaction: Transaction, caller: Caller, upload: Upload, written: WrittenFile) -> Kept:
    task = holding.held(transaction, caller, upload.lease).task
    before = attempts.stored_artifact(transaction, task.id, task.attempt, upload.path)
    if before is not None:
        raise _SameMeanwhile(before) if before.sha256 == written.sha256 else _another(upload)
    row = {
        "path": upload.path, "size": written.size, "sha256": written.sha256, "media_type": written.media_type,
        "stored": written.path,
    }  # fmt: skip
    attempts.add_artifact(transaction, task, row)
    kept = attempts.stored_artifact(transaction, task.id, task.attempt, upload.path)
    assert kept is not None  # noqa: S101 - it was stored a line above
    return Kept(kept, is_new=True)


async def _take_back(outputs: OutputFolder, written: WrittenFile, *, is_ours: bool) -> None:
    """Remove a file that did not come to be an artifact; one that somebody else wrote stays."""
    if is_ours:
        await in_a_thread(partial(outputs.remove, written.path))


def _write(outputs: OutputFolder, upload: Upload, feed: _Feed, before: Artifact | None) -> tuple[WrittenFile, bool]:
    """Write a file as its bytes come; return it, and whether it is ours and did not lie there before."""
    outputs.root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(outputs.root).free < upload.size:
        raise OSError(errno.ENOSPC, "no space left on the disk")
    if upload.sha256 is not None and _lies_there(outputs, upload):
        for _ in feed:
            pass
        return outputs.find(upload.path), False

    def fill(file: BinaryIO) -> None:
        hashed, size = hashlib.sha256(), 0
        for chunk in feed:
            hashed.update(chunk)
            size += len(chunk)
            if size > upload.size:
                raise InvalidInput(f"more than the {upload.size:,} bytes that were announced have come")
            file.write(chunk)
        if size != upload.size:
            raise InvalidInput(f"{size:,} bytes have come and {upload.size:,} were announced; send the file again")
        digest = hashed.hexdigest()
        if upload.sha256 is not None and digest != upload.sha256:
            raise InvalidInput("the bytes are not those of the Content-Digest; send the file again")
        if before is not None:
            raise _Same if before.sha256 == digest else _another(upload)

    return outputs.write(upload.path, fill), True


def _lies_there(outputs: OutputFolder, upload: Upload) -> bool:
    try:
        with outputs.opened(upload.path) as (file, status):
            if status.st_size != upload.size:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == upload.sha256
    except (NotFound, InvalidInput, OSError):
        return False


def _find(transaction: Transaction, task_id: int, path: str) -> Artifact:
    moving.fetch(transaction, task_id)
    named = [each for each in attempts.artifacts(transaction, task_id) if each.path == path]
    kept = [each for each in named if each.stored is not None]
    if not kept:
        why = "lies where its worker runs, and was not uploaded" if named else "is not among its files"
        raise NotFound(f"{path[:80]!a} of T-{task_id} {why}; get_task lists its artifacts")
    return kept[-1]


@contextmanager
def _opened(outputs: OutputFolder, artifact: Artifact) -> Iterator[BinaryIO]:
    with outputs.opened(artifact.stored or artifact.path) as (file, status):
        if status.st_size != artifact.size:
            raise NotFound(f"{artifact.path} is not the file any more that was kept: somebody has changed it")
        yield file


def _another(upload: Upload) -> Conflict:
    return Conflict(
        f"another file was uploaded as {upload.path} in this attempt and stands; upload this one under another name",
        path=upload.path,
    )


def _no_room(error: OSError) -> TaskQueueError:
    if error.errno in FULL:
        return StorageFull("the disk of the output folder is full; nothing of the file was kept: free some space")
    return StorageFull(f"the output folder cannot be written ({error.strerror or error}); nothing of the file was kept")
