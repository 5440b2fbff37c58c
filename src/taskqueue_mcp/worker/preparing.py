"""What an executor is given: the procedure and the parameters of a claim, checked before anything runs."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validated_over
from taskqueue_mcp.procedures.parsing import parse

if TYPE_CHECKING:
    from datetime import tzinfo

    from taskqueue_mcp.executors.base import Executor, Params
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.worker.claims import Claim


def procedure(claim: Claim) -> Procedure | None:
    """Return the procedure that this attempt follows, from the text that came with its claim.

    Raises:
        InvalidInput: it cannot be followed; the task must not be done without it.
    """
    sent = claim.procedure
    if sent is None:
        if claim.task.get("sop"):
            raise InvalidInput(f"the procedure {claim.task['sop']} did not come with the task")
        return None
    if sent.get("fault"):
        raise InvalidInput(f"the procedure cannot be followed: {sent['fault']}")
    found = parse(sent["path"], sent["text"])
    if found.sha256 != sent["sha256"]:
        raise InvalidInput(f"the text of {sent['path']} is not the one that this attempt is to follow")
    return found


def params(executor: Executor[Any], claim: Claim, followed: Procedure | None) -> Params:
    """Return the task's parameters over the procedure's defaults, checked by both.

    Raises:
        InvalidInput: with what is wrong.
    """
    checked: Params = validated_over(executor.params, claim.params, followed, what=f"params of {executor.name}")
    return checked


def zone(name: str | None) -> tzinfo:
    """Return the zone that a claim names, UTC where this machine does not know it."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
