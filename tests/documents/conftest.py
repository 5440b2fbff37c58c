"""A report with everything in it, hostile text included."""

from __future__ import annotations

import pytest

from taskqueue_mcp.number_formats import NumberFormat
from taskqueue_mcp.outputs.documents.document import Chart, Column, Document, Figure, Series, Sheet

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def document() -> Document:
    columns = [
        Column("category", "Category"),
        Column("units", "Units", NumberFormat()),
        Column("revenue", "Revenue", NumberFormat(2, before="€ ")),
    ]
    rows = [("Coffee", 1200, 5123.4), (HOSTILE, 300, -923.4), ("Paper | pulp", 20, None)]
    return Document(
        title=f"Weekly sales {HOSTILE}",
        subtitle="Week ending 2026-11-15",
        figures=[Figure("Revenue", "€ 4,200.00", "+5.2 % on the week before", "up"), Figure(HOSTILE, HOSTILE)],
        charts=[
            Chart(
                f"By category {HOSTILE}",
                "bar",
                ["Coffee", HOSTILE],
                [Series("Revenue", [5123.4, 923.4]), Series(HOSTILE, [1.0, None])],
                NumberFormat(2),
            )
        ],
        sheets=[
            Sheet("ByCategory", "By category", columns, rows, 7, HOSTILE, {"units": "1,520"}),
            Sheet("Grouped", "Grouped", columns, rows, 3, group_by="category"),
            Sheet("Empty", "Empty", columns, [], 0, totals={"units": "0"}),
        ],
        facts=[("Procedure", "reports/weekly.md"), (HOSTILE, HOSTILE)],
        values={"params": {"name": HOSTILE, "n": 3}, "task_id": "T-142"},
    )
