"""Makes the tables of docs/performance.md and its charts from the record: `python -m benchmarks.page`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from benchmarks.drawing import Bar, Chart
from benchmarks.recording import RESULTS, load, points

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
SUBJECTS = ("peers_sqlite", "peers_postgres", "peers_wakeup", "peers_mcp", "millions", "millions_postgres")
VERDICTS = {True: "met", False: "missed", None: ""}


def charts(results: Path = RESULTS) -> dict[str, str]:
    """Return each chart as SVG under the name of its file; one without a record is left out."""
    made = {}
    for name, needed, draw in (
        ("throughput", ("peers_sqlite",), _throughput),
        ("wakeup", ("peers_wakeup",), _wakeup),
        ("depth", ("millions", "peers_mcp"), _depth),
    ):
        if all((results / f"{subject}.json").exists() for subject in needed):
            made[f"performance-{name}.svg"] = draw(results).svg()
    return made


def table(record: dict[str, Any]) -> str:
    """Return a subject's table, with when and where it was measured below it."""
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    for figure in record["figures"]:
        name = re.sub(r"^- ", "— ", figure["name"])
        measured = figure["measured"].replace(" x ", "x ").replace("- to", "to")
        target = figure["target"].replace("<=", "≤").replace(">=", "≥").replace(" x", "x")
        lines.append(f"| {name} | {measured} | {target} | {VERDICTS[figure['met']]} |")
    machine = record["machine"]
    begun = time.strptime(record["begun"], "%Y-%m-%dT%H:%MZ")
    when = f"{begun.tm_mday} {time.strftime('%B %Y, %H:%M UTC', begun)}"
    where = f"{machine['processor']}, {machine['system']}, CPython {machine['python']}, SQLite {machine['sqlite']}"
    lines += ["", f"{when}, {record['seconds']} s, load {record['load_before']} before it; {where}."]
    return "\n".join(lines)


def page(text: str, results: Path = RESULTS) -> str:
    """Return the page with the tables of the record between its marks, and the rest of it as it was."""
    for subject in SUBJECTS:
        if (results / f"{subject}.json").exists():
            text, count = _between(f"<!-- {subject} -->", "<!-- end -->", table(load(subject, results)), text)
            if count != 1:
                raise ValueError(f"the page has {count} places for {subject}, and not one")
    return text


def _between(begin: str, end: str, made: str, text: str) -> tuple[str, int]:
    """Put what was made between every pair of these marks; return how many there were."""
    pattern = rf"{re.escape(begin)}\n.*?{re.escape(end)}"
    return re.subn(pattern, lambda _: f"{begin}\n{made}\n{end}", text, flags=re.DOTALL)


def _throughput(results: Path) -> Chart:
    chart = Chart("Tasks created, claimed and completed, in tasks per second")
    for subject, figure, heading in (
        ("peers_sqlite", "32 callers", "SQLite, 32 callers, synchronous=full"),
        ("peers_sqlite", "one caller, synchronous=normal, 5", "SQLite, one caller, synchronous=normal"),
        ("peers_postgres", "16 connections", "PostgreSQL, 16 connections, synchronous_commit=on"),
    ):
        if not (results / f"{subject}.json").exists():
            continue
        found = points(subject, figure, results)
        rows = sorted((Bar(name, rate) for name, rate in found.items()), key=lambda row: -row.value)
        chart.bars(heading, rows, "tasks per second, more is better", lambda value: f"{value:,.0f}", log=False)
    return chart


def _wakeup(results: Path) -> Chart:
    chart = Chart("From before a task is enqueued to its first line in an idle worker")
    found = [(each["name"], each["points"]) for each in load("peers_wakeup", results)["figures"] if each["points"]]
    rows = sorted((Bar(name, each["median"], each["95 %"]) for name, each in found), key=lambda row: row.value)
    chart.bars("", rows, "milliseconds, less is better: the median, and where 95 % end", _short, log=True)
    return chart


def _depth(results: Path) -> Chart:
    chart = Chart("What a call costs with so many tasks around")
    for subject, engine in (("millions", "SQLite"), ("millions_postgres", "PostgreSQL")):
        if (results / f"{subject}.json").exists():
            figures = {each["name"]: each["points"] for each in load(subject, results)["figures"]}
            calls = {name: found for name, found in figures.items() if not name.startswith("search")}
            across = "so many finished tasks and as many ready ones"
            chart.lines(f"In the service, on {engine}", calls, across, "microseconds, less is better")
    found = points("peers_mcp", "tasks in the backlog", results)
    chart.bars(
        "Taking a task over MCP (stdio), 10,000 tasks in the backlog",
        [Bar(name, value) for name, value in found.items()],
        "milliseconds, less is better",
        _short,
        log=True,
    )
    return chart


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for name, text in charts().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
