"""The text of a procedure that an attempt follows, as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp.errors import TaskQueueError

if TYPE_CHECKING:
    from taskqueue_mcp.model import Body
    from taskqueue_mcp.taskqueue.rules import Rules


@dataclass(frozen=True, slots=True)
class FollowedProcedure:
    """The text that an attempt follows, pinned by its hash; `fault` says why there is none."""

    path: str
    sha256: str | None = None
    text: str | None = None
    fault: str | None = None


def pin(rules: Rules, body: Body) -> FollowedProcedure | None:
    """Return the procedure that a task follows, read anew; None for a task without one."""
    if body.sop is None:
        return None
    if rules.procedures is None:
        return FollowedProcedure(body.sop, fault="this server has no folder of procedures; set TASKQUEUE_SOPS")
    try:
        procedure = rules.procedures.load(body.sop)
    except TaskQueueError as error:
        return FollowedProcedure(body.sop, fault=str(error))
    return FollowedProcedure(procedure.path, procedure.sha256, procedure.text)
