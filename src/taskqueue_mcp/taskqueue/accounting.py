"""Money: set aside when a task is claimed, counted when its attempt is over, never more than a ceiling allows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import budgets
from taskqueue_mcp.budgets import UNITS, Account, Amount, Amounts, Shortage, Unit
from taskqueue_mcp.model import FINAL, Reason
from taskqueue_mcp.store import attempts, spending
from taskqueue_mcp.store.spending import Line, Reservation
from taskqueue_mcp.taskqueue import usages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_mcp.model import Body, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

MOST_WOKEN = 50
NO_DAY = -1


def today(transaction: Transaction, rules: Rules) -> int:
    """Return the number of the day, where days have budgets."""
    return budgets.day_of(transaction.now, rules.zone) if rules.budgets else NO_DAY


def reserve(
    transaction: Transaction, rules: Rules, task: Task, body: Body, *, by_executor: bool, is_used_up: bool
) -> Shortage | Amounts:
    """Set aside what an attempt may spend, from every account that it is paid from; return how much that is.

    A task has the ceilings that it was given. Who claims for an executor that costs something has it carried out at
    our expense, so there the defaults hold too. Others pay themselves: they are stopped when a day is used up.
    """
    ceilings = ceilings_of(rules, task, body, by_executor=by_executor)
    if not ceilings and not (is_used_up and task.executor in rules.budgets.executors):
        return budgets.NOTHING
    lines = lines_of(rules, task, body, ceilings, budgets.day_of(transaction.now, rules.zone))
    spending.locked(transaction, lines)
    if task.attempt > 1:
        _give_back(transaction, task.id)
    accounts = spending.locked(transaction, lines)
    needs = {
        account.unit: account.allowed - account.spent - account.reserved
        for account in accounts
        if account.scope == "task"
    }
    short = budgets.shortage(accounts, needs)
    if short is not None:
        return short
    if not ceilings:
        return budgets.NOTHING
    for account in accounts:
        need = needs.get(account.unit, 0)
        if need and not spending.reserve(transaction, account.key, need):
            return Shortage(account, need, is_spent=False, for_good=False)
    _set_aside(transaction, task, lines, needs)
    return needs


def ceilings_of(rules: Rules, task: Task, body: Body, *, by_executor: bool) -> dict[Unit, Amount]:
    """Return what a task may spend in all its attempts."""
    found: dict[Unit, Amount] = {}
    if by_executor and task.executor in rules.budgets.executors:
        found.update(rules.budgets.task)
    if body.budget_usd is not None:
        found["usd"] = round(body.budget_usd * budgets.ONE)
    if body.budget is not None:
        own = json.loads(body.budget)
        found.update({unit: round(own[unit] * budgets.ONE) for unit in UNITS if unit in own})
    return found


def lines_of(rules: Rules, task: Task, body: Body | None, ceilings: Mapping[Unit, Amount], day: int) -> list[Line]:
    """Return every account with a ceiling that a task is paid from on a day."""
    lines = [Line("task", str(task.id), budgets.TASK_DAY, unit, amount) for unit, amount in ceilings.items()]
    if task.schedule_id is not None and body is not None and body.budget is not None:
        a_day = json.loads(body.budget).get("per_day", {})
        lines += [
            Line("schedule", str(task.schedule_id), day, unit, round(a_day[unit] * budgets.ONE))
            for unit in UNITS
            if unit in a_day
        ]
    of_queue = rules.budgets.queues.get(task.queue, budgets.NOTHING)
    lines += [Line("queue", task.queue, day, unit, amount) for unit, amount in of_queue.items()]
    lines += [Line("day", "", day, unit, amount) for unit, amount in rules.budgets.day.items()]
    return lines


def report(transaction: Transaction, rules: Rules, task: Task, usage: Mapping[str, Any], *, is_reserved: bool) -> bool:
    """Look at what an attempt has used so far; True when that is all that was set aside for it, or more.

    Usage is what the attempt has used in all: each report takes the place of the one before. It is kept with the
    attempt and counted when that is over, so a repeated report counts nothing twice.
    """
    used = budgets.used(usage)
    if not used:
        return False
    if not is_reserved:
        _follow(transaction, rules, task)
        return False
    reserved = {each.unit: each.amount for each in spending.reservations(transaction, task.id) if each.amount > 0}
    over = {unit for unit, amount in reserved.items() if used.get(unit, 0) > amount - budgets.LEAST}
    return bool(over) and any(  # a person may have added to it meanwhile
        account.unit in over and account.spent + used[account.unit] > account.allowed - budgets.LEAST
        for account in accounts_of(transaction, task.id)
    )


def settle(
    transaction: Transaction, rules: Rules, task: Task, usage: Mapping[str, Any], *, is_reserved: bool
) -> dict[str, Any]:
    """Count what an attempt has used, now that it is over, and give back the rest; return all that it reported."""
    if not is_reserved:
        if budgets.used(usage) and rules.budgets:
            _follow(transaction, rules, task)
            _count(transaction, task.id, budgets.used(usage))
        return dict(usage)
    told = {**_reported(transaction, task), **usage}
    seconds = (transaction.now - (task.claimed_at or transaction.now)) / 1_000_000
    _count(transaction, task.id, budgets.used(told, seconds))
    return told


def own_shortage(transaction: Transaction, task: Task) -> Shortage | None:
    """Return the account of a task that is used up, if one is."""
    accounts = accounts_of(transaction, task.id)
    return budgets.shortage(accounts, {each.unit: each.allowed - each.spent - each.reserved for each in accounts})


def lose(transaction: Transaction, before: Task, after: Task) -> None:
    """Count what an attempt that was lost or cancelled has reported.

    When it reported nothing, what was set aside stays so, for nobody knows what it has spent: until the task's next
    attempt is over, the task is final, or it is claimed on another day.
    """
    if not spending.reservations(transaction, before.id):
        return
    used = budgets.used(_reported(transaction, before)) if before.confirmed else {}
    if used or not before.confirmed or after.status in FINAL:
        _count(transaction, before.id, used)


def forget(transaction: Transaction, task: Task) -> None:
    """Let a task that is over, and that nobody held, wait for no money and have none set aside."""
    if task.reason in {Reason.QUOTA, Reason.BUDGET}:
        spending.let_go(transaction, task.id)
    if task.attempt > 0:
        _count(transaction, task.id, budgets.NOTHING)


def wake(transaction: Transaction, keys: Iterable[str], *, also_asked: bool = False) -> None:
    """Have those tasks tried again that accounts can pay for now, and one about which a person has to be asked.

    With `also_asked` those about which somebody was asked are among them: the ceiling was raised.
    """
    for account in spending.fetch(transaction, keys):
        room = account.left
        for held in spending.waiting_for(transaction, account.key, MOST_WOKEN, also_asked=also_asked):
            fits = held.need <= room if held.need else account.spent < account.allowed
            asks = account.asked_task is None and account.spent + held.need > account.allowed
            if fits or asks:
                spending.look_again(transaction, held.task_id)
                room -= held.need if fits else 0
            if asks and not fits:
                break


def set_aside_for(transaction: Transaction, task: Task) -> dict[Unit, Amount]:
    """Return what the running attempt of a task may use."""
    return {each.unit: each.amount for each in spending.reservations(transaction, task.id) if each.amount}


def accounts_of(transaction: Transaction, task_id: int) -> list[Account]:
    """Return the accounts of a task alone."""
    return spending.fetch(transaction, [budgets.key("task", str(task_id), budgets.TASK_DAY, unit) for unit in UNITS])


def _follow(transaction: Transaction, rules: Rules, task: Task) -> None:
    """Note the accounts in which something counts that nothing was set aside for."""
    if rules.budgets:
        day = budgets.day_of(task.claimed_at or transaction.now, rules.zone)
        lines = lines_of(rules, task, None, {}, day)
        spending.locked(transaction, lines)
        _set_aside(transaction, task, lines, {})


def _set_aside(transaction: Transaction, task: Task, lines: list[Line], needs: Mapping[Unit, Amount]) -> None:
    day = max((line.day for line in lines), default=budgets.TASK_DAY)
    for unit in UNITS:
        keys = tuple(sorted(line.key for line in lines if line.unit == unit))
        if keys:
            amount = needs.get(unit, 0)
            spending.set_aside(transaction, task.id, Reservation(unit, task.attempt, day, amount, keys))


def _count(transaction: Transaction, task_id: int, used: Mapping[Unit, Amount]) -> None:
    changes = {
        key: (used.get(each.unit, 0), each.amount)
        for each in spending.reservations(transaction, task_id)
        if spending.give_back(transaction, task_id, each.unit)
        for key in each.accounts
    }
    if not changes:
        return
    for key, (spent, released) in sorted(changes.items()):
        spending.spend(transaction, key, spent, released)
    wake(transaction, changes)


def _give_back(transaction: Transaction, task_id: int) -> None:
    _count(transaction, task_id, budgets.NOTHING)


def _reported(transaction: Transaction, task: Task) -> dict[str, Any]:
    return usages.as_told(attempts.usage(transaction, task.id, task.attempt))
