"""Whatever happens in whatever order: every cent is accounted for, and nothing is spent that was not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.budgets import ONE, Budgets
from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.model import Status
from tests.contract.desk import OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock
    from tests.conftest import OpenQueue, Size

BUDGETS = Budgets(
    executors=frozenset({"claude"}),
    task={"usd": 2 * ONE, "turns": 20 * ONE},
    day={"usd": 9 * ONE},
    queues={"research": {"usd": 4 * ONE, "turns": 60 * ONE}},
)
QUEUES = ("default", "research")
CEILINGS: tuple[dict[str, Any], ...] = ({}, {}, {"budget_usd": 0.5}, {"budget_usd": 3}, {"budget_turns": 5})
ACCOUNTS = ("acme", "other")
ENDS = ("complete", "complete", "update", "error", "permanent", "quota", "release", "question", "none")
OVERSPENT = 3 * ONE
"""What one attempt may report beyond what was set aside for it."""


async def balanced(desk: Desk) -> None:
    """What is set aside in each account is what its tasks have, and no account was asked for more than it may give."""
    aside: dict[str, int] = {}
    open_tasks = {row[0] for row in await desk.rows("SELECT id FROM tasks WHERE finished_at IS NULL")}
    for task_id, amount, accounts in await desk.rows("SELECT task_id, amount, accounts FROM reservations"):
        assert task_id in open_tasks, "nothing is set aside for what is over"
        for key in json.loads(accounts):
            aside[key] = aside.get(key, 0) + amount
    accounts = await desk.rows("SELECT account, ceiling, raised, reserved, spent FROM spending")
    for key, ceiling, raised, reserved, spent in accounts:
        assert reserved == aside.get(key, 0), key
        if reserved and not key.startswith("task:"):  # an attempt may report more than it was to spend, no more
            assert reserved + spent <= ceiling + raised + OVERSPENT * len(open_tasks), key
    held = await desk.rows("SELECT task_id FROM unpaid")
    assert {row[0] for row in held} <= open_tasks, "what is over waits for no money"


async def one_step(desk: Desk, chance: random.Random, claims: list[Any]) -> None:
    """Something that somebody does, which may be refused."""
    step = chance.random()
    if step < 0.2:
        await desk.create(queue=chance.choice(QUEUES), options=chance.choice(CEILINGS))
    elif step < 0.5:
        for_us: dict[str, Any] = {"task_types": ["executor:claude"]} if chance.random() < 0.8 else {}
        worker, claim_id = f"w{chance.randrange(4)}", f"{chance.getrandbits(64):x}"
        claims += [claim for claim in [await desk.claim(worker=worker, claim_id=claim_id, **for_us)] if claim]
    elif step < 0.6:
        await desk.pass_time(chance.choice([1, 61, 700, 1_000, 7_200, 43_200]))
    elif step < 0.7:
        await decide(desk, chance)
    elif claims:
        await end(desk, chance, claims)


async def decide(desk: Desk, chance: random.Random) -> None:
    """Say something about a task that is not completed."""
    found = [task for task in (await desk.page()).tasks if task.status is not Status.COMPLETED]
    if not found:
        return
    task, action = chance.choice(found), chance.choice(["answer", "approve", "run_now", "retry", "cancel"])
    if action == "cancel":
        await desk.cancel(task)
    else:
        await desk.decide(task, action, chance.choice(["continue with +1", "continue", "stop", "+0.5"]))


async def end(desk: Desk, chance: random.Random, claims: list[Any]) -> None:
    """Let an attempt end, or say what it has used so far."""
    claim = claims.pop(chance.randrange(len(claims)))
    usage: dict[str, Any] = {"cost_usd": round(chance.uniform(0, 2.5), 6), "turns": chance.randrange(9)}
    if chance.random() < 0.5:
        usage["account"] = chance.choice(ACCOUNTS)
    match chance.choice(ENDS):
        case "complete":
            await desk.complete(claim, usage=usage)
            await desk.complete(claim, usage=usage)
        case "update":
            await desk.update(claim, usage=usage)
            claims.append(claim)
        case "question":
            await desk.update(claim, question="How?", usage=usage)
        case "none":
            await desk.update(claim, progress=1)
        case kind:
            await desk.fail(claim, "x", kind, usage=usage)


async def test_any_history_leaves_the_accounts_balanced(
    open_queue: OpenQueue, clock: Clock, seed: int, size: Size
) -> None:
    desk = Desk(open_queue(budgets=BUDGETS, zone="Europe/Berlin"), clock)
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    claims: list[Any] = []
    for _ in range(size(300, 5_000)):
        with contextlib.suppress(TaskQueueError):
            await one_step(desk, chance, claims)
        await balanced(desk)
    await desk.queue.raise_budget(OWNER, "day", "", 1_000)
    for (task_id,) in await desk.rows("SELECT id FROM tasks WHERE finished_at IS NULL"):
        await desk.cancel(task_id)
    assert await desk.rows("SELECT task_id FROM reservations") == []
    assert await desk.rows("SELECT account FROM spending WHERE reserved <> 0") == []


async def test_many_at_once_leave_every_cent_accounted_for(open_queue: OpenQueue, clock: Clock, seed: int) -> None:
    plenty = Budgets(frozenset({"claude"}), {"usd": 2 * ONE}, {"usd": 20 * ONE})
    desks = [Desk(open_queue(budgets=plenty), clock) for _ in range(3)]
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    costs = {number: chance.randrange(1, 2_000_000) for number in range(48)}
    for _ in costs:
        await desks[0].create()
    spent = 0

    async def work(number: int) -> None:
        nonlocal spent
        desk = desks[number % 3]
        claim = await desk.claim(worker=f"w{number}", task_types=["executor:claude"], claim_id=f"c{number}")
        if claim is None:
            return
        await desk.complete(claim, usage={"cost_usd": costs[number] / ONE})
        await desk.complete(claim, usage={"cost_usd": costs[number] / ONE})
        spent += costs[number]

    await asyncio.gather(*(work(number) for number in costs))
    (day,) = await desks[0].queue.list_budgets(OWNER)
    assert (day.spent, day.reserved) == (spent, 0)
    assert 0 < spent <= 20 * ONE
    await balanced(desks[0])
