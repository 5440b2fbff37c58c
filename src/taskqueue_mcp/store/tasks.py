"""The statements of the task table: the hot ones first, each with its query plan asserted in a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from taskqueue_mcp.lifecycle import sort_at
from taskqueue_mcp.model import FINAL, Body, Reason, Status, Task
from taskqueue_mcp.store.rows import BODY, TASK, as_body, as_task

if TYPE_CHECKING:
    from taskqueue_mcp.lifecycle import Change
    from taskqueue_mcp.store.database import Transaction

INSERT = f"""
INSERT INTO tasks (
  title, task_type, executor, queue, priority, status, reason, run_at, sort_at, max_attempts, blockers, serial_key,
  parent_id, root_id, depth, schedule_id, due_at, created_by, created_at, idempotency_key, request_hash, question,
  finished_at, error, expects)
VALUES (
  :title, :task_type, :executor, :queue, :priority, :status, :reason, :run_at, :sort_at, :max_attempts, :blockers,
  :serial_key, :parent_id, :root_id, :depth, :schedule_id, :due_at, :created_by, {{now}}, :idempotency_key,
  :request_hash, :question, :finished_at, :error, :expects)
RETURNING {TASK}
"""

INSERT_BODY = """
INSERT INTO bodies (
  task_id, instructions, params, sop, template, variables, output, outputs, tags, requested_by, timeout_seconds,
  budget_usd, budget, on_dependency_failure, notify, plan, metadata, only_if, trust, rights, approval)
VALUES (
  :task_id, :instructions, :params, :sop, :template, :variables, :output, :outputs, :tags, :requested_by,
  :timeout_seconds, :budget_usd, :budget, :on_dependency_failure, :notify, :plan, :metadata, :only_if, :trust,
  :rights, :approval)
"""

FETCH = f"SELECT {TASK} FROM tasks WHERE id = :id"
FETCH_BODY = f"SELECT {BODY} FROM bodies WHERE task_id = :id"
FETCH_ORDER = f"""
SELECT EXISTS (SELECT 1 FROM dependencies WHERE task_id = :id), approval,
       EXISTS (SELECT 1 FROM spending WHERE day = :today AND used_up = 1), {BODY}
  FROM bodies WHERE task_id = :id
"""
FETCH_APPROVAL = "SELECT approval FROM bodies WHERE task_id = :id"
SET_APPROVAL = "UPDATE bodies SET approval = :approval WHERE task_id = :id"
TRUSTS = "SELECT trust FROM bodies WHERE {among:task_id:ids} ORDER BY task_id"
FETCH_LOCKED = f"SELECT {TASK} FROM tasks WHERE id = :id {{lock}}"
FETCH_LEASE = f"""
SELECT lease_hash, EXISTS (SELECT 1 FROM reservations WHERE task_id = :id),
       EXISTS (SELECT 1 FROM gates WHERE closed_until IS NOT NULL), {TASK}
  FROM tasks WHERE id = :id {{lock}}
"""

NEXT_INSTANTS = """
SELECT
  (SELECT min(run_at) FROM tasks
    WHERE status = 'pending' AND reason IN ('scheduled', 'retry', 'snooze', 'quota') AND run_at > 0),
  (SELECT min(lease_expires_at) FROM tasks WHERE status = 'in_progress'),
  (SELECT min(due_again_at) FROM unpaid WHERE due_again_at IS NOT NULL),
  EXISTS (SELECT 1 FROM gates WHERE closed_until IS NOT NULL)
"""

DUE = f"""
SELECT {TASK} FROM tasks
 WHERE status = 'pending' AND reason IN ('scheduled', 'retry', 'snooze', 'quota') AND run_at <= {{now}}
 ORDER BY run_at LIMIT :limit {{skip_locked}}
"""

EXPIRED = f"""
SELECT {TASK} FROM tasks
 WHERE status = 'in_progress' AND lease_expires_at < {{now}}
 ORDER BY lease_expires_at LIMIT :limit {{skip_locked}}
