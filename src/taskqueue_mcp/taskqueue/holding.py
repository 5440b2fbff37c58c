"""Who holds a task: every write of an attempt goes through here, so a stale or foreign lease changes nothing."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp import leases
from taskqueue_mcp.errors import LeaseLost, NotFound
from taskqueue_mcp.model import Status
from taskqueue_mcp.store import attempts, tasks

if TYPE_CHECKING:
    from taskqueue_mcp.leases import Lease
    from taskqueue_mcp.model import Caller, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.store.attempts import Proof


@dataclass(frozen=True, slots=True)
class Held:
    """A task under a valid lease."""

    task: Task
    lease: Lease
    is_reserved: bool = False
    """Whether money is set aside for it."""
    is_gated: bool = False
    """Whether the gate of any account is closed."""


def held(transaction: Transaction, caller: Caller, text: str) -> Held:
    """Return the task that `text` is the valid lease of.

    Raises:
        LeaseLost: it is stale, forged, or another principal's.
    """
    lease = leases.parse(text)
    found = tasks.fetch_with_lease(transaction, lease.task_id)
    if found is None:
        raise NotFound(f"there is no task T-{lease.task_id}; the lease is not one of this queue")
    lease_hash, is_reserved, is_gated, task = found
    if (
        task.status is Status.IN_PROGRESS
        and task.attempt == lease.attempt
        and task.lease_principal == caller.name
        and lease_hash is not None
        and hmac.compare_digest(lease_hash, lease.hash)
    ):
        return Held(task, lease, is_reserved, is_gated)
    raise lost(transaction, caller, lease, task)


def ended_under(transaction: Transaction, caller: Caller, lease: Lease) -> Proof | None:
    """Return the attempt that this very lease ended, if the caller held it: a repeated call is checked against it."""
    proof = attempts.proof(transaction, lease.task_id, lease.attempt)
    if (
        proof is None
        or proof.settle_hash is None
        or proof.principal != caller.name
        or not hmac.compare_digest(proof.lease_hash, lease.hash)
    ):
        return None
    return proof


def lost(transaction: Transaction, caller: Caller, lease: Lease, task: Task) -> LeaseLost:
    """Say what has become of the task, to those who ever held it; others learn nothing but that they do not."""
    proof = attempts.proof(transaction, lease.task_id, lease.attempt)
    mine = proof is not None and proof.principal == caller.name and hmac.compare_digest(proof.lease_hash, lease.hash)
    if not mine:
        return LeaseLost(
            f"lease_lost: this is not the lease of T-{task.id}; nothing was changed. Claim the task to work on it",
            task=f"T-{task.id}",
            stop=True,
        )
    if task.status is Status.IN_PROGRESS:
        why = f"attempt {task.attempt} holds the task now"
    elif task.status is Status.CANCELLED:
        why = f"the task was cancelled{f' ({task.error})' if task.error else ''}"
    else:
        why = f"the task is {task.status} now"
    return LeaseLost(
        f"lease_lost: attempt {lease.attempt} of T-{task.id} is over, {why}; nothing was changed. Stop working on it",
        task=f"T-{task.id}",
        attempt=task.attempt,
        status=task.status.value,
        stop=True,
    )
