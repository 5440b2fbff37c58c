"""A usage limit is a state of an account: its gate closes, other work goes on, one attempt tries it first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, NotFound, WrongStatus
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.taskqueue import ClaimRequest, Failure, claiming, promoting, settling
from taskqueue_mcp.taskqueue.limits import Limits
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue import Claim
    from tests.conftest import OpenQueue

HOUR = 3_600
LATER = "2026-01-15T14:00:00Z"
"""Two hours after the test's clock begins."""
A_DAY = 86_400


def of(account: str, **usage: Any) -> dict[str, Any]:
    return {"account": account, **usage}


async def use_up(desk: Desk, account: str = "acme", *, worker: str = "w1", resume_at: str | None = LATER) -> Claim:
    """Let a worker meet the usage limit of its account."""
    task = await desk.create("Write the report")
    claim = await desk.take(worker=worker, task_id=task.id)
    await desk.fail(claim, "usage limit reached", "quota", resume_at=resume_at, usage=of(account))
    return claim


async def gates(desk: Desk) -> list[Any]:
    return await desk.queue.list_gates(OWNER)


async def test_a_usage_limit_ends_the_attempt_at_no_cost_and_keeps_its_session(desk: Desk) -> None:
    claim = await desk.start()
    usage = of("acme", session_id="s-1", cost_usd=0.25)
    task = await desk.fail(claim, "usage limit reached", "quota", resume_at=LATER, usage=usage)
    assert (task.status, task.reason, task.failures) == (Status.PENDING, Reason.QUOTA, 0)
    await desk.pass_time(2 * HOUR + 60)
    again = await desk.take()
    assert again.task.id == claim.task.id
    assert json.loads(again.earlier[0].usage or "") == usage


async def test_nobody_of_that_account_is_handed_work_while_its_gate_is_closed(desk: Desk) -> None:
    await use_up(desk)
    await desk.create()
    assert await desk.claim(worker="w1") is None
    assert await desk.claim(worker="another of the same principal") is None
    assert await desk.claim(worker="w1", task_types=["executor:claude"]) is None
    assert await desk.claim(worker="w1", task_types=["task"]) is None
    assert await desk.claim(worker="w1", queues=["default"]) is None
    gate = (await gates(desk))[0]
    assert (gate.account, gate.executor, gate.waits) == ("acme", "claude", 1)
    assert gate.closed_until >= 1_768_485_600_000_000


async def test_other_work_goes_on_while_a_gate_is_closed(desk: Desk) -> None:
    await use_up(desk)
    for_claude = await desk.create()
    for_query = await desk.create(task_type="query")
    assert (await desk.take(worker="w1")).task.id == for_query.id
    report = await desk.create(task_type="report")
    claim = await desk.take(worker="w1", task_types=["executor:claude", "executor:report"], claim_id="c1")
    assert claim.task.id == report.id
    assert (await desk.task(for_claude)).status is Status.READY


async def test_a_worker_with_another_account_goes_on(desk: Desk) -> None:
    await desk.complete(await desk.start(by=CODEX), by=CODEX, usage=of("other"))
    await use_up(desk)
    task = await desk.create()
    assert await desk.claim(worker="w1") is None
    assert (await desk.take(by=CODEX)).task.id == task.id


async def test_two_workers_of_one_principal_may_have_two_accounts(desk: Desk) -> None:
    first = await desk.create()
    second = await desk.create()
    claims = [await desk.take(worker="w1", task_id=first.id), await desk.take(worker="w2", task_id=second.id)]
    await desk.update(claims[1], usage=of("other"))
    await desk.fail(claims[0], "used up", "quota", resume_at=LATER, usage=of("acme"))
    await desk.complete(claims[1])
    task = await desk.create()
    assert await desk.claim(worker="w1") is None
    assert (await desk.take(worker="w2")).task.id == task.id


async def test_a_stranger_is_held_back_and_may_try_one_task_once_in_a_while(desk: Desk) -> None:
    await use_up(desk)
    tasks = [await desk.create(), await desk.create()]
    assert await desk.claim(by=CODEX) is None
    await desk.pass_time(900)
    tried = await desk.take(by=CODEX)
    assert tried.task.id == tasks[0].id
    assert await desk.claim(by=CODEX, worker="a second one") is None
    assert await desk.claim(worker="w1") is None
    await desk.update(tried, by=CODEX, usage=of("another", turns=1))
    assert (await desk.take(by=CODEX, worker="a second one")).task.id == tasks[1].id


