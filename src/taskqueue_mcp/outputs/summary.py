"""The last sheet of a workbook: its figures, totals and charts, beside the rows and never among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.outputs.cells import cell_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

NAME: Final = "Summary"
CHART_ROWS: Final = 18
"""Rows of the sheet that a chart takes."""
ROW_HEIGHT: Final = 20
LEAST_HEIGHT: Final = 280
PER_BAR: Final = 24
COLOURS: Final = ("#2F6FB7", "#E08A2E", "#4C9A6A", "#8B5FBF", "#C2503F", "#6B7785")

Cell = tuple[str, "int | float | Decimal | None", str | None]
"""A label, its number, and the spreadsheet's format of it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart of rows that stand in the sheet `sheet`: from the first, `steps` of them; columns by their places."""

    title: str
    kind: str
    sheet: str
    steps: int
    x: int
    series: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands in the sheet; `totals` by the name of the sheet that they are of."""

    title: str
    subtitle: str
    figures: Sequence[Cell]
    totals: Sequence[tuple[str, Sequence[Cell]]]
    charts: Sequence[Drawn]


def write(workbook: Any, name: str, found: Summary, sheets: Mapping[str, str]) -> None:
    """Add the sheet and open the workbook on it; `sheets` has the names that the others have in this workbook."""
    page = workbook.add_worksheet(name)
    formats = {
        "title": workbook.add_format({"bold": True, "font_size": 16}),
        "faint": workbook.add_format({"font_color": "#66717D"}),
        "head": workbook.add_format({"bold": True, "bottom": 2}),
    }
    page.hide_gridlines(2)
    page.set_column(0, 0, 38)
    page.set_column(1, 1, 18)
    page.write_string(0, 0, cell_text(found.title), formats["title"])
    page.write_string(1, 0, cell_text(found.subtitle), formats["faint"])
    row = 3
    row = _numbers(workbook, page, row, "Figures", found.figures, formats)
    for sheet, totals in found.totals:
        row = _numbers(workbook, page, row, f"Totals of {sheet}", totals, formats)
    for chart in found.charts:
        height = max(LEAST_HEIGHT, 120 + PER_BAR * chart.steps * len(chart.series)) if chart.kind == "bar" else 320
        drawn = _chart(workbook, chart, sheets[chart.sheet])
        drawn.set_size({"width": 760, "height": height})
        page.insert_chart(row, 0, drawn, {"x_offset": 4, "y_offset": 6, "object_position": 3})
        row += height // ROW_HEIGHT + 2
    page.activate()


def _numbers(workbook: Any, page: Any, row: int, heading: str, cells: Sequence[Cell], formats: dict[str, Any]) -> int:
    if not cells:
        return row
    page.write_string(row, 0, cell_text(heading), formats["head"])
    page.write_string(row, 1, " ", formats["head"])
    for label, value, number in cells:
        row += 1
        page.write_string(row, 0, cell_text(label))
        if value is not None:
            page.write_number(row, 1, float(value), workbook.add_format({"num_format": number or "#,##0.##"}))
    return row + 2


def _chart(workbook: Any, chart: Drawn, sheet: str) -> Any:
    drawn = workbook.add_chart({"type": chart.kind})
    for number, (name, at) in enumerate(chart.series):
        colour = COLOURS[number % len(COLOURS)]
        drawn.add_series({
            "name": cell_text(name),
            "categories": [sheet, 1, chart.x, chart.steps, chart.x],
            "values": [sheet, 1, at, chart.steps, at],
            "line" if chart.kind == "line" else "fill": {"color": colour},
            "gap": 60,
        })  # fmt: skip
    drawn.set_title({"name": cell_text(chart.title), "name_font": {"size": 12}, "overlay": False})
    drawn.set_legend({"none": True} if len(chart.series) == 1 else {"position": "top"})
    gridlines = {"visible": True, "line": {"color": "#E3E7EC"}}
    if chart.kind == "bar":
        drawn.set_y_axis({"reverse": True})
        drawn.set_x_axis({"major_gridlines": gridlines})
    else:
        drawn.set_y_axis({"major_gridlines": gridlines})
    return drawn
