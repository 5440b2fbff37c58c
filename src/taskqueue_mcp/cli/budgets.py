"""`budgets`: what was spent today, and what more may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.budgets import UNITS
from taskqueue_mcp.cli.reaching import owning, reaching
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out


@click.group()
@reaching
def budgets() -> None:
    """See what was spent today and what is set aside for running work, and allow more."""


@budgets.command("list")
@owning
async def list_(app: App, out: Out) -> None:
    """Show every ceiling that holds for today."""
    found = [views.account(each) for each in await app.queue.list_budgets(local_person())]

    def view() -> None:
        if not found:
            out.note("no day and no queue has a ceiling")
            return
        rows = [
            (
                each["scope"],
                each.get("name", ""),
                each["unit"],
                f"{each['spent']:g}",
                f"{each['reserved']:g}",
                "none" if each["ceiling"] is None else f"{each['ceiling']:g}",
                each.get("asked", ""),
            )
            for each in found
        ]
        out.table(("budget", "of", "in", "spent", "set aside", "ceiling", "asked with"), rows)

    out.show({"budgets": found, "count": len(found)}, view)


@budgets.command("raise")
@click.argument("scope", type=click.Choice(["day", "queue", "schedule", "task"]))
@click.argument("amount", type=float)
@click.option("--name", default="", help="Which queue, schedule or task.")
@click.option("--unit", type=click.Choice(UNITS), default="usd", show_default=True, help="What the amount is in.")
@owning
async def raise_(app: App, out: Out, *, scope: str, amount: float, name: str, unit: str) -> None:
    """Allow AMOUNT more: to a task for good, to a day, a queue or a schedule for today."""
    if (scope == "day") == bool(name):
        raise click.UsageError("--name goes with queue, schedule and task, and has to be there")
    account = views.account(await app.queue.raise_budget(local_person(), scope, name, amount, unit))
    what = f"{scope} {name}".strip()
    out.show(
        account, lambda: out.line(f"{what} may spend {account['ceiling']:g} {unit}, {account['spent']:g} are spent")
    )
