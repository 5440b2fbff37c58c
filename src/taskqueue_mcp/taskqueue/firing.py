"""A due time comes: it ends as exactly one row, and the next one stands, in one transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taskqueue_mcp import cron as crons
from taskqueue_mcp import lifecycle
from taskqueue_mcp.errors import TaskQueueError, WrongStatus
from taskqueue_mcp.model import FINAL, Fate, Micros, Misfire, Overlap, Reason, Schedule, Task
from taskqueue_mcp.store import events, queues, schedules, tasks
from taskqueue_mcp.taskqueue import approving, creating, merging, moving, rights
from taskqueue_mcp.taskqueue.merging import Merged, Wanted

if TYPE_CHECKING:
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

ON_TIME = 60 * 1_000_000
"""A run this long after its due time still counts as on time."""
STEP = 200
"""How many missed due times one transaction writes down; a long outage takes several."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How due times end: those that get a run of their own, and a row for each that does not."""

    run: tuple[Micros, ...]
    rows: tuple[tuple[Micros, Fate, str | None], ...]
    following: Micros | None


def fire(transaction: Transaction, rules: Rules, schedule: Schedule, standing: Task) -> None:
    """Settle every due time up to now: write its row, release its run, and let the next one stand."""
    settled = schedules.settled_since(transaction, schedule.id, schedule.next_due_at or transaction.now)
    verdict = judge(schedule, transaction.now, rules.limits.missed_runs, settled)
    merged = _merged_again(transaction, rules, schedule, standing)
    run, rows = list(verdict.run), list(verdict.rows)
    if run:
        blocked = _overlapping(transaction, schedule, standing)
        if blocked is not None:
            rows += [(due, Fate.SKIPPED, blocked) for due in run]
            run = []
    used: Task | None = None
    for due in run:
        if used is None:
            used = task = _retarget(transaction, standing, merged, schedule, due, paused=False)
        else:
            task = _stand(transaction, merged, schedule, due)
        _start(transaction, rules, schedule, task, due)
    for due, fate, reason in rows:
        shared = standing.id if fate is Fate.COALESCED else None
        schedules.record(transaction, schedule.id, due, fate.value, reason, shared)
    if rows:
        told = _told(rows)
        events.record_other(transaction, "schedule", schedule.id, "not_run", events.SYSTEM, told)
    _let_next_stand(transaction, merged, schedule, verdict, None if used is not None else standing)


def judge(
    schedule: Schedule, now: Micros, most_runs: int, settled: frozenset[Micros] = frozenset()
) -> Verdict:  # fmt: skip
    """Decide purely how the due times from the standing one to now end, but for those that are `settled`.

    Some are when the clock was set back and the schedule edited then.
    """
    cron = crons.Cron(schedule.cron, schedule.timezone)
    first = schedule.next_due_at
    if first is None or first > now:
        return Verdict((), (), first)
    dues = [first, *crons.due_between(cron, first, now, STEP)]
    if len(dues) > STEP:
        following: Micros | None = dues.pop()
        whole = False
    else:
        following = crons.next_after(cron, now)
        whole = True
    paused_until = schedule.resumed_at or 0
    rows: list[tuple[Micros, Fate, str | None]] = [
        (due, Fate.SKIPPED, "the schedule was paused") for due in dues if due <= paused_until and due not in settled
    ]
    later = 0 if whole else len(crons.due_between(cron, dues[-1], now, most_runs))
    dues = [due for due in dues if due > paused_until and due not in settled]
    grace = schedule.grace_seconds * 1_000_000
    alive = [due for due in dues if now - due <= max(grace, ON_TIME)]
    rows += [(due, Fate.MISSED, "nobody was up within the grace") for due in dues if now - due > max(grace, ON_TIME)]
    match schedule.misfire:
        case Misfire.COALESCE:
            run = alive[-1:] if whole else []
            rows += [
                (due, Fate.COALESCED, "one run stands for all that were missed") for due in alive if due not in run
            ]
        case Misfire.SKIP:
            run = [due for due in alive if now - due <= ON_TIME and whole and due == alive[-1]]
            rows += [(due, Fate.MISSED, "nobody was up at its time") for due in alive if due not in run]
        case _:
            run = alive[max(0, len(alive) - most_runs + later) :]
            too_many = f"only {most_runs} missed runs are made up for"
            rows += [(due, Fate.MISSED, too_many) for due in alive if due not in run]
    return Verdict(tuple(run), tuple(rows), following)


