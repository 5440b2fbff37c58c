"""`reports`: the files that tasks have written, and a report of what any of them did."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskqueue_mcp.cli.output import shortened
from taskqueue_mcp.cli.reaching import downloading, reaching, talking
from taskqueue_mcp.cli.shown import standing
from taskqueue_mcp.errors import InvalidInput, NotFound, TaskQueueError
from taskqueue_mcp.outputs.documents import execution
from taskqueue_mcp.store.lists import Filter
from taskqueue_mcp.taskqueue import querying

if TYPE_CHECKING:
    from taskqueue_mcp.cli.door import Door
    from taskqueue_mcp.cli.output import Out

Json = dict[str, Any]
PAGE = 50
MOST_LOOKED_AT = 1_000
"""Tasks that are looked at for files."""
TRANSCRIPT = re.compile(r"transcript-(\d{1,9})\.jsonl")
LARGEST_TRANSCRIPT = 64 * 1024 * 1024


@click.group()
@reaching
def reports() -> None:
    """List the files that tasks have written; fetch one, or a report of what a task did."""


@reports.command("list")
@click.option("--status", default="all", show_default=True, help="One or several with commas, or open, final, all.")
@click.option("--type", "task_type", help="Only this type of work.")
@click.option("--tag")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@talking
async def list_(door: Door, out: Out, *, status: str, task_type: str | None, tag: str | None, limit: int) -> None:
    """Show tasks that have written files, newest first."""
    narrowed = Filter(querying.read_statuses(status), task_type, tag=tag)
    found = await _with_files(door, narrowed, limit)

    def view() -> None:
        if not found:
            out.note("no task has written a file; any task has a report: taskqueue-mcp reports download T-1")
            return
        rows = [
            (
                each["task"],
                standing(each),
                each.get("verdict", ""),
                out.time(each.get("finished_at")),
                str(len(each["artifacts"])),
                each["artifacts"][0]["path"],
                shortened(each["title"]),
            )
            for each in found
        ]
        out.table(("task", "status", "verdict", "finished", "files", "first file", "title"), rows, flexible="title")

    out.show({"reports": found, "count": len(found)}, view)


@reports.command()
@click.argument("task_id", metavar="ID")
@click.option(
    "--report-format", "--format", "file_format", type=click.Choice(execution.FORMATS),
    help="Of the report of what the task did; html unless given, or what the name of --output says.",
)  # fmt: skip
@click.option("--artifact", type=click.IntRange(1), metavar="N", help="Instead the task's N-th file, from 1.")
@click.option("-o", "--output", "target", metavar="PATH", help="File or folder to write to; - is stdout.")
@downloading
async def download(
    door: Door, out: Out, *, task_id: str, file_format: str | None, artifact: int | None, target: str | None
) -> None:
    """Write a report of what a task was asked, did, said and cost; or with --artifact one of its files.

    Without --output it goes into this folder, and replaces nothing.
    """
    if artifact is not None and file_format is not None:
        raise click.UsageError(
            "give --artifact for a file of the task, or --report-format for a report on it, not both"
        )
    task = await door.get_task(task_id.partition(":")[0])
    if artifact is not None:
        data, name = await _artifact(door, task, artifact)
    else:
        wanted = file_format or _format_of(target)
        data, name = await _report(door, out, task, wanted), f"{task['id']}_report.{wanted}"
    if target == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = _written(data, name, target)
    told = {"path": str(path), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    out.show(told, lambda: out.line(str(path)))


async def _with_files(door: Door, narrowed: Filter, limit: int) -> list[Json]:
    """Return `{task, title, status, …, artifacts}` of the newest tasks that have files."""
    found: list[Json] = []
    looked_at, cursor = 0, None
    while len(found) < limit and looked_at < MOST_LOOKED_AT:
        page = await door.list_tasks(narrowed, cursor, PAGE)
        for listed in page["tasks"]:
            looked_at += 1
            task = await door.get_task(listed["id"]) if listed.get("attempt") else listed
            if task.get("artifacts") and len(found) < limit:
                kept = ("title", "task_type", "status", "reason", "verdict", "finished_at", "result_path", "artifacts")
                found.append({"task": task["id"], **{key: task[key] for key in kept if key in task}})
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


async def _report(door: Door, out: Out, task: Json, file_format: str) -> bytes:
    found = execution.content(
        task,
        events=await door.events(task["id"]),
        log=await door.log(task["id"]),
        transcripts=await _transcripts(door, task),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251 - when somebody looked, not a rule's time
    )
    return execution.written(found, file_format, zone=out.zone)


async def _transcripts(door: Door, task: Json) -> dict[int, list[bytes]]:
    """The lines of the transcripts that can be reached, by attempt."""
    found: dict[int, list[bytes]] = {}
    for each in task.get("artifacts", ()):
        named = TRANSCRIPT.fullmatch(Path(each["path"]).name)
        if named is None or each.get("size", 0) > LARGEST_TRANSCRIPT:
            continue
        with contextlib.suppress(TaskQueueError):  # it lies where its worker runs; the log tells much of the same
            found[int(named[1])] = (await door.file(task["id"], each["path"])).splitlines()
    return found


async def _artifact(door: Door, task: Json, number: int) -> tuple[bytes, str]:
    files = task.get("artifacts", ())
    if number > len(files):
        there = f"it has {len(files)}" if files else "it has none"
        raise NotFound(f"{task['id']} has no file {number}; {there} (taskqueue-mcp tasks show {task['id']})")
    path = files[number - 1]["path"]
    try:
        data = await door.file(task["id"], path)
    except NotFound as error:
        hint = "; if it lies on this machine, name its folder with TASKQUEUE_OUTPUT"
        raise NotFound(f"{error}{hint if 'not in the output folder' in str(error) else ''}") from None
    expected = files[number - 1].get("sha256")
    if expected and hashlib.sha256(data).hexdigest() != expected:
        raise InvalidInput(f"{path} is not the file that the task wrote: its sha256 is another one")
    return data, Path(path).name


def _format_of(target: str | None) -> str:
    suffix = Path(target or "").suffix.lower().removeprefix(".")
    return suffix if suffix in execution.FORMATS else "html"


def _written(data: bytes, name: str, target: str | None) -> Path:
    """Write a file whole: under a free name in a folder, or in the place of the file that was named."""
    named = Path(target or ".")
    path = _free(named, name) if named.is_dir() else named
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent}; make it first, or name another --output")
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _free(folder: Path, name: str) -> Path:
    stem, suffix = Path(name).stem, Path(name).suffix
    names = (name if number == 1 else f"{stem}-{number}{suffix}" for number in range(1, 10_000))
    return next(folder / each for each in names if not (folder / each).exists())
