"""Where a file may lie: a folder and a pattern become one safe path relative to the output folder.

Whoever creates a task chooses both, so they are hostile until they are clean. Placeholders are looked up in
a fixed mapping and nothing else: `str.format` would walk from any value to the program's secrets.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".csv": "text/csv",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".svg": "image/svg+xml",
    ".parquet": "application/vnd.apache.parquet",
}
"""The extensions a file may have; none of them is started by a double click."""

LONGEST_NAME: Final = 120
"""Bytes of UTF-8 in one name; what synchronised folders and old archives take."""
DEEPEST: Final = 12

RESERVED: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL"} | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
"""Names that are devices on Windows, with any extension."""

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def resolve(
    folder: str,
    pattern: str,
    *,
    due_date: date,
    now: datetime,
    task_id: int,
    params: Mapping[str, Any] | None = None,
) -> str:
    """The path, relative and with `/`, that `folder` and `pattern` come to.

    `{date}` is `due_date`, the day in the schedule's zone; `{timestamp}` is `now`, as `YYYYMMDD_HHMMSS` in
    the zone it carries; `{task_id}` is a number; any other name is one of `params`, which these three hide.

    Raises:
        InvalidInput: the path would leave the folder, names an unknown placeholder or has a wrong extension.
    """
    values = dict(params or {}) | {
        "date": due_date.isoformat(),
        "timestamp": now.strftime("%Y%m%d_%H%M%S"),
        "task_id": task_id,
    }
    if "/" in pattern.strip("/") and not folder:
        folder, _, pattern = pattern.rpartition("/")
    parts = _components(folder, "path")
    names = _components(pattern, "filename_pattern")
    if not names:
        raise InvalidInput("filename_pattern is empty; write one such as LowStock_{date}.xlsx")
    filled = [clean(fill(part, values)) for part in (*parts, *names)]
    if len(filled) > DEEPEST:
        raise InvalidInput(f"path has {len(filled)} folders; at most {DEEPEST} are allowed")
    check("/".join(filled))
    return "/".join(filled)


def fill(text: str, values: Mapping[str, Any]) -> str:
    """`text` with each `{name}` replaced by its value; values are text and never looked into.

    Raises:
        InvalidInput: a name is unknown or no name at all, a brace stands alone, or a value is a mapping.
    """

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            what = f"{{{name}}}" if _NAME.fullmatch(name) else ascii(found[0][:80])
            raise InvalidInput(f"unknown placeholder {what}; known are {', '.join(sorted(values))}")
        return _as_text(name, values[name])

    if "{" in (rest := _PLACEHOLDER.sub("", text)) or "}" in rest:
        raise InvalidInput(f"a brace stands alone in {text[:80]!a}; write placeholders as {{date}}")
    return _PLACEHOLDER.sub(value_of, text)


def clean(component: str) -> str:
    """One file or folder name that every file system takes and no program reads as anything else.

    Letters of every script stay; control, bidi and format characters go; all else becomes `_`.

    Raises:
        InvalidInput: nothing is left.
    """
    kept = "".join(map(_kept, unicodedata.normalize("NFC", component)))
    name = unicodedata.normalize("NFC", kept).lstrip(".-").rstrip(".")
    if not name.strip("._-"):
        raise InvalidInput(f"{component[:80]!a} comes to nothing as a file name; use letters and digits")
    return _shortened(f"_{name}" if name.split(".", 1)[0].upper() in RESERVED else name)


def check(relative: str) -> None:
    """Refuse a path that `resolve` would not have made.

    Raises:
        InvalidInput: with what is wrong.
    """
    parts = relative.split("/")
    if parts != [clean(part) for part in parts] or len(parts) > DEEPEST:
        raise InvalidInput(f"{relative[:80]!a} is not a clean path inside the output folder")
    if media_type(relative) is None:
        raise InvalidInput(f"{parts[-1]!a} has no extension that may be written; use one of {' '.join(MEDIA_TYPES)}")


def media_type(relative: str) -> str | None:
    """The media type of a path by its extension, if it has one that may be written."""
    return MEDIA_TYPES.get(PurePosixPath(relative).suffix.lower())


def _components(path: str, field: str) -> list[str]:
    if "\\" in path or ":" in path or "\0" in path or path.startswith(("/", "~")):
        raise InvalidInput(f"{field} {path[:80]!a} must be relative to the output folder and written with /")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if any(set(part.strip()) == {"."} for part in parts):
        raise InvalidInput(f"{field} {path[:80]!a} climbs out of the output folder; leave out the dots")
    return parts


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(_as_text(name, each) for each in value)
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value)
    raise InvalidInput(f"the placeholder {{{name}}} makes no file name; give text or a number")


def _kept(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "C":
        return ""
    return character if category[0] in "LMN" or character in "._-" else "_"


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > max(map(len, MEDIA_TYPES)):
        stem, dot, extension = name, "", ""
    room = LONGEST_NAME - len(f"{dot}{extension}".encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(".-") + dot + extension
