"""A report: the SQL of a procedure, read from a configured SQLite file, written as xlsx, csv or json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import anyio
import anyio.to_thread
from pydantic import ConfigDict, Field

from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.executors.base import Executor, Params, validated
from taskqueue_mcp.executors.sources.reading import Halted, ReadFailed, one_of
from taskqueue_mcp.model import Completed, Failed, Returned
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.outputs.tables import Table, simple, unique, write_csv, write_json, write_xlsx
from taskqueue_mcp.procedures.parsing import fill_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.sources.reading import Reader, Source
    from taskqueue_mcp.model import Outcome
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
    from taskqueue_mcp.procedures.parsing import Procedure, SqlBlock

FORMATS: Final = ("xlsx", "csv", "json")
FOLDER: Final = "Reports"
MOST_ROWS: Final = 1_000_000
SECONDS: Final = 300
"""How long a report may take where neither the task nor the procedure says."""
PREVIEW_ROWS: Final = 5
LONGEST_PREVIEW_CELL: Final = 200


class ReportOutput(Params):
    """Where and how the report is written; what is left out comes from the task, then the procedure."""

    format: str | None = Field(default=None, description="xlsx, csv or json")
    path: str | None = Field(default=None, description="Folder inside the output folder")
    filename_pattern: str | None = Field(default=None, description="Such as LowStock_{date}.xlsx")
    summary: str | None = Field(default=None, description="What the rows are: '{rows} products below …'")


class ReportParams(Params):
    """`source` and `output` are the executor's own; every other name is a parameter of the procedure.

    Which those are only the procedure knows, so they are let through here and checked against it when it
    runs: types and required ones always, unknown ones where the procedure says `params_strict`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    source: str | None = Field(default=None, description="Name of a configured source")
    output: ReportOutput | None = None


class Report(Executor[ReportParams]):
    """Runs a procedure's SQL blocks on one of the owner's sources; names reach it, never paths.

    The owner must not list the queue's own database among `sources`.
    """

    name: ClassVar[str] = "report"
    params = ReportParams

    def __init__(self, sources: Mapping[str, Source], *, most_rows: int = MOST_ROWS) -> None:
        self._sources = dict(sources)
        self._most_rows = most_rows

    async def run(self, params: ReportParams, run: Run) -> Outcome:
        """Write the report, or say in a line why not."""
        try:
            report = self._prepared(params, run)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        await run.progress(None, f"Reading {report.source}")
        outcome: Outcome = Returned(None, "stopped before the report was written")
        try:
            async with anyio.create_task_group() as group:

                async def leave_when_told() -> None:
                    await run.stop.wait()
                    group.cancel_scope.cancel()

                group.start_soon(leave_when_told)
                outcome = await anyio.to_thread.run_sync(report.carry_out, abandon_on_cancel=True)
                group.cancel_scope.cancel()
        finally:
            report.reader.halt()
        for sheet in report.sheets:
            run.log(f"{sheet.name}: {sheet.rows:,} rows\n")
        return outcome

    def _prepared(self, params: ReportParams, run: Run) -> _Report:
        procedure = run.procedure
        if procedure is None:
            raise InvalidInput("a report follows a procedure with an SQL block; name one in the task's sop")
        if not procedure.sql_blocks:
            raise InvalidInput(f"{procedure.path} has no SQL block; add one fenced as ```sql")
        source = one_of(self._sources, params.source or procedure.source)
        values = fill_params(procedure, params.model_extra or {})
        output = _output(params, run, procedure)
        file_format = output.format or "xlsx"
        pattern = output.filename_pattern or f"{PurePosixPath(procedure.path).stem}_{{date}}"
        path = paths.resolve(
            output.path or FOLDER,
            f"{_without_extension(pattern)}.{file_format}",
            due_date=run.due_date,
            now=run.now.astimezone(run.zone),
            task_id=run.task_id,
            params=values,
        )
        known = {"due_date": run.due_date.isoformat(), "task_id": run.task_id} | values
        paths.fill(output.summary or "", known | {"rows": 0})  # before the work, not after it
        reader = self._sources[source].open(
            seconds=run.timeout_seconds or procedure.timeout_seconds or SECONDS,
            most_rows=self._most_rows,
        )
        return _Report(procedure, source, reader, known, path, output.summary, run.outputs)


