"""Templates and queues as their owner sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import checks
from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound
from taskqueue_mcp.store import events, queues
from taskqueue_mcp.store import templates as template_store
from taskqueue_mcp.taskqueue.merging import VARIABLE, Wanted

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller, Template
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

QUEUE_STATES = ("open", "paused", "draining")


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A named task with `{{variables}}`, some of which have defaults."""

    name: str
    wanted: Wanted
    description: str = ""
    defaults: Any = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A template, the variables it takes, and how many tasks were made from it by status."""

    template: Template
    variables: tuple[str, ...]
    counts: dict[str, int]
    last_used_at: int | None


def put(transaction: Transaction, rules: Rules, caller: Caller, new: NewTemplate) -> Template:
    """Store a template, new or in place of the one that had its name.

    Raises:
        InvalidInput: it has no title, names another template, or is not what a task can be.
        LimitReached: it is too large.
    """
    name = checks.name("name", new.name)
    given = new.wanted.given()
    if not (given.get("title") or given.get("sop")):
        raise InvalidInput("title: a template needs a title (or a sop); it may hold {{variables}}")
    if "template" in given or "variables" in given:
        raise InvalidInput("template: a template cannot be made of another one")
    body = json.dumps(given, ensure_ascii=False)
    checks.document("template", body, rules.limits.json_depth + 1)
    if len(body.encode()) > rules.limits.body_bytes:
        raise LimitReached(
            f"the template is {len(body.encode()):,} bytes; at most {rules.limits.body_bytes:,} are kept"
        )
    defaults = checks.json_object("defaults", new.defaults, rules.limits.json_depth)
    description = checks.text("description", new.description, 2_000)
    stored = template_store.put(
        transaction, name, description, body, json.dumps(defaults, ensure_ascii=False), caller.name
    )
    events.record_other(transaction, "template", stored.id, "saved", caller.name, {"name": name})
    return stored


def show(transaction: Transaction, name: str) -> Shown:
    """Return a template with its use.

    Raises:
        NotFound: there is none of this name.
    """
    template = _fetch(transaction, name)
    counts = template_store.counts(transaction, name)
    return Shown(
        template,
        tuple(dict.fromkeys(VARIABLE.findall(template.body))),
        {status: count for status, (count, _) in counts.items()},
        max((newest for _, newest in counts.values()), default=None),
    )


def delete(transaction: Transaction, caller: Caller, name: str) -> None:
    """Delete a template.

    Raises:
        NotFound: there is none of this name.
    """
    template = _fetch(transaction, name)
    template_store.delete(transaction, name)
    events.record_other(transaction, "template", template.id, "deleted", caller.name, {"name": name})


def set_queue_state(transaction: Transaction, caller: Caller, name: str, state: str) -> None:
    """Open, pause or drain a queue.

    Raises:
        InvalidInput: there is no such state.
    """
    if state not in QUEUE_STATES:
        raise InvalidInput(f"state: {state!r} is not one of {', '.join(QUEUE_STATES)}")
    queues.set_state(transaction, name, state)
    events.record_other(transaction, "queue", 0, state, caller.name, {"queue": name})
    transaction.signal("queue", name)


def _fetch(transaction: Transaction, name: str) -> Template:
    template = template_store.by_name(transaction, name)
    if template is None:
        raise NotFound(f"there is no template {name!r}; `taskqueue-mcp templates list` shows those that exist")
    return template
