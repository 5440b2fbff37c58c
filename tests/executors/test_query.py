"""Queries: what a task asks for, what lies in the file in the end, and what is said where it goes wrong."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import anyio
import openpyxl
import pytest

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from taskqueue_mcp.procedures.parsing import parse
from tests.executors.databases import ENDLESS, PAIRS, InSqlite
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun


@pytest.fixture
def stock(tmp_path: Path) -> InSqlite:
    return InSqlite(tmp_path)


async def query(stock: InSqlite, run: Run, *, limits: dict[str, int] | None = None, **params: Any) -> Outcome:
    executor = Query({"stock": stock.source}, **(limits or {}))
    with anyio.fail_after(30):
        return await executor.run(validate_params(executor, params), run)


async def completed(stock: InSqlite, run: Run, **params: Any) -> Completed:
    outcome = await query(stock, run, **params)
    assert isinstance(outcome, Completed), outcome
    return outcome


async def failure(stock: InSqlite, run: Run, **params: Any) -> Failed:
    outcome = await query(stock, run, **params)
    assert isinstance(outcome, Failed), outcome
    assert "\n" not in outcome.error
    assert str(stock.path.parent) not in outcome.error
    assert list(stock.path.parent.glob("out/**/*.*")) == []
    return outcome


SELECT = "SELECT sku, name, quantity FROM stock WHERE quantity < 10 ORDER BY id"


async def test_the_query_of_the_first_plan_is_written_where_it_says(
    stock: InSqlite, make_run: MakeRun, tmp_path: Path
) -> None:
    """S1.4: the statement is called `query`, its output is the task's."""
    told = {"format": "csv", "path": "Reports/Custom/", "filename_pattern": "Query_{timestamp}.csv"}

    outcome = await completed(stock, make_run(task={"output": told}), query="SELECT * FROM stock WHERE quantity < 10")

    assert outcome.path == "Reports/Custom/Query_20261120_070509.csv"
    lines = (tmp_path / "out" / outcome.path).read_text(encoding="utf-8").splitlines()
    assert lines == ["id,sku,name,quantity", "1,A-1,Anvil,3", "3,C-3,,-5", "4,D-4,'=1+1,9"]


async def test_what_it_came_to_is_in_the_result(stock: InSqlite, make_run: MakeRun, tmp_path: Path) -> None:
    outcome = await completed(stock, make_run(title="Low stock"), sql=SELECT)

    assert outcome.summary == f"Low stock; wrote {outcome.path} (3 rows)"
    assert outcome.data["rows"] == 3
    assert outcome.data["columns"] == ["sku", "name", "quantity"]
    assert outcome.data["preview"][0] == {"sku": "A-1", "name": "Anvil", "quantity": 3}
    assert outcome.data["artifacts"][0]["size"] == (tmp_path / "out" / str(outcome.path)).stat().st_size


@pytest.mark.parametrize("asked", [{"format": "xlsx"}, {"output": {"filename_pattern": "Low.xlsx"}}])
async def test_a_workbook_holds_the_same_rows(
    stock: InSqlite, make_run: MakeRun, tmp_path: Path, asked: dict[str, Any]
) -> None:
    outcome = await completed(stock, make_run(), sql=SELECT, **asked)

    sheet = openpyxl.load_workbook(tmp_path / "out" / str(outcome.path)).active
    assert [tuple(cell.value for cell in row) for row in sheet.iter_rows()] == [
        ("sku", "name", "quantity"),
        ("A-1", "Anvil", 3),
        ("C-3", None, -5),
        ("D-4", "=1+1", 9),
    ]
    assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)


async def test_json_is_a_list_of_objects(stock: InSqlite, make_run: MakeRun, tmp_path: Path) -> None:
    outcome = await completed(stock, make_run(), sql=SELECT, format="json")

    rows = json.loads((tmp_path / "out" / str(outcome.path)).read_text(encoding="utf-8"))
    assert rows[0] == {"sku": "A-1", "name": "Anvil", "quantity": 3}
    assert len(rows) == 3


async def test_parquet_keeps_the_types(stock: InSqlite, make_run: MakeRun, tmp_path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    outcome = await completed(stock, make_run(), sql=SELECT, format="parquet")

    table = parquet.read_table(tmp_path / "out" / str(outcome.path))
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "int64"]
    assert table.to_pylist()[1] == {"sku": "C-3", "name": None, "quantity": -5}


@pytest.mark.parametrize("given", [{"params": {"most": 5}}, {"parameters": {"most": 5}}, {"most": 5}])
async def test_parameters_are_bound_however_they_are_given(
    stock: InSqlite, make_run: MakeRun, given: dict[str, Any]
) -> None:
    outcome = await completed(stock, make_run(), sql="SELECT id FROM stock WHERE quantity < :most", **given)

    assert outcome.data["rows"] == 2


