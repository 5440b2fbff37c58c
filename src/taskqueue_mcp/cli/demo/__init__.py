"""The demo: a request goes in over MCP, a worker carries it out, the file comes back; real processes, sample data."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from taskqueue_mcp import sample
from taskqueue_mcp.cli import remote, shown
from taskqueue_mcp.cli.demo import attaching, orders, workbook
from taskqueue_mcp.cli.demo.processes import DemoFailed, make_token, running, server_url
from taskqueue_mcp.cli.demo.story import Story
from taskqueue_mcp.cli.demo.waiting import PARKED_SECONDS, finished
from taskqueue_mcp.cli.output import Out
from taskqueue_mcp.settings import machine_zone
from taskqueue_mcp.taskqueue import NewSchedule, NewTask, Wanted

if TYPE_CHECKING:
    from taskqueue_mcp.cli.demo.processes import Child
    from taskqueue_mcp.cli.remote import Remote

__all__ = ["run"]

Json = dict[str, Any]

FOLDER: Final = "demo-output"
REQUEST: Final = "What is running out? I need the list as a spreadsheet, and as a page to send on."
REPORT: Final = Wanted(
    title="Low stock report",
    task_type="report_generation",
    sop="inventory/low_stock_calculation.md",
    options={"output": {"formats": ["xlsx", "html"], "path": "Reports/LowStock/"}},
)
ROWS_SHOWN: Final = 6
COLUMNS_SHOWN: Final = (
    "sku",
    "product",
    "supplier",
    "quantity",
    "reorder_point",
    "suggested_order",
    "out_before_delivery",
)


def run(output: Path | None, *, keep: bool) -> int:
    """Show the whole loop; the report is put under `output`. With `keep` the server runs on until Ctrl-C.

    Raises:
        OSError: `output` is no folder that can be written to.
        TaskQueueError: a step failed; every process that was started has ended.
        click.Abort: a signal ended it; so has every process.
    """
    folder = (output or Path(FOLDER)).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taskqueue-demo-", ignore_cleanup_errors=True) as scratch:
        try:
            asyncio.run(_until_told_to_stop(folder, Path(scratch).resolve(), keep=keep))
        except asyncio.CancelledError:  # SIGTERM, or the terminal is gone
            raise click.Abort from None
    return 0


async def _until_told_to_stop(folder: Path, scratch: Path, *, keep: bool) -> None:
    """Run the demo so that every signal that may end it ends its processes too."""
    demo = asyncio.ensure_future(_demo(folder, scratch, keep=keep))
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, demo.cancel)
    await demo


async def _demo(folder: Path, scratch: Path, *, keep: bool) -> None:
    began = time.perf_counter()
    story = Story(Out("table", machine_zone()))
    database, stock = scratch / "queue.db", scratch / "inventory.db"
    story.line("A request goes in over MCP, a worker carries it out, the file comes back: real processes, sample data.")
    async with contextlib.AsyncExitStack() as processes:
        with story.step("The stock of a shop, from CSV into SQLite"):
            await asyncio.to_thread(sample.build, stock)
        with story.step("The queue, on a fresh database: taskqueue-mcp serve"):
            serve = ("serve", "--host", "127.0.0.1", "--port", "0", "--database", f"sqlite:///{database}")
            server = await processes.enter_async_context(
                running("the server", scratch, *serve, TASKQUEUE_OUTPUT=str(folder))  # it looks at files itself
            )
            url = await server_url(server)
        with story.step("Two tokens: front-end may enqueue, stockroom may work"):
            asking, working = await asyncio.gather(
                make_token(scratch, database, "front-end", "enqueue"),
                make_token(scratch, database, "stockroom", "work"),
            )
        with story.step(f"A worker, which starts meanwhile: taskqueue-mcp worker --server {url}"):
            work = ("worker", "--server", url, "--source", f"inventory={stock}", "--output", str(folder))
            means = {**orders.means(processes, scratch), "TASKQUEUE_TOKEN": working}
            worker = await processes.enter_async_context(
                running("the worker", scratch, *work, "--name", "stockroom-1", **means)
            )
        with story.step("A front-end, connected over MCP as Gemini would be"):
            queue = await processes.enter_async_context(remote.opened(url, asking))

        task_id = await _ask(story, queue)
        task = await _wait(story, queue, task_id, watching=(server, worker))
        _show_files(story, task, folder)
        _show_history(story, task_id, await queue.events(task_id))
        await orders.show(story, queue, folder, watching=(server, worker))
        story.line("")
        story.line(f"All of it took {time.perf_counter() - began:.1f} s.")
        if not keep:
            attaching.show(story)
            return
        attaching.show(story, url, database)
        await server.ends()
        server.check()


async def _ask(story: Story, queue: Remote) -> str:
    """Put the request in, twice, and have it repeated each morning; return the task's id."""
    story.head(f"Mara, who runs the shop, asks the front-end: “{REQUEST}”")
    new = NewTask(REPORT, idempotency_key="low-stock-for-mara", requested_by="Mara")
    given = {**REPORT.given(), "idempotency_key": new.idempotency_key, "requested_by": new.requested_by}
    with story.call("create_task", given) as say:
        made = (await queue.create_task(new))["task"]
        task_id = str(made["id"])
        say(f"{task_id} is {shown.standing(made)}, created by {made['created_by']}")
    with story.call("create_task", "… the same once more …") as say:
        again = await queue.create_task(new)
        if again["created"] or again["task"]["id"] != task_id:
            raise DemoFailed(f"the same idempotency_key made a second task, {again['task']['id']}")
        say(f"{task_id} again: the key was used before, so a call repeated after a lost answer makes no second task")
    daily = NewSchedule("low-stock-every-morning", "0 7 * * *", REPORT)
    with story.call("schedule_task", {"name": daily.name, "cron": daily.cron, **REPORT.given()}) as say:
        planned = await queue.put_schedule(daily)
        runs = ", ".join(str(each["local"]).replace("T", " ")[:16] for each in planned["next_runs"][:3])
        say(f"next runs: {runs} ({planned['schedule']['timezone']})")
    return task_id


