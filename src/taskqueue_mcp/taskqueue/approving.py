"""A person says yes to exactly what will run: an approval is bound to its hash, and lapses when that changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import lifecycle
from taskqueue_mcp.errors import Forbidden
from taskqueue_mcp.model import Kind, Reason
from taskqueue_mcp.store import attempts, events, schedules, tasks
from taskqueue_mcp.taskqueue import moving, pinning, rights

if TYPE_CHECKING:
    from taskqueue_mcp.model import Body, Caller, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.pinning import FollowedProcedure
    from taskqueue_mcp.taskqueue.rules import Rules

NEEDED = ""
"""The approval of a task that needs one and has none; without any, it needs none."""
NOT_RUN = frozenset({"tags", "requested_by", "notify", "metadata", "trust", "rights"})
"""What of a body does not change what runs."""
LONGEST_PART = 600
MOST_LINES = 20
"""Of a part: no text pushes what comes after it out of sight."""
LONGEST_QUESTION = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person is asked about: the words, and the hash of what a yes lets run."""

    question: str
    digest: str


def is_needed(rules: Rules, executor: str, task_type: str, body: Body, *, wanted: bool) -> bool:
    """Whether a task has to wait for a person: it says so itself, or its kind is sensitive."""
    kinds = (executor, *rights.looking(body))
    return wanted or any(rules.is_sensitive(each, task_type, body.trust) for each in kinds)


