"""What must be true of a queue's database whatever happened to the processes that wrote it."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.store.sqlite_transaction import SqliteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.database import Row, Transaction

PENDING, READY, HELD, WAITING = "pending", "ready", "in_progress", "waiting"
FINAL = {"completed", "failed", "cancelled"}
TAKEN_BACK = {PENDING, WAITING, "failed"}
LEGAL: dict[str, tuple[set[str], set[str]]] = {
    "created": ({""}, {PENDING, READY, WAITING}),
    "ready": ({PENDING}, {READY}),
    "queued": ({PENDING}, {PENDING}),
    "blocked": ({PENDING}, {PENDING}),
    "unblocked": ({PENDING}, {PENDING}),
    "rescheduled": ({PENDING}, {PENDING}),
    "claimed": ({READY}, {HELD}),
    "redelivered": ({HELD}, {HELD}),
    "progress": ({HELD}, {HELD}),
    "approval_asked": ({PENDING, READY, HELD, WAITING}, {WAITING}),
    "approved": ({WAITING}, {PENDING}),
    "retry": ({HELD}, {PENDING}),
    "released": ({HELD}, {PENDING}),
    "snoozed": ({HELD}, {PENDING}),
    "lease_lost": ({HELD}, TAKEN_BACK),
    "reopened": ({"failed", "cancelled", "completed"}, {PENDING}),
    "completed": ({HELD}, {"completed"}),
    "failed": ({HELD, PENDING}, {"failed"}),
    "cancelled": ({PENDING, READY, HELD, WAITING}, {"cancelled"}),
}
"""By kind of event: where the task may come from, and where it may be after it."""
RENEWING = {"claimed", "redelivered", "progress"}

EVENTS = """
SELECT subject_id, position, seq, attempt, kind, at FROM events WHERE subject = 'task' ORDER BY subject_id, seq
"""
TASKS = "SELECT id, status, attempt, seq, serial_key, blockers FROM tasks"

COUNTERS = {
    "a queue's counter is not the number of its open tasks": """
        SELECT name, open_tasks, found FROM (
            SELECT name, open_tasks, (SELECT count(*) FROM tasks WHERE queue = name AND finished_at IS NULL) AS found
              FROM queues) AS counted
         WHERE open_tasks <> found""",
    "a task's counter is not the number of open tasks it waits for": """
        SELECT id, blockers, found FROM (
            SELECT id, blockers,
                   (SELECT count(*) FROM dependencies JOIN tasks AS other ON other.id = depends_on
                     WHERE task_id = tasks.id AND other.finished_at IS NULL) AS found
              FROM tasks WHERE finished_at IS NULL) AS counted
         WHERE blockers <> found""",
    "two tasks have one key": """
        SELECT created_by, idempotency_key, count(*) FROM tasks WHERE idempotency_key IS NOT NULL
         GROUP BY 1, 2 HAVING count(*) > 1""",
    "two tasks stand for one due time": """
        SELECT schedule_id, due_at, count(*) FROM tasks WHERE due_at IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1""",
    "a task and its attempts disagree": """
        SELECT id, attempt FROM tasks
         WHERE attempt <> (SELECT count(*) FROM attempts WHERE task_id = id)
            OR attempt <> (SELECT coalesce(max(attempts.attempt), 0) FROM attempts WHERE task_id = id)
            OR (status = 'in_progress') <> EXISTS (SELECT 1 FROM attempts WHERE task_id = id AND ended_at IS NULL)
            OR (status = 'completed') <> EXISTS (
                 SELECT 1 FROM attempts WHERE task_id = id AND outcome = 'completed'
                    AND attempts.attempt = tasks.attempt)""",
}


def broken(transaction: Transaction, lease_seconds: float) -> list[str]:
    """Return every violation; `lease_seconds` is the length of every lease and renewal."""
    found = [f"{what}: {row}" for what, query in COUNTERS.items() for row in transaction.all(query)]
    if isinstance(transaction, SqliteTransaction):
        found += [f"integrity: {row[0]}" for row in transaction.all("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"foreign key: {row}" for row in transaction.all("PRAGMA foreign_key_check")]
    histories: dict[int, list[Row]] = defaultdict(list)
    for task_id, *event in transaction.all(EVENTS):
        histories[task_id].append(tuple(event))
    tasks = {row[0]: row[1:] for row in transaction.all(TASKS)}
    found += [f"T-{task_id} has events and is not stored" for task_id in histories.keys() - tasks.keys()]
    for task_id, (status, attempt, seq, *_) in tasks.items():
        events = histories[task_id]
        found += [f"T-{task_id}: {why}" for why in _illegal(events, status, attempt, seq)]
        found += [f"T-{task_id}: {why}" for why in _taken_too_early(events, round(lease_seconds * 1_000_000))]
    found += _overlaps(tasks, histories)
    found += _too_early(transaction, histories)
    return found


def _illegal(events: list[Row], status: str, attempt: int, seq: int) -> Iterator[str]:
    """Replay a task's events against the diagram of the design, from nothing to how it is stored."""
    if [event[1] for event in events] != list(range(1, seq + 1)):
        yield f"events {[event[1] for event in events]} up to {seq} have gaps"
    stands, claims, ends = {""}, 0, 0
    for _, _, number, kind, _ in events:
        before, after = LEGAL.get(kind, (set[str](), set[str]()))
        if not stands & before:
            yield f"{kind} while {'/'.join(stands)}"
        claims += kind == "claimed"
        if (number or 0) != claims:
            yield f"{kind} in attempt {number} after {claims} claims"
        stands, ends = after, ends + (kind in FINAL)
    if status not in stands or attempt != claims:
        yield f"is {status} in attempt {attempt} after {[event[3] for event in events]}"
    if ends > 1:
        yield f"became final {ends} times"


