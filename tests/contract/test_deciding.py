"""What people decide, and agents that may: approve, reject, cancel, retry, run now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, LeaseLost, NotFound, WrongStatus
from taskqueue_mcp.model import Caller, Kind, Reason, Scope, Status
from taskqueue_mcp.taskqueue import Limits
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from taskqueue_mcp.model import Task
    from tests.clock import Clock

ANSWERING = frozenset({Scope.ENQUEUE, Scope.WORK, Scope.ANSWER})


async def pending(desk: Desk) -> Task:
    return await desk.create("pending", run_at="in 1 hour")


async def blocked(desk: Desk) -> Task:
    other = await desk.create("other", run_at="in 1 hour")
    return await desk.create("blocked", depends_on=(other.id,))


async def ready(desk: Desk) -> Task:
    return await desk.create("ready")


async def in_progress(desk: Desk) -> Task:
    return (await desk.start("in_progress")).task


async def approval(desk: Desk) -> Task:
    return await desk.create("approval", requires_approval=True)


async def question(desk: Desk) -> Task:
    return (await desk.update(await desk.start("question"), question="Which shop?")).task


async def retry(desk: Desk) -> Task:
    return await desk.fail(await desk.start("retry"))


async def completed(desk: Desk) -> Task:
    return await desk.complete(await desk.start("completed"))


async def failed(desk: Desk) -> Task:
    return await desk.fail(await desk.start("failed"), kind="permanent")


async def cancelled(desk: Desk) -> Task:
    return await desk.cancel(await desk.create("cancelled"))


STANDS: dict[str, Callable[[Desk], Awaitable[Task]]] = {
    make.__name__: make
    for make in (pending, blocked, ready, in_progress, approval, question, retry, completed, failed, cancelled)
}
ALLOWED = {
    "cancel": {"pending", "blocked", "ready", "in_progress", "approval", "question", "retry"},
    "retry": {"failed", "cancelled"},
    "run_now": {"pending", "retry"},
    "approve": {"approval"},
    "reject": {"approval", "question"},
    "answer": {"question"},
}


@pytest.mark.parametrize("stands", list(STANDS))
@pytest.mark.parametrize("action", list(ALLOWED))
async def test_what_may_be_decided_depends_on_where_the_task_stands(desk: Desk, action: str, stands: str) -> None:
    task = await STANDS[stands](desk)
    before = await desk.snapshot()

    async def decide() -> Task:
        return await (desk.cancel(task) if action == "cancel" else desk.decide(task, action, "Go on."))

    if stands in ALLOWED[action]:
        assert (await decide()).seq > task.seq
    else:
        with pytest.raises(WrongStatus, match=f"T-{task.id} "):
            await decide()
        assert await desk.snapshot() == before


# --- approval


async def test_a_task_that_needs_approval_waits_for_a_person(desk: Desk) -> None:
    task = await desk.create(requires_approval=True)
    assert (task.status, task.reason) == (Status.WAITING, Reason.APPROVAL)
    assert (task.question or "").startswith("May this task run? Count the stock\nexecutor: claude, asked for by gemini")
    assert await desk.claim() is None
    after = await desk.decide(task, "approve")
    assert (after.status, after.question) == (Status.READY, None)
    (asked,) = (await desk.detail(task)).questions
    assert (asked.kind, asked.answer, asked.answered_by) == ("approval", "approve", "owner")
    assert await desk.kinds(task) == ["created", "approved", "ready"]
    assert (await desk.events(task))[1].principal == "owner"


async def test_an_approved_task_still_waits_for_its_time_and_its_dependencies(desk: Desk) -> None:
    other = await desk.create("other")
    task = await desk.create(requires_approval=True, run_at="in 1 hour", depends_on=(other.id,))
    after = await desk.decide(task, "approve")
    assert (after.status, after.reason, after.blockers) == (Status.PENDING, Reason.SCHEDULED, 1)
    await desk.pass_time(3_600)
    after = await desk.task(task)
    assert (after.status, after.reason) == (Status.PENDING, Reason.DEPENDENCY)
    await desk.finish(other)
    assert (await desk.task(task)).status is Status.READY


async def test_dependencies_that_end_first_do_not_replace_the_approval(desk: Desk) -> None:
    other = await desk.create("other")
    task = await desk.create(requires_approval=True, depends_on=(other.id,))
    await desk.finish(other)
    after = await desk.task(task)
    assert (after.status, after.reason, after.blockers) == (Status.WAITING, Reason.APPROVAL, 0)
    assert (await desk.decide(task, "approve")).status is Status.READY


async def test_a_dependency_that_fails_ends_the_wait_for_approval(desk: Desk) -> None:
    other = await desk.create("other")
    task = await desk.create(requires_approval=True, depends_on=(other.id,))
    await desk.fail_for_good(other)
    assert (await desk.task(task)).status is Status.FAILED


async def test_a_rejected_task_is_cancelled_with_the_reason(desk: Desk) -> None:
    task = await desk.create(requires_approval=True)
    after = await desk.decide(task, "reject", "Too dear.")
    assert (after.status, after.error) == (Status.CANCELLED, "rejected: Too dear.")
    assert (await desk.kinds(task))[-1] == "rejected"


@pytest.mark.parametrize("action", ["approve", "reject"])
async def test_an_agent_cannot_decide_about_what_it_created(desk: Desk, action: str) -> None:
    agent = Caller("gemini", Kind.AGENT, ANSWERING)
    task = await desk.create(requires_approval=True, by=agent)
    before = await desk.snapshot()
    with pytest.raises(Forbidden, match="gemini created"):
        await desk.decide(task, action, by=agent)
    assert await desk.snapshot() == before


@pytest.mark.parametrize("kind", [Kind.AGENT, Kind.SERVICE])
async def test_an_agent_cannot_answer_what_it_works_on(desk: Desk, kind: Kind) -> None:
    agent = Caller("claude", kind, ANSWERING)
    task = (await desk.update(await desk.start(), question="May I?")).task
    with pytest.raises(Forbidden, match="claude worked on"):
        await desk.decide(task, "answer", "You may.", by=agent)
    other = Caller("supervisor", Kind.AGENT, ANSWERING)
    assert (await desk.decide(task, "answer", "You may.", by=other)).status is Status.READY


async def test_a_person_may_approve_what_the_person_created(desk: Desk) -> None:
    task = await desk.create(requires_approval=True, by=OWNER)
    assert (await desk.decide(task, "approve", by=OWNER)).status is Status.READY


@pytest.mark.parametrize("caller", [GEMINI, CLAUDE])
@pytest.mark.parametrize("action", ["approve", "reject", "answer", "retry", "run_now"])
async def test_deciding_needs_the_scope(desk: Desk, caller: Caller, action: str) -> None:
    task = await desk.create(requires_approval=True)
    with pytest.raises(Forbidden, match="lacks the scope answer"):
        await desk.decide(task, action, "Go on.", by=caller)


async def test_an_unknown_action_or_task_is_refused(desk: Desk) -> None:
    task = await desk.create()
    with pytest.raises(InvalidInput, match=r"^action: 'explode' is not one of"):
        await desk.decide(task, "explode")
    with pytest.raises(NotFound, match="T-999"):
        await desk.decide(999, "retry")
    with pytest.raises(NotFound, match="T-999"):
        await desk.cancel(999)


# --- cancel


async def test_a_cancelled_task_keeps_the_reason_and_is_final(desk: Desk, clock: Clock) -> None:
    task = await desk.cancel(await desk.create(), " no longer needed ")
    assert (task.status, task.error, task.finished_at) == (Status.CANCELLED, "no longer needed", clock.micros)
    event = (await desk.events(task))[-1]
    assert (event.kind, event.principal, json.loads(event.data or "")) == (
        "cancelled", "gemini", {"reason": "no longer needed"},
    )  # fmt: skip
    assert await desk.claim() is None


async def test_the_holder_of_a_cancelled_task_learns_to_stop(desk: Desk) -> None:
    claim = await desk.start()
    await desk.cancel(claim)
    with pytest.raises(LeaseLost) as lost:
        await desk.update(claim)
    assert lost.value.facts["stop"] is True
    (attempt,) = (await desk.detail(claim)).attempts
    assert attempt.outcome == "cancelled"


async def test_cancelling_needs_the_scope(desk: Desk) -> None:
    task = await desk.create()
    with pytest.raises(Forbidden):
        await desk.cancel(task, by=CODEX)


# --- retry


@pytest.mark.parametrize("stands", ["failed", "cancelled"])
async def test_a_retry_is_a_new_attempt_with_a_fresh_count_of_failures(desk: Desk, stands: str) -> None:
    made = await desk.create(options={"max_attempts": 1})
    claim = await desk.take()
    await (desk.fail(claim) if stands == "failed" else desk.cancel(claim))
    after = await desk.decide(made, "retry")
    assert (after.status, after.failures, after.handbacks, after.finished_at) == (Status.READY, 0, 0, None)
    assert (await desk.kinds(made))[-2:] == ["reopened", "ready"]
    again = await desk.take()
    assert again.task.attempt == 2
    with pytest.raises(LeaseLost if stands == "cancelled" else Exception):
        await desk.complete(claim)
    assert (await desk.complete(again)).status is Status.COMPLETED
    assert await desk.rows("SELECT open_tasks FROM queues") == [(0,)]


async def test_a_completed_task_is_never_opened_again(desk: Desk) -> None:
    task = await desk.complete(await desk.start())
    with pytest.raises(WrongStatus, match="only a failed or cancelled task can be retried"):
        await desk.decide(task, "retry")


async def test_a_retry_is_counted_in_its_queue_and_not_refused_when_it_is_full(open_queue: Any, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(open_tasks_per_queue=1)), clock)
    task = await desk.cancel(await desk.create())
    await desk.create("another")
    assert (await desk.decide(task, "retry")).status is Status.READY
    assert await desk.rows("SELECT open_tasks FROM queues") == [(2,)]


# --- run now


async def test_a_task_that_waits_for_a_time_can_run_now(desk: Desk, clock: Clock) -> None:
    task = await desk.decide(await pending(desk), "run_now")
    assert (task.status, task.run_at) == (Status.READY, clock.micros)
    assert (await desk.kinds(task))[-2:] == ["hastened", "ready"]
    assert (await desk.take()).task.id == task.id


@pytest.mark.parametrize("kind", ["error", "snooze", "quota"])
async def test_a_task_that_was_put_off_can_run_now(desk: Desk, kind: str) -> None:
    task = await desk.fail(await desk.start(), kind=kind)
    after = await desk.decide(task, "run_now")
    assert (after.status, after.failures, after.handbacks) == (Status.READY, task.failures, task.handbacks)


async def test_running_now_does_not_jump_the_dependencies(desk: Desk) -> None:
    other = await desk.create("other")
    task = await desk.create(depends_on=(other.id,), requires_approval=True, run_at="in 1 hour")
    await desk.decide(task, "approve")
    after = await desk.decide(task, "run_now")
    assert (after.status, after.reason) == (Status.PENDING, Reason.DEPENDENCY)
