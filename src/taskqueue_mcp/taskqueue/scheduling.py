"""Schedules as their owners see them: create, edit, pause, resume, run now, delete, preview, history."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import checks, lifecycle
from taskqueue_mcp import cron as crons
from taskqueue_mcp.errors import InvalidInput, NotFound, WrongStatus
from taskqueue_mcp.model import Fate, Micros, Misfire, Overlap, Schedule, Task
from taskqueue_mcp.store import events, schedules
from taskqueue_mcp.taskqueue import creating, firing, merging, moving, promoting, rights
from taskqueue_mcp.taskqueue.creating import NewTask
from taskqueue_mcp.taskqueue.merging import Wanted

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller, Occurrence
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

DAY = 86_400
LONGEST_GRACE = 366 * DAY
MOST_WRITTEN_OFF = 10_000
ACTIONS = ("list", "preview", "pause", "resume", "run_now", "delete", "history")


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """The arguments of `schedule_task`; None leaves what an existing schedule has."""

    name: str
    cron: str
    wanted: Wanted
    timezone: str | None = None
    misfire: str | None = None
    overlap: str | None = None
    enabled: bool | None = None
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule with its next due times; `notes` are what may surprise."""

    schedule: Schedule
    next_runs: tuple[Micros, ...]
    notes: tuple[str, ...] = ()
    created: bool = False


def put(transaction: Transaction, rules: Rules, caller: Caller, new: NewSchedule) -> Planned:
    """Create a schedule, or edit the one of this name; its next run stands as a pending task.

    Raises:
        InvalidInput: the expression, the zone or an argument of its task is not what it must be.
    """
    name = checks.name("name", new.name)
    schedules.by_name(transaction, name, lock=True)  # before its run, which is locked when it is due
    promoting.promote(transaction, rules)
    found = schedules.by_name(transaction, name, lock=True)
    if found is not None:
        found = _settle_passed(transaction, rules, found)
    values = _values(rules, new, found)
    cron = crons.parse(new.cron, values["timezone"])
    values["cron"] = cron.expression
    wanted = Wanted(**_wanted(new, found))
    merged = merging.merge(transaction, rules, wanted)
    rights.check(transaction, rules, caller, wanted, merged)
    merging.check_params(rules, merged)
    trusts = [rights.trust_in(caller).value, *([] if found is None else [found.trust])]
    values["trust"] = rights.least(trusts).value
    values["rights"] = rights.of(caller).written()
    values["body"] = json.dumps(wanted.given(), ensure_ascii=False)
    due_at = crons.next_after(cron, transaction.now)
    if found is None:
        values["next_due_at"] = due_at
        schedule = schedules.insert(transaction, {**values, "name": name, "principal": caller.name})
        firing.stand_for(transaction, rules, schedule, due_at)
        kind = "created"
    else:
        values["next_due_at"] = due_at = _next_unsettled(transaction, found, cron)
        edited = schedules.edit(transaction, {**values, "id": found.id})
        if edited is None:
            raise NotFound(f"schedule {name!r} was deleted meanwhile; create it again")
        schedule, kind = edited, "edited"
        _stand_again(transaction, rules, schedule, due_at)
    events.record_other(transaction, "schedule", schedule.id, kind, caller.name, {"cron": cron.expression})
    transaction.signal("schedule", name)
    return _planned(transaction, schedule, created=found is None)


def fetch(transaction: Transaction, name: str, *, lock: bool = False) -> Schedule:
    """Return a schedule; with `lock` nobody else changes it until this work is committed.

    Raises:
        NotFound: there is none of this name.
    """
    schedule = schedules.by_name(transaction, checks.name("name", name), lock=lock)
    if schedule is None:
        raise NotFound(f"there is no schedule {name!r}; manage_schedule with action list shows those that exist")
    return schedule


def preview(transaction: Transaction, name: str, count: int) -> Planned:
    """Return a schedule with its next due times."""
    return _planned(transaction, fetch(transaction, name), count=count)


def pause(transaction: Transaction, rules: Rules, caller: Caller, name: str) -> Planned:
    """Stop a schedule; due times that pass meanwhile end as `skipped`."""
    schedule = _settle_passed(transaction, rules, fetch(transaction, name, lock=True))
    if schedule.enabled:
        schedule = _enable(transaction, schedule, enabled=False)
        _stand_again(transaction, rules, schedule, schedule.next_due_at)
        events.record_other(transaction, "schedule", schedule.id, "paused", caller.name)
    return _planned(transaction, schedule)


def resume(transaction: Transaction, rules: Rules, caller: Caller, name: str) -> Planned:
    """Let a paused schedule go on from its next due time."""
    schedule = fetch(transaction, name, lock=True)
    if not schedule.enabled:
        schedule = _enable(transaction, schedule, enabled=True)
        _stand_again(transaction, rules, schedule, schedule.next_due_at)
        events.record_other(transaction, "schedule", schedule.id, "resumed", caller.name)
        promoting.promote(transaction, rules)
        schedule = fetch(transaction, name)
    return _planned(transaction, schedule)


def run_now(transaction: Transaction, rules: Rules, caller: Caller, name: str) -> Task:
    """Create a run of its own, beside the schedule's due times."""
    schedule = fetch(transaction, name, lock=True)
    made = creating.create(transaction, rules, caller, NewTask(firing.wanted(schedule)), schedule)
    events.record_other(transaction, "schedule", schedule.id, "run_now", caller.name, {"task": f"T-{made.task.id}"})
    return made.task


