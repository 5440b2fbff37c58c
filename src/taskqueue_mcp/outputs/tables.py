"""Rows as csv, json and xlsx, streamed. A cell is data: no spreadsheet takes it for a formula or a link."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tempfile
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import xlsxwriter

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs import summary as summaries
from taskqueue_mcp.outputs.cells import LONGEST_CELL_XLSX, UNWRITABLE, cell_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

FORMULA_STARTS: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the full-width forms count too
FORMULA_STARTS_SET: Final = frozenset(FORMULA_STARTS)
ROWS_AT_ONCE: Final = 512
WRITTEN_AS_THEY_ARE: Final = frozenset({int, bool, type(None)})
TEXT: Final = {str}
FLOAT: Final = {float}
WHOLE: Final = {int}
_first: Final = itemgetter(0)

MOST_ROWS_XLSX: Final = 1_048_575
MOST_COLUMNS_XLSX: Final = 16_384
LARGEST_EXACT_XLSX: Final = 10**15
"""Excel keeps 15 digits of a number; a longer one (an EAN, a card) is written as text."""
MOST_DIGITS_XLSX: Final = 15

WIDTHS_FROM_ROWS: Final = 200
NARROWEST, WIDEST = 8, 60
FLOAT_FORMAT: Final = "#,##0.00##"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; `rows` is read once. `name` is the sheet's, where the format has sheets.

    `numbers` are the spreadsheet's formats of columns, by their names, where the usual one does not do.
    """

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]
    numbers: Mapping[str, str] = field(default_factory=dict)


def write_csv(file: BinaryIO, table: Table) -> int:
    """Write UTF-8 with a header line and CRLF (RFC 4180); return the number of rows.

    Text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay numbers.
    """
    count = 0
    heads: list[Sequence[Any]] = [tuple(_disarmed(name) for name in unique(table.columns))]
    for batch in chain([heads], batches(table.rows)):
        text = io.StringIO(newline="")  # in memory and then whole: a third faster than row by row through a text layer
        csv.writer(text).writerows(_for_csv(batch))
        file.write(text.getvalue().encode(errors="replace"))
        count += len(batch)
    return count - 1


def write_json(file: BinaryIO, table: Table) -> int:
    """Write a list of objects, one a line, keys in the order of the columns; return the number of rows."""
    with _text(file) as text:
        columns = unique(table.columns)
        encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
        count = 0
        text.write("[")
        for batch in batches(table.rows):
            lines = [encode(dict(zip(columns, map(_json, row), strict=True))) for row in batch]
            text.write(("\n" if not count else ",\n") + ",\n".join(lines))
            count += len(lines)
        text.write("\n]\n" if count else "]\n")
        return count


