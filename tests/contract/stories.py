"""What may follow what in a task's events, and random lives to hold against it."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

from taskqueue_mcp.errors import TaskQueueError
from tests.contract.desk import CLAUDE, CODEX, Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskqueue_mcp.model import Event
    from taskqueue_mcp.taskqueue import Claim

UNDER_WAY = (
    "completed failed retry released snoozed quota asked lease_lost cancelled progress redelivered approval_asked"
)
BACK = "ready queued blocked cancelled hastened"
FOLLOWS = {
    before: frozenset(after.split())
    for before, after in {
        "created": "claimed ready queued blocked unblocked approved rejected cancelled hastened failed rescheduled",
        "rescheduled": "ready queued cancelled rescheduled hastened approval_asked",
        "ready": "claimed cancelled approval_asked",
        "queued": "ready cancelled approval_asked",
        "blocked": "unblocked failed cancelled approval_asked",
        "unblocked": "ready queued cancelled hastened",
        "approval_asked": "approved rejected cancelled failed approval_asked",
        "approved": "ready queued blocked cancelled hastened failed",
        "hastened": "ready queued blocked failed",
        "claimed": UNDER_WAY,
        "progress": UNDER_WAY,
        "redelivered": UNDER_WAY,
        "retry": BACK,
        "released": BACK,
        "snoozed": BACK,
        "quota": BACK,
        "lease_lost": f"{BACK} reopened answered rejected",  # the last attempt, or the last hand-back, may be over
        "asked": "answered rejected cancelled",
        "answered": BACK,
        "failed": "reopened",
        "cancelled": "reopened",
        "rejected": "reopened",
        "reopened": "ready queued blocked approval_asked",
        "completed": "",
    }.items()
}


def illegal_step(events: Sequence[Event]) -> tuple[str, str] | None:
    """The first two events of a task that may not follow one another."""
    if events[0].kind != "created":
        return ("nothing", events[0].kind)
    for before, after in pairwise(events):
        if after.kind not in FOLLOWS[before.kind]:
            return (before.kind, after.kind)
        if after.kind == "claimed" and after.attempt != 1 + (before.attempt or 0):
            return (f"attempt {before.attempt}", f"attempt {after.attempt}")
    return None


async def tell(desk: Desk, seed: int, steps: int) -> list[int]:
    """Live through a random story; refusals are part of it. Return the ids of its tasks."""
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    tasks: list[int] = []
    claims: list[Claim] = []
    for _ in range(steps):
        try:
            await _step(desk, chance, tasks, claims)
        except TaskQueueError:
            continue
    return tasks


async def _step(desk: Desk, chance: random.Random, tasks: list[int], claims: list[Claim]) -> None:
    what = chance.choice(
        ["create", "create", "claim", "claim", "claim", "settle", "settle", "update", "decide", "cancel", "time"]
    )
    if what == "create" or not tasks:
        task = await desk.create(
            run_at=chance.choice([None, None, "in 1 minute"]),
            depends_on=tuple(chance.sample(tasks, min(len(tasks), chance.choice([0, 0, 1, 2])))),
            requires_approval=chance.random() < 0.2,
            options={
                "serial_key": chance.choice([None, None, "till"]),
                "max_attempts": chance.choice([1, 2, 3]),
                "on_dependency_failure": chance.choice(["fail", "run"]),
            },
        )
        tasks.append(task.id)
    elif what == "claim":
        claim = await desk.claim(worker=chance.choice([None, "w1"]), by=chance.choice([CLAUDE, CODEX]))
        if claim is not None:
            claims.append(claim)
    elif what == "settle" and claims:
        claim = claims.pop(chance.randrange(len(claims)))
        by = CLAUDE if claim.task.lease_principal == "claude" else CODEX
        if chance.random() < 0.4:
            await desk.complete(claim, by=by)
        else:
            await desk.fail(claim, kind=chance.choice(["error", "permanent", "quota", "snooze", "release"]), by=by)
    elif what == "update" and claims:
        claim = chance.choice(claims)
        by = CLAUDE if claim.task.lease_principal == "claude" else CODEX
        await desk.update(claim, progress=chance.choice([None, 5]), question=chance.choice([None, None, "Hm?"]), by=by)
    elif what == "decide":
        action = chance.choice(["approve", "reject", "answer", "retry", "run_now"])
        await desk.decide(chance.choice(tasks), action, "Go on.")
    elif what == "cancel" and chance.random() < 0.3:
        await desk.cancel(chance.choice(tasks))
    elif what == "time":
        await desk.pass_time(chance.choice([1, 61, 901, 4_000, -30]))
