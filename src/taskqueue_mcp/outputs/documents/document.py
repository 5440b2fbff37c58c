"""What stands in a report, whatever it is written as: figures, charts and sheets, all of them data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.outputs.tables import simple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskqueue_mcp.number_formats import NumberFormat

LONGEST_CELL: Final = 2_000
"""Characters of one cell that a page shows."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `number` is None where it holds text, and what `is_short` is never broken over lines."""

    name: str
    title: str
    number: NumberFormat | None = None
    hidden: bool = False
    is_short: bool = False

    def shown(self, value: Any) -> str:
        """Return a cell as people read it."""
        if self.number is not None and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return self.number.shown(value)
        return shown(value)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one SQL block, the first `len(rows)` of `count`; `totals` are of all of them.

    `group_by` is the column whose value opens a group where it changes; of the columns in `summed` each group has
    a sum of its own.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    count: int
    note: str = ""
    totals: dict[str, str] = field(default_factory=dict)
    group_by: str | None = None
    summed: frozenset[str] = frozenset()

    @property
    def visible(self) -> list[tuple[int, Column]]:
        """The columns that a page shows, each with its place in a row."""
        return [
            (at, column) for at, column in enumerate(self.columns) if not column.hidden and column.name != self.group_by
        ]

    @property
    def total_label_at(self) -> int:
        """The visible column that says "Total": the first one of text without a total of its own; -1 without one."""
        free = [at for at, column in self.visible if column.name not in self.totals and column.number is None]
        return free[0] if free else -1

    def subtotals(self, rows: Sequence[Sequence[Any]]) -> list[str]:
        """What stands in the heading of a group, for each visible column but the first; nothing where rows are cut."""
        is_whole = self.count == len(self.rows)
        return [
            column.shown(sum(row[at] for row in rows if row[at] is not None))
            if is_whole and column.name in self.summed
            else ""
            for at, column in self.visible[1:]
        ]

    def groups(self) -> Iterator[tuple[str, list[Sequence[Any]]]]:
        """Yield the rows with the heading of their group, which is empty where there are no groups."""
        names = [column.name for column in self.columns]
        at = names.index(self.group_by) if self.group_by in names else None
        heading = ""
        rows: list[Sequence[Any]] = []
        for row in self.rows:
            named = "" if at is None else self.columns[at].shown(row[at])
            if rows and named != heading:
                yield heading, rows
                rows = []
            heading = named
            rows.append(row)
        if rows:
            yield heading, rows


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with a place of its own; `change` is up, down or nothing."""

    title: str
    value: str
    note: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one thing over the steps of a chart; None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture; `kind` is bar, column or line. `left_out` is how many steps did not fit into it."""

    title: str
    kind: str
    steps: Sequence[str]
    series: Sequence[Series]
    number: NumberFormat
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report; `facts` are what stands below it: where the rows came from, when and by what rule."""

    title: str
    sheets: Sequence[Sheet]
    subtitle: str = ""
    description: str = ""
    figures: Sequence[Figure] = ()
    charts: Sequence[Chart] = ()
    facts: Sequence[tuple[str, str]] = ()
    landscape: bool = False
    values: dict[str, Any] = field(default_factory=dict)


def shown(value: Any) -> str:
    """Return any value as people read it: nothing for nothing, times without their T, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    plain = simple(value)
    text = "" if plain is None else str(plain)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


INITIALS: Final = frozenset({"id", "sku", "url", "api", "ip", "ean", "gtin", "vat", "usd", "eur", "gbp", "cpu", "http"})


def titled(name: str) -> str:
    """Return the name of a column as a heading: `order_cost` is `Order cost`, `sku` is `SKU`."""
    words = [word.upper() if word.lower() in INITIALS else word for word in name.replace("_", " ").split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:] if text else name
