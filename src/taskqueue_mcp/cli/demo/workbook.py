"""Reads back a workbook that our own worker wrote: text stands inline, each cell in its place."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LETTERS: Final = 26


def rows(path: Path) -> list[list[str]]:
    """Return the rows of the first sheet as they are stored, the header first."""
    with zipfile.ZipFile(path) as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - our own worker's file
    found = [
        {_column(cell.get("r", "")): "".join(cell.itertext()) for cell in row.iter(f"{NAMESPACE}c")}
        for row in sheet.iter(f"{NAMESPACE}row")
    ]
    width = max(found[0]) + 1
    return [[cells.get(at, "") for at in range(width)] for cells in found]


def _column(reference: str) -> int:
    """Return which column, from 0, a cell such as `AB12` stands in."""
    number = 0
    for letter in reference.rstrip("0123456789"):
        number = number * LETTERS + ord(letter) - ord("A") + 1
    return number - 1
