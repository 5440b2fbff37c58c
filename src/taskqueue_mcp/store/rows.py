"""Rows become nouns: the columns are the fields, in their order."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.model import (
    Artifact,
    Attempt,
    Body,
    Event,
    Fate,
    Misfire,
    Occurrence,
    Overlap,
    Reason,
    Schedule,
    Status,
    Task,
    Template,
)

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Row


def columns(noun: type[Any], prefix: str = "") -> str:
    """Return the select list that fills `noun`."""
    return ", ".join(prefix + name for name in names(noun))


def names(noun: type[Any]) -> tuple[str, ...]:
    """Return the fields of a noun, be it a dataclass or a named tuple."""
    return tuple(field.name for field in fields(noun)) if is_dataclass(noun) else noun._fields


TASK = columns(Task)
BODY = columns(Body)
ATTEMPT = columns(Attempt)
EVENT = columns(Event)
ARTIFACT = columns(Artifact)
SCHEDULE = columns(Schedule)
OCCURRENCE = columns(Occurrence)
TEMPLATE = columns(Template)

_STATUS = Task._fields.index("status")
_REASON = Task._fields.index("reason")
_CONFIRMED = Task._fields.index("confirmed")
_EXPECTS = Task._fields.index("expects")
_STATUSES = {status.value: status for status in Status}
_REASONS: dict[str | None, Reason | None] = {None: None, **{reason.value: reason for reason in Reason}}
_TAGS = Body._fields.index("tags")


def as_task(row: Row) -> Task:
    """Build a task from the columns of `TASK`."""
    values = list(row)
    values[_STATUS] = _STATUSES[values[_STATUS]]
    values[_REASON] = _REASONS[values[_REASON]]
    values[_CONFIRMED] = values[_CONFIRMED] == 1
    values[_EXPECTS] = values[_EXPECTS] == 1
    return Task._make(values)


def as_body(row: Row) -> Body:
    """Build a body from the columns of `BODY`."""
    values = list(row)
    values[_TAGS] = tuple(json.loads(values[_TAGS])) if values[_TAGS] else ()
    return Body._make(values)


def as_attempt(row: Row) -> Attempt:
    """Build an attempt from the columns of `ATTEMPT`."""
    return Attempt(*row)


def as_event(row: Row) -> Event:
    """Build an event from the columns of `EVENT`."""
    return Event(*row)


def as_artifact(row: Row) -> Artifact:
    """Build an artifact from the columns of `ARTIFACT`."""
    return Artifact(*row)


def as_schedule(row: Row) -> Schedule:
    """Build a schedule from the columns of `SCHEDULE`."""
    number, name, cron, zone, misfire, overlap, enabled, *rest = row
    return Schedule(number, name, cron, zone, Misfire(misfire), Overlap(overlap), enabled == 1, *rest)


def as_occurrence(row: Row) -> Occurrence:
    """Build an occurrence from the columns of `OCCURRENCE`."""
    schedule_id, due_at, fate, *rest = row
    return Occurrence(schedule_id, due_at, Fate(fate), *rest)


def as_template(row: Row) -> Template:
    """Build a template from the columns of `TEMPLATE`."""
    return Template(*row)
