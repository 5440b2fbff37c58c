"""Money is set aside at the claim and counted at the end, and a person is asked before a ceiling is passed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.budgets import ONE, Budgets
from taskqueue_mcp.errors import Conflict, Forbidden, InvalidInput, LeaseLost, NotFound, WrongStatus
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.taskqueue import ClaimRequest
from taskqueue_mcp.taskqueue.handing_back import hand_back
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from taskqueue_mcp.budgets import Account
    from taskqueue_mcp.taskqueue import Claim, Detail
    from tests.clock import Clock
    from tests.conftest import OpenQueue

HOUR = 3_600
FOR_CLAUDE = ["executor:claude"]
PAID = {"executors": frozenset({"claude"})}


def usd(amount: float) -> int:
    return round(amount * ONE)


def spending(**usage: Any) -> dict[str, Any]:
    return {"usage": usage}


@pytest.fixture
def shop(open_queue: OpenQueue, clock: Clock) -> Desk:
    """A queue with 2 USD a task and 5 USD a day."""
    budgets = Budgets(executors=frozenset({"claude"}), task={"usd": usd(2)}, day={"usd": usd(5)})
    return Desk(open_queue(budgets=budgets), clock)


async def take(desk: Desk, number: int = 1, **request: Any) -> Claim:
    """Claim as our own worker does: for an executor, under an id."""
    claim = await claim_for(desk, number, **request)
    assert claim is not None, "nothing was handed out"
    return claim


async def claim_for(desk: Desk, number: int = 1, **request: Any) -> Claim | None:
    return await desk.claim(worker=f"w{number}", task_types=FOR_CLAUDE, claim_id=f"c{number}", **request)


async def day(desk: Desk) -> tuple[float, float]:
    """What was spent and is set aside today, in USD."""
    found = next(account for account in await desk.queue.list_budgets(OWNER) if account.scope == "day")
    return found.spent / ONE, found.reserved / ONE


async def own(desk: Desk, task: Any) -> Account:
    detail: Detail = await desk.detail(task)
    return next(account for account in detail.budgets if account.unit == "usd")


# --- set aside, counted


async def test_a_claim_sets_the_tasks_ceiling_aside_and_its_end_counts_what_was_spent(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    assert await day(shop) == (0, 2)
    await shop.complete(claim, **spending(cost_usd=0.75, turns=4))
    assert await day(shop) == (0.75, 0)
    account = await own(shop, claim)
    assert (account.spent, account.reserved, account.ceiling) == (usd(0.75), 0, usd(2))


async def test_a_tasks_own_ceiling_goes_before_the_default(shop: Desk) -> None:
    await shop.create(options={"budget_usd": 4.5})
    assert (await take(shop)).task.attempt == 1
    assert await day(shop) == (0, 4.5)


async def test_concurrent_claims_never_pass_the_ceiling_of_the_day(shop: Desk, open_queue: OpenQueue) -> None:
    """Sixteen claimers in four processes, and money for two and a half tasks."""
    for _ in range(16):
        await shop.create()
    desks = [shop, *(Desk(open_queue(budgets=shop.queue.rules.budgets), shop.clock) for _ in range(3))]
    claims = await asyncio.gather(*(claim_for(desks[number % 4], number) for number in range(16)))
    handed = [claim for claim in claims if claim is not None]
    assert len({claim.task.id for claim in handed}) == len(handed) == 2
    assert await day(shop) == (0, 4)
    standing = [task.status for task in (await shop.page()).tasks]
    assert standing.count(Status.IN_PROGRESS) == 2
    assert standing.count(Status.WAITING) == 0, "nothing is spent yet, so nobody is asked"
    for claim in handed:
        await shop.complete(claim, **spending(cost_usd=2))
    claims = await asyncio.gather(*(claim_for(desks[number % 4], number + 16) for number in range(16)))
    assert [claim for claim in claims if claim is not None] == []
    assert await day(shop) == (4, 0)
    asked = [task for task in (await shop.page()).tasks if task.status is Status.WAITING]
    assert len(asked) == 1, "a person is asked once"


async def test_money_that_is_given_back_is_handed_out_again(shop: Desk) -> None:
    for _ in range(3):
        await shop.create()
    first, second = await take(shop, 1), await take(shop, 2)
    assert await claim_for(shop, 3) is None
    await shop.complete(first, **spending(cost_usd=0.5))
    assert (await take(shop, 3)).task.id == 3
    assert await day(shop) == (0.5, 4)
    await shop.fail(second, **spending(cost_usd=1.25))
    assert await day(shop) == (1.75, 2)


async def test_a_task_that_cannot_be_paid_holds_up_no_other(shop: Desk) -> None:
    for _ in range(2):
        await shop.create(options={"budget_usd": 2.5})
    await take(shop, 1)
    await take(shop, 2)
    dear = await shop.create(priority="urgent")
    free = await shop.create(task_type="query")
    claim = await shop.take(worker="w3", task_types=["executor:claude", "executor:query"], claim_id="c3")
    assert claim.task.id == free.id
    held = await shop.task(dear)
    assert (held.status, held.reason, held.attempt) == (Status.PENDING, Reason.QUOTA, 0)
    assert await shop.kinds(dear) == ["created", "unpaid"]


async def test_what_costs_nothing_needs_no_money(shop: Desk) -> None:
    for number in range(10):
        await shop.create(task_type="query")
        await shop.complete(await shop.take(worker=f"w{number}", task_types=["executor:query"]))
    assert await day(shop) == (0, 0)
    assert await shop.rows("SELECT count(*) FROM reservations") == [(0,)]
    assert await shop.rows("SELECT count(*) FROM spending") == [(0,)]


async def test_an_agent_that_claims_for_itself_pays_itself_until_the_day_is_used_up(shop: Desk) -> None:
    for _ in range(8):
        await shop.create()
    claims = [await shop.take(worker=f"agent{number}") for number in range(7)]
    assert await day(shop) == (0, 0)
    await shop.complete(claims[0], **spending(cost_usd=5.5))
    assert await day(shop) == (5.5, 0)
    assert await shop.claim(worker="agent8") is None
    assert (await shop.task(8)).reason is Reason.BUDGET


async def test_a_ceiling_of_its_own_holds_for_every_claimer(shop: Desk) -> None:
    claim = await shop.start(options={"budget_usd": 1})
    assert await day(shop) == (0, 1)
    settled = await shop.update(claim, **spending(cost_usd=1.5))
    assert settled.task.reason is Reason.BUDGET


# --- repeated calls


async def test_a_repeated_end_counts_nothing_twice(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    for _ in range(3):
        await shop.complete(claim, "Done.", **spending(cost_usd=1))
    with pytest.raises(Conflict):
        await shop.complete(claim, "Something else.", **spending(cost_usd=1))
    assert await day(shop) == (1, 0)


async def test_usage_on_the_way_is_cumulative_and_is_counted_when_the_attempt_is_over(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    for cost in (0.25, 0.5, 0.5):
        await shop.update(claim, usage={"cost_usd": cost, "session_id": "s-1"}, seq=round(cost * 4))
    assert await day(shop) == (0, 2)
    await shop.complete(claim, usage={"turns": 3})
    assert await day(shop) == (0.5, 0)
    attempt = (await shop.detail(claim)).attempts[-1]
    assert json.loads(attempt.usage or "") == {"cost_usd": 0.5, "session_id": "s-1", "turns": 3}


@pytest.mark.parametrize("cost", ["much", -1, True, "nan", "inf", 1e12, [1]])
async def test_usage_that_is_no_number_is_refused_and_not_overlooked(shop: Desk, cost: Any) -> None:
    await shop.create()
    claim = await take(shop)
    calls: tuple[Any, ...] = (shop.update, shop.complete, shop.fail)
    for call in calls:
        with pytest.raises(InvalidInput, match=r"usage\.cost_usd: must be a number from 0"):
            await call(claim, usage={"cost_usd": cost})
    await shop.complete(claim, usage={"cost_usd": "1.5"})
    assert await day(shop) == (1.5, 0)


async def test_a_repeated_claim_sets_nothing_aside_twice(shop: Desk) -> None:
    await shop.create()
    first, second = await take(shop, 1), await take(shop, 1)
    assert first.lease == second.lease
    assert second.redelivered
    assert await day(shop) == (0, 2)


# --- the task's own ceiling


async def test_at_its_ceiling_a_task_stops_and_asks_and_keeps_its_files(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, artifact="half.csv", usage={"cost_usd": 1.5, "session_id": "s-1"})
    settled = await shop.update(claim, usage={"cost_usd": 2.25, "session_id": "s-1"})
    assert (settled.task.status, settled.task.reason) == (Status.WAITING, Reason.BUDGET)
    assert "of 2.00 USD, 2.25 USD are spent. Answer `continue with +2.00` or `stop`." in (settled.task.question or "")
    with pytest.raises(LeaseLost):
        await shop.complete(claim)
    detail = await shop.detail(claim)
    assert [artifact.path for artifact in detail.artifacts] == ["half.csv"]
    assert detail.attempts[-1].outcome == "question"
    assert await day(shop) == (2.25, 0)


async def test_continue_with_more_raises_the_ceiling_and_the_session_goes_on(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, usage={"cost_usd": 2, "session_id": "s-1"})
    task = await shop.decide(claim, "answer", "continue with +1.5")
    assert task.status is Status.READY
    again = await take(shop, 2)
    assert again.task.attempt == 2
    assert json.loads(again.earlier[0].usage or "")["session_id"] == "s-1"
    assert again.questions[-1].answer == "continue with +1.5"
    account = await own(shop, claim)
    assert (account.allowed, account.spent, account.reserved) == (usd(3.5), usd(2), usd(1.5))
    events = await shop.rows("SELECT kind, principal FROM events WHERE subject = 'budget' ORDER BY position")
    assert events == [("asked", "taskqueue"), ("raised", OWNER.name)]


async def test_an_approval_adds_as_much_as_the_ceiling_was(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, usage={"cost_usd": 2.5})
    await shop.decide(claim, "approve")
    await take(shop, 2)
    assert (await own(shop, claim)).allowed == usd(4)


@pytest.mark.parametrize(("action", "said"), [("answer", "stop"), ("answer", "Stop."), ("reject", "too dear")])
async def test_stop_ends_the_task(shop: Desk, action: str, said: str) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, usage={"cost_usd": 2})
    task = await shop.decide(claim, action, said)
    assert task.status is Status.CANCELLED
    assert (await own(shop, claim)).reserved == 0


@pytest.mark.parametrize("said", ["maybe", "-5", "continue with nothing", "5 apples", ""])
async def test_an_answer_that_is_no_amount_is_refused_and_changes_nothing(shop: Desk, said: str) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, usage={"cost_usd": 2})
    before = await shop.snapshot()
    if said:
        with pytest.raises(InvalidInput, match=r"say `continue with \+5`"):
            await shop.decide(claim, "answer", said)
        assert await shop.snapshot() == before
    else:
        assert (await shop.decide(claim, "answer", said)).status is Status.READY


async def test_an_agent_cannot_raise_the_budget_of_its_own_task(shop: Desk) -> None:
    from dataclasses import replace  # noqa: PLC0415 - beside the one test

    await shop.create()
    claim = await take(shop)
    await shop.update(claim, usage={"cost_usd": 2})
    greedy = replace(CLAUDE, scopes=OWNER.scopes)
    for action in ("approve", "answer"):
        with pytest.raises(Forbidden):
            await shop.decide(claim, action, "+100", by=greedy)


async def test_a_question_with_a_budget_that_is_used_up_asks_about_both(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    settled = await shop.update(claim, question="I may spend no more.", usage={"cost_usd": 2})
    assert settled.task.reason is Reason.BUDGET
    assert (settled.task.question or "").startswith("I may spend no more. The budget of T-1 is used up")
    assert (await shop.update(claim, question="I may spend no more.", usage={"cost_usd": 2})).repeated


async def test_what_a_failed_attempt_has_spent_is_gone_for_the_next_one(shop: Desk) -> None:
    await shop.create()
    await shop.fail(await take(shop), **spending(cost_usd=1.25))
    await shop.pass_time(60)
    await take(shop, 2)
    assert await day(shop) == (1.25, 0.75)


async def test_a_task_that_failed_at_its_ceiling_asks_before_it_is_tried_again(shop: Desk) -> None:
    await shop.create()
    await shop.fail(await take(shop), **spending(cost_usd=2.5))
    await shop.pass_time(60)
    assert await claim_for(shop, 2) is None
    task = await shop.task(1)
    assert (task.status, task.reason, task.attempt, task.failures) == (Status.WAITING, Reason.BUDGET, 1, 1)
    await shop.pass_time(48 * HOUR)
    assert (await shop.task(1)).status is Status.WAITING, "no new day changes the ceiling of a task"


# --- the day


async def use_up_the_day(desk: Desk) -> None:
    await desk.create("dear", options={"budget_usd": 4})
    await desk.complete(await take(desk, 90), **spending(cost_usd=4))


async def test_when_the_day_is_used_up_one_task_asks_and_the_others_wait_for_the_next_day(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create() for _ in range(3)]
    assert await claim_for(shop) is None
    first, *others = [await shop.task(task) for task in tasks]
    assert (first.status, first.reason) == (Status.WAITING, Reason.BUDGET)
    assert "The budget of the day is used up: of 5.00 USD, 4.00 USD are spent, and T-2 may need 2.00 USD." in (
        first.question or ""
    )
    assert "`continue with +2.00`" in (first.question or "")
    assert {(task.status, task.reason) for task in others} == {(Status.PENDING, Reason.QUOTA)}
    await shop.pass_time(12 * HOUR)
    assert {(await shop.task(task)).status for task in tasks} == {Status.READY}
    assert (await take(shop, 2)).task.id == tasks[0].id
    assert (await shop.detail(tasks[0])).questions[0].answered_by == "taskqueue"


async def test_a_raised_day_pays_for_what_waited(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create() for _ in range(4)]
    assert await claim_for(shop) is None
    await shop.decide(tasks[0], "answer", "continue with +4")
    handed = [await take(shop, 2), await take(shop, 3)]
    assert {claim.task.id for claim in handed} == {tasks[0].id, tasks[1].id}
    assert await claim_for(shop, 4) is None
    assert await day(shop) == (4, 4)
    assert (await shop.task(tasks[3])).status is Status.PENDING


async def test_a_person_is_asked_again_only_when_the_raised_day_is_used_up(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create() for _ in range(3)]
    assert await claim_for(shop) is None
    await shop.decide(tasks[0], "answer", "+1")
    await shop.complete(await take(shop, 2), **spending(cost_usd=2))
    assert await claim_for(shop, 3) is None
    assert [(await shop.task(task)).status for task in tasks[1:]] == [Status.WAITING, Status.PENDING]


async def test_who_says_stop_for_the_day_is_not_asked_again(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create() for _ in range(3)]
    assert await claim_for(shop) is None
    assert (await shop.decide(tasks[0], "answer", "stop")).status is Status.CANCELLED
    assert await claim_for(shop, 2) is None
    assert [(await shop.task(task)).status for task in tasks[1:]] == [Status.PENDING, Status.PENDING]


async def test_somebody_is_asked_when_what_was_set_aside_is_spent_and_not_given_back(shop: Desk) -> None:
    for _ in range(3):
        await shop.create()
    claims = [await take(shop, 1), await take(shop, 2)]
    assert await claim_for(shop, 3) is None
    assert (await shop.task(3)).status is Status.PENDING
    for claim in claims:
        await shop.complete(claim, **spending(cost_usd=1.9))
    assert await claim_for(shop, 4) is None
    assert (await shop.task(3)).status is Status.WAITING


async def test_the_day_begins_at_midnight_of_the_default_zone(open_queue: OpenQueue, clock: Clock) -> None:
    budgets = Budgets(executors=frozenset({"claude"}), task={"usd": usd(5)}, day={"usd": usd(5)})
    berlin = Desk(open_queue(budgets=budgets, zone="Europe/Berlin"), clock)
    clock.set("2026-01-15T22:59:59Z")
    for _ in range(2):
        await berlin.create()
    claim = await take(berlin, 1)
    assert await claim_for(berlin, 2) is None
    await berlin.pass_time(1)
    await take(berlin, 3)
    assert await day(berlin) == (0, 5)
    await berlin.complete(claim, **spending(cost_usd=5))
    assert await day(berlin) == (0, 5), "an attempt counts for the day on which it was claimed"


async def test_a_task_that_no_day_can_pay_for_asks_at_once_and_each_day_anew(shop: Desk) -> None:
    task = await shop.create(options={"budget_usd": 50})
    other = await shop.create()
    claim = await take(shop)
    assert claim.task.id == other.id
    await shop.complete(claim)
    assert "and T-1 may need 50.00 USD. Answer `continue with +50.00`" in ((await shop.task(task)).question or "")
    await shop.pass_time(24 * HOUR)
    assert await claim_for(shop, 2) is None
    assert (await shop.task(task)).reason is Reason.BUDGET
    assert [question.answered_by for question in (await shop.detail(task)).questions] == ["taskqueue", None]
    await shop.decide(task, "answer", "continue with +50")
    assert (await take(shop, 3)).task.id == task.id


async def test_a_task_that_is_asked_for_by_its_id_says_why_it_is_not_handed_out(shop: Desk) -> None:
    await use_up_the_day(shop)
    task = await shop.create()
    with pytest.raises(WrongStatus, match=r"cannot be paid for now: The budget of the day is used up"):
        await take(shop, 2, task_id=task.id)
    assert (await shop.task(task)).reason is Reason.BUDGET


# --- attempts that are lost


async def test_a_claim_that_was_never_confirmed_has_spent_nothing(shop: Desk) -> None:
    await shop.create()
    await take(shop)
    await shop.pass_time(61)
    assert await day(shop) == (0, 0)


async def test_a_lost_attempt_counts_what_it_last_reported(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, **spending(cost_usd=0.75))
    await shop.pass_time(2 * HOUR)
    assert (await shop.detail(claim)).attempts[0].outcome == "lost"
    assert await day(shop) == (0.75, 0)


async def test_what_a_silent_attempt_had_stays_set_aside_until_the_next_one_is_over(shop: Desk) -> None:
    for _ in range(3):
        await shop.create()
    lost = [await take(shop, 1), await take(shop, 2)]
    for claim in lost:
        await shop.update(claim, progress=10)
    assert await claim_for(shop, 3) is None
    await shop.pass_time(HOUR)
    await shop.pass_time(60)
    assert await day(shop) == (0, 4)
    again = await take(shop, 4)
    assert again.task.id == lost[0].task.id, "its own money is still there"
    assert await day(shop) == (0, 4)
    await shop.complete(again, **spending(cost_usd=0.5))
    assert await day(shop) == (0.5, 2)


async def test_a_cancelled_attempt_counts_what_it_reported_and_gives_back_the_rest(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, **spending(cost_usd=0.25))
    await shop.cancel(claim)
    assert await day(shop) == (0.25, 0)
    await shop.create()
    silent = await take(shop, 2)
    await shop.update(silent, progress=1)
    await shop.cancel(silent)
    assert await day(shop) == (0.25, 0)


async def test_what_a_lost_attempt_had_is_free_when_its_task_is_cancelled(shop: Desk) -> None:
    await shop.create()
    claim = await take(shop)
    await shop.update(claim, progress=1)
    await shop.pass_time(HOUR)
    assert await day(shop) == (0, 2)
    await shop.cancel(claim)
    assert await day(shop) == (0, 0)


async def test_a_cancelled_task_waits_for_no_money(shop: Desk) -> None:
    for _ in range(4):
        await shop.create()
    first, _ = await take(shop, 1), await take(shop, 2)
    assert await claim_for(shop, 3) is None
    await shop.cancel(3)
    await shop.complete(first, **spending(cost_usd=0.5))
    assert (await take(shop, 4)).task.id == 4, "what it would have needed is there for the next one"


async def test_a_task_says_what_it_waits_for(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create(), await shop.create()]
    assert await claim_for(shop) is None
    held = [(await shop.detail(task)).held for task in tasks]
    assert [(each.account, each.need, each.asked) for each in held if each] == [
        ("day::20468:usd", usd(2), 1),
        ("day::20468:usd", usd(2), 0),
    ]


@pytest.mark.parametrize("kind", ["quota", "snooze", "release", "permanent"])
async def test_every_end_gives_back_what_was_not_spent(shop: Desk, kind: str) -> None:
    await shop.create()
    await shop.fail(await take(shop), "x", kind, **spending(cost_usd=0.125))
    assert await day(shop) == (0.125, 0)


async def test_a_question_to_a_person_gives_back_what_was_not_spent(shop: Desk) -> None:
    await shop.create()
    await shop.update(await take(shop), question="Which?", **spending(cost_usd=0.5))
    assert await day(shop) == (0.5, 0)
    await shop.create()
    await shop.update(await take(shop, 2), question="Which?")
    assert await day(shop) == (0.5, 0)


async def test_a_task_that_is_handed_back_by_a_move_keeps_no_lease_on_money(shop: Desk) -> None:
    task = await shop.create()
    claim = await take(shop)
    await shop.update(claim, **spending(cost_usd=0.5))
    held = await shop.task(task)
    await shop.queue.database.write(lambda transaction: hand_back(transaction, held))
    assert await day(shop) == (0.5, 0)


# --- other scopes, other units


async def test_a_queue_has_a_budget_of_its_own(open_queue: OpenQueue, clock: Clock) -> None:
    budgets = Budgets(frozenset({"claude"}), {"usd": usd(2)}, {"usd": usd(50)}, {"research": {"usd": usd(3)}})
    desk = Desk(open_queue(budgets=budgets), clock)
    for _ in range(2):
        await desk.create(queue="research")
    other = await desk.create()
    await desk.complete(await take(desk, 1), **spending(cost_usd=2))
    assert (await take(desk, 2)).task.id == other.id
    held = await desk.task(2)
    assert "The budget of queue 'research' for the day is used up" in (held.question or "")
    await desk.decide(held, "approve")
    assert (await take(desk, 3)).task.id == 2


async def test_a_schedule_has_a_budget_for_each_run_and_for_each_day(shop: Desk) -> None:
    await shop.plan(
        "hourly", "0 * * * *", timezone="UTC", title="Look", overlap="allow",
        options={"budget_usd": 1, "budget_usd_per_day": 2.5},
    )  # fmt: skip
    handed = []
    for number in range(4):
        await shop.pass_time(HOUR)
        claim = await claim_for(shop, number)
        handed.append(claim is not None)
        if claim is not None:
            await shop.complete(claim, **spending(cost_usd=1))
    assert handed == [True, True, False, False]
    assert await day(shop) == (2, 0)
    statuses = [task.status for task in (await shop.page()).tasks if task.status is not Status.COMPLETED]
    assert statuses.count(Status.WAITING) == 1
    of_schedule = [each for each in await shop.queue.list_budgets(OWNER) if each.scope == "schedule"]
    assert [(each.name, each.spent) for each in of_schedule] == [("hourly", usd(2))]
    await shop.queue.raise_budget(OWNER, "schedule", "hourly", 1)
    assert await claim_for(shop, 9) is not None


async def test_the_budget_of_a_day_belongs_to_a_schedule_and_not_to_a_task(shop: Desk) -> None:
    with pytest.raises(InvalidInput, match=r"give it to schedule_task"):
        await shop.create(options={"budget_usd_per_day": 5})
    for wrong in (0, -1, "much", 1e9):
        with pytest.raises(InvalidInput, match=r"budget_turns: must be an amount above 0"):
            await shop.create(options={"budget_turns": wrong})


async def test_turns_and_minutes_are_budgets_too(open_queue: OpenQueue, clock: Clock) -> None:
    budgets = Budgets(frozenset({"claude"}), {"turns": usd(10)}, {"turns": usd(25), "minutes": usd(60)})
    desk = Desk(open_queue(budgets=budgets), clock)
    await desk.create(options={"budget_minutes": 30})
    claim = await take(desk)
    await desk.update(claim, usage={"turns": 4})
    clock.advance(600)
    await desk.complete(claim, usage={"turns": 6})
    found = {account.unit: account for account in (await desk.detail(claim)).budgets}
    assert (found["turns"].spent, found["minutes"].spent) == (usd(6), usd(10))
    await desk.create()
    settled = await desk.update(await take(desk, 2), usage={"turns": 10})
    assert "of 10 turns, 10 turns are spent" in (settled.task.question or "")


async def test_a_default_of_nothing_asks_for_nothing(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(), clock)
    await desk.create()
    await desk.complete(await take(desk), **spending(cost_usd=1_000))
    assert await desk.rows("SELECT count(*) FROM spending") == [(0,)]


# --- by hand


async def test_a_ceiling_of_the_settings_can_be_raised_before_anything_is_spent(shop: Desk) -> None:
    assert (await shop.queue.raise_budget(OWNER, "day", "", 10)).allowed == usd(15)
    await shop.create(options={"budget_usd": 12})
    await take(shop)


async def test_the_owner_raises_a_ceiling_by_hand(shop: Desk) -> None:
    await use_up_the_day(shop)
    task = await shop.create()
    assert await claim_for(shop) is None
    account = await shop.queue.raise_budget(OWNER, "day", "", 10)
    assert account.allowed == usd(15)
    assert (await take(shop, 2)).task.id == task.id
    with pytest.raises(Forbidden):
        await shop.queue.raise_budget(GEMINI, "day", "", 10)
    with pytest.raises(NotFound, match=r"nothing has been spent"):
        await shop.queue.raise_budget(OWNER, "queue", "other", 10)
    for scope, amount, unit in (("year", 1, "usd"), ("day", 1, "euro"), ("day", -1, "usd"), ("day", 0, "usd")):
        with pytest.raises(InvalidInput):
            await shop.queue.raise_budget(OWNER, scope, "", amount, unit)


async def test_a_raise_by_hand_frees_the_task_that_asked(shop: Desk) -> None:
    await use_up_the_day(shop)
    tasks = [await shop.create(), await shop.create()]
    assert await claim_for(shop) is None
    await shop.queue.raise_budget(OWNER, "day", "", 10)
    handed = {(await take(shop, number)).task.id for number in (2, 3)}
    assert handed == {task.id for task in tasks}


async def test_accounts_go_with_what_they_were_for(shop: Desk) -> None:
    await shop.create()
    await shop.complete(await take(shop), **spending(cost_usd=1, account="acme"))
    assert await shop.rows("SELECT scope FROM spending ORDER BY scope") == [("day",), ("task",)]
    await shop.pass_time(31 * 24 * HOUR)
    await shop.queue.keep_house()
    assert await shop.rows("SELECT scope FROM spending") == [("day",)]
    assert await shop.rows("SELECT account FROM worker_accounts") == [("acme",)]
    await shop.pass_time(366 * 24 * HOUR)
    await shop.queue.keep_house()
    assert await shop.rows("SELECT scope FROM spending") == []
    assert await shop.rows("SELECT account FROM worker_accounts") == []


async def test_many_tasks_that_cannot_be_paid_for_hold_up_no_claim(shop: Desk) -> None:
    await use_up_the_day(shop)
    for _ in range(120):
        await shop.create()
    free = await shop.create(options={"budget_usd": 0.5})
    claim = await shop.queue.claim(CLAUDE, ClaimRequest(worker="w", task_types=("executor:claude",), claim_id="c"))
    assert claim is not None
    assert claim.task.id == free.id
