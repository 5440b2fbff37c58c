"""Documents as Markdown: tables that line up in a plain editor too, and no text of theirs that means anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.outputs.documents.document import titled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskqueue_mcp.outputs.documents.document import Document, Figure, Sheet

SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|#~!])")
LEADING: Final = re.compile(r"^(\d*)([-+=.)])")
WIDEST: Final = 60
"""Up to this many characters the cells of a column are filled up, so that the source can be read as a table."""


def escaped(text: str) -> str:
    """Return text in a line, with everything that Markdown or HTML would take for more than text disarmed."""
    line = SPECIAL.sub(r"\\\1", " ".join(text.split()).replace("&", "&amp;"))
    return LEADING.sub(r"\1\\\2", line)


def document(found: Document) -> str:
    """Return the whole document."""
    return "\n".join(_blocks(found)) + "\n"


def figures(found: Sequence[Figure]) -> str:
    """Return figures as a list."""
    return "\n".join(
        f"- {escaped(each.title)}: **{escaped(each.value)}**{f' ({escaped(each.note)})' if each.note else ''}"
        for each in found
    )


def table(sheet: Sheet) -> str:
    """Return the rows that a sheet shows as a table, numbers at the right."""
    columns = sheet.visible
    if sheet.group_by:
        columns = [(at, each) for at, each in enumerate(sheet.columns) if not each.hidden]
    rows = [[escaped(column.title) for _, column in columns]]
    rows += [[escaped(column.shown(row[at])) for at, column in columns] for row in sheet.rows]
    if sheet.totals and sheet.count:
        free = [at for at, column in columns if column.name not in sheet.totals and column.number is None]
        rows.append(["**Total**" if [at] == free[:1] else _total(sheet, column.name) for at, column in columns])
    widths = [min(max(3, *(len(row[at]) for row in rows)), WIDEST) for at in range(len(columns))]
    rule = [
        f"{'-' * (width - 1)}{':' if column.number else '-'}"
        for width, (_, column) in zip(widths, columns, strict=True)
    ]
    lines = [rows[0], rule, *rows[1:]]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, (_, column) in zip(line, widths, columns, strict=True)
        )
        + " |"
        for line in lines
    )


def _total(sheet: Sheet, name: str) -> str:
    told = sheet.totals.get(name, "")
    return f"**{escaped(told)}**" if told else ""


def _blocks(found: Document) -> Iterator[str]:
    yield f"# {escaped(found.title)}\n"
    if found.subtitle:
        yield f"{escaped(found.subtitle)}\n"
    if found.figures:
        yield f"{figures(found.figures)}\n"
    elif found.description:
        yield f"{escaped(found.description)}\n"
    for sheet in found.sheets:
        if sheet.title != found.title or len(found.sheets) > 1:
            yield f"## {escaped(sheet.title)}\n"
        if sheet.note:
            yield f"{escaped(sheet.note)}\n"
        yield f"{table(sheet)}\n"
        if sheet.count > len(sheet.rows):
            yield f"The first {len(sheet.rows):,} of {sheet.count:,} rows.\n"
        if not sheet.count:
            yield "No rows.\n"
    if found.facts:
        yield "---\n"
        yield "\n".join(f"- {escaped(titled(name))}: {escaped(value)}" for name, value in found.facts)