def write_xlsx(
    file: BinaryIO, tables: Iterable[Table], summary: Callable[[], summaries.Summary | None] | None = None
) -> list[int]:
    """Write a sheet a table; return the rows of each. Rows are not kept in memory.

    `summary` is asked, once all of them are written, for what a last sheet tells of them.

    Raises:
        InvalidInput: a table has more rows or columns than a sheet holds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        workbook = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": scratch})
        formats = {"bold": workbook.add_format({"bold": True}), "float": workbook.add_format()}
        formats["float"].set_num_format(FLOAT_FORMAT)
        formats["date"] = workbook.add_format({"num_format": "yyyy-mm-dd"})
        formats["datetime"] = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        counts: list[int] = []
        names: dict[str, str] = {}
        try:
            for table in tables:
                name = names[table.name] = sheet_name(table.name, {each.lower() for each in names.values()})
                own = {column: workbook.add_format({"num_format": text}) for column, text in table.numbers.items()}
                counts.append(_write_sheet(workbook.add_worksheet(name), table, formats, own))
            if summary is not None and (found := summary()) is not None:
                name = sheet_name(summaries.NAME, {each.lower() for each in names.values()})
                summaries.write(workbook, name, found, names)
        except BaseException:
            for sheet in workbook.worksheets():
                sheet.row_data_fh.close()  # closing the workbook would pack what nobody wants
            raise
        workbook.close()
    return counts


def unique(columns: Sequence[str]) -> list[str]:
    """The names, with `_2`, `_3`… after one that stands again: a JSON object keeps only the last of them."""
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


def sheet_name(wanted: str, taken: Iterable[str] = ()) -> str:
    """`wanted` as Excel allows it: at most 31 characters, some of them refused, and none twice."""
    name = re.sub(r"[\x00-\x1f\[\]:*?/\\]", " ", wanted).strip(" '")[:31].strip(" '") or "Sheet"
    name = f"{name}_" if name.lower() == "history" else name
    numbers = iter(range(2, 1_000))
    stem = name
    while name.lower() in taken:
        name = f"{stem[:27]} {next(numbers)}"
    return name


class _text:  # noqa: N801 - reads as the function it is
    """A text layer over a binary file that is left open behind it."""

    def __init__(self, file: BinaryIO) -> None:
        self._wrapper = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")

    def __enter__(self) -> io.TextIOWrapper:
        return self._wrapper

    def __exit__(self, *_: object) -> None:
        self._wrapper.detach()


def batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """`rows` in lists of a moderate length: what is done to a column of them at once costs a fraction."""
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS_AT_ONCE)):
        yield batch


def simple(cell: Any) -> str | int | float | bool | None:
    """A cell as one value that JSON knows; bytes as hexadecimal, times as ISO 8601, lists and objects as JSON text.

    A decimal of more digits than a float keeps is text: nothing is rounded behind anyone's back.
    """
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, Decimal):
        return _number(cell)
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell).hex()
    if isinstance(cell, dict | list | tuple):
        return json.dumps(_json(cell), ensure_ascii=False)
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def _number(cell: Decimal) -> float | str | None:
    if not cell.is_finite():
        return None
    number = float(cell)
    return number if math.isfinite(number) and Decimal(repr(number)) == cell else f"{cell:f}"


def _json(cell: Any) -> Any:
    """A cell as JSON knows it, lists and objects within kept as such."""
    if isinstance(cell, dict):
        return {str(key): _json(value) for key, value in cell.items()}
    return [_json(value) for value in cell] if isinstance(cell, list | tuple) else simple(cell)


def _for_csv(batch: list[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    """The rows with nothing in them that a spreadsheet would run; looked at by column, as most need no change."""
    columns: list[Sequence[Any]] = list(zip(*batch, strict=True))
    changed = False
    for at, column in enumerate(columns):
        if not _is_plain(column):
            columns[at] = [_exact(cell) if isinstance(cell, Decimal) else _disarmed(simple(cell)) for cell in column]
            changed = True
    return zip(*columns, strict=True) if changed else batch


def _is_plain(column: Sequence[Any]) -> bool:
    """Whether csv may take all cells as they are."""
    kinds = set(map(type, column)) - WRITTEN_AS_THEY_ARE
    if not kinds:
        return True
    if kinds == TEXT:
        try:
            return FORMULA_STARTS_SET.isdisjoint(map(_first, filter(None, column)))
        except TypeError:
            return False  # a number or a truth value among the texts
    return kinds == FLOAT and all(map(math.isfinite, filter(None, column)))


def _exact(cell: Decimal) -> str | None:
    """A decimal with all of its digits, for a format without types."""
    return f"{cell:f}" if cell.is_finite() else None


def _disarmed(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def _write_sheet(sheet: Any, table: Table, usual: dict[str, Any], own: Mapping[str, Any]) -> int:
    columns = unique(table.columns)
    formats = [usual | {"float": own[name], "whole": own[name]} if name in own else usual for name in columns]
    if len(columns) > MOST_COLUMNS_XLSX:
        raise InvalidInput(f"{len(columns):,} columns are more than a sheet holds; write csv instead")
    widths = [len(name) + 3 for name in columns]  # room for the filter's arrow
    for at, name in enumerate(columns):
        sheet.write_string(0, at, cell_text(name), usual["bold"])
    count = 0
    for batch in batches(table.rows):
        if count + len(batch) > MOST_ROWS_XLSX:
            raise InvalidInput(f"more than {MOST_ROWS_XLSX:,} rows, which a sheet holds; write csv instead")
        for row in batch[: max(0, WIDTHS_FROM_ROWS - count)]:
            widths = [max(width, _shown_width(cell)) for width, cell in zip(widths, row, strict=True)]
        writers = [_writer(sheet, column, each) for column, each in zip(zip(*batch, strict=True), formats, strict=True)]
        for count, row in enumerate(batch, count + 1):  # noqa: B020 - it goes on where the last batch ended
            for at, cell in enumerate(row):
                writers[at](count, at, cell)
    for at, width in enumerate(widths):
        sheet.set_column(at, at, min(max(width + 1, NARROWEST), WIDEST))
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, count, max(len(columns) - 1, 0))
    return count


def _writer(sheet: Any, column: Sequence[Any], formats: dict[str, Any]) -> Callable[[int, int, Any], object]:
    """What writes each cell of a column: the sheet itself where all of them are of one simple kind."""
    kinds = set(map(type, column))
    if kinds == TEXT and max(map(len, column)) <= LONGEST_CELL_XLSX and not UNWRITABLE.search("".join(column)):
        return sheet.write_string  # type: ignore[no-any-return]  # the library has no types
    if kinds == WHOLE and min(column) > -LARGEST_EXACT_XLSX and max(column) < LARGEST_EXACT_XLSX:
        if (number := formats.get("whole")) is not None:
            return lambda row, at, cell: sheet.write_number(row, at, cell, number)
        return sheet.write_number  # type: ignore[no-any-return]  # the same
    if kinds == FLOAT and all(map(math.isfinite, column)):
        number = formats["float"]
        return lambda row, at, cell: sheet.write_number(row, at, cell, number)
    return lambda row, at, cell: _write_cell(sheet, row, at, cell, formats)


def _write_cell(sheet: Any, row: int, at: int, cell: Any, formats: dict[str, Any]) -> None:
    """Write by type, never by looks."""
    match cell:
        case None:
            return
        case bool():
            sheet.write_boolean(row, at, cell)
        case int() if abs(cell) < LARGEST_EXACT_XLSX:
            sheet.write_number(row, at, cell, formats.get("whole"))
        case float() if math.isfinite(cell):
            sheet.write_number(row, at, cell, formats["float"])
        case Decimal() if cell.is_finite() and len(cell.normalize().as_tuple().digits) <= MOST_DIGITS_XLSX:
            sheet.write_number(row, at, float(cell), formats["float"])
        case datetime() if cell.tzinfo is None:
            sheet.write_datetime(row, at, cell, formats["datetime"])
        case date() if not isinstance(cell, datetime):
            sheet.write_datetime(row, at, cell, formats["date"])
        case _:
            sheet.write_string(row, at, cell_text(str(simple(cell))))


def _shown_width(cell: Any) -> int:
    """How many characters wide a cell is shown."""
    if cell is None:
        return 0
    shown = f"{cell:,.2f}" if isinstance(cell, float | Decimal) else cell_text(str(simple(cell)))
    return max(map(len, shown.split("\n")))
