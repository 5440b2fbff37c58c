"""New tasks: merged, checked, bounded, stored once however often the call is repeated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import checks, lifecycle
from taskqueue_mcp.errors import Conflict, Forbidden, InvalidInput, LimitReached
from taskqueue_mcp.model import FINAL, Reason, Status, Task
from taskqueue_mcp.store import attempts, events, queues, tasks
from taskqueue_mcp.taskqueue import approving, holding, merging, pinning, rights

if TYPE_CHECKING:
    from taskqueue_mcp.model import Body, Caller, Schedule
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.approving import Asked
    from taskqueue_mcp.taskqueue.merging import Merged, Wanted
    from taskqueue_mcp.taskqueue.rules import Rules


@dataclass(frozen=True, slots=True)
class NewTask:
    """The arguments of `create_task`."""

    wanted: Wanted
    run_at: str | None = None
    depends_on: tuple[str | int, ...] = ()
    idempotency_key: str | None = None
    requires_approval: bool = False
    requested_by: str | None = None
    lease: str | None = None

    def digest(self) -> str:
        """Return a hash of the supplied arguments; the key and the lease are not part of what is asked for."""
        supplied: dict[str, Any] = {
            **self.wanted.given(),
            "run_at": self.run_at,
            "depends_on": [str(item) for item in self.depends_on],
            "requires_approval": self.requires_approval,
            "requested_by": self.requested_by,
        }
        return hashlib.sha256(json.dumps(supplied, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Created:
    """A task, and whether this call made it; `notes` are what its creator should know."""

    task: Task
    created: bool
    notes: tuple[str, ...] = field(default=())


def create(
    transaction: Transaction, rules: Rules, caller: Caller, new: NewTask, schedule: Schedule | None = None
) -> Created:
    """Store a task, or return the one that the same key made before.

    Raises:
        InvalidInput: an argument is not what it must be.
        Conflict: the key was used for a task with other arguments.
        LimitReached: a limit bounds the damage.
        LeaseLost: the lease it is created under is not valid.
    """
    before = made_before(transaction, caller, new)
    if before is not None:
        return before
    merged = merging.merge(transaction, rules, new.wanted, new.requested_by)
    if schedule is None and merged.body.budget is not None and "per_day" in merged.body.budget:
        raise InvalidInput(
            "options: a budget per day is that of a schedule; give it to schedule_task, or this task its budget_usd"
        )
    now = transaction.now
    run_at = now if new.run_at is None else checks.instant("run_at", new.run_at, rules.zone, now)
    depends_on, blockers = _dependencies(transaction, rules, new, merged)
    parent = None if new.lease is None else holding.held(transaction, caller, new.lease).task
    rights.check(transaction, rules, caller, new.wanted, merged, parent)
    ancestry = _ancestry(transaction, rules, parent)
    origin = rights.origin(transaction, caller, new.requested_by, parent, depends_on, schedule)
    body = origin.stamp(merged.body)
    approval, asked = _approval(rules, caller, new, merged, body, depends_on, schedule)
    _enter(transaction, merged.queue, rules.limits.open_tasks_per_queue, inner=new.lease is not None)
    status, reason = lifecycle.place(run_at=run_at, now=now, blockers=blockers, needs_approval=asked is not None)
    if status is Status.READY and merged.serial_key and tasks.line_is_busy(transaction, merged.serial_key):
        status, reason = Status.PENDING, Reason.SERIAL
    task = tasks.insert(
        transaction,
        {
            **merged.row(),
            **ancestry,
            "status": status.value,
            "reason": None if reason is None else reason.value,
            "run_at": run_at,
            "sort_at": lifecycle.sort_at(run_at, merged.priority),
            "blockers": blockers,
            "schedule_id": None if schedule is None else schedule.id,
            "due_at": None,
            "created_by": caller.name,
            "idempotency_key": new.idempotency_key,
            "request_hash": None if new.idempotency_key is None else new.digest(),
            "question": None if asked is None else asked.question,
        },
        body,
        depends_on,
        approval,
    )
    told = {"status": status.value}
    if asked is not None:
        attempts.ask(transaction, task, "approval", asked.question, asked.digest)
        told["approves"] = asked.digest
    events.record(transaction, task, "created", caller.name, told)
    if status is Status.READY:
        transaction.signal("queue", task.queue)
    return Created(task, created=True, notes=merging.doubts(rules, merged))


def made_before(transaction: Transaction, caller: Caller, new: NewTask) -> Created | None:
    """Return the task that the same key made before.

    Raises:
        Conflict: it was made from other arguments.
    """
    if new.idempotency_key is None:
        return None
    checks.label("idempotency_key", new.idempotency_key)
    before = tasks.by_key(transaction, caller.name, new.idempotency_key)
    return None if before is None else _again(new, *before)


def _again(new: NewTask, request_hash: str, task: Task) -> Created:
    if request_hash != new.digest():
        raise Conflict(
            f"idempotency_key {new.idempotency_key!r} was used for T-{task.id} with other arguments, which stands; "
            "use a new key for a new task",
            task=f"T-{task.id}",
        )
    return Created(task, created=False)


def _dependencies(transaction: Transaction, rules: Rules, new: NewTask, merged: Merged) -> tuple[tuple[int, ...], int]:
    wanted = tuple(dict.fromkeys(checks.task_id(item, "depends_on") for item in new.depends_on))
    if not wanted:
        return (), 0
    if len(wanted) > rules.limits.dependencies:
        raise LimitReached(f"depends_on: {len(wanted)} tasks; at most {rules.limits.dependencies} are allowed")
    found = tasks.statuses(transaction, wanted)
    missing = [f"T-{task_id}" for task_id in wanted if task_id not in found]
    if missing:
        raise InvalidInput(
            f"depends_on: there is no task {', '.join(missing)}; a task can depend only on tasks that exist already "
            "(so on neither itself nor in a circle)"
        )
    dead = [f"T-{task_id}" for task_id in wanted if found[task_id] in {Status.FAILED, Status.CANCELLED}]
    if dead and merged.body.on_dependency_failure == "fail":
        raise InvalidInput(
            f"depends_on: {', '.join(dead)} did not complete; retry it first, "
            'or create with options {"on_dependency_failure": "run"}'
        )
    open_ = [task_id for task_id in wanted if found[task_id] not in FINAL]
    return wanted, len(open_)


def _approval(
    rules: Rules, caller: Caller, new: NewTask, merged: Merged, body: Body, depends_on: tuple[int, ...],
    schedule: Schedule | None,
) -> tuple[str | None, Asked | None]:  # fmt: skip
    """Return the approval that a new task has or needs, and what a person is asked first."""
    needed = approving.is_needed(rules, merged.executor, merged.task_type, body, wanted=new.requires_approval)
    if not needed:
        return None, None
    asked = approving.ask_about(
        merged.title, merged.executor, caller.name, body, pinning.pin(rules, body), depends_on,
        of_schedule=schedule is not None,
    )  # fmt: skip
    if schedule is not None and schedule.approved == asked.digest:
        return asked.digest, None
    return approving.NEEDED, asked


def _ancestry(transaction: Transaction, rules: Rules, parent: Task | None) -> dict[str, Any]:
    if parent is None:
        return {"parent_id": None, "root_id": None, "depth": 0}
    limits = rules.limits
    depth = parent.depth + 1
    root_id = parent.root_id or parent.id
    if depth > limits.depth:
        raise LimitReached(
            f"T-{parent.id} is {parent.depth} levels below its root and {limits.depth} are allowed; do it yourself"
        )
    if not tasks.one_more_child(transaction, parent.id, limits.children):
        raise LimitReached(
            f"T-{parent.id} has {limits.children} children, the most allowed; put the rest into one task"
        )
    counted = tasks.one_more_descendant(transaction, root_id, limits.tasks_per_root)
    if not counted and tasks.fetch(transaction, root_id) is not None:  # a root is not kept for ever
        raise LimitReached(f"T-{root_id} has {limits.tasks_per_root} tasks below it, the most allowed")
    return {"parent_id": parent.id, "root_id": root_id, "depth": depth}


def _enter(transaction: Transaction, queue: str, limit: int, *, inner: bool) -> None:
    full = queues.enter(transaction, queue, limit, inner=inner)
    if full is None:
        return
    state, open_tasks = full
    if state == "draining":
        raise Forbidden(f"queue {queue!r} is draining and takes no new work; use another queue or resume it")
    raise LimitReached(
        f"queue {queue!r} has {open_tasks:,} open tasks, the most allowed; finish or cancel some, or use another queue",
        limit=limit,
    )


def occurrence(
    transaction: Transaction, merged: Merged, schedule_id: int, due_at: int, created_by: str,
    serial_key: str | None, *, paused: bool,
) -> Task:  # fmt: skip
    """Store the task that stands for a due time of a schedule; no limit makes a schedule miss."""
    queues.enter(transaction, merged.queue, queues.NO_LIMIT, inner=True)
    task = tasks.insert(
        transaction,
        {
            **merged.row(),
            "serial_key": serial_key,
            "status": Status.PENDING.value,
            "reason": (Reason.PAUSED if paused else Reason.SCHEDULED).value,
            "run_at": due_at,
            "sort_at": lifecycle.sort_at(due_at, merged.priority),
            "blockers": 0,
            "parent_id": None,
            "root_id": None,
            "depth": 0,
            "schedule_id": schedule_id,
            "due_at": due_at,
            "created_by": created_by,
            "idempotency_key": None,
            "request_hash": None,
        },
        merged.body,
        (),
    )
    events.record(transaction, task, "created", created_by, {"schedule": schedule_id, "status": "pending"})
    return task
