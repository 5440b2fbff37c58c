"""`sops`: the procedures, as they stand in their folder now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskqueue_mcp.cli.output import shortened
from taskqueue_mcp.cli.reaching import local, reaching
from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.procedures.folder import Fault, ProcedureFolder
from taskqueue_mcp.procedures.references import tidy
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from taskqueue_mcp.cli.output import Out
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.settings import Settings


@click.group()
@reaching
def sops() -> None:
    """Look at the procedures and check them. The folder is ./sops, or TASKQUEUE_SOPS."""


@sops.command("list")
@local
def list_(settings: Settings, out: Out) -> None:
    """Show every procedure that can be followed."""
    found = [views.procedure(each) for each in ProcedureFolder(settings.sops).list()]

    def view() -> None:
        rows = [
            (
                each["path"],
                each.get("task_type", ""),
                each.get("executor", ""),
                ", ".join(each.get("params", ())),
                shortened(each["title"]),
            )
            for each in found
        ]
        out.table(("path", "type", "executor", "params", "title"), rows, flexible="title")

    out.show({"procedures": found, "count": len(found)}, view)


@sops.command()
@click.argument("path")
@local
def show(settings: Settings, out: Out, *, path: str) -> None:
    """Print a procedure's text. PATH is as a task names it: inventory/reorder_rules.md."""
    found = ProcedureFolder(settings.sops).load(path)
    out.show({**views.procedure(found), "text": found.text}, lambda: out.text(found.text))


@sops.command()
@click.argument("path", required=False)
@local
def check(settings: Settings, out: Out, *, path: str | None) -> int:
    """Check all procedures, those in the folder PATH, or the procedure PATH; exits 1 with every fault on a line.

    Front matter, file names and templates are read; SQL is put to the source that is configured ([worker.sources]),
    without being run. What could not be checked is said.
    """
    from taskqueue_mcp.app.sources import sources_of  # noqa: PLC0415 - listing does without
    from taskqueue_mcp.executors.report import checking  # noqa: PLC0415 - the same
    from taskqueue_mcp.outputs import expectations  # noqa: PLC0415 - the same

    faults, found = _read(settings, path)
    sources = sources_of(settings)
    notes = []
    for procedure in found:
        faults += [Fault(procedure.path, why) for why in checking.faults(procedure, sources)]
        try:
            expectations.read(expectations.checkable(procedure.outputs))
        except InvalidInput as error:
            faults.append(Fault(procedure.path, str(error)))
        if why := checking.unchecked(procedure, sources):
            notes.append(Fault(procedure.path, why))

    def view() -> None:
        for fault in faults:
            out.line(str(fault))
        if notes and not sources:
            out.note("SQL was not checked: no source is configured under [worker.sources]")
        for note in notes if sources else ():
            out.note(str(note))
        if not faults:
            out.line("no faults")

    told = [{"path": fault.path, "message": fault.message} for fault in faults]
    unchecked = [{"path": note.path, "message": note.message} for note in notes]
    out.show({"faults": told, "unchecked": unchecked}, view)
    return 1 if faults else 0


def _read(settings: Settings, path: str | None) -> tuple[list[Fault], list[Procedure]]:
    """What cannot be followed, and what can."""
    if path is None or Path(path).is_dir():
        folder = ProcedureFolder(settings.sops if path is None else Path(path))
        return folder.check(), folder.list()
    inside = tidy(path)
    try:
        return [], [ProcedureFolder(settings.sops).load(path)]
    except TaskQueueError as error:
        return [Fault(inside, str(error).removeprefix(f"{inside}: "))], []