async def test_when_the_limit_is_over_one_tries_first_and_then_the_others_follow(desk: Desk) -> None:
    claim = await use_up(desk)
    waiting = [await desk.create() for _ in range(3)]
    await desk.pass_time(2 * HOUR)
    assert await desk.claim(worker="w1") is None, "the gate opens a little later than the limit ends"
    await desk.pass_time(60)
    probe = await desk.take(worker="w1")
    assert await desk.claim(worker="w2") is None
    await desk.complete(probe, usage=of("acme"))
    handed = {(await desk.take(worker=f"w{number}")).task.id for number in range(2, 5)}
    assert handed | {probe.task.id} == {claim.task.id, *(task.id for task in waiting)}
    assert (await gates(desk))[0].closed_until is None


async def test_the_first_sign_that_an_account_works_opens_its_gate(desk: Desk) -> None:
    await use_up(desk)
    await desk.create()
    await desk.pass_time(2 * HOUR + 60)
    probe = await desk.take(worker="w1")
    await desk.update(probe, progress=5)
    await desk.update(probe, usage=of("acme", turns=0))
    assert await desk.claim(worker="w2") is None
    await desk.update(probe, usage=of("acme", turns=1))
    assert await desk.claim(worker="w2") is not None


async def test_a_probe_that_meets_the_limit_again_closes_the_gate_for_longer(desk: Desk) -> None:
    await use_up(desk, resume_at="10m")
    await desk.create()
    waits = []
    for _ in range(4):
        until = (await gates(desk))[0].closed_until
        now = await desk.queue.now()
        waits.append((until - now) // 1_000_000)
        await desk.pass_time(waits[-1] + 1)
        probe = await desk.take(worker="w1")
        await desk.fail(probe, "still used up", "quota", resume_at="1s", usage=of("acme"))
    assert waits[1:] == [63, 126, 252]
    assert (await gates(desk))[0].waits == 5


async def test_a_probe_that_says_nothing_lets_another_one_try(desk: Desk) -> None:
    await use_up(desk)
    await desk.create()
    await desk.pass_time(2 * HOUR + 60)
    await desk.take(worker="w1")
    assert await desk.claim(worker="w2") is None
    await desk.pass_time(301)
    assert await desk.claim(worker="w2") is not None


async def test_attempts_that_were_under_way_do_not_count_as_further_waits_nor_open_the_gate(desk: Desk) -> None:
    tasks = [await desk.create() for _ in range(4)]
    claims = [await desk.take(worker=f"w{number}", task_id=task.id) for number, task in enumerate(tasks)]
    await desk.pass_time(5)
    for claim in claims[:3]:
        await desk.fail(claim, "used up", "quota", resume_at=LATER, usage=of("acme"))
    assert (await gates(desk))[0].waits == 1
    await desk.complete(claims[3], usage=of("acme", turns=3))
    await desk.create()
    assert await desk.claim(worker="w1") is None
    events = await desk.rows("SELECT kind FROM events WHERE subject = 'gate' ORDER BY seq")
    assert events == [("closed",)]


async def test_without_an_account_only_the_task_waits(desk: Desk) -> None:
    claim = await desk.start()
    await desk.fail(claim, "used up", "quota", resume_at=LATER)
    other = await desk.create()
    assert (await desk.take()).task.id == other.id
    assert await gates(desk) == []


async def test_an_account_that_was_reported_before_need_not_be_told_again(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, usage=of("acme"))
    await desk.fail(claim, "used up", "quota", resume_at=LATER)
    await desk.create()
    assert await desk.claim() is None
    assert [gate.account for gate in await gates(desk)] == ["acme"]


async def test_a_task_that_is_asked_for_by_its_id_is_held_back_too_and_the_error_says_why(desk: Desk) -> None:
    await use_up(desk)
    task = await desk.create()
    with pytest.raises(WrongStatus, match=r"usage limit of 'acme' for claude is reached.*run_now lets this task try"):
        await desk.claim(worker="w1", task_id=task.id)
    assert (await desk.task(task)).attempt == 0


async def test_a_ready_task_says_which_gate_holds_it_back(desk: Desk) -> None:
    await use_up(desk)
    held, free = await desk.create(), await desk.create(task_type="query")
    assert [gate.account for gate in (await desk.detail(held)).gates] == ["acme"]
    assert (await desk.detail(free)).gates == ()


async def test_run_now_lets_that_task_through_once(desk: Desk) -> None:
    claim = await use_up(desk)
    await desk.create("Another")
    task = await desk.decide(claim, "run_now")
    assert task.status is Status.READY
    tried = await desk.take(worker="w1", task_types=["executor:claude"])
    assert tried.task.id == claim.task.id
    assert await desk.claim(worker="w2") is None
    await desk.fail(tried, "used up", "quota", resume_at=LATER, usage=of("acme"))
    assert await desk.claim(worker="w1") is None
    await desk.decide(claim, "run_now")
    await desk.complete(await desk.take(worker="w1", task_id=claim.task.id), usage=of("acme"))
    assert (await gates(desk))[0].closed_until is None


async def test_the_owner_opens_a_gate_by_hand(desk: Desk) -> None:
    await use_up(desk)
    await desk.create()
    opened = await desk.queue.open_gate(OWNER, "acme")
    assert [gate.account for gate in opened] == ["acme"]
    assert await desk.claim(worker="w1") is not None
    with pytest.raises(NotFound, match=r"no gate of 'acme' is closed"):
        await desk.queue.open_gate(OWNER, "acme")
    with pytest.raises(Forbidden):
        await desk.queue.open_gate(GEMINI, "acme")
    rows = await desk.rows("SELECT kind, principal FROM events WHERE subject = 'gate' ORDER BY seq")
    assert rows == [("closed", CLAUDE.name), ("opened", OWNER.name)]


async def test_after_twenty_waits_a_person_is_asked(desk: Desk) -> None:
    task = await desk.create()
    for _ in range(21):
        claim = await desk.take(worker="w1", task_id=task.id)
        await desk.fail(claim, "used up", "quota", resume_at="10m", usage=of("acme"))
        if (await desk.task(task)).status is Status.PENDING:
            await desk.pass_time(2 * HOUR)
    asked = await desk.task(task)
    assert (asked.status, asked.reason) == (Status.WAITING, Reason.QUESTION)
    assert (asked.failures, asked.attempt) == (0, 21)


async def test_a_limit_that_lasts_too_long_is_for_a_person_to_decide_about(desk: Desk) -> None:
    claim = await desk.start(options={"max_attempts": 1})
    asked = await desk.fail(claim, "used up until next month", "quota", resume_at="8d", usage=of("acme"))
    assert (asked.status, asked.reason, asked.failures) == (Status.WAITING, Reason.QUESTION, 0)
    assert "more than 7 days (used up until next month)" in (asked.question or "")
    await desk.create()
    assert await desk.claim() is None
    await desk.decide(claim, "answer", "try it")
    assert (await desk.take()).task.id == claim.task.id


async def test_how_long_a_limit_may_last_is_a_setting(open_queue: OpenQueue, desk: Desk) -> None:
    patient = Desk(open_queue(limits=Limits(quota_days=30)), desk.clock)
    claim = await patient.start()
    task = await patient.fail(claim, "used up", "quota", resume_at="8d", usage=of("acme"))
    assert (task.status, task.reason) == (Status.PENDING, Reason.QUOTA)


async def test_a_claim_sees_the_gate_that_an_earlier_work_of_its_commit_has_closed(desk: Desk) -> None:
    rules = desk.queue.rules
    first, _ = await desk.create(), await desk.create()
    claim = await desk.take(worker="w1", task_id=first.id)
    failure = Failure(claim.lease, "used up", "quota", LATER, of("acme"))

    def together(transaction: Transaction) -> object:
        promoting.promote_once(transaction, rules)  # as an earlier claim of the same commit did
        settling.fail(transaction, rules, CLAUDE, failure)
        return claiming.claim(transaction, rules, CLAUDE, ClaimRequest(worker="w1"))

    assert await desk.queue.database.write(together) is None
