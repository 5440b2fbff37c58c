"""Calls that park until something happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from taskqueue_mcp.errors import InvalidInput, NotFound, ShuttingDown
from taskqueue_mcp.model import Status
from taskqueue_mcp.taskqueue import ClaimRequest, service
from tests.contract.desk import CLAUDE, CODEX, OWNER, Desk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from taskqueue_mcp.model import Task
    from taskqueue_mcp.taskqueue import Claim
    from tests.clock import Clock
    from tests.conftest import OpenQueue


async def parked(desk: Desk, count: int = 1) -> None:
    """Let other tasks run until so many calls have looked and are parked."""
    with anyio.fail_after(10):
        while sum(map(len, desk.queue.waiters._waiting.values())) < count:
            await anyio.lowlevel.checkpoint()
        await desk.queue.database.write(lambda transaction: transaction.now)  # comes after what they asked for
        await anyio.wait_all_tasks_blocked()


async def test_a_parked_claim_gets_the_task_that_arrives(desk: Desk) -> None:
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            task = await desk.create()
    assert [claim.task.id if claim else None for claim in found] == [task.id]


async def test_a_parked_claim_of_another_queue_stays_parked(desk: Desk) -> None:
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(queues=("night",)), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            await desk.create(queue="day")
            await anyio.wait_all_tasks_blocked()
            assert found == []
            task = await desk.create(queue="night")
    assert [claim.task.id if claim else None for claim in found] == [task.id]


async def an_unblocking(desk: Desk) -> tuple[int, Awaitable[object]]:
    claim = await desk.start(by=CODEX)
    second = await desk.create("second", depends_on=(claim.task.id,))
    return second.id, desk.complete(claim, by=CODEX)


async def a_free_line(desk: Desk) -> tuple[int, Awaitable[object]]:
    claim = await desk.start(by=CODEX, options={"serial_key": "till"})
    second = await desk.create("second", options={"serial_key": "till"})
    return second.id, desk.complete(claim, by=CODEX)


async def a_release(desk: Desk) -> tuple[int, Awaitable[object]]:
    claim = await desk.start(by=CODEX)
    return claim.task.id, desk.fail(claim, kind="release", by=CODEX)


async def an_approval(desk: Desk) -> tuple[int, Awaitable[object]]:
    task = await desk.create(requires_approval=True)
    return task.id, desk.decide(task, "approve")


async def an_answer(desk: Desk) -> tuple[int, Awaitable[object]]:
    task = (await desk.update(await desk.start(by=CODEX), question="Hm?", by=CODEX)).task
    return task.id, desk.decide(task, "answer", "Go on.")


async def a_retry(desk: Desk) -> tuple[int, Awaitable[object]]:
    task = await desk.cancel(await desk.create())
    return task.id, desk.decide(task, "retry")


async def haste(desk: Desk) -> tuple[int, Awaitable[object]]:
    task = await desk.create(run_at="in 1 hour")
    return task.id, desk.decide(task, "run_now")


async def an_opened_queue(desk: Desk) -> tuple[int, Awaitable[object]]:
    task = await desk.create()
    await desk.queue.set_queue_state(OWNER, "default", "paused")
    return task.id, desk.queue.set_queue_state(OWNER, "default", "open")


WAKE = (an_unblocking, a_free_line, a_release, an_approval, an_answer, a_retry, haste, an_opened_queue)


@pytest.mark.parametrize("what", WAKE, ids=lambda what: what.__name__)
async def test_whatever_makes_a_task_ready_wakes_a_parked_claim(
    desk: Desk, what: Callable[[Desk], Awaitable[tuple[int, Awaitable[object]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_AGAIN", 50)
    task_id, happening = await what(desk)
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            await happening
    assert [claim.task.id if claim else None for claim in found] == [task_id]


async def test_of_many_parked_claims_one_gets_the_task(desk: Desk) -> None:
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))
        group.cancel_scope.cancel()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(wait)
            await parked(desk, 10)
            await desk.create()
    assert len(found) == 1


async def test_each_of_many_parked_claims_gets_one_of_as_many_tasks(desk: Desk) -> None:
    found: list[int] = []

    async def wait() -> None:
        claim = await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50)
        assert claim is not None
        found.append(claim.task.id)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(wait)
            await parked(desk, 20)
            made = [(await desk.create(f"task {number}")).id for number in range(20)]
    assert sorted(found) == made


async def test_nothing_comes_of_a_wait_that_is_over(desk: Desk) -> None:
    with anyio.fail_after(5):
        assert await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 0.05) is None
        assert await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 0) is None


@pytest.mark.parametrize("seconds", [-1, 50.1, float("nan")])
async def test_a_wait_is_bounded(desk: Desk, seconds: float) -> None:
    with pytest.raises(InvalidInput, match=r"^wait_seconds: "):
        await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), seconds)
    with pytest.raises(InvalidInput, match=r"^wait_seconds: "):
        await desk.queue.wait(CLAUDE, 1, seconds)


async def test_a_parked_claim_says_that_it_is_alive(desk: Desk) -> None:
    beats: list[float] = []

    async def beat(seconds: float) -> None:
        beats.append(seconds)

    await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 0.5, beat)
    assert beats
    assert beats == sorted(beats)


async def test_a_parked_claim_that_is_cancelled_holds_nothing(desk: Desk) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(desk.queue.claim_when_ready, CLAUDE, ClaimRequest(), 50)
        await parked(desk)
        group.cancel_scope.cancel()
    task = await desk.create()
    with anyio.fail_after(10):  # a claim that was under way hands the task back
        claim = await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 10)
    assert claim is not None
    assert claim.task.id == task.id
    assert desk.queue.waiters._waiting == {}


async def test_a_stopping_server_answers_parked_calls_with_call_again(desk: Desk) -> None:
    task = await desk.create(run_at="in 1 hour")
    answers: list[str] = []

    async def claim() -> None:
        with pytest.raises(ShuttingDown, match="call again"):
            await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50)
        answers.append("claim")

    async def wait() -> None:
        with pytest.raises(ShuttingDown, match="call again"):
            await desk.queue.wait(OWNER, task.id, 50)
        answers.append("wait")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(claim)
            group.start_soon(wait)
            await parked(desk, 2)
            desk.queue.waiters.stop()
    assert sorted(answers) == ["claim", "wait"]
    await desk.create("ready")
    with pytest.raises(ShuttingDown):
        await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50)


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "waiting"])
async def test_a_wait_for_a_task_ends_when_it_is_final_or_needs_a_person(desk: Desk, ending: str) -> None:
    claim = await desk.start()
    found: list[Task] = []

    async def wait() -> None:
        found.append(await desk.queue.wait(OWNER, claim.task.id, 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            await desk.update(claim, progress=50)
            await anyio.wait_all_tasks_blocked()
            assert found == []
            match ending:
                case "completed":
                    await desk.complete(claim)
                case "failed":
                    await desk.fail(claim, kind="permanent")
                case "cancelled":
                    await desk.cancel(claim)
                case _:
                    await desk.update(claim, question="Hm?")
    assert [task.status.value for task in found] == [ending]


async def test_a_wait_for_a_change_ends_with_the_next_one(desk: Desk) -> None:
    claim = await desk.start()
    found: list[Task] = []

    async def wait() -> None:
        found.append(await desk.queue.wait(OWNER, claim.task.id, 50, since_seq=claim.task.seq))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            await desk.update(claim, progress=50)
    assert [task.progress for task in found] == [50]


async def test_a_wait_that_is_over_returns_the_task_as_it_is(desk: Desk) -> None:
    claim = await desk.start()
    with anyio.fail_after(5):
        assert (await desk.queue.wait(OWNER, claim.task.id, 0.05)).status is Status.IN_PROGRESS
    with pytest.raises(NotFound):
        await desk.queue.wait(OWNER, 999, 0)


async def test_a_task_of_another_process_arrives(
    desk: Desk, open_queue: OpenQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_AGAIN", 50)
    other = Desk(open_queue(), clock)
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            task = await other.create()
    assert [claim.task.id if claim else None for claim in found] == [task.id]


async def test_a_task_of_another_process_arrives_without_its_wake_up_call(
    desk: Desk, open_queue: OpenQueue, clock: Clock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_AGAIN", 50)
    other = Desk(open_queue(), clock)
    for socket in folder.glob("*-wake/*"):
        socket.unlink()
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            task = await other.create()
    assert [claim.task.id if claim else None for claim in found] == [task.id]


async def test_a_parked_claim_sees_time_pass(desk: Desk, clock: Clock) -> None:
    task = await desk.create(run_at="in 1 minute")
    found: list[Claim | None] = []

    async def wait() -> None:
        found.append(await desk.queue.claim_when_ready(CLAUDE, ClaimRequest(), 50))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await parked(desk)
            clock.advance(60)
    assert [claim.task.id if claim else None for claim in found] == [task.id]
