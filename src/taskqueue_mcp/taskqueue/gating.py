"""Usage limits: the gate of an account closes, so that no other claim burns on it, and one attempt tries it first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import NotFound
from taskqueue_mcp.model import Completed, Failed, Reason, Returned
from taskqueue_mcp.store import events, gates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.model import Caller, Outcome, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.store.gates import Gate
    from taskqueue_mcp.store.tasks import Taking
    from taskqueue_mcp.taskqueue.rules import Rules

GATED = "gated"
"""The mark of a commit in which some gate is closed: without it no claim looks for them."""
SECOND = 1_000_000
SIGNS = ("cost_usd", "tokens", "turns", "input_tokens", "output_tokens")
"""What only an account that works can have used."""


@dataclass(frozen=True, slots=True)
class Door:
    """What closed gates mean to one claim: executors that it leaves, and gates that it may try."""

    closed: frozenset[str] = frozenset()
    to_try: tuple[Gate, ...] = ()
    has_passes: bool = False


OPEN = Door()


def door(transaction: Transaction, principal: str, worker: str | None) -> Door:
    """Return which executors' tasks this worker is not to be handed now.

    A gate holds back the workers of its account. One that never said with which account it works is held back by
    every closed gate of an executor, but it may try one task once in a while: it may have an account of its own.
    """
    if GATED not in transaction.marks:
        return OPEN
    closed = gates.closed(transaction)
    known = gates.accounts(transaction, principal)
    mine: list[tuple[Gate, bool]] = []
    for gate in closed:
        told = [each for each in known if each.executor == gate.executor]
        own = next((each.account for each in told if each.worker == (worker or "")), None)
        account = own or (told[0].account if told else None)
        if account is None or account == gate.account:
            mine.append((gate, account is None))
    due = [gate.id for gate, stranger in mine if _lets_try(gate, transaction.now, stranger=stranger)]
    free = gates.tried(transaction, tuple(due)) if due else set()
    shut = frozenset(gate.executor for gate, _ in mine if gate.id not in free)
    to_try = tuple(gate for gate, _ in mine if gate.id in free and gate.executor not in shut)
    return Door(shut, to_try, bool(shut) and gates.has_passes(transaction))


def _lets_try(gate: Gate, now: int, *, stranger: bool) -> bool:
    return (gate.closed_until or 0) <= now or (stranger and (gate.strangers_from or 0) <= now)


def narrowed(taking: Taking, door: Door) -> Taking | None:
    """Return the claim without what closed gates keep back, or None when nothing is left of it."""
    if not door.closed:
        return taking
    if taking.executors and not door.has_passes and taking.task_id is None:
        left = tuple(name for name in taking.executors if name not in door.closed)
        return replace(taking, executors=left) if left else None
    return replace(taking, closed=tuple(sorted(door.closed)))


def passed(transaction: Transaction, rules: Rules, door: Door, task: Task) -> None:
    """Note that `task` goes through: it uses its pass, or it is the one that tries a gate."""
    tries = door.to_try
    if door.has_passes and gates.use_pass(transaction, task.id):
        tries = tuple(gates.closed(transaction))
    for gate in tries:
        if gate.executor == task.executor:
            probe = f"T-{task.id}.{task.attempt}"
            times = rules.reopening
            gates.probe(
                transaction, gate.id, probe,
                round(times.probe_seconds * SECOND), round(times.stranger_seconds * SECOND),
            )  # fmt: skip
            events.record_other(transaction, "gate", gate.id, "tried", events.SYSTEM, {"task": f"T-{task.id}"})


def note_account(transaction: Transaction, caller: Caller, task: Task, usage: Mapping[str, Any]) -> str | None:
    """Remember with which account a worker works; return it, if it says so."""
    account = usage.get("account")
    if not isinstance(account, str) or not account.strip():
        return None
    account = account.strip()[:200]
    gates.report(transaction, caller.name, task.worker, task.executor, account)
    return account


def ended(
    transaction: Transaction, rules: Rules, caller: Caller, task: Task, outcome: Outcome, usage: Mapping[str, Any],
    *, is_gated: bool,
) -> None:  # fmt: skip
    """Close the gate of an account that is used up; open the one of an account that worked."""
    account = note_account(transaction, caller, task, usage)
    if isinstance(outcome, Returned) and outcome.kind is Reason.QUOTA:
        account = account or gates.account_of(transaction, caller.name, task.worker, task.executor)
        if account is not None:
            _close(transaction, rules, caller, task, account, outcome)
    elif is_gated and isinstance(outcome, Completed | Failed):
        worked(transaction, caller, task, account)


def worked(transaction: Transaction, caller: Caller, task: Task, account: str | None) -> None:
    """Open the gate of the account with which `task` was worked on after it had closed."""
    account = account or gates.account_of(transaction, caller.name, task.worker, task.executor)
    for gate in gates.closed(transaction):
        tried = gate.probe == f"T-{task.id}.{task.attempt}"
        later = tried or (task.claimed_at or 0) > (gate.closed_at or 0)  # what was under way then proves nothing
        mine = gate.account == account or (account is None and tried)
        if gate.executor == task.executor and mine and later and gates.open_(transaction, gate):
            events.record_other(transaction, "gate", gate.id, "opened", caller.name, {"task": f"T-{task.id}"})
            transaction.signal("queue", task.queue)


def shows_that_it_works(usage: Mapping[str, Any]) -> bool:
    """Whether only an account that works can have used this."""
    return any(isinstance(usage.get(name), int | float) and usage[name] > 0 for name in SIGNS)


def open_by_hand(transaction: Transaction, caller: Caller, account: str, executor: str | None) -> list[Gate]:
    """Open the gates of an account.

    Raises:
        NotFound: it has no closed gate.
    """
    found = [
        gate
        for gate in gates.closed(transaction)
        if gate.account == account and executor in (None, gate.executor) and gates.open_(transaction, gate)
    ]
    if not found:
        raise NotFound(f"no gate of {account!r} is closed; `taskqueue-mcp gates list` shows them")
    for gate in found:
        events.record_other(transaction, "gate", gate.id, "opened", caller.name)
    return found


def let_through(transaction: Transaction, task: Task) -> None:
    """Let a task be handed out though the gate of its executor is closed: a person wants it tried now."""
    if any(gate.executor == task.executor for gate in gates.closed(transaction)):
        gates.add_pass(transaction, task.id)


def why_closed(transaction: Transaction, task: Task, door: Door) -> str | None:
    """Return until when a task is held back, in words; None when it is not."""
    if task.executor not in door.closed:
        return None
    gate = next(gate for gate in gates.closed(transaction) if gate.executor == task.executor)
    return (
        f"T-{task.id} is not handed out: the usage limit of {gate.account!r} for {task.executor} is reached; "
        f"`taskqueue-mcp gates list` says until when, answer_task with run_now lets this task try"
    )


def _close(transaction: Transaction, rules: Rules, caller: Caller, task: Task, account: str, outcome: Returned) -> None:
    transaction.marks.add(GATED)
    gate = gates.made(transaction, account, task.executor)
    is_closed = gate.closed_until is not None
    longest = transaction.now + round(rules.limits.quota_days * 86_400 * SECOND)
    resume_at = min(outcome.resume_at or transaction.now, longest)
    if is_closed and (task.claimed_at or 0) < (gate.closed_at or 0):  # it was under way when the limit was reached
        gates.extend(transaction, gate, rules.reopening.opens_at(resume_at, transaction.now, 1, rules.chance()))
        return
    waits = gate.waits + 1
    until = rules.reopening.opens_at(resume_at, transaction.now, waits, rules.chance())
    why = " ".join(outcome.why.split())[:500]
    strangers = round(rules.reopening.stranger_seconds * SECOND)
    gates.close(transaction, gate, until, strangers, why, waits)
    told = {"task": f"T-{task.id}", "until": until, "waits": waits, "why": why}
    events.record_other(transaction, "gate", gate.id, "closed", caller.name, told)
