"""The rows of a file that somebody else wrote. It is read as data from a stranger: nothing in it is believed."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from dataclasses import dataclass
from datetime import date, time
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGEST_JSON: Final = 128 * 1024 * 1024
LARGEST_UNPACKED: Final = 1024 * 1024 * 1024
"""Bytes that a workbook may unpack to."""
MOST_PARTS: Final = 10_000
LONGEST_CELL: Final = 1024 * 1024
HEADER_WITHIN: Final = 20
"""Rows of a sheet in which the header is looked for; a report may have a title above its table."""

_NUMBER: Final = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.\d+)?([eE][+-]?\d{1,3})?")

Cell = str | int | float | bool | None


class Unreadable(Exception):
    """The file is not what it says it is; the text is a reason for people."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A header and the rows below it; `cells` is read once."""

    columns: tuple[str, ...]
    cells: Iterator[Sequence[Cell]]


def read(file: BinaryIO, form: str, *, columns: Sequence[str] = (), sheet: str | None = None) -> Rows:
    """Return the rows of a csv, json, parquet or xlsx file; `columns` are those that the header must have.

    Raises:
        Unreadable: it is none, or too large to be looked through. Also while its cells are read.
    """
    if form == "csv":
        return _csv(file)
    if form == "json":
        return of_document(document(file))
    if form == "parquet":
        return _parquet(file)
    return _xlsx(file, columns, sheet)


def document(file: BinaryIO) -> Any:
    """Return a JSON document.

    Raises:
        Unreadable: it is none.
    """
    data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise Unreadable(f"is over {LARGEST_JSON:,} bytes of JSON, which is more than is looked through")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON ({str(error)[:120]})") from None


def of_document(value: Any) -> Rows:
    """Return the rows of a JSON document: a list of objects, or an object that holds one as `rows`.

    Raises:
        Unreadable: it has none.
    """
    if isinstance(value, dict):
        value = value.get("rows")
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Unreadable("has no rows: it must be a list of objects, or an object with such a list as rows")
    names = tuple(dict.fromkeys(str(key) for each in value for key in each))
    return Rows(names, (tuple(_plain(each.get(name)) for name in names) for each in value))


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _csv(file: BinaryIO) -> Rows:
    csv.field_size_limit(LONGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=_delimiter(text), strict=True)
    lines = _csv_lines(reader)
    header = next(lines, None)
    if header is None:
        raise Unreadable("has no header line")
    columns = tuple(cell.strip() for cell in header)

    def cells() -> Iterator[Sequence[Cell]]:
        for line in lines:
            if len(line) != len(columns):
                raise Unreadable(
                    f"is broken: line {reader.line_num:,} has {len(line)} cells, the header {len(columns)}"
                )
            yield tuple(map(_from_text, line))

    return Rows(columns, cells())


def _csv_lines(reader: Any) -> Iterator[list[str]]:
    while True:
        try:
            line = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise Unreadable(f"is not UTF-8 (near line {reader.line_num + 1:,}: {error.reason})") from None
        except csv.Error as error:
            raise Unreadable(f"is not CSV (line {reader.line_num:,}: {error})") from None
        if line:
            yield line


def _delimiter(text: io.TextIOWrapper) -> str:
    try:
        first = text.readline(LONGEST_CELL)
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start:,})") from None
    text.seek(0)
    return max((",", ";", "\t"), key=first.count)


def _from_text(cell: str) -> Cell:
    """A cell of text as a number where it looks like one; nothing where it is blank."""
    if not cell.strip():
        return None
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        return int(cell) if number.is_integer() and cell.lstrip("+-").isdecimal() else number
    return cell


def _xlsx(file: BinaryIO, wanted: Sequence[str], sheet: str | None) -> Rows:
    import openpyxl  # noqa: PLC0415 - other formats do without

    check_zip(file)
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # noqa: BLE001 - a broken workbook fails in the library in any way there is
        raise Unreadable(f"is not a workbook ({_short(error)})") from None
    named = {each.title: each for each in book.worksheets}
    if sheet is not None and sheet not in named:
        raise Unreadable(f"has no sheet {sheet!r}; it has {', '.join(named)[:200]}")
    if not named:
        raise Unreadable("has no sheet")
    header, lines = _header(_sheet_lines(named[sheet] if sheet is not None else book.worksheets[0]), wanted)
    width = len(header)
    return Rows(header, ((*line[:width], *[None] * (width - len(line))) for line in lines if any_cell(line)))


def _sheet_lines(sheet: Any) -> Iterator[tuple[Cell, ...]]:
    rows = sheet.iter_rows(values_only=True)
    while True:
        try:
            line = next(rows)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - the same
            raise Unreadable(f"is a broken workbook ({_short(error)})") from None
        yield tuple(map(_plain, line))


def _header(
    lines: Iterator[tuple[Cell, ...]], wanted: Sequence[str]
) -> tuple[tuple[str, ...], Iterator[tuple[Cell, ...]]]:
    """Return the header and the rows below it.

    The header is the first row that has every column that is wanted; where none has, the first that is not empty.
    """
    first: tuple[str, ...] | None = None
    below: list[tuple[Cell, ...]] = []
    for number, line in enumerate(lines, 1):
        names = tuple("" if cell is None else str(cell).strip() for cell in line)
        if any(names):
            while names and not names[-1]:
                names = names[:-1]
            if set(wanted) <= set(names):
                return names, lines
        if first is not None:
            below.append(line)
        elif any(names):
            first = names
        if number >= HEADER_WITHIN:
            break
    if first is None:
        raise Unreadable("has an empty sheet, without a header")
    return first, chain(below, lines)


def _parquet(file: BinaryIO) -> Rows:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise Unreadable("cannot be read here: pip install 'taskqueue-mcp[parquet]'") from None
    try:
        found = parquet.ParquetFile(file)
        names = tuple(found.schema_arrow.names)
    except Exception as error:  # noqa: BLE001 - a broken file fails in the library in any way there is
        raise Unreadable(f"is not Parquet ({_short(error)})") from None

    def cells() -> Iterator[Sequence[Cell]]:
        try:
            for batch in found.iter_batches(batch_size=4_096):
                for line in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield tuple(map(_plain, line))
        except OSError as error:
            raise Unreadable(f"is broken Parquet ({_short(error)})") from None

    return Rows(names, cells())


def check_zip(file: BinaryIO) -> None:
    """Look at what a packed file would come to before it is unpacked.

    Raises:
        Unreadable: it is broken, or a bomb.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            parts = packed.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise Unreadable(f"is not a workbook ({_short(error)})") from None
    finally:
        file.seek(0)
    size = sum(part.file_size for part in parts)
    if len(parts) > MOST_PARTS or size > LARGEST_UNPACKED:
        raise Unreadable(f"unpacks to {len(parts):,} parts of {size:,} bytes, which is more than is looked through")
    if not any(part.filename == "[Content_Types].xml" for part in parts):
        raise Unreadable("is an archive and no workbook")


def any_cell(line: Sequence[Cell]) -> bool:
    """Whether a row has anything in it."""
    return any(cell is not None and cell != "" for cell in line)


def _plain(cell: Any) -> Cell:
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, dict | list):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:120]
