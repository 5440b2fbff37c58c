"""Reports for people: several formats of one reading, totals and figures of all rows, and nothing half written."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from taskqueue_mcp.procedures.parsing import Procedure, parse
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun

FRONT = """title: Stock & more
description: What there is.
params: {least: 0}
output: {formats: [html, xlsx, json], path: R, filename_pattern: "Stock_{date}", summary: "{rows} products"}
report:
  subtitle: "From {least} pieces up"
  figures:
    - {title: Products}
    - {title: Worth, column: worth, format: "€ #,##0.00", compare: quantity, compare_title: pieces}
    - {title: Named, column: name, of: count}
  charts:
    - {title: Pieces, x: name, y: quantity, most: 5}
  sheets:
    Stock:
      title: The stock
      columns: {worth: {title: Worth now, format: "€ #,##0.00"}, sku: {hide: true}}
      totals: {quantity: sum, worth: average}
      most_rows: 7"""
SQL = "SELECT sku, name, quantity, quantity * unit_cost AS worth FROM products WHERE quantity >= :least ORDER BY sku"


def procedure(front: str = FRONT, sql: str = SQL, more: str = "") -> Procedure:
    return parse("tests/stock.md", f"---\n{front}\n---\n```sql sheet=Stock\n{sql}\n```\n{more}")


async def report(run: Run, shop: Path, **params: Any) -> Outcome:
    executor = Report({"shop": SqliteFile(shop)})
    with anyio.fail_after(60):
        return await executor.run(validate_params(executor, params), run)


async def success(run: Run, shop: Path, **params: Any) -> Completed:
    outcome = await report(run, shop, **params)
    assert isinstance(outcome, Completed), outcome
    return outcome


async def failure(run: Run, shop: Path, **params: Any) -> Failed:
    outcome = await report(run, shop, **params)
    assert isinstance(outcome, Failed), outcome
    assert "\n" not in outcome.error
    return outcome


def written(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_one_reading_is_written_in_several_formats(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    outcome = await success(make_run(procedure=procedure()), shop)

    assert outcome.artifacts == ("R/Stock_2026-11-20.html", "R/Stock_2026-11-20.xlsx", "R/Stock_2026-11-20.json")
    html, xlsx, rows_as_json = outcome.artifacts
    assert outcome.summary == f"300 products; wrote {html}, {xlsx} (300 rows), {rows_as_json} (300 rows)"
    rows = json.loads((tmp_path / "out" / outcome.artifacts[2]).read_text(encoding="utf-8"))
    book = load_workbook(io.BytesIO((tmp_path / "out" / xlsx).read_bytes()))["Stock"]
    cells = list(book.iter_rows(min_row=2, max_row=301, values_only=True))
    assert [row["sku"] for row in rows] == [row[0] for row in cells]
    assert len(rows) == 300
    assert list(make_run().directory.glob("rows-*")) != []  # laid aside where it goes with the attempt


async def test_totals_and_figures_are_of_all_rows_however_few_are_shown(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await success(make_run(procedure=procedure()), shop, output={"format": "html, json"})

    rows = json.loads((tmp_path / "out" / outcome.artifacts[1]).read_text(encoding="utf-8"))
    page = (tmp_path / "out" / outcome.artifacts[0]).read_text(encoding="utf-8")
    pieces, worth = sum(row["quantity"] for row in rows), sum(row["worth"] for row in rows)
    assert outcome.data["figures"] == {"Products": "300", "Worth": f"€ {worth:,.2f}", "Named": "300"}
    assert f'<td class="number">{pieces:,}</td>' in page
    assert f'<td class="number">ø € {worth / 300:,.2f}</td>' in page
    assert f"+{100 * (worth - pieces) / pieces:.1f} % on pieces" in page
    assert "The first 7 of 300 rows; the totals are of all of them." in page
    assert page.count("<tr>") == 1 + 7 + 1
    assert "From 0 pieces up" in page
    assert "Stock &amp; more" in page
    assert "295 more are not shown" in page
    assert "COF-1007" not in page  # the column is hidden
    assert "least = 0" in page


async def test_totals_are_of_rows_that_were_never_kept_too(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT i, i / 2.0 AS half FROM n"
    )
    looks = "{figures: [{title: Most, column: half, of: max}], sheets: {Stock: {totals: [i], most_rows: 5}}}"
    front = f"title: T\nreport: {looks}"

    outcome = await success(make_run(procedure=procedure(front, many)), shop, output={"format": "html"})

    assert outcome.path is not None
    page = (tmp_path / "out" / outcome.path).read_text(encoding="utf-8")
    assert outcome.data["figures"] == {"Most": "5,000.0"}
    assert f"{10_000 * 10_001 // 2:,}" in page
    assert page.count("<tr>") == 1 + 5 + 1


async def test_a_report_as_pdf_and_as_markdown(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    outcome = await success(make_run(procedure=procedure()), shop, output={"formats": ["pdf", "md"]})

    pdf, md = (tmp_path / "out" / path for path in outcome.artifacts)
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf.read_bytes())).pages)
    assert "Stock & more" in text
    assert "Wholemeal Flour, standard" in text
    assert md.read_text(encoding="utf-8").startswith("# Stock & more\n".replace("&", "&amp;"))


async def test_the_procedures_template_makes_the_page(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    more = "```jinja\n<p>{{ sheets.Stock.count }} kinds, at least {{ params.least }}</p>{{ table('Stock') }}\n```\n"

    outcome = await success(make_run(procedure=procedure(more=more)), shop, output={"format": "html"}, least=50)

    assert outcome.path is not None
    page = (tmp_path / "out" / outcome.path).read_text(encoding="utf-8")
    assert f"<p>{outcome.data['rows']} kinds, at least 50</p>" in page


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "x: name",
            "x: label",
            "report.charts.0: the sheet Stock has no column 'label'; it has sku, name, quantity, worth",
        ),
        ("column: worth", "column: value", "report.figures.1: the sheet Stock has no column 'value'"),
        ("{quantity: sum", "{amount: sum", "report.sheets.Stock: the sheet Stock has no column 'amount'"),
        ("{quantity: sum", "{name: sum", "the report sums the column 'name', and "),
        ("{least}", "{most}", "unknown placeholder {most}"),
    ],
)
async def test_looks_that_do_not_fit_the_rows_fail_for_good_and_leave_no_file(
    make_run: MakeRun, shop: Path, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in FRONT

    failed = await failure(make_run(procedure=procedure(FRONT.replace(old, new))), shop)

    assert expected in failed.error
    assert failed.permanent
    assert not (tmp_path / "out").exists() or written(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for %}", "the template is wrong: Expected an expression"),
        ("{{ nothing }}", "the template is wrong: 'nothing' is undefined"),
        ("{{ ''.__class__ }}", "the template does what no template may"),
    ],
)
async def test_a_template_that_is_wrong_fails_for_good_and_leaves_no_file_of_any_format(
    make_run: MakeRun, shop: Path, tmp_path: Path, template: str, expected: str
) -> None:
    followed = procedure(more=f"```jinja\n\n{template}\n```\n")

    failed = await failure(make_run(procedure=followed), shop, output={"formats": ["xlsx", "html"]})

    line = followed.text.splitlines().index(template) + 1
    assert failed.error.startswith(f"tests/stock.md, line {line}: {expected}")
    assert failed.permanent
    assert not (tmp_path / "out").exists() or written(tmp_path / "out") == []


async def test_without_pango_a_pdf_fails_for_good_with_the_reason(
    make_run: MakeRun, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libpango-1.0.so.0").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    failed = await failure(make_run(procedure=procedure()), shop, output={"format": "pdf"})

    assert "apt-get install libpango-1.0-0" in failed.error
    assert failed.permanent


async def test_a_pdf_under_way_ends_at_once_when_told_to_stop(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 15000) SELECT i, i AS j FROM n"
    followed = procedure("title: T\nreport: {sheets: {Stock: {most_rows: 15000}}}", many)
    run = make_run(procedure=followed)
    outcomes: list[Outcome] = []

    async def carry_out() -> None:
        outcomes.append(await report(run, shop, output={"format": "pdf"}))

    async with anyio.create_task_group() as group:
        group.start_soon(carry_out)
        await eventually(lambda: any((tmp_path / "out").rglob(".*.part")))
        assert outcomes == []
        run.stop.set()

    assert outcomes == [Returned(None, "stopped before it was over")]
    await eventually(lambda: written(tmp_path / "out") == [])


async def test_text_in_the_rows_is_text_in_every_format(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    sql = "SELECT '<script>alert(1)</script>' AS \"<b>x</b>\", '=1+1' AS formula, '[a](javascript:b)' AS link"
    outcome = await success(
        make_run(procedure=procedure("title: <i>T</i>", sql)), shop, output={"formats": ["html", "md", "csv"]}
    )

    html, md, table = ((tmp_path / "out" / path).read_text(encoding="utf-8") for path in outcome.artifacts)
    assert "<script" not in html
    assert "<i>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert "\\<script\\>" in md
    assert "\\[a\\](" in md
    assert list(csv.reader(io.StringIO(table)))[1][1] == "'=1+1"


async def test_an_empty_result_makes_a_page_that_says_so(make_run: MakeRun, shop: Path, tmp_path: Path) -> None:
    outcome = await success(make_run(procedure=procedure()), shop, least=10**9)

    page = (tmp_path / "out" / outcome.artifacts[0]).read_text(encoding="utf-8")
    assert "no rows" in page
    assert "no data" in page
    assert outcome.data["figures"] == {"Products": "0", "Worth": "€ 0.00", "Named": "0"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"format": "pdf"}, ["R/Stock_2026-11-20.pdf"]),
        ({"format": ["md", "csv", "md"]}, ["R/Stock_2026-11-20.md", "R/Stock_2026-11-20.csv"]),
        ({"filename_pattern": "S.v2_{task_id}.md"}, ["R/S.v2_142.md"]),
        ({"filename_pattern": "S.v2_{task_id}.md", "formats": ["json"]}, ["R/S.v2_142.json"]),
        ({"path": "X"}, ["X/Stock_2026-11-20.html", "X/Stock_2026-11-20.xlsx", "X/Stock_2026-11-20.json"]),
    ],
)
async def test_what_the_task_asks_for_wins_over_the_procedure(
    make_run: MakeRun, shop: Path, asked: dict[str, Any], expected: list[str]
) -> None:
    outcome = await success(make_run(procedure=procedure(), task={"output": asked}), shop, least=100)

    assert list(outcome.artifacts) == expected


async def test_a_workbook_opens_on_its_figures_totals_and_charts_and_its_rows_stay_rows(
    make_run: MakeRun, shop: Path, tmp_path: Path
) -> None:
    outcome = await success(make_run(procedure=procedure()), shop, output={"format": "xlsx"})

    assert outcome.path is not None
    path = tmp_path / "out" / outcome.path
    book = load_workbook(io.BytesIO(path.read_bytes()))
    rows, summary = book["Stock"], book["Summary"]
    worth = sum(row[3].value for row in rows.iter_rows(min_row=2))
    told = {row[0].value: row[1].value for row in summary.iter_rows(min_row=4, max_col=2)}
    assert (rows.max_row, book.active.title) == (301, "Summary")
    assert (summary["A1"].value, summary["A2"].value) == ("Stock & more", "From 0 pieces up")
    assert (told["Products"], told["Named"]) == (300, 300)
    assert told["Worth"] == pytest.approx(worth)
    assert told["Worth (average)"] == pytest.approx(worth / 300)
    assert rows["D2"].number_format == '"€ "#,##0.00'
    with zipfile.ZipFile(path) as parts:
        chart = parts.read("xl/charts/chart1.xml").decode()
        assert re.findall(r"<c:f>([^<]+)</c:f>", chart) == ["Stock!$B$2:$B$6", "Stock!$C$2:$C$6"]
        assert not [name for name in parts.namelist() if b"<f>" in parts.read(name)]


@pytest.mark.parametrize("front", ["title: T", "title: T\nreport: {landscape: true}"])
async def test_a_workbook_without_looks_has_no_sheet_but_its_rows(
    make_run: MakeRun, shop: Path, tmp_path: Path, front: str
) -> None:
    outcome = await success(make_run(procedure=procedure(front)), shop, least=0)

    assert outcome.path is not None
    assert load_workbook(io.BytesIO((tmp_path / "out" / outcome.path).read_bytes())).sheetnames == ["Stock"]