"""

_TAKE = (
    """
UPDATE tasks
   SET status = 'in_progress', attempt = attempt + 1, worker = :worker, lease_principal = :principal,
       lease_hash = :lease_hash, lease_expires_at = {now} + :lease_micros, lease_seconds = :lease_seconds,
       confirmed = 0, claim_id = :claim_id, claimed_at = {now}, progress = NULL, message = NULL, seq = seq + 1
 WHERE id = (%s) AND status = 'ready'
RETURNING """
    + TASK
)

TAKE_ANY = _TAKE % "{next:any:any}"
TAKE_FROM_QUEUES = _TAKE % "{next:any:named}"
TAKE_OF_TYPES = _TAKE % "{next:task_type:any}"
TAKE_OF_TYPES_FROM_QUEUES = _TAKE % "{next:task_type:named}"
TAKE_FOR_EXECUTORS = _TAKE % "{next:executor:any}"
TAKE_FOR_EXECUTORS_FROM_QUEUES = _TAKE % "{next:executor:named}"
TAKE_ONE = (
    _TAKE
    % """SELECT id FROM tasks
              WHERE id = :id AND status = 'ready' AND queue IN (SELECT name FROM queues WHERE state <> 'paused')
              {lock}"""
)

TAKE_ANY_PASSING = _TAKE % "{passing:any:any}"
TAKE_FROM_QUEUES_PASSING = _TAKE % "{passing:any:named}"
TAKE_OF_TYPES_PASSING = _TAKE % "{passing:task_type:any}"
TAKE_OF_TYPES_FROM_QUEUES_PASSING = _TAKE % "{passing:task_type:named}"
TAKE_FOR_EXECUTORS_PASSING = _TAKE % "{passing:executor:any}"
TAKE_FOR_EXECUTORS_FROM_QUEUES_PASSING = _TAKE % "{passing:executor:named}"
TAKE_ONE_PASSING = (
    _TAKE
    % """SELECT id FROM tasks
              WHERE id = :id AND status = 'ready' AND queue IN (SELECT name FROM queues WHERE state <> 'paused')
                AND (NOT {among:executor:closed} OR id IN (SELECT task_id FROM gate_passes))
              {lock}"""
)

REFUSE = f"""
UPDATE tasks
   SET status = :status, reason = :reason, run_at = :run_at, sort_at = :sort_at, question = :question,
       attempt = attempt - 1, worker = NULL, lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL,
       claim_id = NULL, claimed_at = NULL, confirmed = 0
 WHERE id = :id AND status = 'in_progress' AND attempt = :attempt AND seq = :seq
RETURNING {TASK}
"""

MOVE = f"""
UPDATE tasks
   SET status = :status, reason = :reason, run_at = :run_at, sort_at = :sort_at, failures = :failures,
       handbacks = :handbacks, error = :error, question = :question, finished_at = :finished_at,
       verdict = CASE WHEN status IN ('failed', 'cancelled') THEN NULL ELSE verdict END,
       worker = NULL, lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL, claim_id = NULL,
       confirmed = 0, seq = seq + 1
 WHERE id = :id AND status = :was AND seq = :seq
RETURNING {TASK}
"""

SETTLE = f"""
UPDATE tasks
   SET status = :status, reason = :reason, run_at = :run_at, sort_at = :sort_at, failures = :failures,
       handbacks = :handbacks, error = :error, question = :question, finished_at = :finished_at,
       result_summary = coalesce(:result_summary, result_summary), result_path = coalesce(:result_path, result_path),
       verdict = coalesce(:verdict, verdict),
       worker = NULL, lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL, claim_id = NULL,
       confirmed = 0, seq = seq + 1
 WHERE id = :id AND status = 'in_progress' AND attempt = :attempt AND lease_hash = :lease_hash
   AND lease_principal = :principal
