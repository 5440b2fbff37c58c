"""`executors`: what can be done here, and what its tasks have to look like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from taskqueue_mcp.cli.reaching import local, reaching
from taskqueue_mcp.taskqueue.rights import scope_of

if TYPE_CHECKING:
    from taskqueue_mcp.cli.output import Out
    from taskqueue_mcp.settings import Settings


@click.group()
@reaching
def executors() -> None:
    """Show what carries out tasks: the built-in executors, and those of packages installed here."""


@executors.command("list")
@local
def list_(settings: Settings, out: Out) -> None:
    """Show each executor, the scope that creating its tasks needs, and whether the worker of these settings has it."""
    from taskqueue_mcp.app.catalogue import Catalogue  # noqa: PLC0415 - help does without

    catalogue = Catalogue()
    found: list[dict[str, Any]] = []
    for name in catalogue.names():
        loaded = catalogue.load(name) is not None
        about = catalogue.describe(name)["description"] if loaded else "could not be loaded; see taskqueue-mcp worker"
        scope = None if name in settings.open_executors else scope_of(name)
        found.append({"name": name, "description": about, "scope": scope, "worker": name in settings.worker.executors})

    def view() -> None:
        rows = [
            (each["name"], each["scope"] or "none", "yes" if each["worker"] else "no", each["description"])
            for each in found
        ]
        out.table(("name", "scope", "worker", "what it does"), rows, flexible="what it does")

    out.show({"executors": found, "count": len(found)}, view)


@executors.command()
@click.argument("name", required=False)
@local
def schema(settings: Settings, out: Out, *, name: str | None) -> None:  # noqa: ARG001 - what every local command is given
    """Print the JSON schema of the params of an executor's tasks, or of all."""
    from taskqueue_mcp.app.catalogue import Catalogue  # noqa: PLC0415 - help does without

    catalogue = Catalogue()
    names = [name] if name is not None else [each for each in catalogue.names() if catalogue.load(each) is not None]
    found = {each: catalogue.describe(each)["params"] for each in names}
    shown = found if name is None else found[name]
    out.show(shown, lambda: out.text(json.dumps(shown, indent=2, ensure_ascii=False)))
