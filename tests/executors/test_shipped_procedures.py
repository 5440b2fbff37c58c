"""The procedures that come with the program, run on the sample that comes with it."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import anyio
import pytest
from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp import sample
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.model import Completed
from taskqueue_mcp.procedures.folder import ProcedureFolder

if TYPE_CHECKING:
    from tests.executors.conftest import MakeRun

FOLDER = ProcedureFolder(Path(__file__).parents[2] / "sops")
NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"

Rows = list[dict[str, Any]]


async def run_it(make_run: MakeRun, shop: Path, reference: str, **params: Any) -> Completed:
    executor = Report({"shop": SqliteFile(shop)})
    procedure = FOLDER.load(reference)
    outcome = await executor.run(validate_params(executor, params), make_run(procedure=procedure))
    assert isinstance(outcome, Completed), outcome
    return outcome


def sheets(path: Path) -> dict[str, Rows]:
    """Every sheet of a spreadsheet as rows, read from its XML."""
    with zipfile.ZipFile(path) as book:
        names = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
        return {
            name: rows(ElementTree.fromstring(book.read(f"xl/worksheets/sheet{number}.xml")))  # noqa: S314 - ours
            for number, name in enumerate(names, 1)
            if name != "Summary"
        }


def rows(sheet: ElementTree.Element) -> Rows:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for cell in sheet.iter(f"{NS}c"):
        assert cell.find(f"{NS}f") is None, "a formula"
        column, row = re.fullmatch(r"([A-Z]+)(\d+)", cell.get("r", "")).groups()  # type: ignore[union-attr]
        text = "".join(cell.itertext())
        found[int(row)][column] = text if cell.get("t") == "inlineStr" else float(text)
    header = found.pop(1)
    return [{header[column]: value for column, value in row.items()} for row in found.values()]


def stock(shop: Path) -> Rows:
    with closing(sqlite.connect(shop)) as connection:
        connection.row_factory = sqlite.Row
        return [dict(row) for row in connection.execute("SELECT * FROM products")]


def test_the_sample_is_a_shop_with_some_products_running_low(shop: Path) -> None:
    products = stock(shop)
    low = [product for product in products if product["quantity"] < product["reorder_point"]]

    assert len(products) == 300
    assert len({product["category"] for product in products}) == 10
    assert 0.10 <= len(low) / len(products) <= 0.15
    assert all(isinstance(product["unit_cost"], float) for product in products)
    assert all(product["unit_cost"] < product["unit_price"] for product in products)
    with closing(sqlite.connect(shop)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        strict = dict(connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"))
        assert (strict["products"], strict["sales"]) == (1, 1)
        first, last = connection.execute("SELECT min(sale_date), max(sale_date) FROM sales").fetchone()
        assert (first, last) == ("2026-10-12", "2026-11-15")


def test_the_sample_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    path.write_text("precious")

    with pytest.raises(InvalidInput, match=r"mine\.db exists already"):
        sample.build(path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


async def test_the_low_stock_report_has_every_low_product_and_no_other(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await run_it(make_run, shop, "sops/inventory/low_stock_calculation.md")

    assert outcome.path == "Reports/LowStock/LowStock_2026-11-20.xlsx"
    assert outcome.summary == (
        "31 products are low (threshold: reorder_point); wrote Reports/LowStock/LowStock_2026-11-20.xlsx (31 rows)"
    )
    book = sheets(tmp_path / "out" / outcome.path)
    assert list(book) == ["LowStock"]
    products = {product["sku"]: product for product in stock(shop)}
    low = {sku for sku, product in products.items() if product["quantity"] < product["reorder_point"]}
    assert {row["sku"] for row in book["LowStock"]} == low
    for row in book["LowStock"]:
        product = products[row["sku"]]
        assert row["product"] == product["name"]
        assert row["short_by"] == product["reorder_point"] - product["quantity"] > 0
        assert row["suggested_order"] % product["pack_size"] == 0
        target = product["reorder_point"] + 14 * product["daily_sales"]
        assert target <= product["quantity"] + row["suggested_order"] < target + product["pack_size"]
        assert row["order_cost"] == pytest.approx(row["suggested_order"] * product["unit_cost"], abs=0.01)
    cover = [row["days_of_cover"] for row in book["LowStock"] if "days_of_cover" in row]
    assert cover == sorted(cover)
    assert outcome.data["rows"] == 31
    assert outcome.data["preview"][0]["quantity"] == 0


async def test_the_low_stock_report_takes_a_number_and_categories(make_run: MakeRun, shop: Path) -> None:
    products = stock(shop)

    for threshold in (12, "12"):
        outcome = await run_it(
            make_run,
            shop,
            "inventory/low_stock_calculation",
            threshold=threshold,
            include_categories=["tea", "Paper"],
        )
        expected = [p for p in products if p["quantity"] < 12 and p["category"] in {"Tea", "Paper"}]
        assert outcome.data["rows"] == len(expected) > 0


async def test_the_orders_add_up_to_the_totals_of_their_suppliers(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await run_it(make_run, shop, "inventory/reorder_rules")

    assert outcome.path is not None
    book = sheets(tmp_path / "out" / outcome.path)
    totals: dict[str, float] = defaultdict(float)
    for line in book["Orders"]:
        totals[line["supplier"]] += line["order_cost"]
        assert line["packs"] >= 1
        assert line["order_quantity"] == line["packs"] * line["pack_size"]
    assert len(book["Orders"]) == 31
    for supplier in book["Suppliers"]:
        assert supplier["order_cost"] == pytest.approx(totals.pop(supplier["supplier"]), abs=0.05)
        assert supplier["needs_approval"] == ("yes" if supplier["order_cost"] > 250 else "no")
    assert totals == {}
    assert {supplier["needs_approval"] for supplier in book["Suppliers"]} == {"yes", "no"}


async def test_the_week_adds_up_by_category_and_by_day(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    outcome = await run_it(make_run, shop, "reports/weekly_summary")

    assert outcome.path == "Reports/Sales/WeeklySummary_2026-11-20.xlsx"
    book = sheets(tmp_path / "out" / outcome.path)
    assert list(book) == ["ByCategory", "ByDay", "BestSellers"]
    assert len(book["ByCategory"]) == 10
    assert [row["weekday"] for row in book["ByDay"]] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert (book["ByDay"][0]["day"], book["ByDay"][-1]["day"]) == ("2026-11-09", "2026-11-15")
    by_category = sum(row["revenue"] for row in book["ByCategory"])
    by_day = sum(row["revenue"] for row in book["ByDay"])
    assert by_category == pytest.approx(by_day, abs=0.05)
    assert by_day > 1_000
    assert all(row["revenue_week_before"] > 0 and 0 < row["margin_percent"] < 60 for row in book["ByCategory"])
    assert len(book["BestSellers"]) == 20


async def test_a_week_of_ones_own_and_an_empty_one_work_too(make_run: MakeRun, shop: Path) -> None:
    earlier = await run_it(make_run, shop, "reports/weekly_summary", week_ending="2026-11-01", top=3)
    empty = await run_it(make_run, shop, "reports/weekly_summary", week_ending="2020-01-05")

    assert [sheet["rows"] for sheet in earlier.data["sheets"]] == [10, 7, 3]
    assert [sheet["rows"] for sheet in empty.data["sheets"]] == [0, 7, 0]


async def test_the_reorder_quantities_are_those_of_the_rules(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    ruled = await run_it(make_run, shop, "inventory/reorder_rules")
    outcome = await run_it(make_run, shop, "inventory/reorder_quantities")

    page, book = outcome.artifacts
    by_rules = {line["sku"]: line for line in sheets(tmp_path / "out" / str(ruled.path))["Orders"]}
    lines = {line["sku"]: line for line in sheets(tmp_path / "out" / book)["Orders"]}
    assert {sku: line["order_quantity"] for sku, line in lines.items()} == {
        sku: line["order_quantity"] for sku, line in by_rules.items()
    }
    total = sum(line["order_cost"] for line in by_rules.values())
    assert outcome.data["figures"]["Cost of all orders"] == f"{total:,.2f}"
    assert f"{total:,.2f}" in (tmp_path / "out" / page).read_text(encoding="utf-8")


async def test_the_calculation_of_reorder_quantities_agrees_with_the_report(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await run_it(make_run, shop, "inventory/reorder_quantities")
    script = Path(sample.__file__).parent / "calculations" / "reorder_quantities.py"
    items = json.dumps({"items": stock(shop)}).encode()
    done = await anyio.run_process([sys.executable, "-I", str(script)], input=items)

    found = json.loads(done.stdout)
    lines = {line["sku"]: line["order_quantity"] for line in sheets(tmp_path / "out" / outcome.artifacts[1])["Orders"]}
    assert {line["sku"]: line["order_quantity"] for line in found["lines"]} == lines
    assert f"{found['total_cost']:,.2f}" == outcome.data["figures"]["Cost of all orders"]


async def test_the_health_of_the_services_is_that_of_their_checks(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await run_it(make_run, shop, "operations/service_health")

    with closing(sqlite.connect(shop)) as connection:
        failed = connection.execute("SELECT count(*) FROM health_checks WHERE status >= 400").fetchone()[0]
        checks = connection.execute("SELECT count(*) FROM health_checks").fetchone()[0]
    assert outcome.data["figures"]["Failed"] == str(failed) > "0"
    assert outcome.data["figures"]["Checks"] == str(checks)
    assert [sheet["rows"] for sheet in outcome.data["sheets"]] == [6, 7, failed]
    worst = outcome.data["preview"][0]
    assert worst["availability"] == round(100 * (1 - worst["failed"] / worst["checks"]), 2) < 99
    days = await run_it(make_run, shop, "operations/service_health", days=1, services=["till", "Search"])
    assert [row["service"] for row in days.data["preview"]] == ["search", "till"]
    page = (tmp_path / "out" / outcome.artifacts[0]).read_text(encoding="utf-8")
    assert page.count("<svg") == 2


async def test_the_custom_query_answers_the_question_of_its_own_example(make_run: MakeRun, shop: Path) -> None:
    procedure = FOLDER.load("queries/custom_query")
    example = re.search(r"(?ms)^    SELECT .*?LIMIT 10$", procedure.body)
    assert example is not None
    executor = Query({"shop": SqliteFile(shop)})
    params = validate_params(executor, {"sql": example[0], "category": "Tea"})

    outcome = await executor.run(params, make_run(procedure=procedure))

    assert isinstance(outcome, Completed), outcome
    assert outcome.path == "Reports/Custom/Query_20261120_070509.csv"
    assert (outcome.data["rows"], outcome.data["columns"]) == (10, ["product", "units", "revenue"])


def test_the_code_review_asks_for_nothing_but_reading_and_its_own_file() -> None:
    procedure = FOLDER.load("development/code_review")

    assert (procedure.executor, procedure.output and procedure.output.format) == ("claude", "md")
    assert set(procedure.tools) == {
        "Read", "Grep", "Glob", "Write", "Bash(git log:*)", "Bash(git diff:*)", "Bash(git show:*)",
    }  # fmt: skip
    assert procedure.budget_usd is not None
