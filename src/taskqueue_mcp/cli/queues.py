"""`queues`: named lines of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.cli.reaching import owning, reaching
from taskqueue_mcp.model import Status
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out

NAME = click.argument("name")


@click.group()
@reaching
def queues() -> None:
    """Count what waits in the queues, and pause, resume or drain one."""


@queues.command("list")
@owning
async def list_(app: App, out: Out) -> None:
    """Show every queue with its counts."""
    found = [views.queue(each) for each in await app.queue.counts(local_person())]

    def view() -> None:
        rows = [
            (
                each["name"],
                each["state"],
                str(each["open_tasks"]),
                *(str(each["counts"].get(status.value, 0)) for status in Status),
            )
            for each in found
        ]
        out.table(("name", "state", "open", *Status), rows)

    out.show({"queues": found, "count": len(found)}, view)


@queues.command()
@NAME
@owning
async def pause(app: App, out: Out, *, name: str) -> None:
    """Hand nothing out of a queue until it is resumed; new work is still taken."""
    await _set(app, out, name, "paused")


@queues.command()
@NAME
@owning
async def resume(app: App, out: Out, *, name: str) -> None:
    """Open a queue again."""
    await _set(app, out, name, "open")


@queues.command()
@NAME
@owning
async def drain(app: App, out: Out, *, name: str) -> None:
    """Take no new work into a queue; what is in it is still handed out."""
    await _set(app, out, name, "draining")


async def _set(app: App, out: Out, name: str, state: str) -> None:
    await app.queue.set_queue_state(local_person(), name, state)
    out.show({"queue": name, "state": state}, lambda: out.line(f"{name} is {state}"))
