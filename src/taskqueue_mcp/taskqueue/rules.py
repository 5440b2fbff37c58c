"""What the transitions are parametrised with; built once by `app`."""

from __future__ import annotations

import random
from collections.abc import Callable  # noqa: TC003 - types of public fields
from dataclasses import dataclass, field

from taskqueue_mcp.procedures.folder import ProcedureFolder  # noqa: TC001 - the same
from taskqueue_mcp.retries import Backoff
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
}
DEFAULT_EXECUTOR = "claude"


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits, times and the folder of procedures."""

    procedures: ProcedureFolder | None = None
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    zone: str = "UTC"
    executor_of_type: dict[str, str] = field(default_factory=lambda: dict(EXECUTOR_OF_TYPE))
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
