"""`tasks`: create them, look at them, decide about them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from taskqueue_mcp.cli import shown
from taskqueue_mcp.cli.asking import asking, from_template, wanted
from taskqueue_mcp.cli.door import LONGEST_WAIT
from taskqueue_mcp.cli.reaching import reaching, talking
from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.model import FINAL, Status
from taskqueue_mcp.store.lists import Filter
from taskqueue_mcp.taskqueue import NewTask, querying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from taskqueue_mcp.cli.door import Door
    from taskqueue_mcp.cli.output import Out

Json = dict[str, Any]
PAGE = 100
LIMIT = click.IntRange(1, 10_000)
ID = click.argument("task_id", metavar="ID")


@click.group()
@reaching
def tasks() -> None:
    """Create tasks, look at them, decide about them. An ID is T-142 or 142."""


@tasks.command()
@click.argument("title", required=False)
@asking
@from_template
@click.option("--run-at", metavar="TIME", help="ISO 8601 or a wait such as 10m; now unless given.")
@click.option("--depends-on", multiple=True, metavar="ID", help="A task that must complete first.")
@click.option("--key", metavar="TEXT", help="Idempotency key: the same key makes no second task.")
@click.option("--requires-approval", is_flag=True, help="A person must approve it before it runs.")
@click.option("--requested-by", metavar="NAME", help="Who asked for it.")
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS", help="Wait for its end; exits 0 if it completed.")
@talking
async def create(
    door: Door, out: Out, *, title: str | None, run_at: str | None, depends_on: tuple[str, ...], key: str | None,
    requires_approval: bool, requested_by: str | None, wait: float | None, **asked: Any,
) -> int | None:  # fmt: skip
    """Put a task into the queue. TITLE says in a few words what has to be done."""
    new = NewTask(
        wanted(title, asked),
        run_at=run_at,
        depends_on=depends_on,
        idempotency_key=key,
        requires_approval=requires_approval,
        requested_by=requested_by,
    )
    made = await door.create_task(new)
    if not made["created"]:
        out.note(f"the key was used before, for {made['task']['id']}; no second task was made")
    for note in made.get("notes", ()):
        out.note(note)
    if wait is None:
        out.show(made, lambda: shown.task_line(out, made["task"]))
        return None
    if out.format == "table":
        shown.task_line(out, made["task"])
    task = made["task"] = await _waited(door, out, made["task"], wait)
    out.show(made, lambda: _ended(out, task))
    return _code(task)


@tasks.command("list")
@click.option("--status", default="open", show_default=True, help="One or several with commas, or open, final, all.")
@click.option("--type", "task_type", help="Only this type of work.")
@click.option("--queue")
@click.option("--tag")
@click.option("--created-by", metavar="NAME")
@click.option("--search", metavar="WORDS", help="Words in title, instructions or result.")
@click.option("--limit", type=LIMIT, default=20, show_default=True)
@click.option("--cursor", help="Go on where the last page ended.")
@talking
async def list_(
    door: Door, out: Out, *, status: str, task_type: str | None, queue: str | None, tag: str | None,
    created_by: str | None, search: str | None, limit: int, cursor: str | None,
) -> None:  # fmt: skip
    """Show tasks, newest first: those that are open unless --status says otherwise."""
    narrowed = Filter(querying.read_statuses(status), task_type, queue, tag, created_by, search)
    found = await _pages(lambda at, most: door.list_tasks(narrowed, at, most), cursor, limit)
    none = "no open tasks; --status all shows those that have ended too" if status == "open" else "no tasks"
    _show_page(out, found, none)


@tasks.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=LIMIT, default=20, show_default=True)
@talking
async def search(door: Door, out: Out, *, words: tuple[str, ...], limit: int) -> None:
    """Find tasks of any status by words in their title, instructions or result."""
    narrowed = Filter(search=" ".join(words))
    _show_page(out, await _pages(lambda at, most: door.list_tasks(narrowed, at, most), None, limit))


@tasks.command()
@click.option("--queue")
@click.option("--type", "task_type")
@click.option("--limit", type=LIMIT, default=20, show_default=True)
@click.option("--cursor", help="Go on where the last page ended.")
@talking
async def ready(
    door: Door, out: Out, *, queue: str | None, task_type: str | None, limit: int, cursor: str | None
) -> None:
    """Show what can be claimed now, in the order it is handed out."""
    _show_page(out, await _pages(lambda at, most: door.list_ready(queue, task_type, at, most), cursor, limit))


@tasks.command()
@ID
@click.option("--events", is_flag=True, help="With everything that happened.")
@click.option("--log", is_flag=True, help="With the log of its attempts.")
@click.option("--attempts", is_flag=True, help="With a table of its attempts.")
@talking
async def show(door: Door, out: Out, *, task_id: str, events: bool, log: bool, attempts: bool) -> None:
    """Show a task whole."""
    found: Json = {"task": await door.get_task(task_id)}
    if events:
        found["events"] = await door.events(task_id)
    if log:
        found["log"] = await door.log(task_id)

    def view() -> None:
        shown.task_sheet(out, found["task"], attempts=attempts)
        if attempts:
            out.text("")
            shown.attempt_list(out, found["task"])
        if events:
            out.text("")
            shown.event_lines(out, found["events"])
        if log:
            out.text("")
            out.text(found["log"] or "(no log)")

    out.show(found, view)


@tasks.command()
@ID
@click.option("--follow", is_flag=True, help="Go on printing until the task is final or waits for a person.")
@talking
async def logs(door: Door, out: Out, *, task_id: str, follow: bool) -> None:
    """Print the log of a task's attempts; with --format json one object a piece of it."""
    pieces = 0
    async for text in door.follow_log(task_id) if follow else _whole(door, task_id):
        pieces += 1
        if out.format == "json":
            out.json({"text": text})
        else:
            out.text(text)
    if not pieces and out.format != "json":
        out.note("nothing was logged")


