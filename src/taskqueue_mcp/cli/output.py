"""What a command prints: tables and lines for people, compact JSON for programs. Text of tasks is data."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Json = dict[str, Any]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What could move the cursor, colour the screen or turn the direction of text."""
WIDE = 100_000
"""The width of a pipe: nothing is cut or wrapped in it."""
LONGEST_CELL = 120
STYLES = {
    "ready": "cyan",
    "in_progress": "blue",
    "waiting": "yellow",
    "warn": "yellow",
    "completed": "green",
    "fired": "green",
    "ok": "green",
    "failed": "red",
    "fail": "red",
    "missed": "red",
    "cancelled": "dim",
}


def plain(text: str) -> str:
    """Return text with its control characters written out, for a terminal."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return text as one line without control characters."""
    return plain(" ".join(text.split()))


@dataclass(frozen=True, slots=True)
class Out:
    """Where a command's results go; `zone` is the one people read times in."""

    format: str
    zone: str

    def show(self, found: Mapping[str, Any], view: Callable[[], None]) -> None:
        """Print `found` as JSON, or let `view` print it for people."""
        if self.format == "json":
            self.json(found)
        else:
            view()

    def json(self, found: Mapping[str, Any]) -> None:
        """Print one line of JSON."""
        click.echo(json.dumps(found, separators=(",", ":")))

    def line(self, text: str) -> None:
        """Print a line for people."""
        click.echo(one_line(text))

    def text(self, text: str) -> None:
        """Print text of several lines; a terminal gets no control characters."""
        click.echo(plain(text) if sys.stdout.isatty() else text, nl=not text.endswith("\n"))

    def note(self, text: str) -> None:
        """Tell a person something that is no part of the result."""
        click.echo(one_line(text), err=True)

    def time(self, instant: str | None) -> str:
        """Return an ISO instant as people read it."""
        if not instant:
            return ""
        return datetime.fromisoformat(instant).astimezone(ZoneInfo(self.zone)).strftime("%Y-%m-%d %H:%M:%S")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], flexible: str = "") -> None:
        """Print a table; only the column `flexible` may be wrapped by a narrow terminal, nothing is ever cut."""
        from rich.console import Console  # noqa: PLC0415 - JSON does without
        from rich.table import Table  # noqa: PLC0415 - JSON does without
        from rich.text import Text  # noqa: PLC0415 - JSON does without

        on_terminal = sys.stdout.isatty()
        console = Console(force_terminal=on_terminal, width=None if on_terminal else WIDE, highlight=False)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column.upper(), no_wrap=column != flexible, overflow="fold")
        for row in rows:
            cells = [one_line(cell) for cell in row]
            table.add_row(*(Text(cell, style=STYLES.get(cell.partition(" ")[0], "")) for cell in cells))
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():
            click.echo(line.rstrip())

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Print labels and values, leaving out what has none; long texts stand below their label."""
        shown = [(label, plain(_written(value))) for label, value in pairs if value not in (None, "", [], {})]
        width = max((len(label) for label, _ in shown), default=0) + 2
        for label, value in shown:
            if "\n" in value.strip():
                click.echo(f"{label}:")
                click.echo("\n".join(f"  {line}".rstrip() for line in value.strip("\n").split("\n")))
            else:
                click.echo(f"{label}:".ljust(width) + value)


def shortened(text: str) -> str:
    """Return text that fits a cell of a table."""
    text = one_line(text)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
