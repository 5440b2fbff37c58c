"""A statement of somebody else's as one that a driver takes: its `:names` bound, its kind known before it is sent."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, text

from taskqueue_mcp.executors.sources.reading import ReadFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Dialect

READS: Final = frozenset(
    {"select", "with", "values", "table", "show", "describe", "desc", "from", "summarize", "pivot"}
)
"""What a statement that reads begins with, in one engine or another."""

_QUOTED: Final = r""" "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*.*?\*/ """
STANDARD: Final = rf""" '(?:[^']|'')*' | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ | {_QUOTED} """
"""What holds no parameter in PostgreSQL and DuckDB: texts, quoted names, comments."""
BACKSLASHES: Final = rf""" '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*" | \#[^\n]* | {_QUOTED} """
"""The same in MySQL, where a backslash hides the quote behind it."""

_ESCAPED_TEXTS: Final = r""" (?<!\w)[eE]'(?:[^'\\]|''|\\.)*' | """
_PARAMETER: Final = r""" | (?<![:\w]):(?P<name>[A-Za-z_]\w*) | (?P<colon>:) """
_FIRST_WORD: Final = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)


def _scanner(opaque: str) -> re.Pattern[str]:
    return re.compile(opaque + _PARAMETER, re.VERBOSE | re.DOTALL)


SCANNERS: Final = {STANDARD: _scanner(_ESCAPED_TEXTS + STANDARD), BACKSLASHES: _scanner(BACKSLASHES)}


def bound(sql: str, params: Mapping[str, Any], dialect: Dialect, opaque: str = STANDARD) -> tuple[str, Any]:
    """What the driver of `dialect` executes, and with which parameters; a list is for `IN :name`.

    Each `:name` outside of texts and comments is bound to its parameter.

    Raises:
        ReadFailed: a parameter is missing, or a list has nothing in it.
    """
    names: dict[str, None] = {}

    def escaped(found: re.Match[str]) -> str:
        if found["name"]:
            names[found["name"]] = None
            return found[0]
        return found[0].replace(":", "\\:")

    clause = text(SCANNERS[opaque].sub(escaped, sql.strip().removesuffix(";")))
    missing = [name for name in names if name not in params]
    if missing:
        raise ReadFailed(f"it needs the parameter :{missing[0]}; declare it in the procedure's params or give it")
    lists = [name for name in names if isinstance(params[name], list | tuple)]
    if empty := [name for name in lists if not params[name]]:
        raise ReadFailed(
            f"the list :{empty[0]} is empty, of which no IN can be made; give a value, or leave the condition out"
        )
    clause = clause.bindparams(*(bindparam(name, expanding=True) for name in lists))
    clause = clause.bindparams(**{name: _value(params[name]) for name in names})
    compiled = clause.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = compiled.params
    return str(compiled), [values[name] for name in compiled.positiontup or ()] if compiled.positional else values


def must_read(sql: str, also: Collection[str] = ()) -> None:
    """Refuse a statement that begins with something else than what reads; the engine refuses what gets past this.

    Raises:
        ReadFailed: it does.
    """
    found = _FIRST_WORD.match(sql)
    word = found[1].lower() if found else ""
    if word not in READS and word not in also:
        raise ReadFailed(f"only reading is allowed; begin with SELECT or WITH, not with {word.upper()[:20] or 'that'}")


def names_of(sql: str) -> list[str]:
    """The parameters that a statement names, outside of texts and comments."""
    return [found["name"] for found in SCANNERS[STANDARD].finditer(sql) if found["name"]]


def one_statement(sql: str) -> None:
    """Refuse several statements, where no engine of ours looks at them.

    Raises:
        ReadFailed: a semicolon stands between two.
    """
    bare = SCANNERS[STANDARD].sub(lambda found: found[0] if found["name"] else " ", sql)
    if ";" in bare.strip().removesuffix(";"):
        raise ReadFailed("it holds more than one statement; send each by itself")


def _value(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
