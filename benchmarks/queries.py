"""Rows into files: a million to csv and a hundred thousand to xlsx, against the driver and the writer alone."""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Figure, at_most, folder, ratio
from benchmarks.peers.environment import MissingProgram
from benchmarks.peers.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskqueue_mcp.executors.sources.reading import Source

ROWS_CSV, ROWS_XLSX = 1_000_000, 100_000
LONGEST = 1.3
MOST_MEMORY = 150.0
COLUMNS = "id, sku, name, price, quantity, warehouse, sold_at"
SQLITE = f"""
CREATE TABLE sales ({COLUMNS});
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS_CSV})
INSERT INTO sales SELECT i, 'SKU-' || i, 'Widget number ' || i, i * 1.25, i % 1000 - 500, 'warehouse east',
  '2026-11-20T07:00:00' FROM n;
"""
POSTGRES = f"""
CREATE TABLE sales AS SELECT i AS id, 'SKU-' || i AS sku, 'Widget number ' || i AS name, i * 1.25::float8 AS price,
  i % 1000 - 500 AS quantity, 'warehouse east' AS warehouse, '2026-11-20T07:00:00' AS sold_at
FROM generate_series(1, {ROWS_CSV}) AS i
"""


def run(*, quick: bool) -> list[Figure]:
    """Each time in a process of its own, in turn; and a worker that does the task, watched from outside."""
    from pysqlite3 import dbapi2 as sqlite  # noqa: PLC0415 - the parts below do without

    rounds = 2 if quick else 7
    with folder() as where:
        source = where / "sales.db"
        wire = sqlite.connect(str(source))
        wire.executescript(SQLITE)
        wire.close()
        figures = [
            _compared("SQLite: a million rows to csv, to the driver and csv.writer", "csv", str(source), where, rounds),
            _compared("SQLite: 100,000 rows to xlsx, to xlsxwriter", "xlsx", str(source), where, rounds),
        ]
        figures += _on_postgres(where, rounds)
        figures += _memory(where, source)
    return figures


def _compared(name: str, kind: str, source: str, where: Path, rounds: int) -> Figure:
    took: dict[str, list[float]] = {"ours": [], "alone": []}
    for number in range(rounds + 1):
        for who, found in took.items():
            command = [sys.executable, "-m", "benchmarks.queries", who, kind, source, str(where)]
            seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if number:  # the first round warms the disk's cache
                found.append(seconds)
    middle = {who: statistics.median(found) for who, found in took.items()}
    detail = f"{middle['ours']:.2f} to {middle['alone']:.2f} s"
    return at_most(name, ratio(took["ours"], took["alone"]), LONGEST, detail=detail)


def _on_postgres(where: Path, rounds: int) -> Iterator[Figure]:
    try:
        with postgres() as server:
            url = server.database("sales")
            server.psql("sales", POSTGRES)
            name = "PostgreSQL: a million rows to csv, to psycopg and csv.writer"
            yield _compared(name, "csv", url, where, rounds)
    except MissingProgram as missing:
        yield Figure("PostgreSQL", str(missing))