RETURNING {TASK}
"""

TOUCH = f"""
UPDATE tasks
   SET confirmed = 1, lease_seconds = :lease_seconds,
       lease_expires_at = {{greatest}}(lease_expires_at, {{now}} + :lease_micros),
       progress = coalesce(:progress, progress), message = coalesce(:message, message), seq = seq + :events
 WHERE id = :id AND status = 'in_progress' AND attempt = :attempt AND lease_hash = :lease_hash
   AND lease_principal = :principal
RETURNING {TASK}
"""

READDRESS = f"""
UPDATE tasks
   SET lease_hash = :lease_hash, lease_expires_at = {{now}} + :lease_micros, lease_seconds = :lease_seconds,
       seq = seq + 1
 WHERE id = :id AND status = 'in_progress' AND attempt = :attempt AND confirmed = 0
   AND lease_principal = :principal
RETURNING {TASK}
"""

UNTOUCHED = """
SELECT id FROM tasks
 WHERE status = 'in_progress' AND confirmed = 0 AND claim_id IS NULL
   AND lease_principal = :principal AND worker = :worker AND claimed_at > {now} - :window
 ORDER BY claimed_at LIMIT 1
"""

BY_CLAIM = f"""
SELECT {TASK} FROM tasks
 WHERE status = 'in_progress' AND claim_id = :claim_id AND lease_principal = :principal
"""

BY_KEY = f"SELECT request_hash, {TASK} FROM tasks WHERE created_by = :principal AND idempotency_key = :key"

IN_LINE = f"""
SELECT {TASK} FROM tasks
 WHERE status = 'pending' AND reason = 'serial' AND serial_key = :serial_key
 ORDER BY sort_at, id LIMIT 1 {{lock}}
"""

LINE_IS_BUSY = """
SELECT 1 FROM tasks WHERE serial_key = :serial_key AND status IN ('ready', 'in_progress') LIMIT 1 {share}
"""

UNBLOCK = f"""
UPDATE tasks SET blockers = :blockers, status = :status, reason = :reason, seq = seq + :moved
 WHERE id = :id AND seq = :seq AND blockers > 0
RETURNING {TASK}
"""

ONE_MORE_CHILD = "UPDATE tasks SET children = children + 1 WHERE id = :id AND children < :limit RETURNING id"
ONE_MORE_DESCENDANT = (
    "UPDATE tasks SET descendants = descendants + 1 WHERE id = :id AND descendants < :limit RETURNING id"
)

WAITED_FOR = "SELECT 1 FROM dependencies WHERE depends_on = :id LIMIT 1"
DEPENDANTS = f"""
SELECT {", ".join("tasks." + name.strip() for name in TASK.split(","))}, bodies.on_dependency_failure
  FROM dependencies
  JOIN tasks ON tasks.id = dependencies.task_id
  JOIN bodies ON bodies.task_id = tasks.id
 WHERE dependencies.depends_on = :id AND tasks.blockers > 0
   AND tasks.status IN ('pending', 'waiting')
 ORDER BY tasks.id {{lock_tasks}}
"""
DEPEND = "INSERT INTO dependencies (task_id, depends_on) VALUES (:task_id, :depends_on)"
OPEN_DEPENDENCIES = """
SELECT count(*) FROM dependencies JOIN tasks ON tasks.id = dependencies.depends_on
 WHERE dependencies.task_id = :id AND tasks.finished_at IS NULL