def delete(transaction: Transaction, rules: Rules, caller: Caller, name: str) -> Schedule:
    """Delete a schedule with its standing run; earlier runs and the history stay."""
    schedule = _settle_passed(transaction, rules, fetch(transaction, name, lock=True))
    if schedule.standing_task_id is not None:
        standing = moving.locked(transaction, schedule.standing_task_id)
        change = lifecycle.cancel(standing, "its schedule was deleted")
        moving.move(transaction, standing, change, "cancelled", caller.name)
    schedules.delete(transaction, schedule)
    events.record_other(transaction, "schedule", schedule.id, "deleted", caller.name)
    transaction.signal("schedule", name)
    return schedule


def history(transaction: Transaction, name: str, before: Micros | None, limit: int) -> list[Occurrence]:
    """Return how past due times ended, newest first; of a deleted schedule too."""
    schedule = schedules.last_named(transaction, checks.name("name", name)) or fetch(transaction, name)
    return schedules.history(transaction, schedule.id, before, limit)


def standing_for(transaction: Transaction, task: Task) -> Schedule | None:
    """Return the schedule whose next due time `task` stands for, if it does."""
    if task.schedule_id is None:
        return None
    schedule = schedules.by_id(transaction, task.schedule_id, lock=True)
    return schedule if schedule is not None and schedule.standing_task_id == task.id else None


def skip_cancelled(transaction: Transaction, rules: Rules, schedule: Schedule, cancelled: Task, principal: str) -> None:
    """Write down that a standing run was cancelled, and let the due time after it stand."""
    due_at = cancelled.due_at or transaction.now
    schedules.record(transaction, schedule.id, due_at, Fate.SKIPPED.value, f"cancelled by {principal}", cancelled.id)
    following = firing.unsettled(transaction, schedule, due_at)
    firing.stand_for(transaction, rules, schedule, following, cancelled)


def _settle_passed(transaction: Transaction, rules: Rules, schedule: Schedule) -> Schedule:
    """Let every due time that has passed end as a row, before the schedule changes or goes."""
    if not schedule.enabled:
        _write_off_paused(transaction, schedule)
        return schedule
    while schedule.next_due_at is not None and schedule.next_due_at <= transaction.now:
        standing = moving.locked(transaction, schedule.standing_task_id or 0)
        firing.fire(transaction, rules, schedule, standing)
        schedule = fetch(transaction, schedule.name)
    return schedule


def _write_off_paused(transaction: Transaction, schedule: Schedule) -> None:
    if schedule.next_due_at is None:
        return
    cron = crons.Cron(schedule.cron, schedule.timezone)
    for due in crons.due_between(cron, schedule.next_due_at - 1, transaction.now, MOST_WRITTEN_OFF):
        schedules.record(
            transaction,
            schedule.id,
            due,
            Fate.SKIPPED.value,
            "the schedule was paused",
            schedule.standing_task_id,
        )


def _next_unsettled(transaction: Transaction, schedule: Schedule, cron: crons.Cron) -> Micros | None:
    edited = replace(schedule, cron=cron.expression, timezone=cron.timezone)
    return firing.unsettled(transaction, edited, crons.next_after(cron, transaction.now))


def _stand_again(transaction: Transaction, rules: Rules, schedule: Schedule, due_at: Micros | None) -> None:
    standing = None if schedule.standing_task_id is None else moving.locked(transaction, schedule.standing_task_id)
    if standing is None or due_at is None:
        firing.stand_for(transaction, rules, schedule, due_at)
    else:
        firing.restand(transaction, rules, schedule, standing, due_at)


def _enable(transaction: Transaction, schedule: Schedule, *, enabled: bool) -> Schedule:
    changed = schedules.set_enabled(transaction, schedule, enabled=enabled)
    if changed is None:
        raise WrongStatus(f"schedule {schedule.name!r} was deleted meanwhile")
    transaction.signal("schedule", schedule.name)
    return changed


def _values(rules: Rules, new: NewSchedule, found: Schedule | None) -> dict[str, Any]:
    grace = new.grace_seconds if new.grace_seconds is not None else (found.grace_seconds if found else DAY)
    if not 0 <= grace <= LONGEST_GRACE:
        raise InvalidInput(f"grace_seconds: must be from 0 to {LONGEST_GRACE:,}")
    misfire = new.misfire or (found.misfire.value if found else Misfire.COALESCE.value)
    overlap = new.overlap or (found.overlap.value if found else Overlap.SKIP.value)
    enabled = new.enabled if new.enabled is not None else (found.enabled if found else True)
    return {
        "timezone": new.timezone or (found.timezone if found else rules.zone),
        "misfire": checks.one_of("misfire", misfire, Misfire).value,
        "overlap": checks.one_of("overlap", overlap, Overlap).value,
        "enabled": int(enabled),
        "grace_seconds": grace,
    }


def _wanted(new: NewSchedule, found: Schedule | None) -> dict[str, Any]:
    given = new.wanted.given()
    if found is not None:
        given = {**json.loads(found.body), **given}
    if not any(given.get(key) for key in ("title", "sop", "template")):
        given["title"] = new.name
    if "tags" in given:
        given["tags"] = tuple(given["tags"])
    return given


def _planned(transaction: Transaction, schedule: Schedule, *, count: int = 5, created: bool = False) -> Planned:
    current = schedules.by_id(transaction, schedule.id) or schedule
    cron = crons.Cron(current.cron, current.timezone)
    runs = crons.upcoming(cron, transaction.now, count) if current.enabled else []
    return Planned(current, tuple(runs), tuple(crons.notes(cron)), created)
