"""How a report looks: the key `report` of a procedure's front matter, with its figures, charts and sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from taskqueue_mcp import number_formats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Summed = Literal["sum", "average", "min", "max", "count"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


def _number_format(value: Any) -> Any:
    if isinstance(value, str) and number_formats.read(value) is not None:
        return value
    raise ValueError(number_formats.HINT)


NumberFormat = Annotated[str, BeforeValidator(_number_format)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _totals(value: Any) -> Any:
    """A list of columns means their sums."""
    return dict.fromkeys(value, "sum") if isinstance(value, list) and all(isinstance(x, str) for x in value) else value


def _column(value: Any) -> Any:
    """A text is the title."""
    return {"title": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnLayout(_Strict):
    """How a column looks; `hide` leaves it out of html, pdf and md, where it stays usable by charts and figures."""

    title: Text | None = None
    format: NumberFormat | None = None
    hide: bool = False


class SheetLayout(_Strict):
    """How a sheet looks. `totals` maps columns to what their last row tells."""

    title: Text | None = None
    note: Text | None = None
    columns: dict[str, Annotated[ColumnLayout, BeforeValidator(_column)]] = {}
    totals: Annotated[dict[str, Summed], BeforeValidator(_totals)] = {}
    group_by: str | None = None
    most_rows: Annotated[int, Field(ge=0, le=20_000)] | None = None


class Figure(_Strict):
    """A number worth a place of its own; without a column, how many rows there are."""

    title: Text
    sheet: str | None = None
    column: str | None = None
    of: Summed = "sum"
    format: NumberFormat | None = None
    compare: str | None = None
    compare_title: Text | None = None


class Chart(_Strict):
    """A picture of columns: `x` names the steps, `y` the values."""

    type: Literal["bar", "column", "line"] = "bar"
    title: Text | None = None
    sheet: str | None = None
    x: str
    y: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1, max_length=6)]
    format: NumberFormat | None = None
    most: Annotated[int, Field(ge=1, le=400)] | None = None


class Layout(_Strict):
    """The whole of it; `subtitle` may hold `{parameters}`."""

    subtitle: Text | None = None
    landscape: bool = False
    figures: Annotated[list[Figure], Field(max_length=8)] = []
    charts: Annotated[list[Chart], Field(max_length=12)] = []
    sheets: dict[str, SheetLayout] = {}


def faults(layout: Layout, sheets: Sequence[str | None]) -> Iterator[str]:
    """Yield what the layout names and the SQL blocks, called `sheets`, do not have."""
    known = {sheet.lower() for sheet in sheets if sheet}
    named = ", ".join(sheet for sheet in sheets if sheet) or "none has a name; write ```sql sheet=Name"
    used = [(f"report.figures.{at}", figure.sheet) for at, figure in enumerate(layout.figures)]
    used += [(f"report.charts.{at}", chart.sheet) for at, chart in enumerate(layout.charts)]
    used += [("report.sheets", name) for name in layout.sheets]
    for place, sheet in used:
        if sheet is not None and sheet.lower() not in known:
            yield f"{place}: no SQL block is called {sheet[:40]!a}; there is {named}"
