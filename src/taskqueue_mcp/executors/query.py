"""A query: one statement that reads, on a configured source, streamed into a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

from pydantic import AliasChoices, ConfigDict, Field

from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.executors.base import Executor, Params
from taskqueue_mcp.executors.placing import OutputParams, Usual, output, place
from taskqueue_mcp.executors.sources.reading import Halted, ReadFailed, lacking, one_of, width
from taskqueue_mcp.executors.sources.visiting import visited
from taskqueue_mcp.model import Completed, Failed, Returned
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.outputs.parquet import write_parquet
from taskqueue_mcp.outputs.tables import Table, batches, simple, unique, write_csv, write_json, write_xlsx
from taskqueue_mcp.procedures.parsing import fill_params

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.sources.reading import Reader, Source
    from taskqueue_mcp.model import Outcome
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile

USUAL: Final = Usual(formats=("csv", "xlsx", "json", "parquet"), folder="Reports/Custom", pattern="Query_{timestamp}")
MOST_ROWS: Final = 5_000_000
MOST_BYTES: Final = 2 * 1024**3
SECONDS: Final = 300
"""How long a query may take where neither the task nor the procedure says."""
WRITERS: Final[Mapping[str, Callable[[BinaryIO, Table], object]]] = {
    ".csv": write_csv,
    ".json": write_json,
    ".parquet": write_parquet,
    ".xlsx": lambda file, table: write_xlsx(file, [table]),
}
PREVIEW_ROWS: Final = 5
LONGEST_PREVIEW_CELL: Final = 200
LONGEST_TITLE: Final = 200


class QueryParams(Params):
    """The statement and where its rows go. Every other name is a parameter of the statement, as those in `params`."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    source: str | None = Field(default=None, description="Name of a configured source; needed where there are several")
    sql: str | None = Field(
        default=None,
        validation_alias=AliasChoices("sql", "query"),
        description="One SELECT; :name stands for a parameter. The procedure's SQL block by default",
    )
    params: dict[str, Any] = Field(
        default={},
        validation_alias=AliasChoices("params", "parameters"),
        description="What the statement's :names stand for; they are bound, never pasted in",
    )
    format: str | None = Field(default=None, description="csv (default), xlsx, json or parquet")
    max_rows: int | None = Field(default=None, ge=1, description="More rows than this are an error")
    output: OutputParams | None = Field(default=None, description="format, path, filename_pattern, summary")


