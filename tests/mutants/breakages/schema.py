"""What the database itself refuses, whatever a program asks of it: each guard is taken out once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import BOTH, SQLITE, Edit, Mutant

TABLES: Final = "store/migrations/0001_queue.sql"
REFUSES: Final = ("contract/test_guards.py::test_the_database_itself_refuses",)


def _without(name: str, guard: str, instead: str = "", engines: tuple[str, ...] = (SQLITE,)) -> Mutant:
    return Mutant(
        f"the-database-takes-{name}",
        "the database refuses it itself",
        (Edit(TABLES, guard, instead),),
        REFUSES,
        engines,
    )


def _not_unique(name: str, index: str) -> Mutant:
    return _without(name, f"CREATE UNIQUE INDEX {index} ", f"CREATE INDEX {index} ", BOTH)


MUTANTS: Final = (
    _not_unique("two-tasks-of-one-key", "tasks_one_per_key"),
    _not_unique("two-tasks-of-one-line-at-once", "tasks_one_in_line"),
    _not_unique("two-tasks-of-one-due-time", "tasks_one_per_due_time"),
    _not_unique("two-tasks-under-one-claim-id", "tasks_one_per_claim"),
    _not_unique("two-open-attempts-of-a-task", "attempts_one_open"),
    _not_unique("two-live-schedules-of-one-name", "schedules_live_name"),
    _not_unique("two-live-tokens-of-one-name", "tokens_live_name"),
    _without("two-tokens-of-one-secret", "hash TEXT NOT NULL UNIQUE", "hash TEXT NOT NULL"),
    _without("two-events-of-one-number", "UNIQUE (subject, subject_id, seq)", "CHECK (seq > 0)"),
    _without(
        "two-ends-of-one-due-time", "PRIMARY KEY (schedule_id, due_at)", "PRIMARY KEY (schedule_id, due_at, fate)"
    ),
    _without(
        "a-lease-of-a-task-that-is-not-in-progress", "CHECK ((status = 'in_progress') = (lease_hash IS NOT NULL)),"
    ),
    _without("a-lease-without-its-holder", "CHECK ((lease_hash IS NULL) = (lease_principal IS NULL)),"),
    _without("a-lease-without-an-end", "CHECK ((lease_hash IS NULL) = (lease_expires_at IS NULL)),"),
    _without("a-pending-task-without-a-reason", "CHECK ((status IN ('pending', 'waiting')) = (reason IS NOT NULL)),"),
    _without(
        "an-unknown-reason-to-be-pending",
        "CHECK (status <> 'pending'\n"
        "         OR reason IN ('scheduled', 'dependency', 'retry', 'snooze', 'quota', 'serial', 'paused')),",
    ),
    _without(
        "a-task-that-waits-for-no-person",
        "CHECK (status <> 'waiting' OR reason IN ('approval', 'question', 'budget')),",
    ),
    _without(
        "a-final-task-without-an-end",
        "CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),",
    ),
    _without("a-blocked-task-that-is-ready", "CHECK (status NOT IN ('ready', 'in_progress') OR blockers = 0),"),
    _without("a-task-that-waits-for-nothing", "CHECK (reason <> 'dependency' OR blockers > 0),"),
    _without("more-failures-than-attempts", ",\n  CHECK (failures <= attempt)"),
    _without("a-task-without-a-title", " CHECK (title <> '')"),
    _without("an-unknown-priority", " CHECK (priority IN ('low', 'medium', 'high', 'urgent'))"),
    _without(
        "an-unknown-status",
        " CHECK (\n    status IN ('pending', 'ready', 'in_progress', 'waiting', 'completed', 'failed', 'cancelled'))",
    ),
    _without("a-queue-with-less-than-nothing-in-it", " CHECK (open_tasks >= 0)"),
    _without("an-unknown-state-of-a-queue", " CHECK (state IN ('open', 'paused', 'draining'))"),
    _without("a-task-that-may-never-be-tried", " CHECK (max_attempts > 0)"),
    _without("less-than-no-blockers", " CHECK (blockers >= 0)"),
    _without("a-dependency-on-itself", ",\n  CHECK (task_id <> depends_on)"),
    _without(
        "a-dependency-on-nothing",
        "depends_on {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE",
        "depends_on {integer} NOT NULL",
    ),
    _without("an-attempt-that-ended-without-an-outcome", ",\n  CHECK ((ended_at IS NULL) = (outcome IS NULL))"),
    _without("an-answer-of-nobody", ",\n  CHECK ((answered_at IS NULL) = (answered_by IS NULL))"),
    _without("a-due-time-that-was-skipped-without-a-reason", ",\n  CHECK (fate <> 'skipped' OR reason IS NOT NULL)"),
    _without("an-unknown-fate-of-a-due-time", " CHECK (fate IN ('fired', 'late', 'missed', 'skipped', 'coalesced'))"),
)