def _memory(where: Path, source: Path) -> Iterator[Figure]:
    """What a worker holds at most while it does the task, all of its process."""
    queue = f"sqlite:///{where / 'queue.db'}"
    program, at = [sys.executable, "-m", "taskqueue_mcp"], ["--database", queue]
    params = json.dumps({"sql": f"SELECT {COLUMNS} FROM sales"})
    create = ["tasks", "create", "A million rows", "--type", "query_execution", "--params", params]
    subprocess.run([*program, *create, *at], check=True, capture_output=True)
    work = ["worker", "--once", "--executor", "query", "--source", f"sales={source}", "--output", str(where / "out")]
    worker = subprocess.Popen([*program, *work, *at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0.0
    while worker.poll() is None:
        most = max(most, _peak(worker.pid))
        time.sleep(0.02)  # the peak is read from outside, and only while the process lives
    written = next((where / "out").rglob("*.csv"))
    lines = written.read_bytes().count(b"\n")
    if lines != ROWS_CSV + 1:
        raise RuntimeError(f"{lines:,} lines were written")
    yield at_most("a worker that writes a million rows to csv: most memory", most, MOST_MEMORY, "MB")


def _peak(pid: int) -> float:
    """The most resident memory that a process has had, in MB; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1_000 if found else 0.0


def _alone(kind: str, source: str, where: Path) -> None:
    columns, rows = _driver(source, ROWS_XLSX if kind == "xlsx" else ROWS_CSV)
    if kind == "csv":
        with (where / "alone.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        return
    import xlsxwriter  # noqa: PLC0415 - one of the two parts

    book = xlsxwriter.Workbook(str(where / "alone.xlsx"), {"constant_memory": True})
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, columns)
    for number, row in enumerate(rows, 1):
        sheet.write_row(number, 0, row)
    book.close()


def _driver(source: str, count: int) -> tuple[list[str], Any]:
    sql = f"SELECT {COLUMNS} FROM sales LIMIT {count}"
    if "://" in source:
        import psycopg  # noqa: PLC0415 - one of the two parts

        cursor: Any = psycopg.connect(source).cursor(name="alone")
        cursor.itersize = 1_000
    else:
        from pysqlite3 import dbapi2 as sqlite  # noqa: PLC0415 - the other

        cursor = sqlite.connect(f"file:{source}?mode=ro", uri=True).cursor()
    cursor.execute(sql)
    return [column[0] for column in cursor.description], cursor


def _ours(kind: str, source: str, where: Path) -> Callable[[], None]:
    import anyio  # noqa: PLC0415 - the other part does without all of it
    from sqlalchemy import make_url  # noqa: PLC0415 - the same

    from taskqueue_mcp.executors.base import Run, validate_params  # noqa: PLC0415 - the same
    from taskqueue_mcp.executors.query import Query  # noqa: PLC0415 - the same
    from taskqueue_mcp.executors.sources.databases import Database  # noqa: PLC0415 - the same
    from taskqueue_mcp.executors.sources.sqlite import SqliteFile  # noqa: PLC0415 - the same
    from taskqueue_mcp.model import Completed  # noqa: PLC0415 - the same
    from taskqueue_mcp.outputs.folder import OutputFolder  # noqa: PLC0415 - the same

    kept: Source = Database(make_url(source)) if "://" in source else SqliteFile(Path(source))
    executor = Query({"sales": kept})
    count = ROWS_XLSX if kind == "xlsx" else ROWS_CSV
    params = validate_params(executor, {"sql": f"SELECT {COLUMNS} FROM sales LIMIT {count}", "format": kind})

    async def progress(percent: float | None, message: str = "") -> None: ...

    async def carry_out() -> None:
        now = datetime.fromtimestamp(time.time(), UTC)
        attempt = Run(
            task_id=1,
            attempt=1,
            title="Sales",
            instructions="",
            task={},
            procedure=None,
            inputs=[],
            earlier_attempts=[],
            answers=[],
            due_date=now.date(),
            now=now,
            zone=UTC,
            outputs=OutputFolder(where / "ours"),
            directory=where,
            log=lambda _: None,
            progress=progress,
            stop=anyio.Event(),
            timeout_seconds=600,
        )
        outcome = await executor.run(params, attempt)
        if not isinstance(outcome, Completed) or outcome.data["rows"] != count:
            raise RuntimeError(str(outcome))

    return lambda: anyio.run(carry_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["ours", "alone"])
    parser.add_argument("kind", choices=["csv", "xlsx"])
    parser.add_argument("source")
    parser.add_argument("where", type=Path)
    given = parser.parse_args()
    work = _ours(given.kind, given.source, given.where) if given.who == "ours" else None
    begun = time.perf_counter()
    if work is None:
        _alone(given.kind, given.source, given.where)
    else:
        work()
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
