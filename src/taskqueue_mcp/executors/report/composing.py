"""From what was gathered and the layout of the procedure to a document that people read."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp import number_formats
from taskqueue_mcp.executors.report.gathering import by_name, is_of
from taskqueue_mcp.number_formats import NumberFormat
from taskqueue_mcp.outputs.documents.document import Chart, Column, Document, Figure, Series, Sheet, shown, titled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.report.gathering import Gathered
    from taskqueue_mcp.procedures import layout as looks

MOST_BARS: Final = 30
MOST_POINTS: Final = 400
SHORT: Final = 12
"""Characters of a cell that is not broken over lines."""
AVERAGED: Final = {"average": "ø ", "min": "min ", "max": "max ", "sum": "", "count": ""}


def columns_of(found: Gathered, layout: looks.Layout | None) -> list[Column]:
    """The columns of a sheet as the layout has them, else as their values suggest."""
    sheet = by_name(layout.sheets, found.name) if layout else None
    columns = []
    for at, name in enumerate(found.columns):
        asked = sheet.columns.get(name) if sheet else None
        number = number_formats.fitting(name, (row[at] for row in found.rows))
        if asked and asked.format:
            number = number_formats.read(asked.format)
        title = asked.title if asked and asked.title else titled(name)
        is_short = all(len(shown(row[at])) <= SHORT for row in found.rows)
        columns.append(Column(name, title, number, hidden=bool(asked and asked.hide), is_short=is_short))
    return columns


def sheet_of(found: Gathered, layout: looks.Layout | None, most_rows: int) -> Sheet:
    """A sheet with its totals, and as many rows as its layout or `most_rows` allow."""
    asked = by_name(layout.sheets, found.name) if layout else None
    columns = columns_of(found, layout)
    most = most_rows if asked is None or asked.most_rows is None else asked.most_rows
    totals = {}
    for column in columns:
        what = asked.totals.get(column.name) if asked else None
        if what:
            totals[column.name] = AVERAGED[what] + _written(found.of(column.name, what), what, column.number)
    return Sheet(
        name=found.name,
        title=asked.title if asked and asked.title else titled(found.name),
        columns=columns,
        rows=found.rows[:most],
        count=found.count,
        note=(asked.note or "") if asked else "",
        totals=totals,
        group_by=asked.group_by if asked else None,
        summed=frozenset(name for name, what in asked.totals.items() if what == "sum") if asked else frozenset(),
    )


def figures(sheets: Sequence[Gathered], layout: looks.Layout | None) -> list[Figure]:
    """The key figures, each with how it stands against what it is compared with."""
    return [_figure(asked, sheets, layout) for asked in (layout.figures if layout else [])]


def charts(sheets: Sequence[Gathered], layout: looks.Layout | None) -> list[Chart]:
    """The charts, of the rows that were kept."""
    return [_chart(asked, sheet_for(asked.sheet, sheets), layout) for asked in (layout.charts if layout else [])]


def document(
    sheets: Sequence[Gathered], layout: looks.Layout | None, *, most_rows: int, title: str, subtitle: str,
    description: str, facts: Sequence[tuple[str, str]], values: Mapping[str, Any],
) -> Document:  # fmt: skip
    """The whole report; `values` are what a template may ask for by name."""
    return Document(
        title=title,
        subtitle=subtitle,
        description=description,
        sheets=[sheet_of(each, layout, most_rows) for each in sheets],
        figures=figures(sheets, layout),
        charts=charts(sheets, layout),
        facts=facts,
        landscape=bool(layout and layout.landscape),
        values=dict(values),
    )


def _figure(asked: looks.Figure, sheets: Sequence[Gathered], layout: looks.Layout | None) -> Figure:
    found = sheet_for(asked.sheet, sheets)
    value = found.of(asked.column, asked.of)
    number = number_formats.read(asked.format) if asked.format else _number_of(found, asked.column, layout)
    note, change = "", ""
    if asked.compare:
        before = found.of(asked.compare, asked.of)
        what = asked.compare_title or titled(asked.compare)
        note = f"{what}: {_written(before, asked.of, number)}"
        if value is not None and before:
            percent = 100 * (float(value) - float(before)) / abs(float(before))
            note = f"{percent:+.1f} % on {what} ({_written(before, asked.of, number)})".replace("-", "−", 1)  # noqa: RUF001 - a minus sign
            change = "up" if percent > 0 else "down" if percent < 0 else ""
    return Figure(asked.title, _written(value, asked.of if asked.column else "count", number), note, change)


def _chart(asked: looks.Chart, found: Gathered, layout: looks.Layout | None) -> Chart:
    columns = {column.name: column for column in columns_of(found, layout)}
    most = asked.most or (MOST_POINTS if asked.type == "line" else MOST_BARS)
    rows = found.rows[:most]
    at = found.columns.index
    number = number_formats.read(asked.format) if asked.format else columns[asked.y[0]].number
    step = columns[asked.x]
    return Chart(
        title=asked.title or f"{', '.join(columns[name].title for name in asked.y)} by {step.title.lower()}",
        kind=asked.type,
        steps=[step.shown(row[at(asked.x)]) for row in rows],
        series=[Series(columns[name].title, [_point(row[at(name)]) for row in rows]) for name in asked.y],
        number=number or NumberFormat(),
        left_out=found.count - len(rows),
    )


def sheet_for(named: str | None, sheets: Sequence[Gathered]) -> Gathered:
    """The sheet that a figure or a chart is of."""
    return next(each for at, each in enumerate(sheets) if is_of(named, each.name, is_first=at == 0))


def _number_of(found: Gathered, column: str | None, layout: looks.Layout | None) -> NumberFormat | None:
    return next((each.number for each in columns_of(found, layout) if each.name == column), None)


def _point(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return float(value) if math.isfinite(value) else None


def _written(value: Any, what: str, number: NumberFormat | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - the dash of an empty place
    if what == "count":
        return NumberFormat().shown(value)
    if what == "average" and number is not None and number.decimals == 0:
        number = NumberFormat(1, number.grouped, number.before, number.after)
    return number.shown(value) if number is not None else shown(value)