def _start(transaction: Transaction, rules: Rules, schedule: Schedule, task: Task, due: Micros) -> None:
    late = transaction.now - due > ON_TIME
    fate = Fate.LATE if late else Fate.FIRED
    schedules.record(transaction, schedule.id, due, fate.value, None, task.id)
    events.record_other(
        transaction,
        "schedule",
        schedule.id,
        fate.value,
        events.SYSTEM,
        {"task": f"T-{task.id}", "due_at": due},
    )
    if approving.hold(transaction, rules, task) is None:
        moving.admit(transaction, task)
    schedules.watch(transaction, task.id, rules.unclaimed_seconds * 1_000_000)


def _overlapping(transaction: Transaction, schedule: Schedule, standing: Task) -> str | None:
    """Return why the run has to be skipped, having done what the overlap policy asks for."""
    if schedule.overlap is Overlap.ALLOW:
        return None
    unfinished = schedules.unfinished(transaction, schedule.id, standing.id)
    if not unfinished:
        return None
    if schedule.overlap is Overlap.SKIP:
        return f"T-{unfinished[0].id} was still {unfinished[0].status}"
    if schedule.overlap is Overlap.QUEUE_ONE:
        waiting = [task for task in unfinished if task.attempt == 0]
        return f"T-{waiting[0].id} was waiting already" if waiting else None
    for found in unfinished:
        task = moving.locked(transaction, found.id)  # the end of one before it may have moved it
        if task.status not in FINAL:
            change = lifecycle.cancel(task, "the next run of its schedule is due")
            moving.move(transaction, task, change, "cancelled", events.SYSTEM, {"schedule": schedule.name})
    return None


def serial_key(schedule_id: int, overlap: Overlap, own: str | None) -> str | None:
    """Return the line that runs of a schedule wait in: with `queue_one` they run one after the other."""
    return f"schedule:{schedule_id}" if overlap is Overlap.QUEUE_ONE and own is None else own


def stand_for(
    transaction: Transaction, rules: Rules, schedule: Schedule, due_at: Micros | None, before: Task | None = None
) -> Task | None:
    """Store the task that stands for a due time, in place of the one `before` if there was one."""
    if before is None:
        merged = _merged(transaction, rules, schedule)
    else:
        merged = _merged_again(transaction, rules, schedule, before)
    task = None if due_at is None else _stand(transaction, merged, schedule, due_at)
    schedules.stands(transaction, schedule, due_at, None if task is None else task.id, None)
    return task


def restand(transaction: Transaction, rules: Rules, schedule: Schedule, standing: Task, due_at: Micros) -> Task:
    """Let the standing task of an edited, paused or resumed schedule stand for `due_at`."""
    merged = _merged_again(transaction, rules, schedule, standing)
    task = _retarget(transaction, standing, merged, schedule, due_at, paused=not schedule.enabled)
    schedules.stands(transaction, schedule, due_at, task.id, None)
    return task


def unsettled(transaction: Transaction, schedule: Schedule, due_at: Micros | None) -> Micros | None:
    """Return `due_at`, or the first due time after it that has not ended as a row already."""
    cron = crons.Cron(schedule.cron, schedule.timezone)
    while due_at is not None and schedules.is_settled(transaction, schedule.id, due_at):
        due_at = crons.next_after(cron, due_at)
    return due_at


def wanted(schedule: Schedule) -> Wanted:
    """Return the arguments that each run of a schedule is created with."""
    body = json.loads(schedule.body)
    if "tags" in body:
        body["tags"] = tuple(body["tags"])
    return Wanted(**body)


