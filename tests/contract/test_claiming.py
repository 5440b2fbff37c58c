"""Handing out: to one at a time, in the right order, and again to whoever lost the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, LeaseLost, NotFound, WrongStatus
from taskqueue_mcp.model import Status
from taskqueue_mcp.taskqueue import ClaimRequest
from tests.contract.desk import CLAUDE, CODEX, GEMINI, Desk

if TYPE_CHECKING:
    from tests.clock import Clock

SECOND = 1_000_000


async def test_a_claim_takes_the_task_under_a_lease(desk: Desk, clock: Clock) -> None:
    made = await desk.create(instructions="All of it.")
    claim = await desk.take(worker="w1")
    task = claim.task
    assert (task.id, task.status, task.attempt) == (made.id, Status.IN_PROGRESS, 1)
    assert (task.worker, task.lease_principal, task.confirmed) == ("w1", "claude", False)
    assert task.lease_expires_at == clock.micros + 900 * SECOND
    assert re.fullmatch(rf"T-{task.id}\.1\.[a-z2-7]{{26}}", claim.lease)
    assert claim.body.instructions == "All of it."
    assert not claim.redelivered


async def test_only_the_hash_of_a_lease_is_stored(desk: Desk) -> None:
    claim = await desk.start()
    secret = claim.lease.rpartition(".")[2]
    assert secret not in str(await desk.snapshot())


async def test_leases_are_not_guessed_from_one_another(desk: Desk) -> None:
    secrets = {(await desk.start()).lease.rpartition(".")[2] for _ in range(20)}
    assert len(secrets) == 20


async def test_nothing_is_handed_out_of_an_empty_queue(desk: Desk) -> None:
    assert await desk.claim() is None


async def test_a_task_is_handed_out_once(desk: Desk) -> None:
    await desk.create()
    assert await desk.claim() is not None
    assert await desk.claim(by=CODEX) is None


async def test_a_claim_needs_the_scope(desk: Desk) -> None:
    await desk.create()
    with pytest.raises(Forbidden, match="gemini lacks the scope work"):
        await desk.claim(by=GEMINI)


async def test_a_task_is_claimed_by_its_id(desk: Desk) -> None:
    await desk.create("first")
    second = await desk.create("second")
    assert (await desk.take(task_id=f"T-{second.id}")).task.id == second.id


async def test_a_task_that_cannot_be_claimed_says_why(desk: Desk) -> None:
    held = await desk.start(by=CODEX)
    with pytest.raises(WrongStatus, match=r"in_progress, held by codex"):
        await desk.take(task_id=held.task.id)
    later = await desk.create(run_at="in 1 hour")
    with pytest.raises(WrongStatus, match=r"pending \(scheduled\)"):
        await desk.take(task_id=later.id)
    with pytest.raises(NotFound, match="T-999"):
        await desk.take(task_id=999)


@pytest.mark.parametrize(
    ("request_", "titles"),
    [
        ({}, ["day report", "night report", "night count"]),
        ({"queues": ("night",)}, ["night report", "night count"]),
        ({"queues": ("day", "night")}, ["day report", "night report", "night count"]),
        ({"task_types": ("report",)}, ["day report", "night report"]),
        ({"task_types": ("count",)}, ["night count"]),
        ({"task_types": ("executor:report",)}, ["day report", "night report"]),
        ({"task_types": ("executor:claude",)}, ["night count"]),
        ({"queues": ("night",), "task_types": ("report",)}, ["night report"]),
        ({"queues": ("night",), "task_types": ("executor:report",)}, ["night report"]),
        ({"queues": ("night",), "task_types": ("report", "count")}, ["night report", "night count"]),
        ({"queues": ("noon",)}, []),
        ({"task_types": ("essay",)}, []),
    ],
)
async def test_a_claim_takes_what_it_asked_for_and_nothing_else(
    desk: Desk, clock: Clock, request_: dict[str, Any], titles: list[str]
) -> None:
    for queue, kind in (("day", "report"), ("night", "report"), ("night", "count")):
        await desk.create(f"{queue} {kind}", queue=queue, task_type=kind)
        clock.advance(1)
    found = []
    while (claim := await desk.claim(**request_)) is not None:
        found.append(claim.task.title)
    assert found == titles


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"lease_seconds": 86_401}, "lease_seconds"),
        ({"worker": ""}, "worker"),
        ({"worker": "a\nb"}, "worker"),
        ({"queues": ("two words",)}, "queues"),
        ({"task_types": ("",)}, "task_types"),
        ({"task_types": ("report", "executor:shell")}, "task_types"),
        ({"task_id": "first"}, "task_id"),
        ({"claim_id": "\0"}, "claim_id"),
    ],
)
async def test_a_bad_argument_of_a_claim_is_refused_by_name(desk: Desk, asked: dict[str, Any], named: str) -> None:
    await desk.create()
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        await desk.claim(**asked)
    assert await desk.snapshot() == before


@pytest.mark.parametrize("seconds", [1, 86_400])
async def test_a_lease_lasts_as_long_as_it_was_asked_for(desk: Desk, clock: Clock, seconds: int) -> None:
    await desk.create()
    claim = await desk.take(lease_seconds=seconds)
    assert claim.task.lease_expires_at == clock.micros + seconds * SECOND


# --- the order


async def test_first_come_first_served(desk: Desk, clock: Clock) -> None:
    made = []
    for _ in range(3):
        made.append((await desk.create()).id)
        clock.advance(1)
    made.append((await desk.create()).id)
    made.append((await desk.create()).id)  # at the same instant: the smaller id first
    assert [(await desk.take()).task.id for _ in made] == made


@pytest.mark.parametrize(
    ("sooner", "later", "seconds", "first"),
    [
        ("medium", "high", 86_399, "high"),
        ("medium", "high", 86_401, "medium"),
        ("medium", "urgent", 30 * 86_400 - 1, "urgent"),
        ("medium", "urgent", 30 * 86_400 + 1, "medium"),
        ("low", "medium", 3_599, "medium"),
        ("low", "medium", 3_601, "low"),
        ("high", "urgent", 29 * 86_400 - 1, "urgent"),
        ("high", "urgent", 29 * 86_400 + 1, "high"),
    ],
)
async def test_priority_is_a_head_start_in_time(
    desk: Desk, clock: Clock, sooner: str, later: str, seconds: int, first: str
) -> None:
    await desk.create(priority=sooner)
    clock.advance(seconds)
    await desk.create(priority=later)
    assert (await desk.take()).task.priority == first


async def test_list_ready_shows_the_order_of_claiming(desk: Desk, clock: Clock) -> None:
    for priority in ("low", "medium", "urgent", "high", "medium"):
        await desk.create(priority=priority)
        clock.advance(1)
    shown = await desk.ready()
    assert [(await desk.take()).task.id for _ in shown] == shown


async def test_due_tasks_are_taken_in_the_order_of_their_times(desk: Desk, clock: Clock) -> None:
    second = await desk.create(run_at="in 2 minutes")
    first = await desk.create(run_at="in 1 minute")
    clock.advance(300)
    third = await desk.create()
    assert [(await desk.take()).task.id for _ in range(3)] == [first.id, second.id, third.id]


# --- again, by the worker's name


async def test_a_worker_that_claims_again_within_a_minute_gets_its_untouched_task_again(
    desk: Desk, clock: Clock
) -> None:
    await desk.create("first")
    await desk.create("second")
    lost = await desk.take(worker="w1")
    clock.advance(59.999)
    again = await desk.take(worker="w1")
    assert again.redelivered
    assert (again.task.id, again.task.attempt) == (lost.task.id, 1)
    assert again.task.lease_expires_at == clock.micros + 900 * SECOND
    assert await desk.kinds(again) == ["created", "claimed", "redelivered"]
    with pytest.raises(LeaseLost):
        await desk.complete(lost)
    assert (await desk.complete(again)).status is Status.COMPLETED


async def test_after_a_minute_it_gets_another_task(desk: Desk, clock: Clock) -> None:
    await desk.create("first")
    second = await desk.create("second")
    await desk.take(worker="w1")
    clock.advance(60)
    claim = await desk.take(worker="w1")
    assert (claim.task.id, claim.redelivered) == (second.id, False)


async def test_a_task_that_was_touched_is_not_handed_out_again(desk: Desk) -> None:
    await desk.create("first")
    second = await desk.create("second")
    claim = await desk.take(worker="w1")
    await desk.update(claim, message="I have it")
    assert (await desk.take(worker="w1")).task.id == second.id
    assert (await desk.complete(claim)).status is Status.COMPLETED


async def test_only_the_same_worker_of_the_same_principal_gets_it_again(desk: Desk) -> None:
    await desk.create()
    await desk.take(worker="w1")
    assert await desk.claim(worker="w2") is None
    assert await desk.claim(worker="w1", by=CODEX) is None
    assert await desk.claim() is None
    assert (await desk.take(worker="w1")).redelivered


async def test_a_claim_of_another_task_by_its_id_is_no_repetition(desk: Desk) -> None:
    first = await desk.create("first")
    second = await desk.create("second")
    await desk.take(worker="w1", task_id=first.id)
    other = await desk.take(worker="w1", task_id=second.id)
    assert (other.task.id, other.redelivered) == (second.id, False)
    again = await desk.take(worker="w1", task_id=first.id)
    assert (again.task.id, again.redelivered) == (first.id, True)


async def test_an_end_under_a_redelivered_lease_may_be_repeated(desk: Desk) -> None:
    await desk.create()
    await desk.take(worker="w1")
    again = await desk.take(worker="w1")
    first = await desk.complete(again)
    assert await desk.complete(again) == first


async def test_a_redelivery_costs_neither_an_attempt_nor_a_failure(desk: Desk) -> None:
    await desk.create()
    claim = await desk.take(worker="w1")
    for _ in range(30):
        claim = await desk.take(worker="w1")
    assert (claim.task.attempt, claim.task.failures, claim.task.handbacks) == (1, 0, 0)


# --- again, by the claim's id


async def test_a_repeated_claim_id_returns_the_same_task_and_lease(desk: Desk, clock: Clock) -> None:
    await desk.create("first")
    await desk.create("second")
    first = await desk.take(claim_id="c1")
    before = await desk.snapshot()
    clock.advance(30)
    again = await desk.take(claim_id="c1")
    assert (again.task, again.lease) == (first.task, first.lease)
    assert again.redelivered
    assert await desk.snapshot() == before
    await desk.update(again, message="I have it")
    assert (await desk.take(claim_id="c1")).lease == first.lease
    await desk.complete(first)


async def test_a_first_lease_by_claim_id_is_a_minute_until_the_first_update(desk: Desk, clock: Clock) -> None:
    await desk.create()
    claim = await desk.take(claim_id="c1", lease_seconds=900)
    assert claim.task.lease_expires_at == clock.micros + 60 * SECOND
    clock.advance(10)
    after = (await desk.update(claim)).task
    assert after.lease_expires_at == clock.micros + 900 * SECOND


async def test_a_first_lease_is_never_longer_than_the_lease(desk: Desk, clock: Clock) -> None:
    await desk.create()
    claim = await desk.take(claim_id="c1", lease_seconds=5)
    assert claim.task.lease_expires_at == clock.micros + 5 * SECOND


async def test_a_claim_id_is_its_principals_own(desk: Desk) -> None:
    await desk.create("first")
    await desk.create("second")
    mine = await desk.take(claim_id="c1")
    theirs = await desk.take(claim_id="c1", by=CODEX)
    assert mine.task.id != theirs.task.id
    assert not theirs.redelivered


async def test_a_claim_that_nobody_confirmed_goes_to_the_next_at_no_cost(desk: Desk, clock: Clock) -> None:
    made = await desk.create()
    lost = await desk.take(claim_id="c1")
    clock.advance(60.000001)
    claim = await desk.take(by=CODEX)
    assert (claim.task.id, claim.task.attempt, claim.task.failures, claim.task.handbacks) == (made.id, 2, 0, 1)
    with pytest.raises(LeaseLost):
        await desk.complete(lost)


async def test_a_claim_id_of_a_finished_attempt_is_free_again(desk: Desk) -> None:
    await desk.create("first")
    await desk.complete(await desk.take(claim_id="c1"))
    assert await desk.claim(claim_id="c1") is None
    second = await desk.create("second")
    claim = await desk.take(claim_id="c1")
    assert (claim.task.id, claim.redelivered) == (second.id, False)


# --- at once


async def test_claims_at_the_same_time_get_different_tasks(desk: Desk, open_queue: Any, clock: Clock) -> None:
    desks = [desk, Desk(open_queue(), clock)]
    for number in range(20):
        await desk.create(f"task {number}")
    found: list[int] = []

    async def one(which: Desk) -> None:
        claim = await which.claim()
        if claim is not None:
            found.append(claim.task.id)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(24):
                group.start_soon(one, desks[number % 2])
    assert len(found) == len(set(found)) == 20
    attempts = await desk.rows("SELECT task_id, attempt FROM attempts ORDER BY task_id")
    assert attempts == [(task_id, 1) for task_id in sorted(found)]


async def test_the_same_claim_id_at_the_same_time_is_one_claim(desk: Desk, open_queue: Any, clock: Clock) -> None:
    desks = [desk, Desk(open_queue(), clock)]
    for number in range(5):
        await desk.create(f"task {number}")
    leases: set[str] = set()

    async def one(which: Desk) -> None:
        leases.add((await which.take(claim_id="c1")).lease)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, desks[number % 2])
    assert len(leases) == 1
    assert await desk.rows("SELECT count(*) FROM tasks WHERE status = 'in_progress'") == [(1,)]


async def test_a_claim_that_is_cancelled_before_its_answer_hands_the_task_back_at_once(desk: Desk) -> None:
    made = await desk.create()
    async with anyio.create_task_group() as group:
        group.start_soon(desk.queue.claim_or_release, CLAUDE, ClaimRequest())
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        while "released" not in await desk.kinds(made):
            await anyio.lowlevel.checkpoint()
    task = await desk.task(made)
    assert (task.status, task.attempt, task.failures) == (Status.READY, 1, 0)
    assert (await desk.take()).task.id == made.id
