"""How the queue's nouns look from outside: the same plain JSON on every surface."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import budgets
from taskqueue_mcp import cron as crons

if TYPE_CHECKING:
    from taskqueue_mcp.budgets import Account
    from taskqueue_mcp.model import (
        Artifact,
        Attempt,
        Body,
        Event,
        Micros,
        Occurrence,
        Schedule,
        Task,
        Template,
    )
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.store.attempts import LogChunk, Question
    from taskqueue_mcp.store.gates import Gate
    from taskqueue_mcp.store.lists import QueueCount
    from taskqueue_mcp.store.principals import Token
    from taskqueue_mcp.taskqueue import Claim, Detail

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def instant(at: Micros | None) -> str | None:
    """Return an instant as ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    return (EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def name(task_id: int) -> str:
    """Return a task's id as people and models see it."""
    return f"T-{task_id}"


def task(found: Task) -> Json:
    """Return a task; fields without a value are left out but for the ones that others rely on."""
    view: Json = {
        "id": name(found.id),
        "title": found.title,
        "task_type": found.task_type,
        "status": found.status.value,
        "priority": found.priority,
        "queue": found.queue,
        "attempt": found.attempt,
        "created_by": found.created_by,
        "created_at": instant(found.created_at),
        "run_at": instant(found.run_at),
    }
    if found.reason is not None:
        view["reason"] = found.reason.value
    if found.executor:
        view["executor"] = found.executor
    for key in (
        "worker",
        "progress",
        "message",
        "question",
        "result_summary",
        "result_path",
        "error",
        "verdict",
        "serial_key",
    ):
        value = getattr(found, key)
        if value is not None:
            view[key] = value
    if found.failures:
        view["failures"], view["max_attempts"] = found.failures, found.max_attempts
    for key in ("lease_expires_at", "finished_at", "due_at"):
        if getattr(found, key) is not None:
            view[key] = instant(getattr(found, key))
    if found.parent_id is not None:
        view["parent"], view["root"], view["depth"] = (
            name(found.parent_id),
            name(found.root_id or 0),
            found.depth,
        )
    if found.blockers:
        view["waits_for"] = found.blockers
    return view


def document(text: str | None) -> Any:
    """Return stored JSON text as the value it stands for."""
    return None if text is None else json.loads(text)


def body(found: Body) -> Json:
    """Return what a task asks for, without what was not asked for."""
    view: Json = {"instructions": found.instructions}
    for key in ("params", "variables", "output", "outputs", "notify", "metadata", "only_if"):
        value = getattr(found, key)
        if value is not None:
            view[key] = document(value)
    for key in ("sop", "template", "requested_by", "timeout_seconds", "budget_usd", "plan"):
        value = getattr(found, key)
        if value is not None:
            view[key] = value
    if found.trust is not None:
        view["trust"] = found.trust
    if found.budget is not None:
        told = document(found.budget)
        per_day = told.pop("per_day", {})
        view |= {f"budget_{unit}": amount for unit, amount in told.items()}
        view |= {f"budget_{unit}_per_day": amount for unit, amount in per_day.items()}
    if found.tags:
        view["tags"] = list(found.tags)
    return view


def attempt(found: Attempt) -> Json:
    """Return an attempt."""
    view: Json = {
        "attempt": found.attempt,
        "by": found.worker or found.principal,
        "claimed_at": instant(found.claimed_at),
        "ended_at": instant(found.ended_at),
        "outcome": found.outcome,
    }
    if found.ended_at is not None:
        view["seconds"] = round((found.ended_at - found.claimed_at) / 1_000_000, 3)
    for key in ("error", "result_summary", "result_path", "procedure_hash"):
        value = getattr(found, key)
        if value is not None:
            view[key] = value
    if found.usage is not None:
        view["usage"] = document(found.usage)
    if found.verdict is not None:
        view["verdict"] = verdict(found.verdict)
    return view


def verdict(found: str) -> Json:
    """Return what somebody other than the agent found of a result."""
    view: Json = json.loads(found)
    return {**view, "checked_at": instant(view["checked_at"])}


def question(found: Question) -> Json:
    """Return a question with its answer."""
    view: Json = {"kind": found.kind, "question": found.text, "asked_at": instant(found.asked_at)}
    if found.answered_at is not None:
        view["answer"], view["answered_by"] = found.answer, found.answered_by
        view["answered_at"] = instant(found.answered_at)
    return view


def artifact(found: Artifact) -> Json:
    """Return a file that an attempt made."""
    view: Json = {"path": found.path, "attempt": found.attempt}
    for key in ("size", "sha256", "media_type", "stored"):
        value = getattr(found, key)
        if value is not None:
            view[key] = value
    return view


def event(found: Event) -> Json:
    """Return what happened."""
    view: Json = {"seq": found.seq, "at": instant(found.at), "event": found.kind, "by": found.principal}
    if found.attempt is not None:
        view["attempt"] = found.attempt
    if found.data is not None:
        view["data"] = document(found.data)
    return view


def log(found: LogChunk) -> Json:
    """Return a piece of an attempt's log."""
    return {"attempt": found.attempt, "at": instant(found.at), "text": found.text}


def detail(found: Detail) -> Json:
    """Return a task whole."""
    view = {**task(found.task), **body(found.body)}
    if found.budgets:
        view["budget"] = spending(found.budgets)
    if found.held is not None:
        scope, _, rest = found.held.account.partition(":")
        of, _, unit = rest.rsplit(":", 2)
        view["unpaid"] = {"budget": scope, "unit": unit, "need": found.held.need / budgets.ONE}
        if scope == "queue":
            view["unpaid"]["queue"] = of
    if found.gates:
        view["gates"] = [gate(each) for each in found.gates]
    if found.depends_on:
        view["depends_on"] = [name(other) for other in found.depends_on]
    if found.result_data is not None:
        view["result_data"] = document(found.result_data)
    if found.attempts:
        view["attempts"] = [attempt(each) for each in found.attempts]
    if found.questions:
        view["questions"] = [question(each) for each in found.questions]
    if found.artifacts:
        view["artifacts"] = [artifact(each) for each in found.artifacts]
    return view


def claim(found: Claim) -> Json:
    """Return a claim: the lease first, for it is what a worker must not lose."""
    procedure: Json | None = None
    if found.procedure is not None:
        pinned = {
            "path": found.procedure.path,
            "sha256": found.procedure.sha256,
            "text": found.procedure.text,
        }
        procedure = (
            pinned if found.procedure.fault is None else {"path": found.procedure.path, "fault": found.procedure.fault}
        )
    view: Json = {
        "lease": found.lease,
        "lease_expires_at": instant(found.task.lease_expires_at),
        "task": {**task(found.task), **body(found.body)},
        "procedure": procedure,
        "earlier_attempts": [attempt(each) for each in found.earlier],
        "inputs": [
            {
                "task": name(each.task.id),
                "title": each.task.title,
                "status": each.task.status.value,
                "result_summary": each.task.result_summary,
                "result_path": each.task.result_path,
                "result_data": document(each.result_data),
            }
            for each in found.inputs
        ],
    }
    due = found.task.due_at or found.task.run_at
    view["task"]["due_date"] = crons.local_text(due, found.zone)[:10]
    view["task"]["zone"] = found.zone
    view["task"]["idempotency_key"] = f"{name(found.task.id)}:{found.task.attempt}"
    if found.budget:
        view["task"]["budget"] = budgets.in_units(found.budget)
    if found.questions:
        view["answers"] = [question(each) for each in found.questions]
    if found.redelivered:
        view["redelivered"] = True
    return view


def schedule(found: Schedule) -> Json:
    """Return a schedule; `task` holds the arguments each run is created with."""
    return {
        "name": found.name,
        "cron": found.cron,
        "timezone": found.timezone,
        "enabled": found.enabled,
        "misfire": found.misfire.value,
        "overlap": found.overlap.value,
        "grace_seconds": found.grace_seconds,
        "next_run_at": instant(found.next_due_at) if found.enabled else None,
        "last_due_at": instant(found.last_due_at),
        "created_by": found.created_by,
        "task": document(found.body),
    }


def run(due_at: Micros, zone: str) -> Json:
    """Return a due time as an instant and as the clock on the wall shows it."""
    return {"at": instant(due_at), "local": crons.local_text(due_at, zone)}


def occurrence(found: Occurrence) -> Json:
    """Return how a due time ended."""
    view: Json = {"due_at": instant(found.due_at), "fate": found.fate.value}
    if found.reason is not None:
        view["reason"] = found.reason
    if found.task_id is not None:
        view["task"] = name(found.task_id)
    return view


def template(found: Template) -> Json:
    """Return a template."""
    return {
        "name": found.name,
        "description": found.description,
        "task": document(found.body),
        "defaults": document(found.defaults),
        "updated_at": instant(found.updated_at),
    }


def queue(found: QueueCount) -> Json:
    """Return a queue with its counts."""
    return {"name": found.name, "state": found.state, "open_tasks": found.open_tasks, "counts": found.counts}


def gate(found: Gate) -> Json:
    """Return the gate of an account."""
    view: Json = {
        "account": found.account,
        "executor": found.executor,
        "state": "open" if found.closed_until is None else "closed",
        "waits": found.waits,
    }
    if found.closed_until is not None:
        view["closed_at"], view["closed_until"] = instant(found.closed_at), instant(found.closed_until)
        for key in ("reason", "probe"):
            value = getattr(found, key)
            if value:
                view["tried_by" if key == "probe" else key] = value
    return view


def account(found: Account) -> Json:
    """Return what may be spent, was spent and is set aside; a ceiling with what persons have added to it."""
    view: Json = {"scope": found.scope}
    if found.name:
        view["name"] = name(int(found.name)) if found.scope == "task" else found.name
    view |= {
        "unit": found.unit,
        "spent": found.spent / budgets.ONE,
        "reserved": found.reserved / budgets.ONE,
        "ceiling": None if found.ceiling is None else found.allowed / budgets.ONE,
    }
    if found.asked_task is not None:
        view["asked"] = name(found.asked_task)
    return view


def spending(found: tuple[Account, ...]) -> Json:
    """Return the accounts of a task by unit: `{"usd": {"ceiling", "spent", "reserved"}}`."""
    return {
        each.unit: {
            "ceiling": each.allowed / budgets.ONE,
            "spent": each.spent / budgets.ONE,
            "reserved": each.reserved / budgets.ONE,
        }
        for each in found
    }


def procedure(found: Procedure) -> Json:
    """Return a procedure without its text."""
    view: Json = {"path": found.path, "title": found.title, "sha256": found.sha256}
    if found.description:
        view["description"] = found.description
    if found.task_type:
        view["task_type"] = found.task_type
    if found.executor:
        view["executor"] = found.executor
    if found.params:
        view["params"] = {param.name: param.default for param in found.params}
    return view


def token(found: Token) -> Json:
    """Return a token without its secret."""
    return {
        "name": found.name,
        "principal": found.principal,
        "scopes": list(found.scopes),
        "created_at": instant(found.created_at),
        "expires_at": instant(found.expires_at),
        "revoked_at": instant(found.revoked_at),
    }