def _merged(transaction: Transaction, rules: Rules, schedule: Schedule) -> Merged:
    """Merge the arguments of a run, with the rights of who wrote its schedule."""
    asked, held = wanted(schedule), rights.read(schedule.rights)
    merged = merging.merge(transaction, rules, asked)
    rights.check_run(transaction, rules, asked, merged, held, schedule.name)
    origin = rights.Origin(held, rights.least([schedule.trust]))
    return replace(merged, body=origin.stamp(merged.body))


def _merged_again(transaction: Transaction, rules: Rules, schedule: Schedule, standing: Task) -> Merged:
    """Merge the run's arguments as they are now; when that fails the run is what it was created as."""
    try:
        return _merged(transaction, rules, schedule)
    except TaskQueueError as error:
        events.record_other(
            transaction, "schedule", schedule.id, "stale_body", events.SYSTEM,
            {"task": f"T-{standing.id}", "why": str(error)},
        )  # fmt: skip
    return Merged(
        title=standing.title,
        task_type=standing.task_type,
        executor=standing.executor,
        queue=standing.queue,
        priority=standing.priority,
        max_attempts=standing.max_attempts,
        serial_key=standing.serial_key,
        body=tasks.fetch_body(transaction, standing.id),
    )


def _retarget(
    transaction: Transaction,
    standing: Task,
    merged: Merged,
    schedule: Schedule,
    due_at: Micros,
    *,
    paused: bool,
) -> Task:
    row = merged.row()
    row["serial_key"] = serial_key(schedule.id, schedule.overlap, merged.serial_key)
    if merged.queue != standing.queue:
        queues.leave(transaction, standing.queue)
        queues.enter(transaction, merged.queue, queues.NO_LIMIT, inner=True)
    task = tasks.retarget(
        transaction,
        standing,
        {
            **row,
            "due_at": due_at,
            "sort_at": lifecycle.sort_at(due_at, merged.priority),
            "reason": (Reason.PAUSED if paused else Reason.SCHEDULED).value,
        },
    )
    if task is None:
        raise WrongStatus(f"T-{standing.id} has moved on meanwhile; look at it again with get_task")
    tasks.rewrite_body(transaction, task.id, merged.body)
    events.record(transaction, task, "rescheduled", events.SYSTEM, {"due_at": due_at})
    return task


def _stand(transaction: Transaction, merged: Merged, schedule: Schedule, due_at: Micros) -> Task:
    key = serial_key(schedule.id, schedule.overlap, merged.serial_key)
    return creating.occurrence(
        transaction, merged, schedule.id, due_at, schedule.created_by, key, paused=not schedule.enabled
    )


def _let_next_stand(
    transaction: Transaction, merged: Merged, schedule: Schedule, verdict: Verdict, standing: Task | None
) -> None:
    """`standing` is the task that was not used up; it stands for the next due time, else a new one does."""
    settled = max((due for due, _, _ in verdict.rows), default=None)
    last = max([*verdict.run, *([settled] if settled is not None else [])], default=None)
    due_at = unsettled(transaction, schedule, verdict.following)
    if due_at is None:
        if standing is not None:
            change = lifecycle.cancel(standing, "its schedule is never due again")
            moving.move(transaction, standing, change, "cancelled", events.SYSTEM)
        schedules.stands(transaction, schedule, None, None, last)
        events.record_other(transaction, "schedule", schedule.id, "exhausted", events.SYSTEM)
        return
    if standing is not None:
        task = _retarget(transaction, standing, merged, schedule, due_at, paused=not schedule.enabled)
    else:
        task = _stand(transaction, merged, schedule, due_at)
    schedules.stands(transaction, schedule, due_at, task.id, last)


def _told(rows: list[tuple[Micros, Fate, str | None]]) -> dict[str, object]:
    counts: dict[str, int] = {}
    for _, fate, _ in rows:
        counts[fate.value] = counts.get(fate.value, 0) + 1
    return {**counts, "from": rows[0][0], "to": rows[-1][0]}
