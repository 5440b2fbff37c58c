"""Handing a task out: at most one valid lease, and a lost answer costs neither the task nor a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from taskqueue_mcp import budgets, checks, leases
from taskqueue_mcp.budgets import Shortage
from taskqueue_mcp.errors import InvalidInput, WrongStatus
from taskqueue_mcp.model import Attempt, Body, Status, Task
from taskqueue_mcp.store import attempts, events, schedules, tasks
from taskqueue_mcp.store.tasks import Taking
from taskqueue_mcp.taskqueue import accounting, approving, gating, moving, paying, pinning, promoting
from taskqueue_mcp.taskqueue.pinning import FollowedProcedure

if TYPE_CHECKING:
    from taskqueue_mcp.budgets import Amounts
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.store.attempts import Question
    from taskqueue_mcp.taskqueue.gating import Door
    from taskqueue_mcp.taskqueue.rules import Rules

UNREADABLE = "it could not be read when this attempt began"
EXECUTOR = "executor:"
"""A `task_types` entry with this prefix names an executor instead of a type."""
MOST_HELD = 50
"""How many tasks one transaction passes by that have to be approved first, or cannot be paid for."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """The arguments of `claim_task` but for the waiting."""

    worker: str | None = None
    task_id: str | int | None = None
    queues: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    lease_seconds: int | None = None
    claim_id: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """What a task that this one depends on came to."""

    task: Task
    result_data: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A task that was ready and waits after all, for a person or for money; `why` is for who asked for it by its id."""

    task: Task
    why: str = ""


class More(Enum):
    """Some tasks were held and there may be others: claim again."""

    MORE = "more"


MORE = More.MORE


@dataclass(frozen=True, slots=True)
class Claim:
    """A task handed out, with everything its worker needs."""

    task: Task
    body: Body
    lease: str
    zone: str
    redelivered: bool = False
    procedure: FollowedProcedure | None = None
    earlier: tuple[Attempt, ...] = field(default=())
    inputs: tuple[Input, ...] = field(default=())
    questions: tuple[Question, ...] = field(default=())
    budget: Amounts = field(default_factory=dict)
    """What is set aside for this attempt, in each unit that it has a ceiling in."""


def claim(transaction: Transaction, rules: Rules, caller: Caller, request: ClaimRequest) -> Claim | Held | More | None:
    """Hand out the first ready task that fits, or None; time is made to pass first.

    Tasks that have to wait after all are put aside; after many of them it is `MORE`: claim again, in a transaction of
    its own. When the task that was asked for by its id is one of them, that is the answer.

    Raises:
        InvalidInput: an argument is not what it must be.
        WrongStatus: the task that was asked for by its id cannot be claimed now.
    """
    taking = _taking(rules, caller, request)
    promoting.promote_once(transaction, rules)
    again = _again(transaction, rules, caller, request)
    if again is not None:
        return again
    door = gating.door(transaction, caller.name, taking.worker)
    narrowed = gating.narrowed(taking, door)
    if narrowed is None:
        return None
    for _ in range(MOST_HELD):
        took = _take(transaction, rules, caller, request, narrowed, door)
        if not isinstance(took, Held):
            return took
        if taking.task_id is not None:
            return took if took.why else None
    return MORE


def _take(
    transaction: Transaction, rules: Rules, caller: Caller, request: ClaimRequest, taking: Taking, door: Door
) -> Claim | Held | None:
    """Hand out the first ready task that fits, or let it wait for the money or the approval that it needs."""
    salt = leases.new_salt()
    secret = leases.new_secret(taking.claim_id, salt)
    lease_hash = leases.digest(secret)
    task = tasks.take(transaction, taking, lease_hash)
    if task is None:
        again = None if taking.claim_id is None else _again(transaction, rules, caller, request)
        if again is not None or taking.task_id is None:
            return again
        found = moving.locked(transaction, taking.task_id)  # others may just have made it ready
        task = tasks.take(transaction, taking, lease_hash)
        if task is None:
            raise _not_claimable(found, gating.why_closed(transaction, found, door))
    body, depends, approval, is_used_up = tasks.fetch_order(transaction, task.id, accounting.today(transaction, rules))
    is_ours = bool(taking.executors)
    budget = accounting.reserve(transaction, rules, task, body, by_executor=is_ours, is_used_up=is_used_up)
    if isinstance(budget, Shortage):
        why = f"T-{task.id} cannot be paid for now: {budgets.question(budget, f'T-{task.id}')}"
        return Held(paying.hold(transaction, rules, task, budget), why)
    gating.passed(transaction, rules, door, task)
    procedure = pinning.pin(rules, body)
    pinned = None
    if procedure is not None and procedure.sha256 is not None and procedure.text is not None:
        pinned = (procedure.path, procedure.sha256, procedure.text)
    attempts.begin(transaction, task, salt, lease_hash, pinned)
    events.record(transaction, task, "claimed", caller.name, {"worker": task.worker} if task.worker else None)
    if task.schedule_id is not None:
        schedules.unwatch(transaction, task.id)
    asked = approving.pending(transaction, rules, task, body, approval, procedure)
    if asked is not None:
        return Held(approving.ask(transaction, task, asked, "what would run was not approved"))
    lease = leases.write(task.id, task.attempt, secret)
    inputs = _inputs(transaction, task) if depends else ()
    return _handed(transaction, rules, task, body, lease, procedure, inputs, budget, redelivered=False)


