"""Files that come from another machine: under a lease, whole or not at all, and never over another one."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Conflict, Forbidden, InvalidInput, LeaseLost, NotFound, StorageFull
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.taskqueue.uploading import Upload
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk, forged, text, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from taskqueue_mcp.model import Caller, Scope
    from taskqueue_mcp.taskqueue import Claim
    from taskqueue_mcp.taskqueue.uploading import Kept
    from tests.clock import Clock
    from tests.conftest import OpenQueue

PATH = "reports/stock.csv"
BYTES = b"sku,stock\nA,1\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The output folder of the server."""
    return tmp_path


@pytest.fixture
async def desk(open_queue: OpenQueue, clock: Clock, files: Path) -> Desk:
    return Desk(open_queue(outputs=OutputFolder(files)), clock)


class Chunks:
    """A body that comes in pieces, and remembers how much of it was asked for."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self._pieces = pieces
        self.asked = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.asked += 1
            if isinstance(piece, BaseException):
                raise piece
            yield piece


def upload_of(lease: Claim | str, data: bytes = BYTES, path: str = PATH, **changes: Any) -> Upload:
    return Upload(**{"lease": text(lease), "path": path, "size": len(data), "sha256": sha(data), **changes})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def send(
    desk: Desk, lease: Claim | str, data: bytes = BYTES, path: str = PATH, *, by: Caller = CLAUDE, **changes: Any
) -> Kept:
    chunks = Chunks(*(data[at : at + 5] for at in range(0, len(data), 5)))
    return await desk.queue.upload(by, upload_of(lease, data, path, **changes), aiter(chunks))


def lying(files: Path) -> dict[str, bytes]:
    return {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()}


async def test_a_file_that_was_uploaded_is_what_the_server_has_seen(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [{"path": PATH, "min_rows": 1}]})
    kept = await send(desk, claim)
    assert (kept.is_new, kept.artifact.stored, kept.artifact.sha256) == (True, PATH, sha(BYTES))
    assert lying(files) == {PATH: BYTES}
    assert (await desk.complete(claim)).verdict == "verified"


async def test_a_file_goes_beside_another_of_its_name_and_is_found_under_it(desk: Desk, files: Path) -> None:
    (files / "reports").mkdir()
    (files / PATH).write_bytes(b"yesterday's\n")
    claim = await desk.start()
    kept = await send(desk, claim)
    assert (kept.artifact.path, kept.artifact.stored) == (PATH, "reports/stock-2.csv")
    assert lying(files) == {PATH: b"yesterday's\n", "reports/stock-2.csv": BYTES}
    assert (await desk.complete(claim, result_path=PATH)).verdict == "verified"
    artifact, opened = await desk.queue.open_file(GEMINI, claim.task.id, PATH)
    with opened as file:
        assert (artifact.size, file.read()) == (len(BYTES), BYTES)


@pytest.mark.parametrize("announced", [True, False])
async def test_the_same_bytes_again_are_fine_and_kept_once(desk: Desk, files: Path, announced: bool) -> None:
    claim = await desk.start()
    changes: dict[str, Any] = {} if announced else {"sha256": None}
    first, again = await send(desk, claim, **changes), await send(desk, claim, **changes)
    assert (again.is_new, again.artifact) == (False, first.artifact)
    assert lying(files) == {PATH: BYTES}


@pytest.mark.parametrize("announced", [True, False])
async def test_other_bytes_under_the_same_name_are_a_conflict_and_the_first_stand(
    desk: Desk, files: Path, announced: bool
) -> None:
    claim = await desk.start()
    await send(desk, claim)
    with pytest.raises(Conflict, match="another name"):
        await send(desk, claim, b"other", sha256=sha(b"other") if announced else None)
    assert lying(files) == {PATH: BYTES}


async def test_uploads_of_one_file_at_the_same_time_keep_it_once(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    kept = await asyncio.gather(*(send(desk, claim, sha256=None) for _ in range(4)))
    assert {each.artifact for each in kept} == {kept[0].artifact}
    assert list(lying(files).values()) == [BYTES]


async def test_a_lease_that_is_not_valid_is_refused_before_the_first_byte(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    stale = await desk.start()
    await desk.complete(stale)
    for lease, by in ((forged(claim.lease), CLAUDE), (claim.lease, CODEX), (stale.lease, CLAUDE)):
        chunks = Chunks(BYTES)
        with pytest.raises(LeaseLost):
            await desk.queue.upload(by, upload_of(lease), aiter(chunks))
        with pytest.raises(LeaseLost):
            await desk.queue.has_file(by, upload_of(lease))
        assert chunks.asked == 0
    assert lying(files) == {}
    assert (await desk.detail(claim)).artifacts == ()


async def test_a_lease_that_is_lost_while_the_bytes_come_keeps_nothing(desk: Desk, files: Path) -> None:
    claim = await desk.start()

    async def chunks() -> AsyncIterator[bytes]:
        yield BYTES[:5]
        await desk.cancel(claim)
        yield BYTES[5:]

    with pytest.raises(LeaseLost):
        await desk.queue.upload(CLAUDE, upload_of(claim), chunks())
    assert lying(files) == {}
    assert (await desk.detail(claim)).artifacts == ()


async def test_a_file_that_lay_there_before_stays_when_the_lease_is_lost(desk: Desk, files: Path) -> None:
    (files / "reports").mkdir()
    (files / PATH).write_bytes(BYTES)
    claim = await desk.start()

    async def chunks() -> AsyncIterator[bytes]:
        await desk.cancel(claim)
        yield BYTES

    with pytest.raises(LeaseLost):
        await desk.queue.upload(CLAUDE, upload_of(claim), chunks())
    assert lying(files) == {PATH: BYTES}


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((BYTES[:5],), "5 bytes have come and 14 were announced"),
        ((BYTES, b"more"), "more than the 14 bytes"),
        ((b"x" * 14,), "not those of the Content-Digest"),
        ((BYTES[:5], ConnectionResetError()), "was broken off"),
    ],
)
async def test_an_upload_that_is_broken_off_or_wrong_leaves_nothing(
    desk: Desk, files: Path, pieces: tuple[Any, ...], why: str
) -> None:
    claim = await desk.start()
    with pytest.raises(InvalidInput, match=why):
        await desk.queue.upload(CLAUDE, upload_of(claim), aiter(Chunks(*pieces)))
    assert lying(files) == {}
    assert (await send(desk, claim)).is_new


async def test_a_caller_that_leaves_in_the_middle_leaves_nothing(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    half = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield BYTES[:5]
        half.set()
        await asyncio.Event().wait()

    sending = asyncio.ensure_future(desk.queue.upload(CLAUDE, upload_of(claim), chunks()))
    await half.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert lying(files) == {}


@pytest.mark.parametrize(
    "path",
    [
        "../escape.csv", "/etc/passwd.csv", "a/../../b.csv", "..\\b.csv", "C:b.csv", ".hidden.csv", "a//b.csv",
        "run.sh", "stock", "NUL.csv", "a\u202ecsv.csv", "a\nb.csv", "", "reports/", "x" * 300 + ".csv",
    ],
)  # fmt: skip
async def test_a_hostile_name_is_refused_before_the_first_byte(desk: Desk, files: Path, path: str) -> None:
    claim = await desk.start()
    chunks = Chunks(BYTES)
    with pytest.raises(InvalidInput):
        await desk.queue.upload(CLAUDE, upload_of(claim, path=path), aiter(chunks))
    assert (chunks.asked, lying(files)) == (0, {})


async def test_no_link_leads_an_upload_out_of_the_folder(
    desk: Desk, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (files / "reports").symlink_to(elsewhere)
    claim = await desk.start()
    with pytest.raises(InvalidInput):
        await send(desk, claim)
    assert list(elsewhere.iterdir()) == []


async def test_a_file_for_which_there_is_no_room_is_refused(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    chunks = Chunks(BYTES)
    with pytest.raises(StorageFull, match="free some space"):
        await desk.queue.upload(CLAUDE, upload_of(claim, size=1 << 60), aiter(chunks))
    assert (chunks.asked, lying(files)) == (0, {})


async def test_bytes_that_lie_there_already_need_not_be_sent(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    assert not await desk.queue.has_file(CLAUDE, upload_of(claim))
    (files / "reports").mkdir()
    (files / PATH).write_bytes(BYTES)
    assert await desk.queue.has_file(CLAUDE, upload_of(claim))
    assert not await desk.queue.has_file(CLAUDE, upload_of(claim, b"x" * len(BYTES)))
    assert (await send(desk, claim)).artifact.stored == PATH
    assert lying(files) == {PATH: BYTES}


async def test_an_upload_is_a_sign_of_life(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(800)
    await send(desk, claim)
    clock.advance(800)
    await desk.queue.tick()
    assert (await desk.task(claim)).status == "in_progress"


@pytest.mark.parametrize("path", ["reports/other.csv", "../../etc/passwd", "/etc/passwd", "notes.md"])
async def test_only_files_that_were_kept_for_the_task_are_handed_out(desk: Desk, files: Path, path: str) -> None:
    (files / "reports").mkdir()
    (files / "reports/other.csv").write_bytes(b"another task's")
    claim = await desk.start()
    await send(desk, claim)
    await desk.update(claim, artifact="notes.md")
    with pytest.raises(NotFound):
        await desk.queue.open_file(OWNER, claim.task.id, path)


async def test_a_kept_file_that_was_changed_is_not_handed_out(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    await send(desk, claim)
    (files / PATH).write_bytes(b"something else, longer than that")
    _, opened = await desk.queue.open_file(OWNER, claim.task.id, PATH)
    with pytest.raises(NotFound, match="somebody has changed it"), opened:
        pass


async def test_uploading_wants_the_scope_of_work(desk: Desk, files: Path) -> None:
    claim = await desk.start()
    scope: Scope
    (scope,) = CLAUDE.scopes
    with pytest.raises(Forbidden):
        await send(desk, claim, by=without(CLAUDE, scope))
    assert lying(files) == {}
