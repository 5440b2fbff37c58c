"""Looks into one file, in a process of its own: what a hostile file or schema can do there ends with it.

Standard input is the file itself; the first argument names a JSON file that says what is expected of it. The answer
is one line of JSON: `{"rows": number or null, "reasons": […]}`.
"""

from __future__ import annotations

import codecs
import gc
import json
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taskqueue_mcp.outputs import rows as row_files
from taskqueue_mcp.outputs.rows import Rows, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS: Final = 60.0
"""How long a look may take in all."""
SQL_SECONDS: Final = 10.0
MEMORY: Final = 2 * 1024 * 1024 * 1024
MOST_ROWS_IN_SQL: Final = 1_000_000
MOST_COLUMNS: Final = 2_000
SHOWN: Final = 3
"""How many faults of one kind are listed."""
STEPS: Final = 20_000
BATCH: Final = 1_000

READS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
REFUSED_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "randomblob", "zeroblob"})


def main() -> None:
    """Look into the file on standard input and say what was found."""
    _bound()
    gc.disable()  # what is read is thrown away with the process
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib would be one import more
        expected: dict[str, Any] = json.load(file)
    with os.fdopen(0, "rb", closefd=False) as data:
        found = look(data, expected)
    sys.stdout.write(json.dumps(found))


def look(data: BinaryIO, expected: dict[str, Any]) -> dict[str, Any]:
    """Return `{"rows", "reasons"}` for a file of the format `expected["format"]`."""
    reasons: list[str] = []
    count: int | None = None
    form = expected["format"]
    try:
        if form == "json":
            count = _document(row_files.document(data), expected, reasons)
        elif form in {"csv", "xlsx", "parquet"}:
            found = row_files.read(data, form, columns=expected.get("columns", ()), sheet=expected.get("sheet"))
            count = _table(found, expected, reasons, each=_row_schema(expected))
        else:
            _text_or_pdf(data, form)
    except Unreadable as error:
        reasons.append(str(error))
    except MemoryError:
        reasons.append("needs more memory to be looked through than there is for it")
    return {"rows": count, "reasons": reasons}


def _document(value: Any, expected: dict[str, Any], reasons: list[str]) -> int | None:
    if (schema := expected.get("json_schema")) is not None:
        reasons += _violations(_validator(schema), value)
    asks_for_rows = any(expected.get(key) for key in ("columns", "no_empty_cells", "sql"))
    if expected.get("min_rows") is None and not asks_for_rows:
        return len(value) if isinstance(value, list) and all(isinstance(each, dict) for each in value) else None
    return _table(row_files.of_document(value), expected, reasons)


def _row_schema(expected: dict[str, Any]) -> Callable[[dict[str, Any]], list[str]] | None:
    """Of a table, the schema is for each row as an object."""
    schema = expected.get("json_schema")
    if schema is None:
        return None
    validator = _validator(schema)
    return lambda row: _violations(validator, row)


def _table(
    found: Rows, expected: dict[str, Any], reasons: list[str],
    each: Callable[[dict[str, Any]], list[str]] | None = None,
) -> int:  # fmt: skip
    wanted = expected.get("columns", [])
    if missing := [name for name in wanted if name not in found.columns]:
        reasons.append(f"has no column {', '.join(map(_named, missing))}; it has {_listed(found.columns)}")
    if len(found.columns) > MOST_COLUMNS:
        raise Unreadable(f"has {len(found.columns):,} columns; at most {MOST_COLUMNS:,} are looked through")
    full = _must_be_full(expected.get("no_empty_cells", False), found.columns)
    statements = expected.get("sql", [])
    database = _opened(found.columns) if statements else None
    waiting: list[Sequence[Any]] = []
    empty: list[str] = []
    broken: list[str] = []
    count = 0
    for line in found.cells:
        count += 1
        if len(empty) < SHOWN and (bare := [found.columns[at] for at in full if line[at] is None or line[at] == ""]):
            empty.append(f"row {count:,} is empty in {', '.join(map(_named, bare[:SHOWN]))}")
        if each is not None and len(broken) < SHOWN and (faults := each(dict(zip(found.columns, line, strict=False)))):
            broken.append(f"row {count:,}: {faults[0]}")
        if database is not None:
            waiting.append(line)
            if len(waiting) >= BATCH:
                _load(database, len(found.columns), waiting, count)
    reasons += empty + broken
    least = expected.get("min_rows")
    if least is not None and count < least:
        reasons.append(f"has {count:,} rows; at least {least:,} are expected")
    if database is not None:
        _load(database, len(found.columns), waiting, count)
        reasons += _assertions(database, statements)
    return count


