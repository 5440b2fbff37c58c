"""The demo's second request: a query, a calculation over its rows, and a note that Claude Code writes from both.

Claude Code is the real one; its model is scripted and on this machine, so that no account is needed.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp import sample
from taskqueue_mcp.cli.demo import note
from taskqueue_mcp.cli.demo.waiting import PARKED_SECONDS, finished
from taskqueue_mcp.taskqueue import NewTask, Wanted

if TYPE_CHECKING:
    import contextlib

    from taskqueue_mcp.cli.demo.processes import Child
    from taskqueue_mcp.cli.demo.story import Story
    from taskqueue_mcp.cli.remote import Remote

Json = dict[str, Any]

REQUEST: Final = "What do I order of the five that sell best, and what does it cost? Write me a note on it."
SQL: Final = """\
SELECT sku, name AS product, supplier, quantity, reorder_point, daily_sales, pack_size, unit_cost
  FROM products WHERE quantity < reorder_point ORDER BY daily_sales * unit_price DESC, sku LIMIT 5"""
NUMBERS: Final = ("quantity", "reorder_point", "daily_sales", "pack_size", "unit_cost")
ROWS: Final = Wanted(title="The five that sell best", task_type="query_execution", params={"sql": SQL})
NOTE: Final = Wanted(
    title="Note on the orders",
    task_type="writing",
    instructions="Write a note of a page on what to order and what it costs, for Mara, who signs it.",
    options={"output": {"path": "Notes", "filename_pattern": "OrderNote_{date}.md"}},
)
LONGEST: Final = 80


def has_claude() -> bool:
    """Whether the extra `claude` is installed."""
    return importlib.util.find_spec("claude_agent_sdk") is not None


def means(processes: contextlib.AsyncExitStack, scratch: Path) -> dict[str, str]:
    """Return the settings of a worker that can do all of it; Claude's model is served until `processes` end."""
    executors = ["report", "query", "calculation"]
    settings = {"TASKQUEUE_WORKER__CALCULATIONS": str(Path(sample.__file__).with_name("calculations"))}
    if has_claude():
        executors.append("claude")
        settings |= {
            "TASKQUEUE_WORKER__CLAUDE__BASE_URL": processes.enter_context(note.model()).url,
            "TASKQUEUE_WORKER__CLAUDE__HOME": str(scratch / "claude"),
            "ANTHROPIC_API_KEY": "not-needed-on-this-machine",
        }
    return settings | {"TASKQUEUE_WORKER__EXECUTORS": ",".join(executors)}


async def show(story: Story, queue: Remote, folder: Path, watching: tuple[Child, ...]) -> None:
    """Put the second request in, and print what comes of each of its tasks."""
    story.head(f"Then she asks: “{REQUEST}”")
    with story.call("create_task", _shown(ROWS)) as say:
        made = await queue.create_task(NewTask(ROWS))
        found = await finished(queue, str(made["task"]["id"]), watching)
        say(f"{found['id']} completed by {found['attempts'][-1]['by']}: “{found['result_summary']}”")
    sums = _sums(folder / found["result_path"])
    with story.call("create_task", _shown(sums)) as say:
        made = await queue.create_task(NewTask(sums))
        calculated = str(made["task"]["id"])
        say(f"{calculated} is {made['task']['status']}")
    if not has_claude():
        task = await finished(queue, calculated, watching)
        story.line(f"  {calculated} completed: “{task['result_summary']}”")
        story.line("  Claude Code would write the note now: pip install 'taskqueue-mcp[claude]' brings it along.")
        return
    await _written(story, queue, folder, (str(found["id"]), calculated), watching)


async def _written(
    story: Story, queue: Remote, folder: Path, both: tuple[str, str], watching: tuple[Child, ...]
) -> None:
    with story.call("create_task", {**_shown(NOTE), "depends_on": list(both)}) as say:
        made = await queue.create_task(NewTask(NOTE, depends_on=both))
        task_id = str(made["task"]["id"])
        say(f"{task_id} waits for both; then Claude Code gets it, with what they came to")
    with story.call("get_task", {"task_id": task_id, "wait_seconds": int(PARKED_SECONDS)}) as say:
        task = await finished(queue, task_id, watching)
        attempt = task["attempts"][-1]
        turns = attempt.get("usage", {}).get("turns")
        say(f"{task['status']} by {attempt['by']}: Claude Code, {turns} turns, its model a script")
        say(f"“{task['result_summary']}”")
    path = folder / task["result_path"]
    story.head("The note")
    story.line(str(path))
    story.line("")
    for line in path.read_text(encoding="utf-8").splitlines():
        story.line(f"    {line}")
    story.line("")


def _sums(path: Path) -> Wanted:
    """The calculation over the rows of the query, as a model would ask for it."""
    with path.open(encoding="utf-8", newline="") as file:
        items = [
            {"sku": row["sku"], **{name: json.loads(row[name]) for name in NUMBERS}} for row in csv.DictReader(file)
        ]
    params = {"calculation_name": "reorder_quantities", "parameters": {"items": items, "cover_days": 14}}
    return Wanted(title="What to order of them", task_type="calculation", params=params)


def _shown(wanted: Wanted) -> Json:
    """The arguments of a call, with what is long in their parameters cut."""
    given = wanted.given()
    return {**given, "params": {name: _cut(value) for name, value in wanted.params.items()}} if wanted.params else given


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    if isinstance(value, list):
        return f"… {len(value)} rows …"
    text = " ".join(str(value).split())
    return f"{text[:LONGEST]}…" if len(text) > LONGEST else value
