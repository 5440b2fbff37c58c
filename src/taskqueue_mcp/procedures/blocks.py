"""The fenced blocks of a procedure that a machine carries out: SQL and templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.procedures.procedure import SqlBlock, TemplateBlock

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE: Final = re.compile(r"^[ \t]*(?P<fence>`{3,}(?=[^`]*$)|~{3,})[ \t]*(?P<info>.*?)[ \t]*\r?$")
_SETTING: Final = re.compile(r"sheet=(?:\"([^\"]+)\"|(\S+))")


@dataclass(frozen=True, slots=True)
class Fenced:
    """A fenced block with its info string; `line` is where it starts, counted from 1."""

    info: str
    text: str
    line: int

    @property
    def language(self) -> str:
        """The first word of the info string, in lower case."""
        return self.info.split(" ")[0].lower()


def fenced(body: str, first_line: int, faults: list[str]) -> list[Fenced]:
    """Every closed block in order; one that is not closed is a fault."""
    found: list[Fenced] = []
    lines: list[str] = []
    fence, info, start = "", "", 0
    for number, line in enumerate(body.split("\n"), first_line):
        match = _FENCE.match(line)
        if not fence and match:
            fence, info, start, lines = match["fence"], match["info"], number, []
        elif match and fence and match["fence"].startswith(fence) and not match["info"]:
            found.append(Fenced(info, "\n".join(lines), start))
            fence = ""
        else:
            lines.append(line)
    if fence:
        faults.append(f"line {start}: the block opened with {fence} is never closed")
    return found


def sql_blocks(found: list[Fenced], faults: list[str]) -> tuple[SqlBlock, ...]:
    """Every block whose info string starts with `sql`."""
    blocks: list[SqlBlock] = []
    for each in found:
        if each.language == "sql":
            sheet = _SETTING.search(each.info)
            blocks.append(SqlBlock(each.text.strip(), sheet and (sheet[1] or sheet[2]), each.line))
    faults.extend(f"line {block.line}: the SQL block is empty" for block in blocks if not block.sql)
    names = [block.sheet.lower() for block in blocks if block.sheet]
    faults.extend(f"two SQL blocks are called {name}" for name in dict.fromkeys(names) if names.count(name) > 1)
    return tuple(blocks)


def template_blocks(found: list[Fenced], faults: list[str]) -> tuple[TemplateBlock, ...]:
    """The templates of a report: blocks fenced as `jinja` (or `jinja md`); without one, a single `html` block."""
    blocks = [TemplateBlock(each.text, kind, each.line) for each in found if (kind := _kind_of(each))]
    if not any(block.kind == "html" for block in blocks):
        plain = [TemplateBlock(each.text, "html", each.line) for each in found if each.language == "html"]
        blocks += plain if len(plain) == 1 else []
    faults.extend(_twice(blocks))
    return tuple(blocks)


def _kind_of(each: Fenced) -> str:
    if each.language not in {"jinja", "jinja2"}:
        return ""
    return "md" if "md" in each.info.lower().split()[1:] else "html"


def _twice(blocks: list[TemplateBlock]) -> Iterator[str]:
    seen: set[str] = set()
    for block in blocks:
        if block.kind in seen:
            yield f"line {block.line}: a second {block.kind} template; a report has one of each kind"
        seen.add(block.kind)
