"""Reports: rows from a real file, hostile SQL, and what becomes of a source that is not there."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
import sys
import threading
import time
import zipfile
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.sources import reading
from taskqueue_mcp.executors.sources import sqlite as sqlite_source
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
from taskqueue_mcp.procedures.parsing import Procedure, parse
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import FrameType

    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n"


def procedure(sql: str, front: str = "title: Test", *more: str) -> Procedure:
    blocks = "\n".join(f"```sql sheet=Part{number}\n{each}\n```" for number, each in enumerate((sql, *more), 1))
    return parse("tests/x.md", f"---\n{front}\n---\n{blocks}\n")


async def report(run: Run, shop: Path, **params: Any) -> Outcome:
    executor = Report({"shop": SqliteFile(shop)})
    with anyio.fail_after(30):
        return await executor.run(validate_params(executor, params), run)


async def failure(run: Run, shop: Path, **params: Any) -> Failed:
    outcome = await report(run, shop, **params)
    assert isinstance(outcome, Failed)
    assert "\n" not in outcome.error
    assert str(shop.parent) not in outcome.error
    return outcome


async def success(run: Run, shop: Path, **params: Any) -> Completed:
    outcome = await report(run, shop, **params)
    assert isinstance(outcome, Completed), outcome
    return outcome


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_a_report_says_what_it_found_and_where_it_is(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    front = (
        "title: Tea\nparams: {category: Tea}\n"
        "output: {format: csv, path: Reports/Tea/, "
        'filename_pattern: "Tea_{date}.csv", summary: "{rows} teas"}'
    )
    run = make_run(procedure=procedure("SELECT sku, name FROM products WHERE category = :category ORDER BY sku", front))

    outcome = await success(run, shop)

    path = tmp_path / "out/Reports/Tea/Tea_2026-11-20.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert outcome.summary == "30 teas; wrote Reports/Tea/Tea_2026-11-20.csv (30 rows)"
    assert outcome.path == "Reports/Tea/Tea_2026-11-20.csv"
    assert outcome.artifacts == ("Reports/Tea/Tea_2026-11-20.csv",)
    assert outcome.data == {
        "rows": 30,
        "columns": ["sku", "name"],
        "preview": rows[:5],
        "artifacts": [
            {
                "path": "Reports/Tea/Tea_2026-11-20.csv",
                "size": path.stat().st_size,
                "sha256": sha256(path),
                "media_type": "text/csv",
            }
        ],
    }
    json.dumps(outcome.data)


async def test_parameters_of_the_task_win_over_defaults_and_are_bound(make_run: MakeRun, shop: Path) -> None:
    front = "title: T\nparams: {a: 1, names: [x], flag: false, none: {}}"
    sql = (
        "SELECT :a AS a, json_array_length(:names) AS n, :flag AS f, :none AS none, :extra AS e, "
        ":due_date AS d, :task_id AS t"
    )

    outcome = await success(
        make_run(procedure=procedure(sql, front)),
        shop,
        a="'; DROP TABLE products; --",
        names=["x", "y"],
        extra=2**70,
    )

    assert outcome.data["preview"] == [
        {
            "a": "'; DROP TABLE products; --",
            "n": 2,
            "f": 0,
            "none": None,
            "e": str(2**70),
            "d": "2026-11-20",
            "t": 142,
        }
    ]


async def test_several_blocks_are_sheets_of_one_xlsx_or_files_of_their_own(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a", "title: T", "SELECT 2 AS b UNION SELECT 3"))

    as_xlsx = await success(run, shop)
    as_json = await success(run, shop, output={"format": "json"})

    assert as_xlsx.summary == "T; wrote Reports/x_2026-11-20.xlsx (1 + 2 rows)"
    assert as_xlsx.data["sheets"] == [
        {"name": "Part1", "rows": 1, "columns": ["a"]},
        {"name": "Part2", "rows": 2, "columns": ["b"]},
    ]
    book = zipfile.ZipFile(tmp_path / "out/Reports/x_2026-11-20.xlsx")
    assert re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode()) == ["Part1", "Part2"]
    assert as_json.artifacts == ("Reports/x_2026-11-20_Part1.json", "Reports/x_2026-11-20_Part2.json")
    assert json.loads((tmp_path / "out" / as_json.artifacts[1]).read_text()) == [{"b": 2}, {"b": 3}]


async def test_output_comes_field_by_field_from_parameters_then_task_then_procedure(
    make_run: MakeRun, shop: Path
) -> None:
    front = "title: T\noutput: {format: xlsx, path: A, filename_pattern: 'p_{task_id}.xlsx'}"
    followed = procedure("SELECT 1 AS a", front)

    plain = await success(make_run(procedure=followed), shop)
    by_task = await success(make_run(procedure=followed, task={"output": {"path": "B", "columns": ["a"]}}), shop)
    as_text = await success(make_run(procedure=followed, task={"output": '{"format": "json"}'}), shop)
    by_name = await success(make_run(procedure=followed), shop, output={"filename_pattern": "q_{timestamp}.csv"})

    assert plain.path == "A/p_142.xlsx"
    assert by_task.path == "B/p_142.xlsx"
    assert as_text.path == "A/p_142.json"
    assert by_name.path == "A/q_20261120_070509.csv"


async def test_a_second_report_of_a_day_gets_a_name_of_its_own(make_run: MakeRun, shop: Path) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a"))

    assert [(await success(run, shop)).path for _ in range(2)] == [
        "Reports/x_2026-11-20.xlsx",
        "Reports/x_2026-11-20-2.xlsx",
    ]


async def test_the_date_in_a_name_is_the_due_date_whatever_the_clock_says(make_run: MakeRun, shop: Path) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a"), due_date=date(2026, 1, 2))

    assert (await success(run, shop)).path == "Reports/x_2026-01-02.xlsx"


async def test_formulas_in_the_data_arrive_as_text(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    run = make_run(procedure=procedure("SELECT '=1+1' AS \"=col\", -5 AS n"))

    outcome = await success(run, shop, output={"format": "csv"})

    assert outcome.path is not None
    assert (tmp_path / "out" / outcome.path).read_text().splitlines() == ["'=col,n", "'=1+1,-5"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"source": "nowhere"}, "no source 'nowhere'; there is shop"),
        ({"source": "../shop.db"}, "no source '../shop.db'"),
        ({"output": {"format": "docx"}}, "a report is written as xlsx, csv, json, html, pdf, md, not as 'docx'"),
        ({"output": {"path": "../x"}}, "climbs out"),
        ({"output": {"filename_pattern": "{__class__.x}.csv"}}, "unknown placeholder"),
        ({"output": {"summary": "{nothing}"}}, "unknown placeholder {nothing}"),
        ({"n": "many"}, "the parameter n must be a whole number"),
    ],
)
async def test_what_cannot_work_fails_for_good_before_any_work(
    make_run: MakeRun, shop: Path, tmp_path: Path, params: dict[str, Any], expected: str
) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a", "title: T\nparams: {n: {type: integer}}"))

    failed = await failure(run, shop, **params)

    assert expected in failed.error
    assert failed.permanent
    assert not (tmp_path / "out").exists()


async def test_a_task_without_a_procedure_or_its_sql_fails_for_good(make_run: MakeRun, shop: Path) -> None:
    without = await failure(make_run(), shop)
    without_sql = await failure(make_run(procedure=parse("x.md", "# Only words")), shop)

    assert without.error.startswith("a report follows a procedure with an SQL block")
    assert without_sql.error == "x.md has no SQL block; add one fenced as ```sql"
    assert without.permanent
    assert without_sql.permanent


async def test_the_source_must_be_said_where_there_are_two(make_run: MakeRun, shop: Path) -> None:
    executor = Report({"shop": SqliteFile(shop), "other": SqliteFile(shop)})
    run = make_run(procedure=procedure("SELECT 1 AS a"))
    named = make_run(procedure=procedure("SELECT 1 AS a", "title: T\nsource: other"))

    unsaid = await executor.run(validate_params(executor, {}), run)

    assert unsaid == Failed("which source to read is not said; give source, there is other, shop", permanent=True)
    assert isinstance(await executor.run(validate_params(executor, {}), named), Completed)


def test_only_names_of_the_procedure_go_beside_source_and_output() -> None:
    with pytest.raises(InvalidInput, match=r"output.colour is unknown; it takes source, output"):
        validate_params(Report({}), {"threshold": 5, "output": {"colour": "red"}})


@pytest.mark.parametrize(
    ("content", "expected", "permanent"),
    [
        (None, "its file does not exist", True),
        (b"not a database at all" * 100, "file is not a database", True),
    ],
)
async def test_a_source_that_is_missing_or_no_database_says_so(
    make_run: MakeRun, tmp_path: Path, content: bytes | None, expected: str, permanent: bool
) -> None:
    path = tmp_path / "broken.db"
    if content is not None:
        path.write_bytes(content)

    failed = await failure(make_run(procedure=procedure("SELECT * FROM t")), path)

    assert expected in failed.error
    assert failed.permanent is permanent


async def test_a_locked_source_fails_for_now(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_source, "PATIENCE", 0.05)
    path = tmp_path / "locked.db"
    with closing(sqlite.connect(path, isolation_level=None)) as owner:
        owner.execute("CREATE TABLE t (a)")
        owner.execute("BEGIN EXCLUSIVE")
        failed = await failure(make_run(procedure=procedure("SELECT * FROM t")), path)

    assert failed.error.endswith("it is locked by another program")
    assert not failed.permanent


# Escapes.

ESCAPES = [
    "ATTACH 'evil.db' AS evil",
    "ATTACH ':memory:' AS evil",
    "DETACH main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('products')",
    "INSERT INTO products SELECT * FROM products",
    "INSERT INTO sales VALUES ('2026-01-01', 'COF-1007', 1, 1) RETURNING *",
    "UPDATE products SET quantity = 0",
    "UPDATE products SET quantity = 0 RETURNING sku",
    "DELETE FROM products",
    "WITH x AS (SELECT 1) DELETE FROM products",
    "WITH x AS (SELECT 1) INSERT INTO products SELECT * FROM products",
    "REPLACE INTO products SELECT * FROM products",
    "DROP TABLE products",
    "CREATE TABLE evil (a)",
    "CREATE TEMP TABLE evil AS SELECT 1",
    "CREATE VIEW evil AS SELECT 1",
    "CREATE VIRTUAL TABLE evil USING fts5(a)",
    "CREATE TRIGGER evil AFTER INSERT ON sales BEGIN SELECT 1; END",
    "ALTER TABLE products RENAME TO evil",
    "VACUUM",
    "VACUUM INTO 'evil.db'",
    "ANALYZE",
    "REINDEX products",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT evil",
    "SELECT 1; DELETE FROM products",
    "SELECT 1; SELECT 2",
    "SELECT 1;; PRAGMA query_only = OFF",
    "SELECT load_extension('evil.so')",
    "SELECT LOAD_EXTENSION('evil.so', 'main')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('evil', 'x')",
    "SELECT edit('x')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT randomblob(1000000000)",
    "SELECT hex(zeroblob(500000000))",
    "EXPLAIN SELECT 1",
    "-- nothing at all",
    "SELECT :undeclared",
    "SELECT ?",
    "SELECT * FROM nowhere",
    "SELEC 1",
]


@pytest.mark.parametrize("sql", ESCAPES)
async def test_sql_that_does_anything_but_read_fails_for_good_and_changes_nothing(
    make_run: MakeRun, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sha256(shop)

    failed = await failure(make_run(procedure=procedure(sql)), shop)

    assert failed.permanent
    assert failed.error.startswith("tests/x.md, SQL of line 4, on source shop: ")
    assert sha256(shop) == before
    assert written(tmp_path) == []


async def test_a_fault_in_the_second_block_leaves_no_file_of_the_first(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a", "title: T", "SELEC 2"))

    failed = await failure(run, shop, output={"format": "csv"})

    assert "line 7" in failed.error
    assert written(tmp_path) == []


async def test_the_text_of_a_parameter_is_never_sql(make_run: MakeRun, shop: Path) -> None:
    run = make_run(
        procedure=procedure("SELECT count(*) AS n FROM products WHERE category = :c", "title: T\nparams: {c: x}")
    )

    assert (await success(run, shop, c="' OR 1=1 --")).data["preview"] == [{"n": 0}]


@pytest.mark.parametrize("file_format", ["xlsx", "csv", "json"])
async def test_more_rows_than_allowed_fail_for_good_and_leave_nothing(
    make_run: MakeRun, shop: Path, tmp_path: Path, file_format: str
) -> None:
    executor = Report({"shop": SqliteFile(shop)}, most_rows=10)
    run = make_run(procedure=procedure("SELECT sku FROM products"))

    outcome = await executor.run(validate_params(executor, {"output": {"format": file_format}}), run)

    assert isinstance(outcome, Failed)
    assert outcome.error.endswith("more than 10 rows; narrow the query")
    assert outcome.permanent
    assert written(tmp_path) == []


async def test_an_endless_query_times_out_and_may_be_tried_again(make_run: MakeRun, shop: Path) -> None:
    failed = await failure(make_run(procedure=procedure(ENDLESS), timeout_seconds=1), shop)

    assert failed.error.endswith("timed out after 1 s; narrow it or give it longer")
    assert not failed.permanent


def is_reading() -> bool:
    """Whether any thread is still at work on a report."""
    for frame in sys._current_frames().values():
        at: FrameType | None = frame
        while at is not None:
            if at.f_code.co_name == "carry_out":
                return True
            at = at.f_back
    return False


async def reading_ends() -> None:
    await eventually(lambda: not is_reading(), seconds=2)


@pytest.mark.parametrize("sql", [ENDLESS, ENDLESS.replace("count(*) AS c", "i")])
async def test_an_endless_query_ends_at_once_when_told_to_stop(
    make_run: MakeRun, shop: Path, tmp_path: Path, sql: str
) -> None:
    run = make_run(procedure=procedure(sql))
    outcomes: list[Outcome] = []

    async def carry_out() -> None:
        outcomes.append(await report(run, shop))

    async with anyio.create_task_group() as group:
        group.start_soon(carry_out)
        await anyio.sleep(0.3)
        assert outcomes == []
        assert is_reading()
        told = time.monotonic()
        run.stop.set()
    assert time.monotonic() - told < 0.5
    assert outcomes == [Returned(None, "stopped before it was over")]
    await reading_ends()
    assert written(tmp_path) == []


async def test_a_run_that_is_told_to_stop_beforehand_writes_nothing(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    run = make_run(procedure=procedure("SELECT 1 AS a"))
    run.stop.set()

    assert isinstance(await report(run, shop), Returned)
    await reading_ends()
    assert written(tmp_path) == []


async def test_a_file_that_is_ready_too_late_does_not_appear(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    started, go = threading.Event(), threading.Event()

    class Slow(OutputFolder):
        def write_all(self, files: Iterable[tuple[str, Callable[[BinaryIO], object]]]) -> list[WrittenFile]:
            def late(writer: Callable[[BinaryIO], object]) -> Callable[[BinaryIO], object]:
                def write_late(file: BinaryIO) -> None:
                    started.set()
                    go.wait(5)
                    writer(file)

                return write_late

            return super().write_all((relative, late(writer)) for relative, writer in files)

    run = make_run(procedure=procedure("SELECT 1 AS a WHERE 0"), outputs=Slow(tmp_path / "out"))
    async with anyio.create_task_group() as group:
        group.start_soon(report, run, shop)
        await eventually(started.is_set)
        run.stop.set()
    go.set()
    await eventually(lambda: not is_reading())
    assert written(tmp_path) == []


def test_a_reader_that_was_told_to_stop_stays_stopped(shop: Path) -> None:
    reader = sqlite_source.SqliteReader(shop, seconds=10, most_rows=10)

    def stop_between_rows() -> None:
        with reader.opened():
            _, rows = reader.read("SELECT sku FROM products LIMIT 9", {})
            next(rows)
            reader.halt()
            list(rows)

    for _ in range(2):
        with pytest.raises(reading.Halted):
            stop_between_rows()


@pytest.mark.parametrize(
    "statements",
    [
        ["PRAGMA query_only = OFF", "DELETE FROM sales RETURNING sku"],
        ["COMMIT", "ATTACH 'evil.db' AS evil", "CREATE TABLE evil.t (a)"],
    ],
    ids=["the file", "another file"],
)
def test_behind_the_authorizer_nothing_can_be_written_either(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    monkeypatch.setattr(sqlite_source, "_may", lambda *_: sqlite.SQLITE_OK)
    monkeypatch.chdir(tmp_path)
    reader = sqlite_source.SqliteReader(shop, seconds=10, most_rows=10)

    def run_them() -> None:
        with reader.opened():
            for statement in statements:
                with contextlib.suppress(reading.ReadFailed):  # most of them return no rows
                    reader.read(statement, {})

    with pytest.raises(reading.ReadFailed, match="readonly database"):
        run_them()


async def test_cancelling_the_attempt_ends_its_query_too(make_run: MakeRun, shop: Path) -> None:
    run = make_run(procedure=procedure(ENDLESS))

    with anyio.move_on_after(0.3) as scope:
        await report(run, shop)

    assert scope.cancelled_caught
    await reading_ends()


def test_all_blocks_see_the_same_moment(tmp_path: Path) -> None:
    path = tmp_path / "wal.db"
    with closing(sqlite.connect(path, isolation_level=None)) as owner:
        owner.execute("PRAGMA journal_mode = WAL")
        owner.execute("CREATE TABLE t (a)")
        owner.execute("INSERT INTO t VALUES (1)")
        reader = sqlite_source.SqliteReader(path, seconds=10, most_rows=10)
        with reader.opened():
            first = list(reader.read("SELECT count(*) FROM t", {})[1])
            owner.execute("INSERT INTO t VALUES (2)")
            second = list(reader.read("SELECT count(*) FROM t", {})[1])

    assert first == second == [(1,)]


async def test_text_that_is_not_utf8_does_not_stop_a_report(make_run: MakeRun, shop: Path) -> None:
    run = make_run(procedure=procedure("SELECT CAST(x'ff41' AS TEXT) AS a"))

    assert (await success(run, shop)).data["preview"] == [{"a": "\ufffdA"}]


async def test_a_folder_that_cannot_be_written_is_a_passing_failure(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")

    failed = await failure(make_run(procedure=procedure("SELECT 1 AS a")), shop)

    assert failed.error == "the report could not be written: file exists"
    assert not failed.permanent


async def test_what_was_read_is_logged(make_run: MakeRun, shop: Path, log: list[str]) -> None:
    await success(make_run(procedure=procedure("SELECT sku FROM products")), shop)

    assert log == ["[None Reading shop]\n", "Part1: 300 rows\n"]


def test_the_sample_is_left_alone_by_all_of_this(shop: Path) -> None:
    assert written(shop.parent) == ["shop.db"]
