"""How a number is written for people: `0`, `0.00`, `#,##0.00`, with what stands around it. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_AROUND: Final = r"(?:[^\W\d_]|[ %€$£¥₹/°‰()²³.-])"
"""What may stand around a number: no character that a spreadsheet's format takes for an order."""
_PATTERN: Final = re.compile(
    rf"^(?P<before>{_AROUND}{{0,8}}?)(?P<whole>#,##0|0)(?P<part>\.0{{1,6}})?(?P<after>{_AROUND}{{0,12}})$"
)
HINT: Final = 'write plain, 0, 0.00 or #,##0.00, with what stands around it, such as "0.0 %" or "€ #,##0.00"'
MOST_DECIMALS: Final = 2
"""Digits behind the point where no format is given."""
_NUMBERED: Final = re.compile(
    r"(?:^|[_ ])(?:id|no|nr|number|year|ean|gtin|zip|plz|phone|code|version|line|port|pid)$", re.IGNORECASE
)
"""Columns whose whole numbers count nothing, and take no thousands separator."""

Number = int | float | Decimal


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A number with `decimals` digits behind its point; `grouped` puts commas between thousands."""

    decimals: int = 0
    grouped: bool = True
    before: str = ""
    after: str = ""

    def shown(self, value: Number) -> str:
        """Return the number as text; halves are rounded away from zero, and the sign stands before everything."""
        try:
            exact = Decimal(str(value)).quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP)
        except InvalidOperation:  # infinity, not a number, or more digits than a decimal holds
            return str(value)
        digits = f"{abs(exact):,f}" if self.grouped else f"{abs(exact):f}"
        sign = "−" if exact < 0 else ""  # noqa: RUF001 - the minus sign is as wide as a digit
        return f"{sign}{self.before}{digits}{self.after}"

    @property
    def excel(self) -> str:
        """The same as a spreadsheet's format, with everything around the number as quoted text."""
        whole = "#,##0" if self.grouped else "0"
        part = f".{'0' * self.decimals}" if self.decimals else ""
        return "".join((_quoted(self.before), whole, part, _quoted(self.after)))


PLAIN: Final = NumberFormat(grouped=False)


def read(text: str) -> NumberFormat | None:
    """Return the format that `text` describes; None where it describes none. `plain` is `0`."""
    if text == "plain":
        return PLAIN
    found = _PATTERN.fullmatch(text)
    if found is None:
        return None
    return NumberFormat(len(found["part"] or ".") - 1, found["whole"] != "0", found["before"], found["after"])


def fitting(column: str, values: Iterable[object]) -> NumberFormat | None:
    """Return the format that fits a column's values by itself; None where they are not all numbers."""
    decimals, are_whole, any_there = 0, True, False
    for value in values:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return None
        any_there = True
        if not isinstance(value, int) and math.isfinite(value):
            are_whole = False
            decimals = max(decimals, _decimals(value))
    if not any_there:
        return None
    if are_whole:
        return PLAIN if _NUMBERED.search(column) else NumberFormat()
    return NumberFormat(decimals)


def _decimals(value: float | Decimal) -> int:
    text = f"{value:.{MOST_DECIMALS}f}".rstrip("0")
    return len(text.partition(".")[2])


def _quoted(text: str) -> str:
    return f'"{text}"' if text else ""