class Query(Executor[QueryParams]):
    """Runs one statement on one of the owner's sources, read only, and writes its rows; names reach it, never paths.

    The owner must not list the queue's own database among `sources`.
    """

    name: ClassVar[str] = "query"
    description: ClassVar[str] = (
        "Runs one SQL statement that reads, on a named source; writes csv, xlsx, json or parquet."
    )
    params = QueryParams

    def __init__(
        self, sources: Mapping[str, Source], *, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._sources = dict(sources)
        self._most_rows = most_rows
        self._most_bytes = most_bytes

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources that may be read, by name."""
        return self._sources

    async def preflight(self) -> str | None:
        """Why no source can be read; one that can is enough."""
        return await lacking(self._sources)

    async def run(self, params: QueryParams, run: Run) -> Outcome:
        """Write the rows, or say in a line why not."""
        try:
            query = self._prepared(params, run)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        outcome = await visited(run, query.reader, query.carry_out, query.so_far)
        if query.rows:
            run.log(f"{query.source}: {query.rows:,} rows\n")
        return outcome

    def _prepared(self, params: QueryParams, run: Run) -> _Query:
        name = one_of(self._sources, params.source or (run.procedure.source if run.procedure else None))
        source = self._sources[name]
        sql = _statement(params, run)
        values = _values(params, run, source, sql)
        if source.takes_sql and not sql.strip():
            raise InvalidInput("there is no statement; give it as sql")
        wanted = output(_asked(params), OutputParams, run)
        path = place(wanted, USUAL, run, values)
        known = {"due_date": run.due_date.isoformat(), "task_id": run.task_id} | values
        paths.fill(wanted.summary or "", known | {"rows": 0})  # before the work, not after it
        most_rows = min(params.max_rows or self._most_rows, self._most_rows)
        seconds = run.timeout_seconds or (run.procedure and run.procedure.timeout_seconds) or SECONDS
        reader = source.open(seconds=seconds, most_rows=most_rows)
        return _Query(
            name, sql, known, reader, path, wanted.summary or "", run.title, run.outputs, most_bytes=self._most_bytes
        )


@dataclass(slots=True)
class _Query:
    """One query under way, on a worker thread."""

    source: str
    sql: str
    values: Mapping[str, Any]
    reader: Reader
    path: str
    summary: str
    title: str
    outputs: OutputFolder
    most_bytes: int
    columns: list[str] = field(default_factory=list)
    rows: int = 0
    preview: list[dict[str, Any]] = field(default_factory=list)

    def so_far(self) -> str:
        """How far it is, in a line."""
        return f"Reading {self.source}" + (f": {self.rows:,} rows" if self.rows else "")

    def carry_out(self) -> Outcome:
        try:
            with self.reader.opened():
                self.reader.check(self.sql, self.values)
                names, rows = self.reader.read(self.sql, self.values)
                self.columns = unique(names)
                first = list(islice(rows, PREVIEW_ROWS))  # before the file: most of what fails does so here
                self.preview = [dict(zip(self.columns, map(_short, row), strict=True)) for row in first]
                written = self.outputs.write(self.path, partial(self._write, rows=chain(first, rows)))
        except Halted:
            return Returned(None, "stopped before the query was over")
        except ReadFailed as error:
            return Failed(f"source {self.source}: {error}", permanent=not error.passing)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        except OSError as error:
            return Failed(f"the result could not be written: {(error.strerror or 'disk error').lower()}")
        return self._completed(written)

    def _write(self, file: BinaryIO, rows: Iterable[Sequence[Any]]) -> None:
        at_its_end = self.path.endswith((".xlsx", ".parquet"))
        rows = self._passing(rows, None if at_its_end else file)
        WRITERS[PurePosixPath(self.path).suffix](file, Table(PurePosixPath(self.path).stem, self.columns, rows))
        self._bounded(file.tell())
        self.reader.wanted()

    def _passing(self, rows: Iterable[Sequence[Any]], file: BinaryIO | None) -> Iterator[Sequence[Any]]:
        """The rows, counted, as long as they fit; what is written at its end has its texts counted."""

        def bounded() -> Iterator[list[Sequence[Any]]]:
            characters = 0
            for batch in batches(rows):
                self.rows += len(batch)
                characters += 0 if file else sum(map(width, batch))
                self._bounded(file.tell() if file else characters)
                yield batch

        return chain.from_iterable(bounded())

    def _bounded(self, size: int) -> None:
        if size > self.most_bytes:
            raise ReadFailed(f"more than {self.most_bytes:,} bytes after {self.rows:,} rows; narrow the query")

    def _completed(self, file: WrittenFile) -> Completed:
        about = paths.fill(self.summary, {**self.values, "rows": self.rows}) if self.summary else self.title
        plural = "row" if self.rows == 1 else "rows"
        return Completed(
            summary=f"{about[:LONGEST_TITLE]}; wrote {file.path} ({self.rows:,} {plural})",
            path=file.path,
            data={
                "rows": self.rows,
                "columns": self.columns,
                "preview": self.preview,
                "source": self.source,
                "artifacts": [asdict(file)],
            },
            artifacts=(file.path,),
        )


def _statement(params: QueryParams, run: Run) -> str:
    blocks = run.procedure.sql_blocks if run.procedure else ()
    if params.sql is not None:
        return params.sql
    if len(blocks) > 1:
        raise InvalidInput(
            f"{run.procedure.path if run.procedure else ''} has {len(blocks)} SQL blocks; a query is one"
        )
    return blocks[0].sql if blocks else ""


def _values(params: QueryParams, run: Run, source: Source, sql: str) -> dict[str, Any]:
    """What the statement's names stand for; a name that nobody knows is a mistake, and often a misspelled option."""
    more = params.model_extra or {}
    given = {**more, **params.params}
    if run.procedure is not None:
        return fill_params(run.procedure, given)
    if unknown := [name for name in more if not source.uses(name, sql)]:
        takes = ", ".join(QueryParams.model_fields)
        raise InvalidInput(
            f"{unknown[0][:80]!a} is neither an option nor a :name of the statement; options are {takes}"
        )
    return given


def _asked(params: QueryParams) -> OutputParams | None:
    """The output asked for; `format` beside it is a short way to say the format."""
    if params.format is None:
        return params.output
    return (params.output or OutputParams()).model_copy(update={"format": params.format})


def _short(cell: Any) -> Any:
    value = simple(cell)
    if isinstance(value, str) and len(value) > LONGEST_PREVIEW_CELL:
        return f"{value[: LONGEST_PREVIEW_CELL - 1]}…"
    return value
