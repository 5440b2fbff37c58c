"""Run within a mount namespace of its own: reports into a folder that is full, read only, and gone. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import anyio

from taskqueue_mcp.executors.base import Run, validate_params
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.procedures.parsing import parse

MANY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows}) SELECT i, hex(i * 7919) AS t FROM n"
)


async def report(out: Path, work: Path, shop: Path, rows: int, formats: list[str]) -> dict[str, Any]:
    async def progress(percent: float | None, message: str = "") -> None:
        del percent, message

    text = f"---\ntitle: T\n---\n```sql sheet=S\n{MANY.format(rows=rows)}\n```\n"
    run = Run(
        task_id=1, attempt=1, title="T", instructions="", task={}, procedure=parse("t.md", text), inputs=[],
        earlier_attempts=[], answers=[], due_date=date(2026, 11, 20), now=datetime(2026, 11, 20, tzinfo=UTC), zone=UTC,
        outputs=OutputFolder(out), directory=work, log=lambda _: None, progress=progress, stop=anyio.Event(),
    )  # fmt: skip
    executor = Report({"shop": SqliteFile(shop)})
    outcome = await executor.run(validate_params(executor, {"output": {"formats": formats, "path": "R"}}), run)
    files = sorted(path.name for path in out.rglob("*") if path.is_file()) if out.exists() else []
    return {"outcome": type(outcome).__name__, "error": getattr(outcome, "error", ""),
            "permanent": getattr(outcome, "permanent", None), "files": files}  # fmt: skip


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")


async def main(folder: Path) -> None:
    out, work, shop = folder / "out", folder / "work", folder / "shop.db"
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(out)], check=True)
    for formats in (["csv"], ["xlsx"], ["html", "json"], ["json", "csv"]):
        say(await report(out, work, shop, 60_000, formats))
    say(await report(out, work, shop, 10, ["html", "csv"]))
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(out)], check=True)
    say(await report(out, work, shop, 10, ["html", "csv"]))
    await asyncio.to_thread(subprocess.run, ["umount", str(out)], check=True)
    out.rmdir()
    say(await report(out, work, shop, 10, ["html", "csv"]))


asyncio.run(main(Path(sys.argv[1])))
