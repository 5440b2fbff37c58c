"""Cells of every kind that a database has, from the database into each kind of file."""

from __future__ import annotations

import csv
import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import openpyxl
import pytest
from pyarrow import parquet

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.model import Completed
from tests.executors.databases import ENGINES, InDuckDb, InMariaDb, InPostgres

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.sources.reading import Source
    from tests.executors.conftest import MakeRun

SQL = {
    "postgres": (
        "SELECT 12345678901234567890.123::numeric AS exact, 12.50::numeric AS price, date '2026-11-20' AS day, "
        "timestamp '2026-11-20 07:00:00.5' AS moment, timestamptz '2026-11-20 07:00:00+01' AS instant, "
        "time '07:00' AS hour, interval '26 hours' AS span, array[1, 2] AS list, '{\"k\": [1, \"ü\"]}'::jsonb AS tree, "
        "'\\x0102'::bytea AS raw, true AS yes, null AS nothing, 'NaN'::float8 AS nan, 9007199254740993 AS large"
    ),
    "duckdb": (
        "SELECT 12345678901234567890.123::decimal(30, 3) AS exact, 12.50::decimal(9, 2) AS price, "
        "date '2026-11-20' AS day, timestamp '2026-11-20 07:00:00.5' AS moment, "
        "timestamptz '2026-11-20 07:00:00+01' AT TIME ZONE 'UTC' AT TIME ZONE 'UTC' AS instant, time '07:00' AS hour, "
        "interval 26 hours AS span, [1, 2] AS list, {'k': ['1', 'ü']} AS tree, '\\x01\\x02'::blob AS raw, true AS yes, "
        "null AS nothing, 'nan'::double AS nan, 9007199254740993 AS large"
    ),
    "mariadb": (
        "SELECT cast('12345678901234567890.123' AS decimal(30, 3)) AS exact, cast(12.50 AS decimal(9, 2)) AS price, "
        "date '2026-11-20' AS day, timestamp '2026-11-20 07:00:00.5' AS moment, cast('07:00' AS time) AS hour, "
        "x'0102' AS raw, null AS nothing, 9007199254740993 AS large"
    ),
}


@pytest.fixture(params=[engine for engine in ENGINES if engine in SQL])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, str]:
    engine = str(request.param)
    kept: InPostgres | InDuckDb | InMariaDb
    if engine == "postgres":
        kept = InPostgres(request.getfixturevalue("cluster"))
    elif engine == "mariadb":
        kept = InMariaDb(request.getfixturevalue("mariadb_server"), f"cells_{abs(hash(tmp_path))}")
    else:
        kept = InDuckDb(tmp_path)
    return kept.source, SQL[engine]


async def written(asked: tuple[Source, str], make_run: MakeRun, tmp_path: Path, file_format: str) -> Path:
    executor = Query({"kept": asked[0]})
    with anyio.fail_after(30):
        outcome = await executor.run(validate_params(executor, {"sql": asked[1], "format": file_format}), make_run())
    assert isinstance(outcome, Completed), outcome
    json.dumps(outcome.data)
    return tmp_path / "out" / str(outcome.path)


async def test_csv_has_every_digit_and_times_as_iso_8601(
    asked: tuple[Source, str], make_run: MakeRun, tmp_path: Path
) -> None:
    path = await written(asked, make_run, tmp_path, "csv")
    (row,) = csv.DictReader(path.read_text(encoding="utf-8").splitlines())

    assert row["exact"] == "12345678901234567890.123"
    assert row["price"] == "12.50"
    assert (row["day"], row["moment"]) == ("2026-11-20", "2026-11-20T07:00:00.500000")
    assert (row["raw"], row["nothing"], row["large"]) == ("0102", "", "9007199254740993")
    if "instant" in row:
        assert dt.datetime.fromisoformat(row["instant"]) == dt.datetime(2026, 11, 20, 6, tzinfo=dt.UTC)
        assert (row["hour"], row["list"], row["nan"]) == ("07:00:00", "[1, 2]", "")


async def test_json_rounds_nothing_and_keeps_lists_and_objects(
    asked: tuple[Source, str], make_run: MakeRun, tmp_path: Path
) -> None:
    path = await written(asked, make_run, tmp_path, "json")
    (row,) = json.loads(path.read_text(encoding="utf-8"))

    assert row["exact"] == "12345678901234567890.123"
    assert row["price"] == 12.5
    assert row["large"] == 9007199254740993
    if "tree" in row:
        assert (row["list"], row["tree"]["k"][1], row["nan"], row["yes"]) == ([1, 2], "ü", None, True)


async def test_a_workbook_has_numbers_dates_and_text_for_what_it_cannot_hold(
    asked: tuple[Source, str], make_run: MakeRun, tmp_path: Path
) -> None:
    path = await written(asked, make_run, tmp_path, "xlsx")
    names, cells = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    row: dict[str, Any] = dict(zip(names, cells, strict=True))

    assert (row["exact"], row["large"]) == ("12345678901234567890.123", "9007199254740993")
    assert (row["price"], row["day"]) == (12.5, dt.datetime(2026, 11, 20))  # noqa: DTZ001 - a sheet has no zones
    assert row["nothing"] is None


async def test_parquet_has_the_types_of_the_database(
    asked: tuple[Source, str], make_run: MakeRun, tmp_path: Path
) -> None:
    table = parquet.read_table(await written(asked, make_run, tmp_path, "parquet"))
    kinds = {field.name: str(field.type) for field in table.schema}
    (row,) = table.to_pylist()

    assert (kinds["exact"], kinds["day"], kinds["moment"]) == ("decimal128(23, 3)", "date32[day]", "timestamp[us]")
    assert (row["exact"], row["raw"], row["large"]) == (Decimal("12345678901234567890.123"), b"\x01\x02", 2**53 + 1)
    assert kinds.get("instant", "timestamp[us, tz=UTC]") == "timestamp[us, tz=UTC]"
