"""What a report's workbook has beside its rows: number formats, and a sheet with figures, totals and charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp import number_formats
from taskqueue_mcp.executors.report import composing
from taskqueue_mcp.executors.report.gathering import by_name
from taskqueue_mcp.outputs.documents.document import titled
from taskqueue_mcp.outputs.summary import Drawn, Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskqueue_mcp.executors.report.gathering import Gathered
    from taskqueue_mcp.outputs.summary import Cell
    from taskqueue_mcp.procedures import layout as looks


def numbers(sheet: str, layout: looks.Layout | None) -> dict[str, str]:
    """The spreadsheet's formats of the columns that the layout gives one."""
    asked = by_name(layout.sheets, sheet) if layout else None
    found = {name: _excel(column.format) for name, column in asked.columns.items()} if asked else {}
    return {name: text for name, text in found.items() if text}


def summary(sheets: Sequence[Gathered], layout: looks.Layout | None, title: str, subtitle: str) -> Summary | None:
    """The last sheet; None where the layout names nothing for it."""
    if layout is None:
        return None
    figures: list[Cell] = []
    for asked in layout.figures:
        found = composing.sheet_for(asked.sheet, sheets)
        figures.append(
            (asked.title, found.of(asked.column, asked.of), _excel(asked.format) or _of(found, asked.column, layout))
        )
    totals = [(sheet.name, cells) for sheet in sheets if (cells := _totals(sheet, layout))]
    charts = [_drawn(asked, composing.sheet_for(asked.sheet, sheets)) for asked in layout.charts]
    drawn = [chart for chart in charts if chart.steps]
    if not figures and not totals and not drawn:
        return None
    return Summary(title, subtitle, figures, totals, drawn)


def _totals(sheet: Gathered, layout: looks.Layout) -> list[Cell]:
    asked = by_name(layout.sheets, sheet.name)
    if asked is None:
        return []
    return [
        (
            titled(name) if what == "sum" else f"{titled(name)} ({what})",
            sheet.of(name, what),
            None if what == "count" else _of(sheet, name, layout),
        )
        for name, what in asked.totals.items()
    ]


def _drawn(asked: looks.Chart, sheet: Gathered) -> Drawn:
    most = asked.most or (composing.MOST_POINTS if asked.type == "line" else composing.MOST_BARS)
    at = sheet.columns.index
    names = ", ".join(titled(name) for name in asked.y)
    return Drawn(
        title=asked.title or f"{names} by {titled(asked.x).lower()}",
        kind=asked.type,
        sheet=sheet.name,
        steps=min(most, sheet.count),
        x=at(asked.x),
        series=[(titled(name), at(name)) for name in asked.y],
    )


def _of(sheet: Gathered, column: str | None, layout: looks.Layout) -> str | None:
    asked = by_name(layout.sheets, sheet.name)
    own = asked.columns.get(column) if asked and column else None
    return _excel(own.format) if own else None


def _excel(text: str | None) -> str | None:
    found = number_formats.read(text) if text else None
    return found.excel if found else None