async def _wait(story: Story, queue: Remote, task_id: str, watching: tuple[Child, ...]) -> Json:
    """Wait for the report; return its task whole."""
    with story.call("get_task", {"task_id": task_id, "wait_seconds": int(PARKED_SECONDS)}) as say:
        task = await finished(queue, task_id, watching)
        attempt = task["attempts"][-1]
        by = f"by {attempt['by']}, attempt {attempt['attempt']}, {attempt['seconds']} s of work"
        say(f"{task['status']} {by}; its files are {task['verdict']}")
        say(f"“{task['result_summary']}”")
    return task


def _show_files(story: Story, task: Json, folder: Path) -> None:
    """Print where the files are, and the first rows of the spreadsheet as they are read back from it."""
    story.head("The files")
    for each in task["artifacts"]:
        path = folder / each["path"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != each.get("sha256"):
            raise DemoFailed(f"{path} is not the file whose hash the worker reported")
        story.line(f"{path}  {path.stat().st_size:,} bytes")
    story.line("")
    header, *rows = workbook.rows(folder / task["result_path"])
    places = [header.index(name) for name in COLUMNS_SHOWN]
    columns = [name.replace("_", " ") for name in COLUMNS_SHOWN]
    story.table(columns, [[row[at] for at in places] for row in rows[:ROWS_SHOWN]])
    story.line(
        f"… {len(rows)} rows of {len(header)} columns in all, read back from the spreadsheet; "
        "the SHA-256 of both is the one that the worker reported"
    )


def _show_history(story: Story, task_id: str, events: list[Json]) -> None:
    """Print what the queue wrote down about a task, each with how long after the first."""
    story.head(f"What the queue wrote down about {task_id}")
    story.table(("#", "after", "event", "by", ""), [story.event(each, events[0]) for each in events])
    story.line("")
