"""Tasks that cannot be paid for: one of them asks a person, the others wait for the next day or for room."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import budgets, checks, lifecycle
from taskqueue_mcp.errors import InvalidInput, NotFound
from taskqueue_mcp.lifecycle import Change
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.store import attempts, events, schedules, spending, tasks
from taskqueue_mcp.store.spending import Line, Unpaid
from taskqueue_mcp.taskqueue import accounting, moving

if TYPE_CHECKING:
    from taskqueue_mcp.budgets import Account, Amount, Shortage
    from taskqueue_mcp.model import Caller, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

SCOPES = ("day", "queue", "schedule", "task")
HELD = frozenset({(Status.WAITING, Reason.BUDGET), (Status.PENDING, Reason.QUOTA)})


def hold(transaction: Transaction, rules: Rules, task: Task, short: Shortage) -> Task:
    """Undo the claim of a task that cannot be paid for: it asks a person, or waits until it can."""
    account = short.account
    again_at = None if account.scope == "task" else budgets.next_day(transaction.now, rules.zone)
    asks = short.for_good or (short.is_spent and account.asked_task is None)
    change = unpaid(task, budgets.question(short, f"T-{task.id}") if asks else None, again_at)
    after = tasks.refuse(transaction, task, change)
    assert after is not None  # noqa: S101 - this very work took it
    note(transaction, after, short, again_at, task.run_at, asked=asks)
    return moving.follow(transaction, task, after)


def unpaid(task: Task, question: str | None, again_at: int | None) -> Change:
    """Return what a task becomes that cannot be paid for."""
    if question is not None or again_at is None:
        return Change(Status.WAITING, Reason.BUDGET, task.run_at, task.failures, task.handbacks, task.error, question)
    return Change(Status.PENDING, Reason.QUOTA, again_at, task.failures, task.handbacks, task.error)


def note(
    transaction: Transaction, after: Task, short: Shortage, again_at: int | None, run_at: int, *, asked: bool
) -> None:
    """Write down what a task waits for, and who was asked."""
    account = short.account
    held = Unpaid(after.id, account.key, short.need, run_at, again_at, int(asked))
    spending.hold(transaction, held)
    told = {"budget": account.scope, "unit": account.unit, "need": short.need / budgets.ONE}
    if asked:
        spending.asked(transaction, account.key, after.id)
        events.record(transaction, after, "asked", events.SYSTEM, {"question": after.question, **told})
        events.record_other(transaction, "budget", account.id, "asked", events.SYSTEM, {"task": f"T-{after.id}"})
    else:
        events.record(transaction, after, "unpaid", events.SYSTEM, {**told, "until": again_at})


def ripen(transaction: Transaction, limit: int) -> int:
    """Let held tasks be claimed again that have a new day, or room; return how many moved."""
    due = spending.payable(transaction, limit)
    for held in due:
        spending.let_go(transaction, held.task_id)
        task = moving.locked(transaction, held.task_id)
        if (task.status, task.reason) not in HELD:
            continue
        if task.status is Status.WAITING:
            attempts.answer(transaction, task.id, "nobody answered, and it can be tried again", events.SYSTEM)
        change = _payable(task, held.run_at)
        moving.move(transaction, task, change, "payable", events.SYSTEM)
    return len(due)


def decide(transaction: Transaction, caller: Caller, task: Task, action: str, said: str) -> Task:
    """Do what a person said about a task that cannot be paid for: go on with more, or stop.

    Raises:
        InvalidInput: the answer is none of the two.
    """
    held = spending.held(transaction, task.id)
    answer = "stop" if action == "reject" else budgets.read_answer(said or "continue")
    if answer is None:
        raise InvalidInput(
            "answer: say `continue with +5` (or another amount), `continue` for as much as it needs, or `stop`"
        )
    attempts.answer(transaction, task.id, said or action, caller.name)
    spending.let_go(transaction, task.id)
    if answer == "stop" or held is None:
        change = lifecycle.reject(task, "" if answer == "stop" and said.lower().startswith("stop") else said)
        return moving.move(transaction, task, change, "rejected", caller.name, {"answer": said} if said else None)
    amount = answer or _enough(transaction, held)
    raise_(transaction, caller, held.account, amount, task)
    change = _payable(task, held.run_at)
    return moving.move(transaction, task, change, "answered", caller.name, {"answer": said or action})


def raise_(transaction: Transaction, caller: Caller, key: str, amount: Amount, task: Task | None = None) -> Account:
    """Add to a ceiling, for its day, and have tried again what that pays for.

    Raises:
        NotFound: nothing was ever paid from this account.
    """
    account = spending.raise_(transaction, key, amount)
    if account is None:
        raise NotFound("nothing has been spent or asked for there yet, so there is no ceiling to raise")
    told: dict[str, Any] = {"by": amount / budgets.ONE, "unit": account.unit}
    if task is not None:
        told["task"] = f"T-{task.id}"
    events.record_other(transaction, "budget", account.id, "raised", caller.name, told)
    accounting.wake(transaction, [key], also_asked=True)
    return account


def raise_by_hand(
    transaction: Transaction, rules: Rules, caller: Caller, scope: str, name: str, amount: float, unit: str
) -> Account:
    """Add to the ceiling of a task, or to that of today.

    Raises:
        InvalidInput: the scope, the unit or the amount is not what it must be.
        NotFound: nothing was paid from it yet, or there is no schedule of this name.
    """
    if scope not in SCOPES:
        raise InvalidInput(f"scope: {scope!r} is not one of {', '.join(SCOPES)}")
    if unit not in budgets.UNITS:
        raise InvalidInput(f"unit: {unit!r} is not one of {', '.join(budgets.UNITS)}")
    if not 0 < amount < budgets.MOST / budgets.ONE:
        raise InvalidInput("amount: must be above 0")
    day = budgets.day_of(transaction.now, rules.zone)
    match scope:
        case "task":
            name, day = str(checks.task_id(name)), budgets.TASK_DAY
        case "schedule":
            schedule = schedules.by_name(transaction, checks.name("name", name))
            if schedule is None:
                raise NotFound(f"there is no schedule {name!r}; `taskqueue-mcp schedules list` shows them")
            name = str(schedule.id)
        case "day":
            name = ""
        case _:
            checks.name("queue", name)
    millionths = round(amount * budgets.ONE)
    of_settings = {"day": rules.budgets.day, "queue": rules.budgets.queues.get(name, budgets.NOTHING)}
    ceiling = of_settings.get(scope, budgets.NOTHING).get(unit)
    if ceiling is not None:
        spending.locked(transaction, [Line(scope, name, day, unit, ceiling)])
    return raise_(transaction, caller, budgets.key(scope, name, day, unit), millionths)


def of_today(transaction: Transaction, rules: Rules) -> list[Account]:
    """Return the accounts of today; those of the settings also where nothing was spent yet."""
    day = budgets.day_of(transaction.now, rules.zone)
    found = {account.key: account for account in spending.of_day(transaction, day)}
    settings = [("day", "", rules.budgets.day), *(("queue", name, of) for name, of in rules.budgets.queues.items())]
    for scope, name, amounts in settings:
        for unit, ceiling in amounts.items():
            key = budgets.key(scope, name, day, unit)
            found.setdefault(key, budgets.Account(0, key, scope, name, day, unit, ceiling, 0, 0, 0, None))
    named = [_named(transaction, account) for account in found.values()]
    return sorted(named, key=lambda account: account.key)


def _named(transaction: Transaction, account: Account) -> Account:
    """Return the account of a schedule under the schedule's name."""
    schedule = schedules.by_id(transaction, int(account.name)) if account.scope == "schedule" else None
    return account if schedule is None else replace(account, name=schedule.name)


def _payable(task: Task, run_at: int) -> Change:
    return Change(Status.PENDING, Reason.SCHEDULED, run_at, task.failures, task.handbacks, task.error)


def _enough(transaction: Transaction, held: Unpaid) -> Amount:
    account = next(iter(spending.existing(transaction, [held.account])))
    own = account.scope == "task"
    short = budgets.Shortage(account, held.need, is_spent=True, for_good=own)
    return budgets.suggested(short)
