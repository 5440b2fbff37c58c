"""`templates`: named tasks with variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskqueue_mcp.auth import local_person
from taskqueue_mcp.cli.asking import asking, pairs, wanted
from taskqueue_mcp.cli.output import shortened
from taskqueue_mcp.cli.reaching import owning, reaching
from taskqueue_mcp.surfaces import views
from taskqueue_mcp.taskqueue import NewTemplate

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out

NAME = click.argument("name")


@click.group()
@reaching
def templates() -> None:
    """Keep tasks under a name, with {{variables}} in their texts."""


@templates.command()
@NAME
@click.option("--title", help="May hold {{variables}}, as every other text may.")
@asking
@click.option("--default", multiple=True, metavar="NAME=VALUE", help="What a variable is unless it is given.")
@click.option("--description", default="", help="What the template is for.")
@owning
async def create(
    app: App, out: Out, *, name: str, title: str | None, default: tuple[str, ...], description: str, **asked: Any
) -> None:
    """Store a template under NAME, new or in place of the one that had it."""
    new = NewTemplate(name, wanted(title, asked), description, pairs("--default", default))
    stored = await app.queue.put_template(local_person(), new)
    out.show({"template": views.template(stored)}, lambda: out.line(f"{name} stored; use it with --template {name}"))


@templates.command("list")
@owning
async def list_(app: App, out: Out) -> None:
    """Show every template."""
    found = [views.template(each) for each in await app.queue.list_templates(local_person())]

    def view() -> None:
        rows = [
            (each["name"], shortened(each["task"].get("title", "")), ", ".join(each["defaults"]), each["description"])
            for each in found
        ]
        out.table(("name", "title", "defaults", "description"), rows, flexible="description")

    out.show({"templates": found, "count": len(found)}, view)


@templates.command()
@NAME
@owning
async def show(app: App, out: Out, *, name: str) -> None:
    """Show a template, the variables it takes, and what became of the tasks made from it."""
    found = await app.queue.show_template(local_person(), name)
    view = views.template(found.template)
    used_at = views.instant(found.last_used_at)
    told = {
        "template": view,
        "variables": list(found.variables),
        "counts": found.counts,
        "last_used_at": used_at,
    }
    rows = [
        ("name", name),
        ("description", view["description"]),
        ("variables", ", ".join(found.variables)),
        ("defaults", view["defaults"]),
        ("used", ", ".join(f"{count} {status}" for status, count in found.counts.items())),
        ("last used", out.time(used_at)),
        *view["task"].items(),
    ]
    out.show(told, lambda: out.fields(rows))


@templates.command()
@NAME
@owning
async def delete(app: App, out: Out, *, name: str) -> None:
    """Delete a template; tasks made from it stay."""
    await app.queue.delete_template(local_person(), name)
    out.show({"template": name, "deleted": True}, lambda: out.line(f"{name} deleted"))
