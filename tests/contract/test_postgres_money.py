"""Money and gates on PostgreSQL: each test holds a work just before its commit and lets another one come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.budgets import ONE, Budgets
from taskqueue_mcp.model import Status
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, answering, claiming, settling
from tests.contract.desk import CLAUDE, CODEX, OWNER, Desk
from tests.contract.interleaving import while_uncommitted

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from taskqueue_mcp.store import Database
    from tests.clock import Clock
    from tests.conftest import OpenQueue

pytestmark = pytest.mark.engines("postgres")

BUDGETS = Budgets(frozenset({"claude"}), {"usd": 2 * ONE}, {"usd": 3 * ONE})


@pytest.fixture
def shop(open_queue: OpenQueue, clock: Clock) -> Desk:
    """A queue with 2 USD a task and 3 USD a day."""
    return Desk(open_queue(budgets=BUDGETS), clock)


def claim_of(shop: Desk, name: str, by: Any = CODEX) -> Callable[..., Any]:
    request = ClaimRequest(worker=name, task_types=("executor:claude",), claim_id=name)
    return partial(claiming.claim, rules=shop.queue.rules, caller=by, request=request)


async def take(shop: Desk, name: str) -> Any:
    return await shop.claim(worker=name, task_types=["executor:claude"], claim_id=name)


async def day(shop: Desk) -> tuple[float, float]:
    (account,) = await shop.queue.list_budgets(OWNER)
    return account.spent / ONE, account.reserved / ONE


async def test_two_claims_at_once_do_not_both_get_the_last_money(
    shop: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await shop.create()
    await shop.complete(await take(shop, "before"), usage={"cost_usd": 0})  # so that the account is there
    await shop.create()
    await shop.create()
    second = await while_uncommitted(wire, rival, claim_of(shop, "first"), lambda: take(shop, "second"))
    assert second.answer() is None
    assert await day(shop) == (0, 2)
    assert (await shop.task(3)).status is Status.PENDING


async def test_a_claim_that_waits_for_the_end_of_an_attempt_gets_what_that_gives_back(
    shop: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await shop.create()
    claim = await take(shop, "first")
    await shop.create()
    completion = Completion(claim.lease, usage={"cost_usd": 0.5})
    work = partial(settling.complete, rules=shop.queue.rules, caller=CLAUDE, completion=completion)
    second = await while_uncommitted(wire, rival, work, lambda: take(shop, "second"))
    assert second.answer() is not None
    assert await day(shop) == (0.5, 2)


async def test_a_task_that_is_completed_twice_at_once_is_paid_for_once(
    shop: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await shop.create()
    claim = await take(shop, "first")
    completion = Completion(claim.lease, usage={"cost_usd": 1.25})
    work = partial(settling.complete, rules=shop.queue.rules, caller=CLAUDE, completion=completion)
    again = await while_uncommitted(wire, rival, work, lambda: shop.queue.complete(CLAUDE, completion))
    assert again.answer().repeated
    assert await day(shop) == (1.25, 0)


async def test_a_claim_that_meets_the_answer_to_a_question_about_money_has_the_raised_ceiling(
    shop: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await shop.create()
    await shop.complete(await take(shop, "first"), usage={"cost_usd": 2})
    asked, other = await shop.create(), await shop.create()
    assert await take(shop, "second") is None
    work = partial(answering.answer, rules=shop.queue.rules, caller=OWNER, task_id=asked.id, action="answer", text="+1")
    await while_uncommitted(wire, rival, work, lambda: take(shop, "third"))
    assert (await take(shop, "fourth") or await take(shop, "third")).task.id == asked.id
    assert await day(shop) == (2, 2)
    assert (await shop.task(other)).status is not Status.IN_PROGRESS


async def test_of_two_that_come_when_a_limit_is_over_one_tries(
    desk: Desk, rival: Database, wire: psycopg.Connection[Any]
) -> None:
    await desk.create()
    limited = await take(desk, "first")
    await desk.fail(limited, "used up", "quota", resume_at="10m", usage={"account": "acme"})
    await desk.create()
    await desk.pass_time(700)
    assert len(await desk.ready()) == 2
    second = await while_uncommitted(wire, rival, claim_of(desk, "probe", CLAUDE), lambda: take(desk, "second"))
    assert second.answer() is None
    assert [task.status for task in (await desk.page()).tasks].count(Status.IN_PROGRESS) == 1


async def test_two_attempts_that_meet_a_limit_at_once_close_one_gate(
    shop: Desk, rival: Database, wire: psycopg.Connection[Any], open_queue: OpenQueue
) -> None:
    generous = Desk(open_queue(), shop.clock)
    claims = [await generous.start(), await generous.start()]
    shop.clock.advance(1)
    failures = [settling.Failure(claim.lease, "used up", "quota", "10m", usage={"account": "acme"}) for claim in claims]
    work = partial(settling.fail, rules=generous.queue.rules, caller=CLAUDE, failure=failures[0])
    other = await while_uncommitted(wire, rival, work, lambda: generous.queue.fail(CLAUDE, failures[1]))
    other.answer()
    (gate,) = await generous.queue.list_gates(OWNER)
    assert gate.waits == 1
