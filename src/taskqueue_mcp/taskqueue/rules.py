"""What the transitions are parametrised with; built once by `app`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence  # noqa: TC003 - types of public fields
from dataclasses import dataclass, field
from typing import Any, Protocol

from taskqueue_mcp.budgets import Budgets
from taskqueue_mcp.model import Trust
from taskqueue_mcp.outputs.folder import OutputFolder  # noqa: TC001 - types of public fields
from taskqueue_mcp.procedures.folder import ProcedureFolder  # noqa: TC001 - the same
from taskqueue_mcp.retries import Backoff, Reopening
from taskqueue_mcp.taskqueue.limits import Limits

EXECUTOR_OF_TYPE = {
    "report_generation": "report",
    "report": "report",
    "query_execution": "query",
    "query": "query",
    "calculation": "calculation",
    "cli": "shell",
    "shell": "shell",
    "mail": "mail",
    "email": "mail",
}
DEFAULT_EXECUTOR = "claude"
OPEN_EXECUTORS = ("calculation", "claude", "query", "report")
"""What they may do is the owner's to say, beforehand, in the settings and procedures; what others may, a task says."""
SENSITIVE = ("mail", "email", "push", "git_push", "payment")
SENSITIVE_FROM_STRANGERS = ("shell",)


class Catalogue(Protocol):
    """The executors that this program knows."""

    def names(self) -> tuple[str, ...]:
        """Return their names."""

    def describe(self, name: str) -> dict[str, Any]:
        """Return `{name, description, params}` of one; `params` is a JSON schema.

        Raises:
            NotFound: there is none of this name.
        """

    def load(self, name: str) -> object:
        """Load what `check` needs of one; it may take a while, once."""

    def check(self, name: str, params: Mapping[str, Any]) -> None:
        """Refuse parameters that the executor would refuse; one that is not known here takes any.

        Raises:
            InvalidInput: one line with every bad field.
        """


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits, times, and the folders of procedures and of files that attempts made."""

    procedures: ProcedureFolder | None = None
    outputs: OutputFolder | None = None
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    reopening: Reopening = field(default_factory=Reopening)
    budgets: Budgets = field(default_factory=Budgets)
    zone: str = "UTC"
    executor_of_type: dict[str, str] = field(default_factory=lambda: dict(EXECUTOR_OF_TYPE))
    executors: Catalogue | None = None
    open_executors: frozenset[str] = frozenset(OPEN_EXECUTORS)
    sensitive: frozenset[str] = frozenset(SENSITIVE)
    sensitive_from_strangers: frozenset[str] = frozenset(SENSITIVE_FROM_STRANGERS)
    lease_seconds: int = 900
    first_lease_seconds: int = 60
    redeliver_seconds: int = 60
    unclaimed_seconds: int = 900
    keep_finished_days: float = 30.0
    keep_history_days: float = 365.0
    keep_logs_days: float = 7.0
    least_free_bytes: int = 64 * 1024 * 1024
    chance: Callable[[], float] = random.random

    def executor(self, task_type: str) -> str:
        """Return the executor that does work of this type."""
        return self.executor_of_type.get(task_type, DEFAULT_EXECUTOR)

    def is_sensitive(self, executor: str, task_type: str, trust: str | None) -> bool:
        """Whether a person has to approve such a task before it runs."""
        kinds = {executor, task_type}
        return bool(kinds & self.sensitive) or (trust == Trust.EXTERNAL and bool(kinds & self.sensitive_from_strangers))
