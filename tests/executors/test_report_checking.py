"""What is wrong with a report is found before a task follows it, and nothing is run to find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskqueue_mcp.executors.report.checking import faults, unchecked
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.procedures.parsing import Procedure, parse

SOPS = Path(__file__).parents[2] / "sops"
GOOD = """---
title: T
executor: report
params: {least: {type: integer, required: true}}
output: {formats: [html, csv], path: R, filename_pattern: "S_{date}_{least}", summary: "{rows} of {least}"}
report:
  subtitle: From {least}
  figures: [{title: Pieces, column: quantity}]
  charts: [{x: name, y: quantity}]
  sheets: {S: {totals: [quantity]}}
---
```sql sheet=S
SELECT name, quantity FROM products WHERE quantity > :least;
```
```jinja
{{ table('S') }}
```
"""


def of(text: str) -> Procedure:
    return parse("x.md", text)


def test_a_good_one_has_no_faults(shop: Path) -> None:
    assert list(faults(of(GOOD), {"shop": SqliteFile(shop)})) == []
    assert unchecked(of(GOOD), {"shop": SqliteFile(shop)}) is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("FROM products", "FROM product", "line 12, on source shop: no such table: product"),
        ("SELECT name", "DELETE FROM products RETURNING name", "line 12, on source shop: "),
        ("FROM products WHERE quantity > :least;", "FROM products) AS found /*", "line 12, on source shop: "),
        (":least;", ":most;", "line 12, on source shop: it needs the parameter :most"),
        ("SELECT name, quantity", "SELECT name", "report.figures.0: the sheet S has no column 'quantity'; it has name"),
        ("{x: name", "{x: label", "report.charts.0: the sheet S has no column 'label'"),
        ("[html, csv]", "[html, docx]", "output.format: a report is written as xlsx, csv, json, html, pdf, md"),
        ("S_{date}_{least}", "S_{day}", "output: unknown placeholder {day}"),
        ("path: R", "path: ../R", "output: path '../R' climbs out of the output folder"),
        ("{rows} of {least}", "{rows} of {most}", "unknown placeholder {most}"),
        ("From {least}", "From {most}", "unknown placeholder {most}"),
        ("{{ table('S') }}", "{% for %}", "line 16: the template is wrong: Expected an expression"),
        ("```sql sheet=S", "```text", "it has no SQL block"),
    ],
)
def test_a_fault_is_a_line_with_its_place(shop: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if new == "```text":
        text = text[: text.index("report:")] + text[text.index("---\n```text") :]

    found = list(faults(of(text), {"shop": SqliteFile(shop)}))

    assert [line for line in found if line.startswith(expected)], found
    assert not [line for line in found if "\n" in line]


def test_an_endless_statement_is_not_run(shop: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS name, i AS quantity FROM n"
    text = GOOD.replace("SELECT name, quantity FROM products WHERE quantity > :least;", endless)

    assert list(faults(of(text), {"shop": SqliteFile(shop)})) == []


def test_what_cannot_be_checked_is_said(shop: Path, tmp_path: Path) -> None:
    two = {"a": SqliteFile(shop), "b": SqliteFile(shop)}

    assert "which source to read is not said" in str(unchecked(of(GOOD), {}))
    assert "give source, there is a, b" in str(unchecked(of(GOOD), two))
    assert "there is no file" in str(unchecked(of(GOOD), {"gone": SqliteFile(tmp_path / "gone.db")}))
    assert list(faults(of(GOOD), {})) == []


def test_the_shipped_ones_have_no_faults_on_the_sample(shop: Path) -> None:
    found = ProcedureFolder(SOPS).list()

    assert len(found) >= 7
    assert {each.path: list(faults(each, {"shop": SqliteFile(shop)})) for each in found} == {
        each.path: [] for each in found
    }
