"""What is wrong with a procedure's report before any task follows it: files, template, SQL, and what its looks name."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.report import asking
from taskqueue_mcp.executors.report.gathering import wanted_sums
from taskqueue_mcp.executors.sources.reading import ReadFailed, one_of
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.outputs.documents import rendering
from taskqueue_mcp.outputs.tables import unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from taskqueue_mcp.executors.sources.reading import Source
    from taskqueue_mcp.procedures.parsing import Procedure, SqlBlock

SECONDS: Final = 20.0
EXECUTOR: Final = "report"
EXAMPLES: Final[Mapping[str | None, Any]] = {
    "string": "x", "integer": 1, "number": 1.0, "boolean": True, "array": ["x"], "object": {}, "date": "2026-11-20",
}  # fmt: skip
"""What stands for a parameter that has no default."""


def faults(procedure: Procedure, sources: Mapping[str, Source]) -> Iterator[str]:
    """Yield a line for each fault that can be found without running a statement."""
    values = {param.name: _example(param.default, param.type) for param in procedure.params}
    known = {"due_date": "2026-11-20", "task_id": 1} | values
    if procedure.executor == EXECUTOR:
        if not procedure.sql_blocks:
            yield "it has no SQL block; add one fenced as ```sql"
        yield from _of_files(procedure, values, known)
    elif procedure.output is not None and procedure.output.filename_pattern:
        yield from _of_name(procedure, values)
    for block in procedure.templates:
        try:
            rendering.check(rendering.Template(block.text, block.line, procedure.path), block.kind)
        except InvalidInput as error:
            yield str(error).removeprefix(f"{procedure.path}, ")
    if procedure.sql_blocks:
        yield from _of_sql(procedure, sources, known)


def unchecked(procedure: Procedure, sources: Mapping[str, Source]) -> str | None:
    """Why the SQL of a procedure cannot be checked on this machine, in a line; None where it can, or there is none."""
    if not procedure.sql_blocks:
        return None
    try:
        name = one_of(sources, procedure.source)
    except InvalidInput as error:
        return f"its SQL was not checked: {error}"
    lack = sources[name].lack()
    return None if lack is None else f"its SQL was not checked: source {name}: {lack}"


def _of_files(procedure: Procedure, values: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    output = procedure.output
    for each in (output.formats or (output.format,)) if output else ():
        if each is not None and each not in asking.FORMATS:
            yield f"output.format: a report is written as {', '.join(asking.FORMATS)}, not as {each[:20]!a}"
    yield from _of_name(procedure, values)
    try:
        paths.fill((output.summary if output else None) or "", {**known, "rows": 0})
        paths.fill((procedure.report.subtitle if procedure.report else None) or "", known)
    except InvalidInput as error:
        yield str(error)


def _of_name(procedure: Procedure, values: Mapping[str, Any]) -> Iterator[str]:
    output = procedure.output
    if output is None:
        return
    pattern = output.filename_pattern or "x_{date}"
    suffix = "" if paths.media_type(pattern) else f".{output.format or 'csv'}"
    try:
        paths.resolve(
            output.path or "",
            f"{pattern}{suffix}",
            due_date=date(2026, 11, 20),
            now=datetime(2026, 11, 20, tzinfo=UTC),
            task_id=1,
            params=values,
        )
    except InvalidInput as error:
        yield f"output: {error}"


def _of_sql(procedure: Procedure, sources: Mapping[str, Source], known: Mapping[str, Any]) -> Iterator[str]:
    if unchecked(procedure, sources) is not None:
        return
    name = one_of(sources, procedure.source)
    for number, block in enumerate(procedure.sql_blocks):
        where = f"line {block.line}, on source {name}"
        try:
            columns = _columns(block, sources[name], known)
        except ReadFailed as error:
            yield f"{where}: {error}"
            continue
        try:
            wanted_sums(procedure.report, block.sheet or "", columns, is_first=number == 0)
        except InvalidInput as error:
            yield str(error)


def _columns(block: SqlBlock, source: Source, known: Mapping[str, Any]) -> list[str]:
    """The columns of a statement, which is not run for it; each in a visit of its own, as a fault ends one."""
    reader = source.open(seconds=SECONDS, most_rows=1)
    try:
        with reader.opened():
            reader.check(block.sql, known)
            # The owner's own statement, which was refused above if it does more than read.
            columns, _ = reader.read(f"SELECT * FROM (\n{block.sql.rstrip(' ;')}\n) AS found LIMIT 0", known)  # noqa: S608
            return unique(columns)
    finally:
        reader.halt()


def _example(default: Any, kind: str | None) -> Any:
    return EXAMPLES.get(kind, "x") if default is None else default
