"""A report reads every kind of database alike: decimals add up, sheets are sheets, and its check asks the database."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.report import Report
from taskqueue_mcp.executors.report.checking import faults
from taskqueue_mcp.model import Completed, Failed
from taskqueue_mcp.procedures.parsing import parse
from tests.executors.test_sources import kept

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.conftest import MakeRun
    from tests.executors.databases import Kept

__all__ = ["kept"]
TEXT = """---
title: Stock
params: {least: -100}
output: {formats: [html, xlsx, json], path: R, filename_pattern: stock}
report:
  figures: [{title: Pieces, column: quantity}, {title: Worth, column: worth, format: "€ 0.00"}]
  charts: [{x: sku, y: [quantity, worth]}]
  sheets: {Stock: {totals: [quantity, worth]}}
---
```sql sheet=Stock
SELECT id, sku, name, quantity, quantity * CAST(1.25 AS decimal(10, 2)) AS worth
  FROM stock WHERE quantity > :least ORDER BY id
```
```sql sheet=Count
SELECT count(*) AS n FROM stock
```
"""


async def test_a_report_is_the_same_from_every_database(make_run: MakeRun, kept: Kept, tmp_path: Path) -> None:
    executor = Report({"stock": kept.source})

    outcome = await executor.run(validate_params(executor, {}), make_run(procedure=parse("s.md", TEXT)))

    assert isinstance(outcome, Completed), outcome
    html, xlsx, *rows = (tmp_path / "out" / path for path in outcome.artifacts)
    book = load_workbook(io.BytesIO(xlsx.read_bytes()))
    assert outcome.data["figures"] == {"Pieces": "47", "Worth": "€ 58.75"}
    assert [row["name"] for row in json.loads(rows[0].read_text(encoding="utf-8"))] == [
        "Anvil", "Büchse ✓", None, "=1+1",
    ]  # fmt: skip
    assert [cell.value for cell in book["Stock"]["E"]][1:] == [3.75, 50, -6.25, 11.25]
    assert book["Summary"]["B5"].value == 47
    page = html.read_text(encoding="utf-8")
    assert "Büchse ✓" in page
    assert '<td class="number">58.75</td>' in page
    assert kept.count() == 4


async def test_a_report_changes_nothing_in_any_database(make_run: MakeRun, kept: Kept) -> None:
    executor = Report({"stock": kept.source})
    run = make_run(procedure=parse("s.md", "# T\n```sql\nDELETE FROM stock\n```\n"))

    outcome = await executor.run(validate_params(executor, {}), run)

    assert isinstance(outcome, Failed)
    assert "\n" not in outcome.error
    assert kept.count() == 4


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("FROM stock WHERE", "FROM stack WHERE", "line 10, on source stock: "), ("x: sku", "x: ski", "report.charts.0: ")],
)
def test_a_check_asks_every_database(kept: Kept, old: str, new: str, expected: str) -> None:
    assert list(faults(parse("s.md", TEXT), {"stock": kept.source})) == []

    (found,) = faults(parse("s.md", TEXT.replace(old, new)), {"stock": kept.source})

    assert found.startswith(expected)
    assert "\n" not in found
