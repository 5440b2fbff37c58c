"""One seeded breakage: which promise it breaks, the smallest edit that does so, and the tests that have to notice."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "src/taskqueue_mcp"
SQLITE, POSTGRES = "sqlite", "postgres"
BOTH = (SQLITE, POSTGRES)


class Stale(Exception):
    """The product has changed under a breakage, which has to be written anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that stands exactly once in a file of the package, and what stands there instead.

    `within` narrows it to one function, class or constant (`Class.method` for a method), so that the text can
    be short and what is around it may change.
    """

    file: str
    old: str
    new: str
    within: str | None = None

    def apply(self, root: Path) -> None:
        """Make the edit in the tree at `root`.

        Raises:
            Stale: the text is not there, or not once.
        """
        path = root / PACKAGE / self.file
        if not path.is_file():
            raise Stale(f"there is no {self.file}")
        path.write_text(self.edited(path.read_text(encoding="utf-8")), encoding="utf-8")
        # Compiled files are told apart by size and second only, which an edit may leave as they were.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def edited(self, text: str) -> str:
        """Return the text of the file with the edit in it.

        Raises:
            Stale: as above.
        """
        begin, end = (0, len(text)) if self.within is None else self._span(text, self.within)
        found = text.count(self.old, begin, end)
        if found != 1:
            where = self.file if self.within is None else f"{self.within} in {self.file}"
            raise Stale(f"{self.old!r} stands {found} times in {where}")
        return text[:begin] + text[begin:end].replace(self.old, self.new) + text[end:]

    def _span(self, text: str, within: str) -> tuple[int, int]:
        """Return where what is named begins and ends."""
        body: list[ast.stmt] = ast.parse(text).body
        node: ast.stmt | None = None
        for name in within.split("."):
            named = [statement for statement in body if name in _names(statement)]
            if len(named) != 1:
                raise Stale(f"{within} is defined {len(named)} times in {self.file}")
            node = named[0]
            body = list(getattr(node, "body", []))
        assert node is not None
        lines = text.splitlines(keepends=True)
        begin = sum(map(len, lines[: node.lineno - 1]))
        return begin, begin + sum(map(len, lines[node.lineno - 1 : node.end_lineno]))


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


@dataclass(frozen=True, slots=True)
class Mutant:
    """A breakage by one edit or several; `tests` are node ids under `tests/`, of which at least one has to fail.

    A slow one takes longer than some ten seconds: `make test` leaves it to `make mutants`.
    """

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    engines: tuple[str, ...] = (SQLITE,)
    is_slow: bool = False

    def apply(self, root: Path) -> None:
        """Break the tree at `root`.

        Raises:
            Stale: an edit does not fit any more.
        """
        for edit in self.edits:
            edit.apply(root)
