"""Works that meet on PostgreSQL: each test holds one of them just before its commit and lets another one come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.model import Status
from taskqueue_mcp.store import keeping
from taskqueue_mcp.taskqueue import (
    Claim,
    ClaimRequest,
    Completion,
    Update,
    answering,
    claiming,
    promoting,
    scheduling,
    settling,
)
from taskqueue_mcp.taskqueue.limits import Limits
from tests.contract.desk import CLAUDE, CODEX, OWNER, Desk
from tests.contract.interleaving import create, uncommitted, while_uncommitted

if TYPE_CHECKING:
    import psycopg

    from taskqueue_mcp.store import Database
    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("postgres")

MONTH = 31 * 86_400
KEPT = 30 * 86_400 * 1_000_000
LINE = {"serial_key": "till"}


# --- housekeeping


async def test_a_task_that_is_retried_while_old_ones_are_deleted_stays(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any], clock: Clock
) -> None:
    old = await desk.create()
    await desk.cancel(old)
    clock.advance(MONTH)
    retry = partial(answering.answer, rules=desk.queue.rules, caller=OWNER, task_id=old.id, action="retry", text=None)
    deleting = await while_uncommitted(
        wire, rival, retry, lambda: desk.queue.database.write(partial(keeping.delete_finished, age=KEPT, limit=10))
    )
    deleting.answer()
    assert (await desk.task(old)).status is Status.READY
    assert [each.open_tasks for each in await desk.queue.counts(OWNER)] == [1]


# --- claims


async def test_a_claim_takes_what_a_new_task_is_just_made_to_depend_on(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    task = await desk.create()
    work = create(rules=desk.queue.rules, depends_on=(task.id,))
    claiming_ = await while_uncommitted(wire, rival, work, desk.claim)
    claim = claiming_.answer()
    assert claim is not None
    assert claim.task.id == task.id
    assert (await desk.task(task.id + 1)).blockers == 1
    await desk.complete(claim)
    assert await desk.ready() == [task.id + 1]


async def test_a_claim_locks_no_task_but_its_own(open_queue: OpenQueue, desk: Desk, rival: Database) -> None:
    made = [(await desk.create(queue=queue)).id for queue in ("first", "second", "third")]
    claim = partial(claiming.claim, rules=desk.queue.rules, caller=CODEX, request=ClaimRequest())
    async with uncommitted(rival, claim) as one, uncommitted(open_queue().database, claim) as other:
        assert (await desk.take()).task.id == made[2]
    assert [claims[0].task.id for claims in (one, other)] == made[:2]


async def test_a_claim_takes_the_head_of_a_line_that_another_task_is_just_joining(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    head = await desk.create(options=LINE)
    claiming_ = await while_uncommitted(wire, rival, create(rules=desk.queue.rules, options=LINE), desk.claim)
    claim = claiming_.answer()
    assert claim is not None
    assert claim.task.id == head.id
    await desk.complete(claim)
    assert await desk.ready() == [head.id + 1]


async def test_a_task_that_is_just_becoming_ready_can_be_claimed_by_its_id(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any], clock: Clock
) -> None:
    task = await desk.create(run_at="2026-01-15T12:00:10Z")
    clock.advance(20)
    work = partial(promoting.promote, rules=desk.queue.rules)
    claim = (await while_uncommitted(wire, rival, work, lambda: desk.take(task_id=task.id))).answer()
    assert claim.task.id == task.id


# --- calls that are made twice at once


async def test_a_question_that_is_asked_twice_at_once_is_asked_once(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    ask = Update(claim.lease, question="Which shop?")
    work = partial(settling.update, rules=desk.queue.rules, caller=CLAUDE, update=ask)
    again = await while_uncommitted(wire, rival, work, lambda: desk.queue.update(CLAUDE, ask))
    assert again.answer().repeated
    assert len((await desk.detail(claim)).questions) == 1


async def test_a_task_that_is_completed_twice_at_once_is_completed_once(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    claim = await desk.start()
    work = partial(settling.complete, rules=desk.queue.rules, caller=CLAUDE, completion=Completion(claim.lease))
    again = await while_uncommitted(wire, rival, work, lambda: desk.queue.complete(CLAUDE, Completion(claim.lease)))
    assert again.answer().repeated
    assert (await desk.kinds(claim))[-1] == "completed"


async def test_a_claim_that_is_made_twice_at_once_takes_one_task(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await desk.create()
    await desk.create()
    request = ClaimRequest(claim_id="c1")
    work = partial(claiming.claim, rules=desk.queue.rules, caller=CLAUDE, request=request)
    again = await while_uncommitted(wire, rival, work, lambda: desk.take(claim_id="c1"))
    assert again.answer().redelivered
    assert len(await desk.ready()) == 1


async def test_the_only_task_is_told_to_a_parked_claim_that_is_made_twice_at_once(desk: Desk, rival: Database) -> None:
    await desk.create()
    request = ClaimRequest(claim_id="c1")
    work = partial(claiming.claim, rules=desk.queue.rules, caller=CLAUDE, request=request)
    again: list[Claim | None] = []

    async def wait() -> None:
        again.append(await desk.queue.claim_when_ready(CLAUDE, request, 10))

    async with anyio.create_task_group() as group, uncommitted(rival, work) as first:
        group.start_soon(wait)
        while not desk.queue.waiters._waiting:
            await anyio.sleep(0.002)
    assert again[0] is not None
    assert again[0].redelivered
    assert again[0].lease == first[0].lease


async def test_a_task_that_is_claimed_twice_at_once_by_its_id_is_handed_to_both(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    task = await desk.create()
    request = ClaimRequest(claim_id="c1", task_id=task.id)
    work = partial(claiming.claim, rules=desk.queue.rules, caller=CLAUDE, request=request)
    again = await while_uncommitted(wire, rival, work, lambda: desk.take(claim_id="c1", task_id=task.id))
    assert again.answer().redelivered


async def test_a_create_that_is_made_twice_at_once_makes_one_task(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await desk.create()
    work = create(rules=desk.queue.rules, title="t", idempotency_key="k")
    again = await while_uncommitted(wire, rival, work, lambda: desk.ask_for("t", idempotency_key="k"))
    assert (again.answer().created, again.answer().task.id) == (False, (await desk.ready())[-1])
    assert [each.open_tasks for each in await desk.queue.counts(OWNER)] == [2]


async def test_the_last_child_that_is_made_twice_at_once_is_made_once(
    open_queue: OpenQueue, clock: Clock, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    desk = Desk(open_queue(limits=Limits(children=1)), clock)
    parent = await desk.start()
    asked: dict[str, Any] = {"by": CLAUDE, "lease": parent.lease, "idempotency_key": "k"}
    work = create(rules=desk.queue.rules, title="t", **asked)
    again = await while_uncommitted(wire, rival, work, lambda: desk.ask_for("t", **asked))
    assert not again.answer().created
    assert await desk.rows("SELECT children, descendants FROM tasks WHERE id = :id", id=parent.task.id) == [(1, 1)]


# --- schedules


async def test_a_tick_leaves_a_run_whose_schedule_is_just_being_changed(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await desk.plan("hourly", "0 * * * *", timezone="UTC", title="count")
    desk.clock.advance(3_600)
    ticking = await while_uncommitted(wire, rival, partial(scheduling.fetch, name="hourly", lock=True), desk.queue.tick)
    assert ticking.answer() == 0
    await desk.catch_up()
    assert [each.fate.value for each in await desk.ledger("hourly")] == ["fired"]


async def test_two_servers_raise_an_alarm_once(desk: Desk, rival: Database, wire: psycopg.Connection[Any]) -> None:
    await desk.plan("hourly", "0 * * * *", timezone="UTC", title="count")
    await desk.pass_time(3_600)
    desk.clock.advance(1_000)
    raising = await while_uncommitted(
        wire, rival, promoting.raise_alarms, lambda: desk.queue.database.write(promoting.raise_alarms)
    )
    raising.answer()
    assert await desk.rows("SELECT count(*) FROM events WHERE kind = 'unclaimed'") == [(1,)]
    assert await desk.rows("SELECT count(*) FROM unclaimed_watch") == [(0,)]