@dataclass(slots=True)
class _Sheet:
    """What one SQL block came to; filled while its rows pass by on their way into the file."""

    name: str
    columns: list[str]
    rows: int = 0
    preview: list[dict[str, Any]] = field(default_factory=list)

    def passing(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            self.rows += 1
            if self.rows <= PREVIEW_ROWS:
                self.preview.append(dict(zip(self.columns, map(_short, row), strict=True)))
            yield row


@dataclass(slots=True)
class _Report:
    """One report under way, on a worker thread."""

    procedure: Procedure
    source: str
    reader: Reader
    values: Mapping[str, Any]
    path: str
    summary: str | None
    outputs: OutputFolder
    sheets: list[_Sheet] = field(default_factory=list)
    place: str = ""

    def carry_out(self) -> Outcome:
        self.place = f"source {self.source}"
        try:
            with self.reader.opened():
                self._check()
                files = self._write()
        except Halted:
            return Returned(None, "stopped before the report was written")
        except ReadFailed as error:
            return Failed(f"{self.place}: {error}", permanent=not error.passing)
        except TaskQueueError as error:
            return Failed(f"{self.place}: {error}", permanent=True)
        except OSError as error:
            return Failed(f"the report could not be written: {(error.strerror or 'disk error').lower()}")
        return self._completed(files)

    def _check(self) -> None:
        """All blocks before the first is run: a fault in the second must not leave the first one's file."""
        for block in self.procedure.sql_blocks:
            self._go_to(block)
            self.reader.check(block.sql, self.values)

    def _write(self) -> list[WrittenFile]:
        if self.path.endswith(".xlsx"):
            return [self._file(self.path, lambda file: write_xlsx(file, self._tables()))]
        write = write_csv if self.path.endswith(".csv") else write_json
        return [self._file(self._path_of(table), partial(write, table=table)) for table in self._tables()]

    def _tables(self) -> Iterator[Table]:
        blocks = self.procedure.sql_blocks
        for number, block in enumerate(blocks, 1):
            self._go_to(block)
            columns, rows = self.reader.read(block.sql, self.values)
            stem = PurePosixPath(self.procedure.path).stem
            name = block.sheet or (stem if len(blocks) == 1 else f"{stem}_{number}")
            sheet = _Sheet(name, unique(columns))
            self.sheets.append(sheet)
            yield Table(name, sheet.columns, sheet.passing(rows))

    def _go_to(self, block: SqlBlock) -> None:
        self.place = f"{self.procedure.path}, SQL of line {block.line}, on source {self.source}"

    def _path_of(self, table: Table) -> str:
        """A file for each block where the format has no sheets."""
        if len(self.procedure.sql_blocks) == 1:
            return self.path
        whole = PurePosixPath(self.path)
        return str(whole.with_name(paths.clean(f"{whole.stem}_{table.name}{whole.suffix}")))

    def _file(self, path: str, write: Callable[[BinaryIO], object]) -> WrittenFile:
        def write_if_wanted(file: BinaryIO) -> None:
            write(file)
            self.reader.wanted()

        return self.outputs.write(path, write_if_wanted)

    def _completed(self, files: list[WrittenFile]) -> Completed:
        first = self.sheets[0]
        data: dict[str, Any] = {
            "rows": first.rows,
            "columns": first.columns,
            "preview": first.preview,
            "artifacts": [asdict(file) for file in files],
        }
        if len(self.sheets) > 1:
            data["sheets"] = [
                {"name": sheet.name, "rows": sheet.rows, "columns": sheet.columns} for sheet in self.sheets
            ]
        shares = [self.sheets] if len(files) == 1 else [[sheet] for sheet in self.sheets]
        wrote = ", ".join(
            f"{file.path} ({' + '.join(str(sheet.rows) for sheet in share)} rows)"
            for file, share in zip(files, shares, strict=True)
        )
        title = self.procedure.title
        about = paths.fill(self.summary, {**self.values, "rows": first.rows}) if self.summary else title
        return Completed(
            summary=f"{about}; wrote {wrote}",
            path=files[0].path,
            data=data,
            artifacts=tuple(file.path for file in files),
        )


def _output(params: ReportParams, run: Run, procedure: Procedure) -> ReportOutput:
    """Field by field: from the parameters, else the task's own output, else the procedure's.

    A layer that names a file and no format means the format of that name.
    """
    asked = run.task.get("output") or {}
    try:
        asked = json.loads(asked) if isinstance(asked, str) else asked
    except ValueError:
        asked = None
    if not isinstance(asked, Mapping):
        raise InvalidInput('the task\'s output must be a JSON object such as {"format": "csv"}')
    layers: list[Mapping[str, Any]] = [
        asdict(procedure.output) if procedure.output else {},
        {name: value for name, value in asked.items() if name in ReportOutput.model_fields},
        params.output.model_dump() if params.output else {},
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        given = {name: value for name, value in layer.items() if value not in (None, ())}
        extension = PurePosixPath(str(given.get("filename_pattern", ""))).suffix.lower()
        implied = {"format": extension[1:]} if extension in paths.MEDIA_TYPES else {}
        merged |= implied | given
    output = validated(ReportOutput, merged, what="output")
    if output.format is not None and output.format not in FORMATS:
        raise InvalidInput(f"a report is written as {', '.join(FORMATS)}, not as {output.format[:20]!a}")
    return output


def _without_extension(pattern: str) -> str:
    suffix = PurePosixPath(pattern).suffix
    return pattern.removesuffix(suffix) if suffix.lower() in paths.MEDIA_TYPES else pattern


def _short(cell: Any) -> Any:
    value = simple(cell)
    if isinstance(value, str) and len(value) > LONGEST_PREVIEW_CELL:
        return f"{value[: LONGEST_PREVIEW_CELL - 1]}…"
    return value
