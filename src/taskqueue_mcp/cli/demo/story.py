"""What the demo tells, as a person would want to read it: steps, calls with what came of them, tables."""

from __future__ import annotations

import contextlib
import json
import textwrap
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from taskqueue_mcp.cli.output import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskqueue_mcp.cli.output import Out

Json = dict[str, Any]
WIDTH: Final = 110


class Story:
    """Prints; text of tasks is data and gets no say over the terminal."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._steps = 0

    def line(self, text: str) -> None:
        """Print a line as it stands."""
        click.echo(plain(text))

    def head(self, text: str) -> None:
        """Print what the next lines are about."""
        click.echo()
        click.secho(one_line(text), bold=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        self._out.table(columns, rows, flexible=columns[-1])

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print a step when it is done, with how long it took."""
        self._steps += 1
        began = time.perf_counter()
        yield
        click.echo(f"{self._steps}  {one_line(text):<88} {_seconds(time.perf_counter() - began):>7}")

    @contextlib.contextmanager
    def call(self, tool: str, given: Json | str) -> Iterator[Callable[[str], None]]:
        """Print a tool call, and then what the caller says came of it."""
        if not isinstance(given, str):
            given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items())
        wrapped = textwrap.wrap(f"{tool}({given})", WIDTH, initial_indent="  ", subsequent_indent="      ")
        click.echo(click.style(plain("\n".join(wrapped)), fg="cyan"))
        told: list[str] = []
        began = time.perf_counter()
        yield told.append
        took = _seconds(time.perf_counter() - began)
        for number, text in enumerate(told):
            click.echo(f"    → {one_line(text)}" + (f"  [{took}]" if number == 0 else ""))

    @staticmethod
    def event(found: Json, first: Json) -> tuple[str, ...]:
        """Return an event as a row: its number, how long after the first, what, by whom, and its data."""
        after = datetime.fromisoformat(found["at"]) - datetime.fromisoformat(first["at"])
        data = found.get("data") or {}
        told = "; ".join(f"{name} {value}" for name, value in data.items() if name != "summary")
        attempt = f"attempt {found['attempt']}; " if found.get("attempt") else ""
        return str(found["seq"]), _seconds(after.total_seconds()), found["event"], found["by"], f"{attempt}{told}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