def _taken_too_early(events: list[Row], lease: int) -> Iterator[str]:
    """A lease holds until it has run out, which every renewal puts off."""
    renewed = 0
    for _, _, _, kind, at in events:
        if kind in RENEWING:
            renewed = at
        if kind == "lease_lost" and at <= renewed + lease:
            yield f"its lease was taken back {(renewed + lease - at) / 1e6:.3f} s before it ran out"


def _overlaps(tasks: dict[int, Any], histories: dict[int, list[Row]]) -> Iterator[str]:
    """Of tasks with one serial key, one at a time is in progress."""
    lines: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for task_id, (_, _, _, serial_key, _) in tasks.items():
        if serial_key is None:
            continue
        begun = None
        for position, _, _, kind, _ in histories[task_id]:
            if begun is not None and kind not in RENEWING:
                lines[serial_key].append((begun, position, task_id))
                begun = None
            if kind == "claimed":
                begun = position
        if begun is not None:
            lines[serial_key].append((begun, 1 << 62, task_id))
    for serial_key, spans in lines.items():
        spans.sort()
        for (_, over, first), (begun, _, second) in pairwise(spans):
            if begun < over:
                yield f"T-{first} and T-{second} of the line {serial_key!r} were in progress at once"


def _too_early(transaction: Transaction, histories: dict[int, list[Row]]) -> Iterator[str]:
    """Nothing starts before what it depends on has completed (or ended, where that will do)."""
    query = "SELECT task_id, depends_on, on_dependency_failure FROM dependencies JOIN bodies USING (task_id)"
    for task_id, depends_on, on_failure in transaction.all(query):
        begun = next((event[0] for event in histories[task_id] if event[3] == "claimed"), None)
        if begun is None:
            continue
        last = histories[depends_on][-1]
        enough = {"completed"} if on_failure == "fail" else {*FINAL, "lease_lost"}
        if last[3] not in enough or last[0] > begun:
            yield f"T-{task_id} began at {begun}, and T-{depends_on}, which it waits for, {last[3]} at {last[0]}"