def _taking(rules: Rules, caller: Caller, request: ClaimRequest) -> Taking:
    longest = rules.limits.longest_lease_seconds
    lease_seconds = rules.lease_seconds if request.lease_seconds is None else request.lease_seconds
    if not 1 <= lease_seconds <= longest:
        raise InvalidInput(f"lease_seconds: must be from 1 to {longest:,}")
    types = tuple(item for item in request.task_types if not item.startswith(EXECUTOR))
    executors = tuple(item.removeprefix(EXECUTOR) for item in request.task_types if item.startswith(EXECUTOR))
    if types and executors:
        raise InvalidInput("task_types: name either types or executors (executor:shell), not both")
    return Taking(
        principal=caller.name,
        worker=None if request.worker is None else checks.label("worker", request.worker, 100),
        queues=tuple(checks.name("queues", item) for item in request.queues),
        types=tuple(checks.name("task_types", item) for item in types),
        executors=tuple(checks.name("task_types", item) for item in executors),
        task_id=None if request.task_id is None else checks.task_id(request.task_id),
        lease_seconds=lease_seconds,
        first_seconds=lease_seconds if request.claim_id is None else min(rules.first_lease_seconds, lease_seconds),
        claim_id=None if request.claim_id is None else checks.label("claim_id", request.claim_id),
    )


def _again(transaction: Transaction, rules: Rules, caller: Caller, request: ClaimRequest) -> Claim | None:
    """Return what this caller was handed before and may not have received."""
    if request.claim_id is not None:
        task = tasks.by_claim(transaction, caller.name, request.claim_id)
        return None if task is None else _repeat(transaction, rules, task)
    if request.worker is None:
        return None
    task = tasks.untouched(transaction, caller.name, request.worker, rules.redeliver_seconds)
    if task is None or (request.task_id is not None and checks.task_id(request.task_id) != task.id):
        return None
    return _redeliver(transaction, rules, task)


def _repeat(transaction: Transaction, rules: Rules, task: Task) -> Claim:
    """Return the same lease again: it follows from the claim id and the attempt's salt."""
    proof = attempts.proof(transaction, task.id, task.attempt)
    assert proof is not None  # noqa: S101 - every task in progress has its attempt
    lease = leases.write(task.id, task.attempt, leases.new_secret(proof.claim_id, proof.salt))
    return _hand_out_again(transaction, rules, task, lease)


def _redeliver(transaction: Transaction, rules: Rules, task: Task) -> Claim | None:
    """Give the untouched attempt a new lease; the one that was lost is not valid any more."""
    secret = leases.new_secret(None, "")
    after = tasks.readdress(transaction, task, leases.digest(secret), task.lease_seconds)
    if after is None:
        return None
    attempts.new_lease(transaction, task.id, task.attempt, leases.digest(secret))
    events.record(transaction, after, "redelivered", after.lease_principal or events.SYSTEM)
    return _hand_out_again(transaction, rules, after, leases.write(task.id, task.attempt, secret))


def _hand_out_again(transaction: Transaction, rules: Rules, task: Task, lease: str) -> Claim:
    body = tasks.fetch_body(transaction, task.id)
    current = attempts.of_task(transaction, task.id)[-1]
    procedure = None if body.sop is None else FollowedProcedure(body.sop, fault=UNREADABLE)
    if current.procedure_hash is not None:
        kept = attempts.procedure_text(transaction, current.procedure_hash)
        if kept is not None:
            procedure = FollowedProcedure(kept[0], current.procedure_hash, kept[1])
    budget = accounting.set_aside_for(transaction, task)
    inputs = _inputs(transaction, task)
    return _handed(transaction, rules, task, body, lease, procedure, inputs, budget, redelivered=True)


def _handed(
    transaction: Transaction, rules: Rules, task: Task, body: Body, lease: str, procedure: FollowedProcedure | None,
    inputs: tuple[Input, ...], budget: Amounts, *, redelivered: bool,
) -> Claim:  # fmt: skip
    schedule = None if task.schedule_id is None else schedules.by_id(transaction, task.schedule_id)
    zone = rules.zone if schedule is None else schedule.timezone
    earlier = attempts.of_task(transaction, task.id)[:-1] if task.attempt > 1 else []
    asked = attempts.questions(transaction, task.id) if task.attempt > 1 else []
    return Claim(task, body, lease, zone, redelivered, procedure, tuple(earlier), inputs, tuple(asked), budget)


def _inputs(transaction: Transaction, task: Task) -> tuple[Input, ...]:
    return tuple(
        Input(moving.fetch(transaction, other), attempts.last_result(transaction, other))
        for other in tasks.depends_on(transaction, task.id)
    )


def _not_claimable(task: Task, why_closed: str | None) -> WrongStatus:
    if task.status is Status.READY and why_closed is not None:
        return WrongStatus(why_closed, status="gated")
    reason = f" ({task.reason})" if task.reason else ""
    if task.status is Status.READY:
        return WrongStatus(
            f"T-{task.id} is in queue {task.queue!r}, which is paused; resume the queue or claim another task",
            status="paused",
        )
    held = f", held by {task.worker or task.lease_principal}" if task.status is Status.IN_PROGRESS else ""
    return WrongStatus(
        f"T-{task.id} is {task.status}{reason}{held} and cannot be claimed; list_ready shows what can",
        status=task.status.value,
    )
