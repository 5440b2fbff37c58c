"""Rows as Parquet, streamed, through pyarrow (the extra `parquet`)."""

from __future__ import annotations

import pickle
import tempfile
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs.tables import simple, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskqueue_mcp.outputs.tables import Table

ROWS_AT_ONCE: Final = 16_384
LARGEST_INTEGER: Final = 2**63
MOST_DIGITS: Final = 38
"""What a decimal of 128 bits holds."""


def write_parquet(file: BinaryIO, table: Table) -> int:
    """Write one row group after the other; return the number of rows.

    The type of a column is known once all of its cells were seen, so the rows wait in a file of this machine. Whole and
    other numbers in one column become floats, any other mixture text; a decimal becomes a float only if it must.

    Raises:
        InvalidInput: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - the same
    except ImportError:
        raise InvalidInput("parquet needs pyarrow: pip install 'taskqueue-mcp[parquet]'") from None
    columns = unique(table.columns)
    seen = [_Seen() for _ in columns]
    count = 0
    with tempfile.TemporaryFile() as waiting:
        rows = iter(table.rows)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            count += len(batch)
            cells: list[Sequence[Any]] = list(zip(*batch, strict=True))
            for one, column in zip(seen, cells, strict=True):
                one.look(column)
            pickle.dump(cells, waiting, pickle.HIGHEST_PROTOCOL)
        waiting.seek(0)
        kinds = [one.settled(pa) for one in seen]
        schema = pa.schema([(name, kind) for name, (kind, _) in zip(columns, kinds, strict=True)])
        with parquet.ParquetWriter(file, schema) as writer:
            for batch_of_columns in _loaded(waiting, count):
                arrays = [
                    pa.array([None if cell is None else make(cell) for cell in column], type=kind)
                    for column, (kind, make) in zip(batch_of_columns, kinds, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return count


def _loaded(waiting: Any, count: int) -> Iterator[list[Sequence[Any]]]:
    """Read back what was written a moment ago by this very process."""
    while count > 0:
        columns = pickle.load(waiting)  # noqa: S301 - a nameless file of our own
        count -= len(columns[0])
        yield columns


class _Seen:
    """Which kinds of cells a column has."""

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._is_wide = False
        self._zones: set[bool] = set()
        self._digits = 0
        self._scale = 0

    def look(self, column: Sequence[Any]) -> None:
        kinds = set(map(type, column)) - {type(None)}
        self._kinds |= kinds
        if int in kinds:
            self._is_wide |= any(
                type(cell) is int and not -LARGEST_INTEGER <= cell < LARGEST_INTEGER for cell in column
            )
        if datetime in kinds:
            self._zones |= {cell.tzinfo is not None for cell in column if isinstance(cell, datetime)}
        if Decimal in kinds:
            for cell in column:
                if isinstance(cell, Decimal):
                    self._look_at_decimal(cell)

    def _look_at_decimal(self, cell: Decimal) -> None:
        _, digits, exponent = cell.as_tuple()
        if not isinstance(exponent, int):
            self._is_wide = True
            return
        scale = max(0, -exponent)
        self._scale = max(self._scale, scale)
        self._digits = max(self._digits, len(digits) + max(0, exponent) - scale)

    def settled(self, pa: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The type of the column, and what makes a cell fit it."""
        kinds = self._kinds
        precision = max(self._digits, 1) + self._scale
        whole = kinds == {int} and not self._is_wide
        exact = kinds == {Decimal} and not self._is_wide and precision <= MOST_DIGITS
        of_zone = pa.timestamp("us", tz="UTC" if self._zones == {True} else None)
        found: list[tuple[bool, Any, Callable[[Any], Any]]] = [
            (kinds == {bool}, pa.bool_(), bool),
            (whole, pa.int64(), int),
            (exact, pa.decimal128(precision if exact else 1, self._scale if exact else 0), Decimal),
            (bool(kinds & {float, Decimal}) and kinds <= {int, float, Decimal}, pa.float64(), float),
            (kinds == {datetime} and len(self._zones) == 1, of_zone, _same),
            (kinds == {date}, pa.date32(), _same),
            (bool(kinds) and kinds <= {bytes, bytearray, memoryview}, pa.binary(), bytes),
        ]
        return next(((kind, make) for fits, kind, make in found if fits), (pa.string(), _text))


def _same(cell: Any) -> Any:
    return cell


def _text(cell: Any) -> str:
    value = simple(cell)
    return value if isinstance(value, str) else str(value)