async def _whole(door: Door, task_id: str) -> AsyncIterator[str]:
    text = await door.log(task_id)
    if text:
        yield text


@tasks.command()
@ID
@talking
async def watch(door: Door, out: Out, *, task_id: str) -> int:
    """Print what happens to a task until it is final; exits 0 if it completed, 1 if it failed or was cancelled.

    With --format json each line is one event, and the last one the task.
    """
    task: Json = {}
    async for task, events in door.follow(task_id):
        if out.format == "json":
            for event in events:
                out.json(event)
            continue
        shown.event_lines(out, events)
        hint = shown.needs(task)
        if hint:
            out.note(hint)
    out.show({"task": task}, lambda: _ended(out, task))
    return _code(task)


@tasks.command()
@ID
@click.option("--reason", metavar="TEXT")
@talking
async def cancel(door: Door, out: Out, *, task_id: str, reason: str | None) -> None:
    """Cancel a task that is not final; whoever holds it is stopped."""
    _show_task(out, await door.cancel_task(task_id, reason))


@tasks.command()
@ID
@talking
async def retry(door: Door, out: Out, *, task_id: str) -> None:
    """Open a failed or cancelled task again, with a fresh set of attempts."""
    _show_task(out, await door.answer_task(task_id, "retry", None))


@tasks.command("run-now")
@ID
@talking
async def run_now(door: Door, out: Out, *, task_id: str) -> None:
    """Let a task that waits for a time run now."""
    _show_task(out, await door.answer_task(task_id, "run_now", None))


@tasks.command()
@ID
@click.argument("action", type=click.Choice(["approve", "reject", "answer"]))
@click.argument("text", required=False)
@talking
async def answer(door: Door, out: Out, *, task_id: str, action: str, text: str | None) -> None:
    """Decide about a task that waits for a person. TEXT is the answer, or why it is rejected."""
    _show_task(out, await door.answer_task(task_id, action, text))


async def _waited(door: Door, out: Out, task: Json, seconds: float) -> Json:
    """Return the task as it is when it is final, needs a person, or the time is over; no error loses it."""
    until = time.monotonic() + seconds
    while task["status"] not in FINAL and task["status"] != Status.WAITING:
        left = until - time.monotonic()
        if left <= 0:
            out.note(f"it is not finished after {seconds:g} s; follow it with: taskqueue-mcp tasks watch {task['id']}")
            break
        try:
            task = await door.wait(task["id"], min(left, LONGEST_WAIT))
        except TaskQueueError as error:
            out.note(f"{task['id']} was created, and waiting for it ended: {error}")
            break
    return task


async def _pages(fetch: Callable[[str | None, int], Awaitable[Json]], cursor: str | None, limit: int) -> Json:
    """Return one page of up to `limit` tasks, however many the queue gives at once."""
    found: list[Json] = []
    while len(found) < limit:
        page = await fetch(cursor, min(limit - len(found), PAGE))
        found += page["tasks"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return {"tasks": found, "count": len(found), "next_cursor": cursor}


def _show_page(out: Out, found: Json, none: str = "no tasks") -> None:
    def view() -> None:
        shown.task_list(out, found["tasks"], none)
        if found["next_cursor"]:
            out.note(f"there are more: --limit {found['count'] * 2}, or --cursor {found['next_cursor']}")

    out.show(found, view)


def _show_task(out: Out, task: Json) -> None:
    out.show({"task": task}, lambda: shown.task_line(out, task))


def _ended(out: Out, task: Json) -> None:
    shown.task_line(out, task)
    _result(out, task)


def _result(out: Out, task: Json) -> None:
    for key in ("result_summary", "result_path", "error"):
        if task.get(key):
            out.text(str(task[key]))


def _code(task: Json) -> int:
    return 0 if task["status"] == Status.COMPLETED else 1
