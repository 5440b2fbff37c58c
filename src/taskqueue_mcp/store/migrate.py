"""Numbered, forward-only migrations: `NNNN_name.sql` for both engines, `NNNN_name.ENGINE.sql` for one."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from taskqueue_mcp.errors import DatabaseRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.dialect import Dialect


def latest() -> int:
    """Return the schema number that this program writes and understands."""
    return max(number for number, _ in _files("sqlite"))


def statements(have: int, engine: str, dialect: Dialect) -> Iterator[tuple[int, str]]:
    """Yield `(number, statement)` for every migration above `have`, in order.

    Raises:
        DatabaseRefused: the database was written by a newer program.
    """
    newest = latest()
    if have > newest:
        raise DatabaseRefused(
            f"the database has schema {have} and this program knows {newest}: "
            "a newer taskqueue-mcp wrote it; restart with the new version (nothing was changed)"
        )
    for number, text in _files(engine):
        if number > have:
            for statement in text.split(";\n"):
                if statement.strip():
                    yield number, dialect.render(statement)


def _files(engine: str) -> list[tuple[int, str]]:
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        number, _, rest = file.name.partition("_")
        parts = rest.split(".")
        if parts[-1] == "sql" and parts[1:-1] in ([], [engine]):
            found.append((int(number), len(parts), file.read_text(encoding="utf-8")))
    return [(number, text) for number, _, text in sorted(found)]
