"""What `doctor` says about usage limits and money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.budgets import UNITS
from taskqueue_mcp.cli.finding import Finding
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.app import App
    from taskqueue_mcp.settings import Settings
    from taskqueue_mcp.settings.budgets import BudgetSettings


def budgets(found: Settings) -> Iterator[Finding]:
    """Say which ceilings hold unless a task says otherwise."""
    settings = found.budgets
    told = []
    for scope, what in (("task", "a task of " + (", ".join(settings.executors) or "no executor")), ("day", "a day")):
        amounts = [f"{_amount(settings, scope, unit):g} {unit}" for unit in UNITS if _amount(settings, scope, unit)]
        told.append(f"{what} may use {' and '.join(amounts)}" if amounts else f"{what} has no ceiling")
    of_queues = (settings.queue_usd, settings.queue_turns, settings.queue_minutes)
    queues = {name for of in of_queues for name, amount in of.items() if amount}
    if queues:
        told.append(f"queues with a ceiling of their own: {', '.join(sorted(queues))}")
    if settings.executors and not any(_amount(settings, scope, unit) for scope in ("task", "day") for unit in UNITS):
        do = "set TASKQUEUE_BUDGETS__TASK_USD or TASKQUEUE_BUDGETS__DAY_USD"
        yield Finding("budgets", "warn", "nothing bounds what agents may spend", do)
    else:
        yield Finding("budgets", "ok", "; ".join(told))


async def spent(opened: App) -> list[Finding]:
    """Say which budgets of today are used up and which accounts wait for a usage limit."""
    findings = []
    for account in await opened.queue.list_budgets(local_person()):
        if account.ceiling is not None and account.spent >= account.allowed:
            seen = views.account(account)
            of = f" of {account.scope} {account.name}" if account.name else ""
            text = f"the day's budget{of} is used up: {seen['spent']:g} of {seen['ceiling']:g} {account.unit}"
            do = f"taskqueue-mcp budgets raise {account.scope} AMOUNT{' --name NAME' if account.name else ''}"
            findings.append(Finding("budgets", "warn", text, do))
    for gate in await opened.queue.list_gates(local_person()):
        if gate.closed_until is not None:
            why = f" ({gate.reason})" if gate.reason else ""
            until = views.instant(gate.closed_until)
            text = f"{gate.executor} waits for the usage limit of {gate.account} until {until}{why}"
            do = f"or let it go on with: taskqueue-mcp gates open {gate.account}"
            findings.append(Finding("gates", "warn", text, do))
    return findings


def _amount(settings: BudgetSettings, scope: str, unit: str) -> float:
    return float(getattr(settings, f"{scope}_{unit}"))
