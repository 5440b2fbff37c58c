"""Every limit holds exactly at its bound; beyond it there is a clear error and no change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import InvalidInput, LimitReached
from taskqueue_mcp.taskqueue import Limits
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.clock import Clock
    from tests.conftest import OpenQueue


async def refused(desk: Desk, call: Awaitable[Any], says: str) -> LimitReached:
    before = await desk.snapshot()
    with pytest.raises(LimitReached, match=says) as reached:
        await call
    assert await desk.snapshot() == before
    assert "\n" not in str(reached.value)
    return reached.value


def test_the_defaults_are_the_promised_ones() -> None:
    limits = Limits()
    assert (limits.max_attempts, limits.depth, limits.children, limits.tasks_per_root) == (3, 8, 50, 500)
    assert (limits.open_tasks_per_queue, limits.body_bytes, limits.json_depth) == (10_000, 262_144, 32)
    assert (limits.longest_lease_seconds, limits.missed_runs) == (86_400, 24)


async def test_a_family_is_at_most_so_deep(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(depth=3)), clock)
    claim = await desk.start("root")
    for depth in (1, 2, 3):
        child = await desk.create(f"depth {depth}", by=CLAUDE, lease=claim.lease)
        assert child.depth == depth
        claim = await desk.take(task_id=child.id)
    await refused(
        desk, desk.create("too deep", by=CLAUDE, lease=claim.lease), "3 levels below its root and 3 are allowed"
    )


async def test_a_task_has_at_most_so_many_children(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(children=3)), clock)
    claim = await desk.start("root")
    children = [await desk.create(f"child {number}", by=CLAUDE, lease=claim.lease) for number in range(3)]
    await refused(desk, desk.create("one more", by=CLAUDE, lease=claim.lease), "has 3 children, the most allowed")
    other = await desk.take(task_id=children[0].id)
    await desk.create("grandchild", by=CLAUDE, lease=other.lease)


async def test_children_are_counted_over_all_attempts_and_after_their_end(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(children=2)), clock)
    claim = await desk.start("root")
    await desk.cancel(await desk.create("child", by=CLAUDE, lease=claim.lease))
    await desk.fail(claim, kind="release")
    claim = await desk.take()
    await desk.create("child", by=CLAUDE, lease=claim.lease)
    await refused(desk, desk.create("one more", by=CLAUDE, lease=claim.lease), "children")


async def test_a_root_has_at_most_so_many_tasks_below_it(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(tasks_per_root=3)), clock)
    root = await desk.start("root")
    child = await desk.create("child", by=CLAUDE, lease=root.lease)
    claim = await desk.take(task_id=child.id)
    await desk.create("grandchild 1", by=CLAUDE, lease=claim.lease)
    await desk.create("grandchild 2", by=CLAUDE, lease=claim.lease)
    for lease in (root.lease, claim.lease):
        await refused(desk, desk.create("one more", by=CLAUDE, lease=lease), "has 3 tasks below it, the most allowed")
    await desk.create("another family")


async def test_a_root_that_is_kept_no_longer_does_not_stop_its_family(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(), clock)
    root = await desk.start("root")
    child = await desk.create("child", by=CLAUDE, lease=root.lease, run_at="in 50 days")
    await desk.complete(root)
    clock.advance(51 * 86_400)
    await desk.queue.keep_house()
    assert await desk.rows("SELECT count(*) FROM tasks") == [(1,)]
    claim = await desk.take(task_id=child.id)
    grandchild = await desk.create("grandchild", by=CLAUDE, lease=claim.lease)
    assert (grandchild.parent_id, grandchild.depth) == (child.id, 2)


async def test_a_queue_holds_at_most_so_many_open_tasks(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(open_tasks_per_queue=3)), clock)
    tasks = [await desk.create(f"task {number}") for number in range(3)]
    await refused(desk, desk.create("one more"), "'default' has 3 open tasks, the most allowed")
    claim = await desk.take()
    await refused(desk, desk.create("a child", by=CLAUDE, lease=claim.lease), "open tasks")
    await desk.create("elsewhere", queue="night")
    await desk.complete(claim)
    await desk.create("again")
    await refused(desk, desk.create("one more"), "open tasks")
    await desk.cancel(tasks[1])
    await desk.create("again")


async def test_what_waits_counts_as_open_and_a_failure_as_gone(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(open_tasks_per_queue=2)), clock)
    await desk.create(run_at="in 1 hour")
    await desk.create(requires_approval=True)
    await refused(desk, desk.create(), "open tasks")
    await desk.queue.set_queue_state(OWNER, "default", "open")
    assert await desk.rows("SELECT open_tasks FROM queues") == [(2,)]


async def test_a_body_holds_so_many_bytes_and_not_one_more(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(body_bytes=1_024)), clock)
    await desk.create("t" * 24, instructions="i" * 1_000)
    error = await refused(
        desk, desk.create("t" * 24, instructions="i" * 1_001), "the task is 1,025 bytes; at most 1,024"
    )
    assert error.facts["limit"] == 1_024
    await refused(desk, desk.create("t", instructions="é" * 512), "bytes")


@pytest.mark.parametrize(
    "asked",
    [
        {"instructions": "x" * 2_000},
        {"params": {"x": "x" * 2_000}},
        {"variables": {"x": "x" * 2_000}},
        {"options": {"metadata": {"x": "x" * 2_000}}},
        {"options": {"output": {"path": "x" * 2_000}}},
        {"options": {"notify": ["x" * 2_000]}},
    ],
)
async def test_everything_that_is_stored_counts_as_body(
    open_queue: OpenQueue, clock: Clock, asked: dict[str, Any]
) -> None:
    desk = Desk(open_queue(limits=Limits(body_bytes=1_024)), clock)
    await refused(desk, desk.create("title", **asked), "bytes")


async def test_result_data_is_bounded_like_a_body(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(body_bytes=1_024)), clock)
    claim = await desk.start()
    await refused(desk, desk.complete(claim, result_data=json.dumps("x" * 1_023)), "write a file")
    await desk.complete(claim, result_data=json.dumps("x" * 1_022))


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


async def test_json_is_nested_so_deep_and_not_one_level_more(desk: Desk) -> None:
    before = await desk.snapshot()
    for name in ("params", "variables", "options"):
        deep: dict[str, Any] = {name: nested(33)}
        with pytest.raises(InvalidInput, match=f"^{name}: JSON is nested deeper than 32 levels"):
            await desk.create(**deep)
        abyss: dict[str, Any] = {name: "[" * 100_000 + "]" * 100_000}
        with pytest.raises(InvalidInput, match=f"^{name}: "):
            await desk.create(**abyss)
    assert await desk.snapshot() == before
    task = await desk.create(params=nested(32))
    assert json.loads((await desk.detail(task)).body.params or "") == json.loads(nested(32))
    claim = await desk.take()
    with pytest.raises(InvalidInput, match=r"^result_data: JSON is nested deeper"):
        await desk.complete(claim, result_data="[" * 33 + "]" * 33)
    await desk.complete(claim, result_data="[" * 32 + "]" * 32)


async def test_a_task_waits_for_at_most_so_many_others(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(dependencies=3)), clock)
    others = tuple([(await desk.create(f"other {number}")).id for number in range(4)])
    await refused(desk, desk.create(depends_on=others), "depends_on: 4 tasks; at most 3")
    assert (await desk.create(depends_on=others[:3])).blockers == 3


async def test_a_task_carries_at_most_so_many_tags(desk: Desk) -> None:
    tags = tuple(f"tag {number}" for number in range(21))
    await refused(desk, desk.create(tags=tags), "tags: 21 given; at most 20")
    assert len((await desk.detail(await desk.create(tags=tags[:20]))).body.tags) == 20


async def test_a_title_is_at_most_so_long(desk: Desk) -> None:
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match="title: 501 characters; at most 500"):
        await desk.create("t" * 501)
    assert await desk.snapshot() == before
    assert (await desk.create("t" * 500)).title == "t" * 500


async def test_a_principal_creates_at_most_so_many_tasks_a_minute(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(creates_per_minute=5)), clock)
    for number in range(5):
        await desk.create(f"task {number}")
    error = await refused(desk, desk.create("one more"), "gemini has created 5 tasks within a minute; call again in")
    assert 0 < error.facts["retry_after"] <= 12
    await desk.create("mine", by=OWNER)
    claim = await desk.take()  # what is under way is not held up
    await desk.complete(claim)
    with pytest.raises(LimitReached):
        await desk.create("one more", by=GEMINI)


async def test_attempts_are_the_default_unless_a_task_says_otherwise(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(max_attempts=7)), clock)
    assert (await desk.create()).max_attempts == 7
    assert (await desk.create(options={"max_attempts": 100})).max_attempts == 100


@pytest.mark.engines("sqlite")
async def test_a_full_disk_is_noticed_and_takes_no_new_work_but_lets_the_old_end(
    open_queue: OpenQueue, clock: Clock
) -> None:
    desk = Desk(open_queue(least_free_bytes=1 << 62), clock)
    claim = await desk.start()
    await desk.queue.keep_house()
    await refused(desk, desk.create(), "the disk is almost full, so no new work is taken")
    await desk.update(claim, progress=1)
    await desk.complete(claim)
