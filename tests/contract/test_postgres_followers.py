"""On PostgreSQL nothing waits for ever: a task comes while what it waits for ends, or what it waits for ends twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.taskqueue import Completion, answering, settling
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk
from tests.contract.interleaving import create, while_uncommitted

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from taskqueue_mcp.store import Database, Transaction
    from taskqueue_mcp.taskqueue import Claim
    from tests.clock import Clock

pytestmark = pytest.mark.engines("postgres")

LINE = {"serial_key": "till"}


def completing(desk: Desk, claim: Claim) -> Callable[[Transaction], Any]:
    return partial(settling.complete, rules=desk.queue.rules, caller=CLAUDE, completion=Completion(claim.lease))


def cancelling(desk: Desk, task_id: int) -> Callable[[Transaction], Any]:
    return partial(answering.cancel, rules=desk.queue.rules, caller=GEMINI, task_id=task_id, why=None)


# --- dependencies


async def test_a_task_that_comes_while_what_it_depends_on_completes_is_ready(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    coming = await while_uncommitted(
        wire, rival, completing(desk, claim), lambda: desk.create(depends_on=(claim.task.id,))
    )
    assert (coming.answer().status, coming.answer().blockers) == (Status.READY, 0)


async def test_a_completion_lets_go_what_is_just_made_to_depend_on_it(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    work = create(rules=desk.queue.rules, depends_on=(claim.task.id,))
    (await while_uncommitted(wire, rival, work, lambda: desk.complete(claim))).answer()
    assert await desk.ready() == [claim.task.id + 1]


async def test_a_task_whose_two_dependencies_complete_at_once_is_ready(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    first, second = await desk.start("first"), await desk.start("second")
    task = await desk.create(depends_on=(first.task.id, second.task.id))
    (await while_uncommitted(wire, rival, completing(desk, first), lambda: desk.complete(second))).answer()
    assert await desk.ready() == [task.id]


async def test_a_task_that_is_approved_while_what_it_depends_on_completes_is_ready(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    task = await desk.create(depends_on=(claim.task.id,), requires_approval=True)
    approve = partial(
        answering.answer, rules=desk.queue.rules, caller=OWNER, task_id=task.id, action="approve", text=None
    )
    (await while_uncommitted(wire, rival, approve, lambda: desk.complete(claim))).answer()
    assert await desk.ready() == [task.id]


async def test_a_task_that_is_retried_while_what_it_depends_on_completes_is_ready(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    task = await desk.create(depends_on=(claim.task.id,))
    await desk.cancel(task)
    retry = partial(answering.answer, rules=desk.queue.rules, caller=OWNER, task_id=task.id, action="retry", text=None)
    (await while_uncommitted(wire, rival, retry, lambda: desk.complete(claim))).answer()
    assert await desk.ready() == [task.id]


async def test_a_server_whose_clock_is_behind_lets_go_what_was_to_run_at_once(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(5)
    task = await desk.create(depends_on=(claim.task.id,))
    clock.advance(-5)
    await desk.complete(claim)
    assert (await desk.task(task)).status is Status.READY


# --- lines


async def test_a_task_that_joins_a_line_while_its_head_ends_is_ready(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start(options=LINE)
    joining = await while_uncommitted(wire, rival, completing(desk, claim), lambda: desk.create(options=LINE))
    assert joining.answer().status is Status.READY


async def test_a_task_that_joins_a_line_while_another_becomes_its_head_waits(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start(options=LINE)
    second = await desk.create(options=LINE)
    joining = await while_uncommitted(wire, rival, completing(desk, claim), lambda: desk.create(options=LINE))
    assert joining.answer().reason is Reason.SERIAL
    assert await desk.ready() == [second.id]


async def test_the_end_of_a_head_lets_go_what_is_just_joining_its_line(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start(options=LINE)
    work = create(rules=desk.queue.rules, options=LINE)
    (await while_uncommitted(wire, rival, work, lambda: desk.complete(claim))).answer()
    assert await desk.ready() == [claim.task.id + 1]


async def test_the_end_of_a_head_passes_by_who_is_just_being_cancelled(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start(options=LINE)
    second, third = [await desk.create(options=LINE) for _ in range(2)]
    (await while_uncommitted(wire, rival, cancelling(desk, second.id), lambda: desk.complete(claim))).answer()
    assert await desk.ready() == [third.id]


async def test_two_that_found_a_line_empty_at_once_go_one_after_the_other(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    work = create(rules=desk.queue.rules, options=LINE)
    other = (await while_uncommitted(wire, rival, work, lambda: desk.create(options=LINE))).answer()
    assert other.reason is Reason.SERIAL
    await desk.complete(await desk.take())
    assert await desk.ready() == [other.id]