"""
DEPENDS_ON = "SELECT depends_on FROM dependencies WHERE task_id = :id ORDER BY depends_on"
STATUSES = "SELECT id, status FROM tasks WHERE {among:id:ids} ORDER BY id {share}"
TAG = "INSERT INTO task_tags (tag, task_id) VALUES (:tag, :task_id)"

SET_BLOCKERS = f"UPDATE tasks SET blockers = :blockers WHERE id = :id AND seq = :seq RETURNING {TASK}"

RETARGET = f"""
UPDATE tasks
   SET title = :title, task_type = :task_type, executor = :executor, queue = :queue, priority = :priority,
       max_attempts = :max_attempts, serial_key = :serial_key, expects = :expects, status = 'pending', reason = :reason,
       run_at = :due_at, due_at = :due_at, sort_at = :sort_at, seq = seq + 1
 WHERE id = :id AND status = 'pending' AND seq = :seq AND attempt = 0
RETURNING {TASK}
"""
REWRITE_BODY = """
UPDATE bodies
   SET instructions = :instructions, params = :params, sop = :sop, template = :template, variables = :variables,
       output = :output, outputs = :outputs, tags = :tags, timeout_seconds = :timeout_seconds, budget_usd = :budget_usd,
       budget = :budget,
       on_dependency_failure = :on_dependency_failure, notify = :notify, plan = :plan, metadata = :metadata,
       only_if = :only_if, requested_by = :requested_by, trust = :trust, rights = :rights
 WHERE task_id = :task_id
