"""`gates`: accounts whose usage limit was reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.cli.output import shortened
from taskqueue_mcp.cli.reaching import owning, reaching
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out


@click.group()
@reaching
def gates() -> None:
    """See which accounts wait for a usage limit to be over, and let them go on."""


@gates.command("list")
@owning
async def list_(app: App, out: Out) -> None:
    """Show the gate of every account that ever met a usage limit."""
    found = [views.gate(each) for each in await app.queue.list_gates(local_person())]

    def view() -> None:
        if not found:
            out.note("no account has met a usage limit")
            return
        rows = [
            (
                each["account"],
                each["executor"],
                each["state"],
                out.time(each.get("closed_until")),
                str(each["waits"]),
                shortened(each.get("reason") or ""),
            )
            for each in found
        ]
        out.table(("account", "executor", "state", "until", "waits", "why"), rows, flexible="why")

    out.show({"gates": found, "count": len(found)}, view)


@gates.command("open")
@click.argument("account")
@click.option("--executor", help="Only the gate of this executor.")
@owning
async def open_(app: App, out: Out, *, account: str, executor: str | None) -> None:
    """Let everybody who works with ACCOUNT go on, before its limit is known to be over."""
    found = [views.gate(each) for each in await app.queue.open_gate(local_person(), account, executor)]
    names = ", ".join(each["executor"] for each in found)
    out.show({"opened": found, "count": len(found)}, lambda: out.line(f"{account} is open for {names}"))
