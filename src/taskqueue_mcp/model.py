"""The nouns of the queue. Frozen, typed, without behaviour; instants are microseconds since the epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

Micros = int
"""An instant: microseconds since 1970-01-01T00:00:00Z."""

JsonText = str
"""A JSON document, byte for byte as it came in."""


class Status(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    READY = "ready"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Reason(StrEnum):
    """Why a task is pending (it will become ready by itself) or waiting (a person must act)."""

    SCHEDULED = "scheduled"
    DEPENDENCY = "dependency"
    RETRY = "retry"
    SNOOZE = "snooze"
    QUOTA = "quota"
    SERIAL = "serial"
    PAUSED = "paused"
    APPROVAL = "approval"
    QUESTION = "question"
    BUDGET = "budget"


class Priority(StrEnum):
    """A head start in time, never a class of its own: nothing starves."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


class Scope(StrEnum):
    """What a token may do."""

    ENQUEUE = "enqueue"
    WORK = "work"
    ANSWER = "answer"
    ADMIN = "admin"


class Kind(StrEnum):
    """What a principal is."""

    PERSON = "person"
    AGENT = "agent"
    SERVICE = "service"


class Trust(StrEnum):
    """Where a task's text comes from: the least trusted of all that it was made of."""

    OWNER = "owner"
    AGENT = "agent"
    EXTERNAL = "external"


class Misfire(StrEnum):
    """What becomes of due times that nobody was up for."""

    COALESCE = "coalesce"
    SKIP = "skip"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a due time while an earlier run is unfinished."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    ALLOW = "allow"
    CANCEL_PREVIOUS = "cancel_previous"


class Fate(StrEnum):
    """How a due time ended; each ends as exactly one row."""

    FIRED = "fired"
    LATE = "late"
    MISSED = "missed"
    SKIPPED = "skipped"
    COALESCED = "coalesced"


class Standing(StrEnum):
    """What somebody other than the agent found of a result."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may."""

    name: str
    kind: Kind
    scopes: frozenset[Scope]
    executors: frozenset[str] = frozenset()
    """Those whose tasks it may create besides the ones that are open to all: its scopes `exec:NAME`."""

    def may(self, scope: Scope) -> bool:
        """Whether the caller holds `scope` (`admin` holds them all)."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Task(NamedTuple):
    """A unit of work: the hot row. What it asks for stands in its `Body`.

    These two are tuples because every call makes some: a frozen dataclass of 37 fields takes ten times as long.
    """

    id: int
    title: str
    task_type: str
    executor: str
    queue: str
    priority: str
    status: Status
    reason: Reason | None
    run_at: Micros
    attempt: int
    failures: int
    handbacks: int
    max_attempts: int
    blockers: int
    serial_key: str | None
    worker: str | None
    lease_principal: str | None
    lease_expires_at: Micros | None
    lease_seconds: int
    confirmed: bool
    claim_id: str | None
    claimed_at: Micros | None
    parent_id: int | None
    root_id: int | None
    depth: int
    schedule_id: int | None
    due_at: Micros | None
    created_by: str
    created_at: Micros
    finished_at: Micros | None
    progress: float | None
    message: str | None
    question: str | None
    result_summary: str | None
    result_path: str | None
    error: str | None
    expects: bool
    verdict: str | None
    seq: int


class Body(NamedTuple):
    """What a task asks for; written once, when it is created or fired. Documents are JSON text."""

    instructions: str = ""
    params: JsonText | None = None
    sop: str | None = None
    template: str | None = None
    variables: JsonText | None = None
    output: JsonText | None = None
    outputs: JsonText | None = None
    tags: tuple[str, ...] = ()
    requested_by: str | None = None
    timeout_seconds: int | None = None
    budget_usd: float | None = None
    budget: JsonText | None = None
    on_dependency_failure: str = "fail"
    notify: str | None = None
    plan: str | None = None
    metadata: JsonText | None = None
    only_if: JsonText | None = None
    trust: str | None = None
    rights: str | None = None
    """The executors that its creator had a right to besides the open ones: its children get no others."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One hand-out of a task to a worker."""

    task_id: int
    attempt: int
    principal: str
    worker: str | None
    claimed_at: Micros
    ended_at: Micros | None
    outcome: str | None
    error: str | None
    result_summary: str | None
    result_path: str | None
    result_data: JsonText | None
    procedure_hash: str | None
    usage: JsonText | None
    verdict: JsonText | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, once, in order."""

    position: int
    subject: str
    subject_id: int
    seq: int
    attempt: int | None
    kind: str
    principal: str
    at: Micros
    data: JsonText | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file an attempt made; `path` is relative to the output folder.

    `stored` is where its bytes lie below the server's folder; None where nobody but the attempt has seen them.
    """

    id: int
    task_id: int
    attempt: int
    path: str
    size: int | None
    sha256: str | None
    media_type: str | None
    created_at: Micros
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A task that recurs. `body` is the JSON text of the arguments each run is created with."""

    id: int
    name: str
    cron: str
    timezone: str
    misfire: Misfire
    overlap: Overlap
    enabled: bool
    grace_seconds: int
    body: JsonText
    next_due_at: Micros | None
    standing_task_id: int | None
    last_due_at: Micros | None
    resumed_at: Micros | None
    created_by: str
    created_at: Micros
    updated_at: Micros
    seq: int
    rights: str | None = None
    trust: str | None = None
    approved: str | None = None
    """The hash of what a person approved for all runs."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due time of a schedule and how it ended."""

    schedule_id: int
    due_at: Micros
    fate: Fate
    reason: str | None
    task_id: int | None
    recorded_at: Micros


@dataclass(frozen=True, slots=True)
class Template:
    """A named task with `{{variables}}`; `body` and `defaults` are JSON text."""

    id: int
    name: str
    description: str
    body: JsonText
    defaults: JsonText
    created_by: str
    created_at: Micros
    updated_at: Micros
    seq: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done."""

    summary: str = ""
    path: str | None = None
    data: Any = None
    artifacts: tuple[str, ...] = ()
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt went wrong; `permanent` means another would too."""

    error: str
    permanent: bool = False
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work was said to be done, and a check found that it is not: `error` lists why."""

    error: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Not now, at no cost: `kind` is `quota`, `snooze` or `release`; `resume_at` None means at once."""

    kind: Reason | None
    why: str = ""
    resume_at: Micros | None = None
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A person must say how it goes on; the answer comes with the next attempt."""

    question: str
    usage: dict[str, Any] = field(default_factory=dict)


Outcome = Completed | Failed | Returned
"""What an attempt came to; `lifecycle` says what the task becomes."""

Ended = Outcome | Asked
"""What an executor returns."""
