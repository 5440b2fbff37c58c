"""`schedules`: tasks that run again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskqueue_mcp.cli import shown
from taskqueue_mcp.cli.asking import asking, from_template, wanted
from taskqueue_mcp.cli.reaching import reaching, talking
from taskqueue_mcp.model import Misfire, Overlap
from taskqueue_mcp.taskqueue import NewSchedule

if TYPE_CHECKING:
    from taskqueue_mcp.cli.door import Door
    from taskqueue_mcp.cli.output import Out

Json = dict[str, Any]
NAME = click.argument("name")


@click.group()
@reaching
def schedules() -> None:
    """Run tasks again and again by a cron expression. No due time is missed silently."""


@schedules.command()
@NAME
@click.argument("cron")
@click.option("--title", help="Title of its tasks; the name unless given.")
@asking
@from_template
@click.option("--timezone", metavar="ZONE", help="IANA zone of the expression; this machine's unless given.")
@click.option("--misfire", type=click.Choice([each.value for each in Misfire]), help="Due times nobody was up for.")
@click.option("--overlap", type=click.Choice([each.value for each in Overlap]), help="When the last run is unfinished.")
@click.option(
    "--grace", type=click.IntRange(0), metavar="SECONDS", help="How late a run may start; a day unless given."
)
@click.option("--disabled/--enabled", default=None, help="Create it paused.")
@talking
async def create(
    door: Door, out: Out, *, name: str, cron: str, title: str | None, timezone: str | None, misfire: str | None,
    overlap: str | None, grace: int | None, disabled: bool | None, **asked: Any,
) -> None:  # fmt: skip
    """Create a schedule, or edit the one of this NAME. CRON is five fields, six with seconds last, or @daily.

    Quote CRON: taskqueue-mcp schedules create weekly "0 7 * * MON" --title "Weekly summary"
    """
    new = NewSchedule(
        name, cron, wanted(title, asked), timezone, misfire, overlap, None if disabled is None else not disabled, grace
    )
    found = await door.put_schedule(new)
    out.show(found, lambda: shown.planned(out, found))


@schedules.command("list")
@talking
async def list_(door: Door, out: Out) -> None:
    """Show every schedule with its next run."""
    found = await door.list_schedules()
    out.show({"schedules": found, "count": len(found)}, lambda: shown.schedule_list(out, found))


@schedules.command()
@NAME
@click.option("--count", type=click.IntRange(1, 1_000), default=5, show_default=True)
@talking
async def preview(door: Door, out: Out, *, name: str, count: int) -> None:
    """Show when a schedule runs next."""
    found = await door.preview_schedule(name, count)
    out.show(found, lambda: shown.planned(out, found))


@schedules.command()
@NAME
@talking
async def pause(door: Door, out: Out, *, name: str) -> None:
    """Stop a schedule until it is resumed."""
    found = await door.switch_schedule(name, enabled=False)
    out.show(found, lambda: shown.planned(out, found))


@schedules.command()
@NAME
@talking
async def resume(door: Door, out: Out, *, name: str) -> None:
    """Let a paused schedule go on."""
    found = await door.switch_schedule(name, enabled=True)
    out.show(found, lambda: shown.planned(out, found))


@schedules.command()
@NAME
@talking
async def run(door: Door, out: Out, *, name: str) -> None:
    """Run a schedule's task once, now, beside its due times."""
    task = await door.run_schedule(name)
    out.show({"task": task}, lambda: shown.task_line(out, task))


@schedules.command()
@NAME
@talking
async def delete(door: Door, out: Out, *, name: str) -> None:
    """Delete a schedule; its earlier runs and its history stay."""
    schedule = await door.delete_schedule(name)
    out.show({"schedule": schedule, "deleted": True}, lambda: out.line(f"{schedule['name']} deleted"))


@schedules.command()
@NAME
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@talking
async def history(door: Door, out: Out, *, name: str, limit: int) -> None:
    """Show how past due times ended, newest first."""
    found = await door.schedule_history(name, limit)
    out.show({"occurrences": found, "count": len(found)}, lambda: shown.history(out, found))
