"""What a report keeps of the rows that pass by on their way into files: the first ones, sums, and how many."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs.tables import simple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.procedures.layout import Layout

PREVIEW_ROWS: Final = 5
LONGEST_PREVIEW_CELL: Final = 200
BATCH: Final = 500
"""Rows that are laid aside together."""

Number = int | float | Decimal
Summed = tuple[str, str]
"""A column, and what of it: sum, average, min, max or count."""


@dataclass(slots=True)
class Sum:
    """Everything that may be asked of the numbers of one column."""

    column: str
    total: Number = 0
    count: int = 0
    least: Number | None = None
    most: Number | None = None

    def add(self, value: Any) -> None:
        """Take one cell in; what is nothing counts nothing.

        Raises:
            InvalidInput: it is no number.
        """
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise InvalidInput(f"the report sums the column {self.column!a}, and {str(value)[:40]!a} is no number")
        if isinstance(self.total, float) != isinstance(value, float) and Decimal in {type(self.total), type(value)}:
            self.total, value = float(self.total), float(value)
        self.total += value
        self.count += 1
        self.least = value if self.least is None or value < self.least else self.least
        self.most = value if self.most is None or value > self.most else self.most

    def of(self, what: str) -> Number | None:
        """Return what is asked; None where no number came by."""
        if what == "count":
            return self.count
        if not self.count:
            return 0 if what == "sum" else None
        found = {"sum": self.total, "min": self.least, "max": self.most, "average": self.total / self.count}
        return found[what]


@dataclass(slots=True)
class Gathered:
    """One SQL block's result as far as it is kept: `rows` are the first `keep` of `count`."""

    name: str
    columns: list[str]
    keep: int
    sums: dict[str, Sum] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[Sequence[Any]] = field(default_factory=list)
    count: int = 0
    aside: Path | None = None

    def passing(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """Yield the rows, and keep what is wanted of them."""
        at = [(self.columns.index(name), each) for name, each in self.sums.items()]
        filled = [(self.columns.index(name), name) for name in self.counts]
        keep, kept = self.keep, self.rows
        for row in rows:
            self.count += 1
            if self.count <= keep:
                kept.append(row)
            for place, each in at:
                each.add(row[place])
            for place, name in filled:
                self.counts[name] += row[place] is not None
            yield row

    def lay_aside(self, rows: Iterable[Sequence[Any]], path: Path) -> None:
        """Read all rows into a file that only this attempt sees, to be written in several formats."""
        self.aside = path
        with path.open("xb") as file:
            batch: list[tuple[Any, ...]] = []
            for row in self.passing(rows):
                batch.append(tuple(row))
                if len(batch) == BATCH:
                    pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)
                    batch = []
            pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)

    def again(self) -> Iterator[Sequence[Any]]:
        """Yield every row once more."""
        if self.aside is None:
            yield from self.rows
            return
        with self.aside.open("rb") as file:
            while batch := pickle.load(file):  # noqa: S301 - our own file, in the attempt's private folder
                yield from batch
                if len(batch) < BATCH:
                    return

    def of(self, column: str | None, what: str) -> Number | None:
        """Return a sum of a column; without a column how many rows there are."""
        if column is None:
            return self.count
        return self.counts[column] if what == "count" else self.sums[column].of(what)

    @property
    def preview(self) -> list[dict[str, Any]]:
        """The first rows as plain JSON, with long cells cut."""
        return [dict(zip(self.columns, map(_short, row), strict=True)) for row in self.rows[:PREVIEW_ROWS]]


def wanted_sums(layout: Layout | None, sheet: str, columns: Sequence[str], *, is_first: bool) -> list[Summed]:
    """The sums that a layout needs of a sheet.

    Raises:
        InvalidInput: it names a column that the sheet does not have.
    """
    if layout is None:
        return []
    needed: list[Summed] = []
    named: list[tuple[str, str]] = []
    for at, figure in enumerate(layout.figures):
        if is_of(figure.sheet, sheet, is_first=is_first):
            pairs = [(name, figure.of) for name in (figure.column, figure.compare) if name]
            needed += pairs
            named += [(f"report.figures.{at}", name) for name, _ in pairs]
    for at, chart in enumerate(layout.charts):
        if is_of(chart.sheet, sheet, is_first=is_first):
            named += [(f"report.charts.{at}", name) for name in (chart.x, *chart.y)]
    for key, looks in layout.sheets.items():
        if is_of(key, sheet, is_first=False):
            needed += looks.totals.items()
            grouped = [looks.group_by] if looks.group_by else []
            named += [(f"report.sheets.{key}", name) for name in (*looks.totals, *looks.columns, *grouped)]
    for place, name in named:
        if name not in columns:
            raise InvalidInput(f"{place}: the sheet {sheet} has no column {name[:60]!a}; it has {', '.join(columns)}")
    return list(dict.fromkeys(needed))


def gathered(name: str, columns: list[str], keep: int, sums: Sequence[Summed]) -> Gathered:
    """Something to gather a sheet's rows with."""
    return Gathered(
        name,
        columns,
        max(keep, PREVIEW_ROWS),
        {column: Sum(column) for column, what in sums if what != "count"},
        {column: 0 for column, what in sums if what == "count"},
    )


def is_of(named: str | None, sheet: str, *, is_first: bool) -> bool:
    """Whether what the layout names is this sheet; nothing named means the first one."""
    return is_first if named is None else named.lower() == sheet.lower()


def by_name(sheets: Mapping[str, Any], name: str) -> Any:
    """What the layout says of a sheet, whose name it may write in other letters."""
    return next((found for key, found in sheets.items() if key.lower() == name.lower()), None)


def _short(cell: Any) -> Any:
    value = simple(cell)
    if isinstance(value, str) and len(value) > LONGEST_PREVIEW_CELL:
        return f"{value[: LONGEST_PREVIEW_CELL - 1]}…"
    return value