def _must_be_full(asked: Any, columns: Sequence[str]) -> list[int]:
    if asked is True:
        return list(range(len(columns)))
    return [at for at, name in enumerate(columns) if name in (asked or ())]


def _opened(columns: Sequence[str]) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    names: list[str] = []
    for at, column in enumerate(columns, 1):
        name = column or f"column_{at}"
        while name.lower() in (taken.lower() for taken in names):
            name = f"{name}_{at}"
        names.append(name)
    listed = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    try:
        database.execute(f"CREATE TABLE rows ({listed})")
    except sqlite3.Error as error:
        raise Unreadable(f"has a header that is no table ({error})") from None
    return database


def _load(database: sqlite3.Connection, width: int, waiting: list[Sequence[Any]], count: int) -> None:
    if count > MOST_ROWS_IN_SQL:
        raise Unreadable(f"has more than {MOST_ROWS_IN_SQL:,} rows, which is more than its SQL is run over")
    marks = ", ".join("?" * width)
    lines = [[_storable(cell) for cell in line] for line in waiting]
    database.executemany(f"INSERT INTO rows VALUES ({marks})", lines)  # noqa: S608 - question marks
    waiting.clear()


def _storable(cell: Any) -> Any:
    return str(cell) if isinstance(cell, int) and abs(cell) >= 1 << 63 else cell


def _assertions(database: sqlite3.Connection, statements: Sequence[str]) -> Iterator[str]:
    """Run each SELECT over what was loaded: it may read that and nothing else, for a bounded time."""
    database.execute("PRAGMA query_only = ON")
    database.set_authorizer(_allowed)
    until = time.monotonic() + SQL_SECONDS
    database.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    for statement in statements:
        shown = " ".join(statement.split())[:160]
        try:
            row = database.execute(statement).fetchone()
        except (sqlite3.Error, sqlite3.Warning) as error:
            why = f"takes longer than {SQL_SECONDS:.0f} s" if time.monotonic() > until else error
            yield f"cannot be held against {shown} ({why})"
            continue
        if row is None or not row[0]:
            got = "no row" if row is None else repr(row[0])[:60]
            yield f"does not fulfil {shown} (it gave {got})"


def _allowed(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    if action not in READS or (action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in REFUSED_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _validator(schema: dict[str, Any]) -> Any:
    import jsonschema  # noqa: PLC0415 - most files have no schema
    import referencing  # noqa: PLC0415 - the same

    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    # An empty registry: the library would else fetch what a reference names from the network.
    return kind(schema, registry=referencing.Registry())


def _violations(validator: Any, value: Any) -> list[str]:
    import referencing.exceptions  # noqa: PLC0415 - the same

    found = []
    try:
        for error in validator.iter_errors(value):
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
            found.append(f"{place.lstrip('.') or 'it'}: {error.message[:160]}")
            if len(found) >= SHOWN:
                break
    except (referencing.exceptions.Unresolvable, RecursionError) as error:
        found.append(f"cannot be held against its schema ({str(error)[:120]})")
    return found


def _text_or_pdf(data: BinaryIO, form: str) -> None:
    if form == "pdf":
        head = data.read(1_024)
        data.seek(0, os.SEEK_END)
        data.seek(max(0, data.tell() - 2_048))
        if b"%PDF-" not in head or b"%%EOF" not in data.read():
            raise Unreadable("is not a whole PDF")
        return
    is_blank, is_marked = True, False
    decoder = codecs.getincrementaldecoder("utf-8")()
    while piece := data.read(1 << 20):
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError:
            raise Unreadable("is not UTF-8 text") from None
        is_blank = is_blank and not text.strip("\ufeff \t\r\n")
        is_marked = is_marked or "<" in text
    if is_blank:
        raise Unreadable("holds nothing but blanks")
    if form in {"html", "svg"} and not is_marked:
        raise Unreadable(f"is not {form.upper()}: it has no element")


def _bound() -> None:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, int(SECONDS)), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _named(name: str) -> str:
    return ascii(name[:60]) if not name.isprintable() else f"'{name[:60]}'"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(_named, names[:20]))
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"  # noqa: PLR2004 - as many as are shown


if __name__ == "__main__":
    main()
