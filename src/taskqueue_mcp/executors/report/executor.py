"""The report executor: asks what is wanted, has it written on a thread, and ends it when told to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Final

from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.executors.base import Executor
from taskqueue_mcp.executors.report import asking
from taskqueue_mcp.executors.report.asking import ReportParams
from taskqueue_mcp.executors.report.writing import Report as Writing
from taskqueue_mcp.executors.sources.reading import lacking, one_of
from taskqueue_mcp.executors.sources.visiting import visited
from taskqueue_mcp.model import Failed
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.procedures.parsing import fill_params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.sources.reading import Source
    from taskqueue_mcp.model import Outcome

MOST_ROWS: Final = 1_000_000
SECONDS: Final = 300
"""How long a report may take where neither the task nor the procedure says."""


class Report(Executor[ReportParams]):
    """Runs a procedure's SQL blocks on one of the owner's sources; names reach it, never paths.

    The owner must not list the queue's own database among `sources`.
    """

    name: ClassVar[str] = "report"
    description: ClassVar[str] = (
        "Runs the SQL of the task's procedure, read only, on a configured source, and writes what it finds as "
        "xlsx, csv, json, html, pdf or md, with totals, key figures and charts"
    )
    params = ReportParams

    def __init__(self, sources: Mapping[str, Source], *, most_rows: int = MOST_ROWS) -> None:
        self._sources = dict(sources)
        self._most_rows = most_rows

    async def preflight(self) -> str | None:
        """Why no source can be read; one that can is enough."""
        return await lacking(self._sources)

    async def run(self, params: ReportParams, run: Run) -> Outcome:
        """Write the report, or say in a line why not."""
        try:
            report = self._prepared(params, run)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        outcome = await visited(run, report.reader, report.carry_out, report.told)
        for sheet in report.sheets:
            run.log(f"{sheet.name}: {sheet.count:,} rows\n")
        return outcome

    def _prepared(self, params: ReportParams, run: Run) -> Writing:
        procedure = run.procedure
        if procedure is None:
            raise InvalidInput("a report follows a procedure with an SQL block; name one in the task's sop")
        if not procedure.sql_blocks:
            raise InvalidInput(f"{procedure.path} has no SQL block; add one fenced as ```sql")
        source = one_of(self._sources, params.source or procedure.source)
        if not self._sources[source].takes_sql:
            raise InvalidInput(f"source {source} is a tool and takes no SQL; a report reads a database")
        values = fill_params(procedure, params.model_extra or {})
        output = asking.output(params, run)
        stem = asking.stem(output, run, procedure, values)
        known = {"due_date": run.due_date.isoformat(), "task_id": run.task_id} | values
        subtitle = procedure.report.subtitle if procedure.report else None
        paths.fill(output.summary or "", known | {"rows": 0})  # before the work, not after it
        seconds = run.timeout_seconds or procedure.timeout_seconds or SECONDS
        return Writing(
            run=run,
            procedure=procedure,
            source=source,
            reader=self._sources[source].open(seconds=seconds, most_rows=self._most_rows),
            values=known,
            stem=stem,
            formats=output.formats or ("xlsx",),
            summary=output.summary,
            subtitle=paths.fill(subtitle or "", known),
            until=time.monotonic() + seconds,
        )