"""
UNTAG = "DELETE FROM task_tags WHERE task_id = :task_id"

MICROS = 1_000_000
NO_DAY = -1


class Order(NamedTuple):
    """What a task asks for, whether it depends on others, its approval, and whether a budget of the day is used up."""

    body: Body
    has_inputs: bool
    approval: str | None
    is_used_up: bool


class Leased(NamedTuple):
    """A task with the hash of its lease; whether money is set aside for it, and whether any gate is closed."""

    lease_hash: str | None
    is_reserved: bool
    is_gated: bool
    task: Task


class Instants(NamedTuple):
    """When the next pending task falls due, the next lease runs out, a held one may be paid; if a gate is closed."""

    due_at: int | None
    expires_at: int | None
    payable_at: int | None
    is_gated: bool


@dataclass(frozen=True, slots=True)
class Taking:
    """What a claim asks for; empty lists mean any. What `closed` executors do is left but for tasks with a pass."""

    principal: str
    worker: str | None
    queues: tuple[str, ...]
    types: tuple[str, ...]
    executors: tuple[str, ...]
    task_id: int | None
    lease_seconds: int
    first_seconds: int
    claim_id: str | None
    closed: tuple[str, ...] = ()


def insert(
    transaction: Transaction, values: dict[str, Any], body: Body, depends_on: tuple[int, ...],
    approval: str | None = None,
) -> Task:  # fmt: skip
    """Store a new task with what it asks for, and the approval that it has or needs."""
    row = transaction.first(INSERT, {"finished_at": None, "error": None, "question": None, **values})
    assert row is not None  # noqa: S101 - RETURNING of an INSERT
    task = as_task(row)
    document = {name: getattr(body, name) for name in BODY_FIELDS}
    document["tags"] = json.dumps(body.tags) if body.tags else None
    transaction.post(INSERT_BODY, {"task_id": task.id, "approval": approval, **document})
    if body.tags:
        transaction.run_many(TAG, [{"tag": tag, "task_id": task.id} for tag in body.tags])
    if depends_on:
        transaction.run_many(DEPEND, [{"task_id": task.id, "depends_on": other} for other in depends_on])
    return task


def set_blockers(transaction: Transaction, task: Task, blockers: int) -> Task:
    """Store how many unfinished tasks this one waits for."""
    row = transaction.first(SET_BLOCKERS, {"id": task.id, "seq": task.seq, "blockers": blockers})
    return task if row is None else as_task(row)


def retarget(transaction: Transaction, task: Task, values: dict[str, Any]) -> Task | None:
    """Let a standing occurrence stand for another due time; None when it has moved meanwhile."""
    row = transaction.first(RETARGET, {**values, "id": task.id, "seq": task.seq})
    return None if row is None else as_task(row)


def rewrite_body(transaction: Transaction, task_id: int, body: Body) -> None:
    """Replace what a standing occurrence asks for."""
    document = {name: getattr(body, name) for name in BODY_FIELDS}
    document["tags"] = json.dumps(body.tags) if body.tags else None
    transaction.run(REWRITE_BODY, {"task_id": task_id, **document})
    transaction.run(UNTAG, {"task_id": task_id})
    if body.tags:
        transaction.run_many(TAG, [{"tag": tag, "task_id": task_id} for tag in body.tags])


BODY_FIELDS = tuple(name.strip() for name in BODY.split(","))


def fetch(transaction: Transaction, task_id: int) -> Task | None:
    """Return a task, or None."""
    row = transaction.first(FETCH, {"id": task_id})
    return None if row is None else as_task(row)


def fetch_locked(transaction: Transaction, task_id: int) -> Task | None:
    """Return a task that nobody else changes before this work is committed, or None."""
    row = transaction.first(FETCH_LOCKED, {"id": task_id})
    return None if row is None else as_task(row)


def fetch_with_lease(transaction: Transaction, task_id: int) -> Leased | None:
    """Return a task with the hash of the lease that is valid now."""
    row = transaction.first(FETCH_LEASE, {"id": task_id})
    return None if row is None else Leased(row[0], bool(row[1]), bool(row[2]), as_task(row[3:]))


def fetch_body(transaction: Transaction, task_id: int) -> Body:
    """Return what a task asks for."""
    row = transaction.first(FETCH_BODY, {"id": task_id})
    return Body() if row is None else as_body(row)


def fetch_order(transaction: Transaction, task_id: int, today: int = NO_DAY) -> Order:
    """Return what a task asks for; with the number of the day, also whether a budget of it is used up."""
    row = transaction.first(FETCH_ORDER, {"id": task_id, "today": today})
    if row is None:
        return Order(Body(), has_inputs=False, approval=None, is_used_up=False)
    return Order(as_body(row[3:]), bool(row[0]), row[1], bool(row[2]))


def fetch_approval(transaction: Transaction, task_id: int) -> str | None:
    """Return the hash of what was approved: None where nobody has to, empty where nobody has yet."""
    row = transaction.first(FETCH_APPROVAL, {"id": task_id})
    return None if row is None else row[0]


def set_approval(transaction: Transaction, task_id: int, approval: str) -> None:
    """Store the hash of what was approved, or empty for what has to be."""
    transaction.run(SET_APPROVAL, {"id": task_id, "approval": approval})


def trusts(transaction: Transaction, ids: tuple[int, ...]) -> list[str | None]:
    """Return whose text each of these tasks is."""
    return [row[0] for row in transaction.all(TRUSTS, {"ids": ids})] if ids else []


def next_instants(transaction: Transaction) -> Instants:
    """Return when the clock asks for something next."""
    row = transaction.first(NEXT_INSTANTS)
    assert row is not None  # noqa: S101 - a SELECT of sub-selects has one row
    return Instants(row[0], row[1], row[2], bool(row[3]))


def due(transaction: Transaction, limit: int) -> list[Task]:
    """Return pending tasks whose time has come."""
    return [as_task(row) for row in transaction.all(DUE, {"limit": limit})]


def expired(transaction: Transaction, limit: int) -> list[Task]:
    """Return tasks whose lease ran out."""
    return [as_task(row) for row in transaction.all(EXPIRED, {"limit": limit})]


def take(transaction: Transaction, taking: Taking, lease_hash: str) -> Task | None:
    """Move the first ready task that fits to `in_progress`, under the lease with this hash."""
    params: dict[str, Any] = {
        "worker": taking.worker,
        "principal": taking.principal,
        "lease_hash": lease_hash,
        "lease_micros": taking.first_seconds * MICROS,
        "lease_seconds": taking.lease_seconds,
        "claim_id": taking.claim_id,
    }
    if taking.task_id is not None:
        statement = TAKE_ONE_PASSING if taking.closed else TAKE_ONE
        row = transaction.first(statement, {**params, "id": taking.task_id, "closed": taking.closed})
        return None if row is None else as_task(row)
    params["closed"] = taking.closed
    params["queues"] = taking.queues
    params["wanted"] = taking.types or taking.executors
    row = transaction.first(_take_statement(taking), params)
    return None if row is None else as_task(row)


def _take_statement(taking: Taking) -> str:
    if taking.closed:
        return _take_passing(taking)
    if taking.types:
        return TAKE_OF_TYPES_FROM_QUEUES if taking.queues else TAKE_OF_TYPES
    if taking.executors:
        return TAKE_FOR_EXECUTORS_FROM_QUEUES if taking.queues else TAKE_FOR_EXECUTORS
    return TAKE_FROM_QUEUES if taking.queues else TAKE_ANY


def _take_passing(taking: Taking) -> str:
    if taking.types:
        return TAKE_OF_TYPES_FROM_QUEUES_PASSING if taking.queues else TAKE_OF_TYPES_PASSING
    if taking.executors:
        return TAKE_FOR_EXECUTORS_FROM_QUEUES_PASSING if taking.queues else TAKE_FOR_EXECUTORS_PASSING
    return TAKE_FROM_QUEUES_PASSING if taking.queues else TAKE_ANY_PASSING


def refuse(transaction: Transaction, task: Task, change: Change) -> Task | None:
    """Undo the taking of a task by this very work: as far as anyone can tell it was never handed out."""
    row = transaction.first(REFUSE, {**_values(transaction, task, change), "attempt": task.attempt, "seq": task.seq})
    return None if row is None else as_task(row)


def move(transaction: Transaction, task: Task, change: Change) -> Task | None:
    """Write a transition that no lease is needed for; None when the task has moved meanwhile."""
    values = {**_values(transaction, task, change), "was": task.status.value, "seq": task.seq}
    row = transaction.first(MOVE, values)
    return None if row is None else as_task(row)


def settle(
    transaction: Transaction, task: Task, change: Change, lease_hash: str, principal: str,
    result_summary: str | None = None, result_path: str | None = None, verdict: str | None = None,
) -> Task | None:  # fmt: skip
    """Write the outcome of an attempt under its lease; None when the lease is not valid any more."""
    values = {
        **_values(transaction, task, change),
        "attempt": task.attempt,
        "lease_hash": lease_hash,
        "principal": principal,
        "result_summary": result_summary,
        "result_path": result_path,
        "verdict": verdict,
    }
    row = transaction.first(SETTLE, values)
    return None if row is None else as_task(row)


def _values(transaction: Transaction, task: Task, change: Change) -> dict[str, Any]:
    return {
        "id": task.id,
        "status": change.status.value,
        "reason": None if change.reason is None else change.reason.value,
        "run_at": change.run_at,
        "sort_at": sort_at(change.run_at, task.priority),
        "failures": change.failures,
        "handbacks": change.handbacks,
        "error": change.error,
        "question": change.question,
        "finished_at": transaction.now if change.status in FINAL else None,
    }


def touch(
    transaction: Transaction, task: Task, lease_hash: str, principal: str, *, lease_seconds: int,
    progress: float | None, message: str | None, events: int,
) -> Task | None:  # fmt: skip
    """Renew a lease and note progress; None when the lease is not valid any more."""
    row = transaction.first(
        TOUCH,
        {
            "id": task.id,
            "attempt": task.attempt,
            "lease_hash": lease_hash,
            "principal": principal,
            "lease_seconds": lease_seconds,
            "lease_micros": lease_seconds * MICROS,
            "progress": progress,
            "message": message,
            "events": events,
        },
    )
    return None if row is None else as_task(row)


def readdress(transaction: Transaction, task: Task, lease_hash: str, lease_seconds: int) -> Task | None:
    """Give an attempt that nobody has touched a new lease in place of the one that was lost."""
    row = transaction.first(
        READDRESS,
        {
            "id": task.id,
            "attempt": task.attempt,
            "lease_hash": lease_hash,
            "principal": task.lease_principal,
            "lease_seconds": lease_seconds,
            "lease_micros": lease_seconds * MICROS,
        },
    )
    return None if row is None else as_task(row)


def untouched(transaction: Transaction, principal: str, worker: str, window_seconds: int) -> Task | None:
    """Return the task that `worker` claimed a moment ago and has not touched since."""
    row = transaction.first(UNTOUCHED, {"principal": principal, "worker": worker, "window": window_seconds * MICROS})
    return None if row is None else fetch(transaction, row[0])


def by_claim(transaction: Transaction, principal: str, claim_id: str) -> Task | None:
    """Return the task that is held under this claim id."""
    row = transaction.first(BY_CLAIM, {"principal": principal, "claim_id": claim_id})
    return None if row is None else as_task(row)


def by_key(transaction: Transaction, principal: str, key: str) -> tuple[str, Task] | None:
    """Return the hash of the request that used this idempotency key, and its task."""
    row = transaction.first(BY_KEY, {"principal": principal, "key": key})
    return None if row is None else (row[0], as_task(row[1:]))


def line_is_busy(transaction: Transaction, serial_key: str) -> bool:
    """Whether a task with this serial key is ready or in progress."""
    return transaction.first(LINE_IS_BUSY, {"serial_key": serial_key}) is not None


def next_in_line(transaction: Transaction, serial_key: str) -> Task | None:
    """Return the head of those that wait for this serial key."""
    row = transaction.first(IN_LINE, {"serial_key": serial_key})
    return None if row is None else as_task(row)


def open_dependencies(transaction: Transaction, task_id: int) -> int:
    """Return how many of the tasks that this one depends on have not ended."""
    row = transaction.first(OPEN_DEPENDENCIES, {"id": task_id})
    return 0 if row is None else int(row[0])


def unblock(transaction: Transaction, task: Task, blockers: int, status: Status, reason: Reason | None) -> Task | None:
    """Store how many dependencies are left and where that leaves the task."""
    moved = int((task.status, task.reason) != (status, reason))
    row = transaction.first(
        UNBLOCK,
        {
            "id": task.id,
            "seq": task.seq,
            "blockers": blockers,
            "status": status.value,
            "reason": None if reason is None else reason.value,
            "moved": moved,
        },
    )
    return None if row is None else as_task(row)


def dependants(transaction: Transaction, task_id: int) -> list[tuple[Task, str]]:
    """Return the tasks that wait for this one, each with what a failure means to it."""
    if transaction.first(WAITED_FOR, {"id": task_id}) is None:  # mostly so, and an empty wide result costs its columns
        return []
    return [(as_task(row[:-1]), row[-1]) for row in transaction.all(DEPENDANTS, {"id": task_id})]


def depends_on(transaction: Transaction, task_id: int) -> list[int]:
    """Return the tasks that this one waits for."""
    return [row[0] for row in transaction.all(DEPENDS_ON, {"id": task_id})]


def statuses(transaction: Transaction, ids: tuple[int, ...]) -> dict[int, Status]:
    """Return the status of each task that exists."""
    return {row[0]: Status(row[1]) for row in transaction.all(STATUSES, {"ids": ids})}


def one_more_child(transaction: Transaction, parent_id: int, limit: int) -> bool:
    """Count a child of `parent_id`; False when it has `limit` already."""
    return transaction.first(ONE_MORE_CHILD, {"id": parent_id, "limit": limit}) is not None


def one_more_descendant(transaction: Transaction, root_id: int, limit: int) -> bool:
    """Count a task below `root_id`; False when it has `limit` already."""
    return transaction.first(ONE_MORE_DESCENDANT, {"id": root_id, "limit": limit}) is not None
