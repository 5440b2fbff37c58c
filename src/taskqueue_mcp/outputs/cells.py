"""The text of a cell as a spreadsheet's file can hold it."""

from __future__ import annotations

import re
from typing import Final

LONGEST_CELL_XLSX: Final = 32_767
UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def cell_text(text: str) -> str:
    """Return text as XML can hold it and Excel will show it."""
    text = UNWRITABLE.sub("\ufffd", text)
    if len(text) <= LONGEST_CELL_XLSX:
        return text
    note = f" … [cut, {len(text):,} characters]"
    return text[: LONGEST_CELL_XLSX - len(note)] + note