def ask_about(
    title: str, executor: str, created_by: str, body: Body, procedure: FollowedProcedure | None,
    inputs: tuple[int, ...], *, of_schedule: bool = False,
) -> Asked:  # fmt: skip
    """Return the question about a task, with everything that will run in clear."""
    followed = None if procedure is None else [procedure.path, procedure.sha256]
    # What is not there is left out, so that a field of a later version voids no approval of today.
    runs = {name: value for name, value in body._asdict().items() if value is not None and name not in NOT_RUN}
    told = [title, executor, runs, followed, sorted(inputs)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    lines = [
        f"May this task run? {_part(title, 'title')}",
        f"executor: {executor}, asked for by {created_by}"
        + (f" for {body.requested_by}" if body.requested_by else "")
        + (f" (the text comes from: {body.trust})" if body.trust else ""),
    ]
    if procedure is not None:
        what = f"sha256 {procedure.sha256}" if procedure.sha256 else f"cannot be read: {procedure.fault}"
        lines.append(f"procedure: {procedure.path} ({what})")
    if inputs:
        lines.append(f"with the results of: {', '.join(f'T-{each}' for each in sorted(inputs))}")
    if of_schedule:
        lines.append("A yes also stands for later runs of its schedule, as long as nothing of this changes.")
    lines += [f"{name}: {_part(value, name)}" for name, value in _shown(body)]
    return Asked("\n".join(lines)[:LONGEST_QUESTION], digest)


def of_task(transaction: Transaction, task: Task, body: Body, procedure: FollowedProcedure | None) -> Asked:
    """Return the question about a stored task, as it would run now."""
    inputs = tuple(tasks.depends_on(transaction, task.id))
    return ask_about(
        task.title, task.executor, task.created_by, body, procedure, inputs, of_schedule=task.schedule_id is not None
    )


def pending(
    transaction: Transaction, rules: Rules, task: Task, body: Body, approval: str | None,
    procedure: FollowedProcedure | None,
) -> Asked | None:  # fmt: skip
    """Return what a person has to be asked before a task may be handed out; None where nothing stands in its way."""
    if not is_needed(rules, task.executor, task.task_type, body, wanted=approval is not None):
        return None
    asked = of_task(transaction, task, body, procedure)
    if approval == asked.digest:
        return None
    schedule = None if task.schedule_id is None else schedules.by_id(transaction, task.schedule_id)
    if schedule is not None and schedule.approved == asked.digest:
        tasks.set_approval(transaction, task.id, asked.digest)
        return None
    return asked


def hold(transaction: Transaction, rules: Rules, task: Task) -> Task | None:
    """Let a task that is about to become ready wait for a person instead; None where it need not."""
    body, _, approval, _ = tasks.fetch_order(transaction, task.id)
    if not is_needed(rules, task.executor, task.task_type, body, wanted=approval is not None):
        return None
    asked = pending(transaction, rules, task, body, approval, pinning.pin(rules, body))
    return None if asked is None else ask(transaction, task, asked, "before it runs")


def ask(transaction: Transaction, task: Task, asked: Asked, why: str) -> Task:
    """Let a task wait for a person's yes to what would run now; an older question is void."""
    attempts.answer(transaction, task.id, f"void: {why}", events.SYSTEM)
    change = lifecycle.hold(task, asked.question)
    told = {"approves": asked.digest, "why": why}
    after = moving.move(transaction, task, change, "approval_asked", events.SYSTEM, told)
    tasks.set_approval(transaction, task.id, NEEDED)
    attempts.ask(transaction, after, "approval", asked.question, asked.digest)
    return after


def lapsed(transaction: Transaction, rules: Rules, task: Task) -> Asked | None:
    """Return the new question where what would run is not what the open one asks about."""
    body = tasks.fetch_body(transaction, task.id)
    asked = of_task(transaction, task, body, pinning.pin(rules, body))
    return None if attempts.asked_approval(transaction, task.id) == asked.digest else asked


def lock_schedule(transaction: Transaction, task_id: int) -> None:
    """Lock the schedule of a task before the task itself, as everybody does who needs both."""
    task = moving.fetch(transaction, task_id)
    if task.schedule_id is not None:
        schedules.by_id(transaction, task.schedule_id, lock=True)


def grant(transaction: Transaction, task: Task) -> str:
    """Store that what the open question asks about was approved; return its hash."""
    digest = attempts.asked_approval(transaction, task.id) or NEEDED
    tasks.set_approval(transaction, task.id, digest)
    if task.schedule_id is not None:
        schedules.approve(transaction, task.schedule_id, digest)
    return digest


def check_impartial(transaction: Transaction, rules: Rules, caller: Caller, task: Task) -> None:
    """Refuse an agent that decides about its own request, or approves what it could not have asked for.

    Raises:
        Forbidden: it has to be a person or another principal.
    """
    if caller.kind is Kind.PERSON:
        return
    made = task.created_by == caller.name
    wrote = task.schedule_id is not None and schedules.wrote(transaction, task.schedule_id, caller.name)
    worked = any(attempt.principal == caller.name for attempt in attempts.of_task(transaction, task.id))
    if made or worked or wrote:
        did = "created" if made else "worked on" if worked else "wrote the schedule of"
        what = "approval" if task.reason is Reason.APPROVAL else "answer"
        raise Forbidden(
            f"{caller.name} {did} T-{task.id}, so its {what} has to come from a person or another principal"
        )
    if task.reason is Reason.APPROVAL:
        rights.check_retry(transaction, rules, caller, task)


def _shown(body: Body) -> list[tuple[str, Any]]:
    found = body._asdict()
    first = ("instructions", "params", "variables", "only_if", "output")
    rest = [name for name in found if name not in {*first, *NOT_RUN, "sop", "template", "on_dependency_failure"}]
    return [(name, found[name]) for name in (*first, *rest) if found[name]]


def _part(value: Any, name: str) -> str:
    """Return a text for the question: bounded, and so that no line of it can pose as one of ours."""
    text = str(value).strip()
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    shown = "\n    ".join(lines[:MOST_LINES])[:LONGEST_PART]
    if len(lines) <= MOST_LINES and len(text) <= LONGEST_PART:
        return shown
    more = f"get_task with detail={name} shows all" if name in {"instructions", "params"} else "get_task shows all"
    return f"{shown}… ({len(text):,} characters; {more})"
