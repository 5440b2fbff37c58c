"""Every error raised on purpose. Each is one line: what, why, what to do next.

`code` is for programs; the surfaces translate it once (MCP structured content, HTTP status, exit code).
"""

from __future__ import annotations

from typing import Any


class TaskQueueError(Exception):
    """Something a caller can understand and act on."""

    code = "error"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


class InvalidInput(TaskQueueError):
    """An argument is not what it must be."""

    code = "invalid_input"


class NotFound(TaskQueueError):
    """No such task, schedule, template, procedure, queue or token."""

    code = "not_found"


class WrongStatus(TaskQueueError):
    """The task's status does not allow this transition."""

    code = "wrong_status"


class LeaseLost(TaskQueueError):
    """The lease is stale, forged or another principal's; nothing was changed."""

    code = "lease_lost"


class Conflict(TaskQueueError):
    """The same key or lease was used before with another body; the first one stands."""

    code = "conflict"


class Forbidden(TaskQueueError):
    """The caller lacks the scope, or may not do this to this task."""

    code = "forbidden"


class LimitReached(TaskQueueError):
    """A limit bounds the damage; nothing was changed."""

    code = "limit_reached"


class StorageFull(TaskQueueError):
    """There is no room for a file; nothing of it was kept."""

    code = "storage_full"


class Busy(TaskQueueError):
    """The database is locked by another process or the disk is full; nothing was changed, try again."""

    code = "busy"


class ShuttingDown(TaskQueueError):
    """The server is stopping; call again."""

    code = "call_again"


class DatabaseRefused(TaskQueueError):
    """The database cannot be used as it is; the file was left untouched."""

    code = "database_refused"


class SettingsRefused(TaskQueueError):
    """The settings are wrong; all faults are listed at once."""

    code = "settings_refused"
