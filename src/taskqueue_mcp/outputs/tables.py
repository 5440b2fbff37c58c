"""Rows as csv, json and xlsx, streamed. A cell is data: no spreadsheet takes it for a formula or a link."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tempfile
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import xlsxwriter

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMULA_STARTS: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the full-width forms count too
MOST_ROWS_XLSX: Final = 1_048_575
MOST_COLUMNS_XLSX: Final = 16_384
LONGEST_CELL_XLSX: Final = 32_767
LARGEST_EXACT_XLSX: Final = 10**15
"""Excel keeps 15 digits of a number; a longer one (an EAN, a card) is written as text."""

WIDTHS_FROM_ROWS: Final = 200
NARROWEST, WIDEST = 8, 60
FLOAT_FORMAT: Final = "#,##0.00##"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; `rows` is read once. `name` is the sheet's, where the format has sheets."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def write_csv(file: BinaryIO, table: Table) -> int:
    """Write UTF-8 with a header line and CRLF (RFC 4180); return the number of rows.

    Text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay numbers.
    """
    with _text(file) as text:
        writer = csv.writer(text)
        writer.writerow([_disarmed(name) for name in unique(table.columns)])
        count = 0
        for row in table.rows:
            writer.writerow([_disarmed(simple(cell)) for cell in row])
            count += 1
        return count


def write_json(file: BinaryIO, table: Table) -> int:
    """Write a list of objects, one a line, keys in the order of the columns; return the number of rows."""
    with _text(file) as text:
        columns = unique(table.columns)
        count = 0
        text.write("[")
        for count, row in enumerate(table.rows, 1):
            cells = dict(zip(columns, map(simple, row), strict=True))
            text.write(("\n" if count == 1 else ",\n") + json.dumps(cells, ensure_ascii=False))
        text.write("\n]\n" if count else "]\n")
        return count


def write_xlsx(file: BinaryIO, tables: Iterable[Table]) -> list[int]:
    """Write a sheet a table; return the rows of each. Rows are not kept in memory.

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
        taken: set[str] = set()
        try:
            for table in tables:
                name = sheet_name(table.name, taken)
                taken.add(name.lower())
                counts.append(_write_sheet(workbook.add_worksheet(name), table, formats))
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


def simple(cell: Any) -> str | int | float | bool | None:
    """A cell as JSON knows it; bytes as hexadecimal, times as ISO 8601."""
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, Decimal):
        return float(cell) if cell.is_finite() else None
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell).hex()
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _disarmed(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def _write_sheet(sheet: Any, table: Table, formats: dict[str, Any]) -> int:
    columns = unique(table.columns)
    if len(columns) > MOST_COLUMNS_XLSX:
        raise InvalidInput(f"{len(columns):,} columns are more than a sheet holds; write csv instead")
    widths = [len(name) + 3 for name in columns]  # room for the filter's arrow
    for at, name in enumerate(columns):
        sheet.write_string(0, at, _cell_text(name), formats["bold"])
    count = 0
    for count, row in enumerate(table.rows, 1):
        if count > MOST_ROWS_XLSX:
            raise InvalidInput(f"more than {MOST_ROWS_XLSX:,} rows, which a sheet holds; write csv instead")
        for at, cell in enumerate(row):
            shown = _write_cell(sheet, count, at, cell, formats)
            if count <= WIDTHS_FROM_ROWS:
                widths[at] = max(widths[at], shown)
    for at, width in enumerate(widths):
        sheet.set_column(at, at, min(max(width + 1, NARROWEST), WIDEST))
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, count, max(len(columns) - 1, 0))
    return count


def _write_cell(sheet: Any, row: int, at: int, cell: Any, formats: dict[str, Any]) -> int:
    """Write by type, never by looks; return how many characters it shows."""
    if cell is None:
        return 0
    shown = str(simple(cell)) if not isinstance(cell, float | Decimal) else f"{cell:,.2f}"
    match cell:
        case bool():
            sheet.write_boolean(row, at, cell)
        case int() if abs(cell) < LARGEST_EXACT_XLSX:
            sheet.write_number(row, at, cell)
        case float() | Decimal() if math.isfinite(cell):
            sheet.write_number(row, at, float(cell), formats["float"])
        case datetime() if cell.tzinfo is None:
            sheet.write_datetime(row, at, cell, formats["datetime"])
        case date() if not isinstance(cell, datetime):
            sheet.write_datetime(row, at, cell, formats["date"])
        case _:
            shown = _cell_text(shown)
            sheet.write_string(row, at, shown)
    return max(map(len, shown.split("\n")))


_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _cell_text(text: str) -> str:
    """Text as XML can hold it and Excel will show it."""
    text = _UNWRITABLE.sub("\ufffd", text)
    if len(text) <= LONGEST_CELL_XLSX:
        return text
    note = f" … [cut, {len(text):,} characters]"
    return text[: LONGEST_CELL_XLSX - len(note)] + note