async def test_a_procedure_brings_the_statement_its_parameters_and_its_output(
    stock: InSqlite, make_run: MakeRun
) -> None:
    text = (
        "---\ntitle: Low\nsource: stock\nparams:\n  most: 10\noutput:\n  format: json\n  path: Low\n"
        "  filename_pattern: Low_{most}\n  summary: '{rows} products below {most}'\n---\n"
        "```sql\nSELECT id FROM stock WHERE quantity < :most\n```\n"
    )

    outcome = await completed(stock, make_run(procedure=parse("low.md", text)), most=5)

    assert outcome.path == "Low/Low_5.json"
    assert outcome.summary == "2 products below 5; wrote Low/Low_5.json (2 rows)"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "there is no statement; give it as sql"),
        ({"sql": "SELECT 1", "source": "nowhere"}, "no source 'nowhere'; there is stock"),
        ({"sqll": "SELECT 1"}, "'sqll' is neither an option nor a :name of the statement; options are source, sql, "),
        ({"sql": "SELECT 1", "formatt": "csv"}, "'formatt' is neither an option nor a :name of the statement"),
        ({"sql": "SELECT 1", "format": "exe"}, "written as csv, xlsx, json, parquet, not as 'exe'"),
        ({"sql": "SELECT 1", "output": {"path": "../.."}}, "climbs out of the output folder"),
        ({"sql": "SELECT absent FROM stock"}, "source stock: no such column: absent"),
        ({"sql": "DELETE FROM stock"}, "source stock: only reading is allowed"),
        ({"sql": "SELECT 1; SELECT 2"}, "source stock: it holds more than one statement"),
        ({"sql": "SELECT :gone"}, "source stock: it needs the parameter :gone"),
        ({"sql": "SELECT * FROM stock", "max_rows": 3}, "source stock: more than 3 rows"),
    ],
)
async def test_what_no_other_attempt_can_mend_fails_for_good_in_one_line(
    stock: InSqlite, make_run: MakeRun, params: dict[str, Any], said: str
) -> None:
    failed = await failure(stock, make_run(), **params)

    assert said in failed.error
    assert failed.permanent


async def test_an_endless_query_fails_in_time_and_may_be_tried_again(stock: InSqlite, make_run: MakeRun) -> None:
    failed = await failure(stock, make_run(timeout_seconds=1), sql=ENDLESS)

    assert failed.error.startswith("source stock: timed out after 1 s")
    assert not failed.permanent


@pytest.mark.parametrize("file_format", ["csv", "json", "xlsx", "parquet"])
async def test_a_result_of_too_many_bytes_is_refused_and_leaves_nothing(
    stock: InSqlite, make_run: MakeRun, file_format: str
) -> None:
    sql = f"SELECT 'a text of thirty characters or so' AS t, a.n {PAIRS} LIMIT 20000"

    failed = await failure(stock, make_run(), sql=sql, format=file_format, limits={"most_bytes": 10_000})

    assert "more than 10,000 bytes" in failed.error
    assert failed.permanent


async def test_a_source_that_is_gone_fails_for_good_without_its_path(make_run: MakeRun, tmp_path: Path) -> None:
    executor = Query({"gone": SqliteFile(tmp_path / "gone.db")})

    outcome = await executor.run(validate_params(executor, {"sql": "SELECT 1"}), make_run())

    assert isinstance(outcome, Failed)
    assert outcome.error == "source gone: its file does not exist; mend the source's path in the settings"


async def test_a_query_that_is_told_to_stop_returns_the_task_at_once(
    stock: InSqlite, make_run: MakeRun, log: list[str], tmp_path: Path
) -> None:
    run = make_run()
    outcomes: list[Outcome] = []

    async def go() -> None:
        outcomes.append(await query(stock, run, sql=ENDLESS))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(go)
            await eventually(lambda: any("Reading stock" in line for line in log))
            run.stop.set()

    assert [type(outcome) for outcome in outcomes] == [Returned]
    assert not (tmp_path / "out").exists()


async def test_preflight_says_what_is_missing_and_is_content_with_one_source(stock: InSqlite, tmp_path: Path) -> None:
    gone = SqliteFile(tmp_path / "gone.db")

    assert "no source is configured" in str(await Query({}).preflight())
    assert f"source gone: there is no file {tmp_path / 'gone.db'}" in str(await Query({"gone": gone}).preflight())
    assert await Query({"gone": gone, "stock": stock.source}).preflight() is None


async def test_cells_of_every_kind_are_data(stock: InSqlite, make_run: MakeRun, tmp_path: Path) -> None:
    sql = "SELECT '@x' AS a, -1 AS b, x'0102' AS c, 9e999 AS d, 'a,\"b\"\n' AS e, '-1' AS f, NULL AS g, '' AS h"

    outcome = await completed(stock, make_run(), sql=sql)

    text = (tmp_path / "out" / str(outcome.path)).read_bytes().decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["'@x", "-1", "0102", "", 'a,"b"\n', "'-1", "", ""]
