"""What an executor is given: the procedure and the parameters of a claim, checked before anything runs."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validated, validated_over
from taskqueue_mcp.procedures.parsing import parse
from taskqueue_mcp.worker.fitness import Unfit

if TYPE_CHECKING:
    from datetime import tzinfo

    from taskqueue_mcp.executors.base import Executor, Params, Registry
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.worker.claims import Claim
    from taskqueue_mcp.worker.fitness import Fitness


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


def conditional(executor: Executor[Any], claim: Claim, registry: Registry, fitness: Fitness) -> Executor[Any]:
    """Return `executor`, behind the look that the task asks for if it does.

    Raises:
        InvalidInput: `only_if` is not what it must be.
        Unfit: the look cannot be had here now.
    """
    given = claim.task.get("only_if")
    if given is None:
        return executor
    from taskqueue_mcp.executors.condition import Conditional, OnlyIf  # noqa: PLC0415 - few tasks have one

    asked = validated(OnlyIf, given, what="only_if")
    looking = registry.get(asked.executor)
    if looking is None:
        raise Unfit(f"only_if needs the executor {asked.executor}, which this worker does not have")
    if why := fitness.why_not(asked.executor):
        raise Unfit(f"only_if: {why}")
    return Conditional(executor, asked, looking)


def zone(name: str | None) -> tzinfo:
    """Return the zone that a claim names, UTC where this machine does not know it."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
