"""A full disk: what was acknowledged is stored, what was not is not, and it goes on when there is room."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Busy, InvalidInput, LimitReached, TaskQueueError
from taskqueue_mcp.model import Status
from taskqueue_mcp.taskqueue import Limits
from tests.contract.desk import CLAUDE, GEMINI, Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taskqueue_mcp.taskqueue import Claim
    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("sqlite")

LARGE = "x" * 100_000


class Disk:
    """The room that the database has, in pages."""

    def __init__(self, desk: Desk) -> None:
        database: Any = desk.queue.database
        self._execute = database._connection.execute

    def fill(self, left: int = 0) -> None:
        pages = self._execute("PRAGMA page_count").fetchone()[0]
        self._execute(f"PRAGMA max_page_count = {pages + left}")

    def free(self) -> None:
        self._execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
async def disk(desk: Desk) -> AsyncIterator[Disk]:
    made = Disk(desk)
    yield made
    made.free()


async def test_nothing_of_a_call_on_a_full_disk_is_stored(desk: Desk, disk: Disk) -> None:
    await desk.create()
    before = await desk.snapshot()
    disk.fill()
    with pytest.raises(
        Busy, match=r"disk .* is full and nothing was changed; free some space, then call again"
    ) as full:
        await desk.create(instructions=LARGE)
    assert "\n" not in str(full.value)
    assert await desk.snapshot() == before
    disk.free()
    await desk.create(instructions=LARGE)


async def test_work_under_way_ends_when_there_is_room_again(desk: Desk, disk: Disk) -> None:
    claim = await desk.start()
    disk.fill()
    with pytest.raises(Busy):
        await desk.complete(claim, result_data=f'"{LARGE}"')
    assert (await desk.task(claim)).status is Status.IN_PROGRESS
    disk.free()
    task = await desk.complete(claim, result_data=f'"{LARGE}"')
    assert task.status is Status.COMPLETED
    assert (await desk.detail(claim)).result_data == f'"{LARGE}"'


async def test_of_calls_that_share_a_commit_those_that_fit_are_stored(desk: Desk, disk: Disk) -> None:
    await desk.create()
    disk.fill(left=60)
    acked: list[int] = []
    refused = 0

    async def one(number: int) -> None:
        nonlocal refused
        try:
            made = await desk.create(f"task {number}", instructions=LARGE if number % 3 else "small")
        except Busy:
            refused += 1
        else:
            acked.append(made.id)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number)
    assert acked
    assert refused
    assert len(acked) + refused == 12
    stored = [row[0] for row in await desk.rows("SELECT id FROM tasks WHERE title LIKE 'task %' ORDER BY id")]
    assert stored == sorted(acked)
    assert await desk.rows("SELECT open_tasks FROM queues") == [(len(acked) + 1,)]
    assert await desk.rows("PRAGMA integrity_check") == [("ok",)]


class Story:
    """Random calls, some of them at once, and what was acknowledged."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.chance = random.Random(seed)  # noqa: S311 - a story, not a secret
        self.acked: dict[int, str] = {}
        self.claims: list[Claim] = []

    async def create(self) -> None:
        made = await self.desk.create(instructions="x" * self.chance.choice([10, 5_000, 60_000]))
        self.acked[made.id] = "ready"

    async def claim(self) -> None:
        claim = await self.desk.claim()
        if claim is not None:
            self.acked[claim.task.id] = "in_progress"
            self.claims.append(claim)

    async def complete(self) -> None:
        if self.claims:
            claim = self.claims.pop()
            await self.desk.complete(claim, "x" * self.chance.choice([1, 15_000]))
            self.acked[claim.task.id] = "completed"

    async def step(self) -> None:
        with contextlib.suppress(Busy):
            await self.chance.choice([self.create, self.create, self.claim, self.complete])()

    async def some_steps(self) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(self.chance.choice([1, 3])):
                group.start_soon(self.step)


@pytest.mark.parametrize("round_", range(5))
async def test_acknowledged_is_stored_whatever_fills_up_when(
    open_queue: OpenQueue, clock: Clock, seed: int, round_: int
) -> None:
    desk = Desk(open_queue(), clock)
    disk, story = Disk(desk), Story(desk, seed + round_)
    with anyio.fail_after(60):
        for _ in range(5):
            for calls in range(8):
                await story.some_steps()
                if calls == 3:
                    disk.fill(left=story.chance.choice([0, 1, 5, 20]))
            disk.free()
    assert dict(await desk.rows("SELECT id, status FROM tasks")) == story.acked
    assert await desk.rows("PRAGMA integrity_check") == [("ok",)]
    assert await desk.rows("PRAGMA foreign_key_check") == []


async def test_a_call_that_is_refused_in_a_shared_commit_takes_nobody_with_it(desk: Desk) -> None:
    parent = await desk.start()
    results: list[object] = []

    async def one(**asked: Any) -> None:
        try:
            results.append((await desk.create(**asked)).id)
        except TaskQueueError as refused:
            results.append(type(refused))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: one(title="one"))
            group.start_soon(lambda: one(title="two", depends_on=(999,)))
            group.start_soon(lambda: one(title="three", queue="two words"))
            group.start_soon(lambda: one(title="four"))
    assert results.count(InvalidInput) == 2
    assert len(await desk.rows("SELECT id FROM tasks")) == 3
    await desk.complete(parent)


async def test_what_a_refused_call_had_written_before_is_taken_back_in_a_shared_commit(
    open_queue: OpenQueue, clock: Clock
) -> None:
    desk = Desk(open_queue(limits=Limits(tasks_per_root=2, children=10)), clock)
    parent = await desk.start()
    made: list[str] = []
    refused: list[str] = []

    async def one(title: str, lease: str | None) -> None:
        try:
            await desk.create(title, lease=lease, by=CLAUDE if lease else GEMINI)
        except LimitReached:
            refused.append(title)
        else:
            made.append(title)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, f"child {number}", parent.lease)
                group.start_soon(one, f"other {number}", None)
    assert len(refused) == 3
    titles = [row[0] for row in await desk.rows("SELECT title FROM tasks WHERE title <> 'Count the stock'")]
    assert sorted(titles) == sorted(made)
    assert await desk.rows("SELECT children, descendants FROM tasks WHERE id = 1") == [(2, 2)]
    assert await desk.rows("SELECT open_tasks FROM queues") == [(8,)]
