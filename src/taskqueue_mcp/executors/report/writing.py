"""One report under way, on a thread: read once, checked before anything is written, all of its files or none."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.executors.report import composing, workbooks
from taskqueue_mcp.executors.report.asking import DOCUMENTS, STREAMED
from taskqueue_mcp.executors.report.gathering import by_name, gathered, wanted_sums
from taskqueue_mcp.executors.sources.reading import Halted, ReadFailed
from taskqueue_mcp.model import Completed, Failed, Returned
from taskqueue_mcp.outputs import paths
from taskqueue_mcp.outputs.documents import rendering
from taskqueue_mcp.outputs.documents.pdf import PdfTimedOut, pdf
from taskqueue_mcp.outputs.documents.rendering import Template
from taskqueue_mcp.outputs.tables import Table, unique, write_csv, write_json, write_xlsx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.report.gathering import Gathered
    from taskqueue_mcp.executors.sources.reading import Reader
    from taskqueue_mcp.model import Outcome
    from taskqueue_mcp.outputs.documents.document import Document
    from taskqueue_mcp.outputs.folder import WrittenFile
    from taskqueue_mcp.outputs.summary import Summary
    from taskqueue_mcp.procedures.parsing import Procedure, SqlBlock

    Writer = Callable[[BinaryIO], object]

MOST_ROWS: Final[Mapping[str, int]] = {"html": 5_000, "md": 5_000, "pdf": 500}
"""Rows of a sheet that a document shows where its layout does not say."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What is to be written, and what has become of it; `until` is monotonic."""

    run: Run
    procedure: Procedure
    source: str
    reader: Reader
    values: Mapping[str, Any]
    stem: str
    formats: Sequence[str]
    summary: str | None
    subtitle: str
    until: float
    sheets: list[Gathered] = field(default_factory=list)
    place: str = ""
    wrote: list[tuple[str, list[Gathered]]] = field(default_factory=list)

    def carry_out(self) -> Outcome:
        """Read, then write; every way this can go wrong is one line."""
        self.place = f"source {self.source}"
        try:
            self._check_templates()
            with self.reader.opened():
                self._check()
                if len(self.formats) == 1 and self.formats[0] in STREAMED:
                    files = self.run.outputs.write_all(self._streamed(self.formats[0], self._tables()))
                else:
                    self._read()
                    files = self.run.outputs.write_all(self._all())
        except Halted:
            return Returned(None, "stopped before it was over")
        except ReadFailed as error:
            return Failed(f"{self.place}: {error}", permanent=not error.passing)
        except TaskQueueError as error:
            where = "" if isinstance(error, rendering.TemplateFailed) else f"{self.place}: "
            return Failed(f"{where}{error}", permanent=not isinstance(error, PdfTimedOut))
        except OSError as error:
            return Failed(f"the report could not be written: {(error.strerror or 'disk error').lower()}")
        return self._completed(files)

    def told(self) -> str:
        """How far it is."""
        count = sum(sheet.count for sheet in self.sheets)
        return f"Reading {self.source}{f': {count:,} rows' if count else ''}"

    # Reading.

    def _check(self) -> None:
        """All blocks before the first is run: a fault in the second must not leave the first one's file."""
        for block in self.procedure.sql_blocks:
            self._go_to(block)
            self.reader.check(block.sql, self.values)

    def _tables(self) -> Iterator[Table]:
        """The sheets as they are read; each must be used up before the next."""
        for number, block in enumerate(self.procedure.sql_blocks, 1):
            self._go_to(block)
            columns, rows = self.reader.read(block.sql, self.values)
            sheet = self._sheet(number, block, unique(columns))
            yield Table(sheet.name, sheet.columns, sheet.passing(rows), self._numbers(sheet))

    def _read(self) -> None:
        """Read everything, and lay the rows aside where a format holds all of them."""
        lays_aside = any(each in STREAMED for each in self.formats)
        for number, block in enumerate(self.procedure.sql_blocks, 1):
            self._go_to(block)
            columns, rows = self.reader.read(block.sql, self.values)
            sheet = self._sheet(number, block, unique(columns))
            if lays_aside:
                sheet.lay_aside(rows, self.run.directory / f"rows-{secrets.token_hex(8)}")
            else:
                for _ in sheet.passing(rows):
                    pass
        self.place = self.procedure.path

    def _sheet(self, number: int, block: SqlBlock, columns: list[str]) -> Gathered:
        stem = PurePosixPath(self.procedure.path).stem
        name = block.sheet or (stem if len(self.procedure.sql_blocks) == 1 else f"{stem}_{number}")
        layout = self.procedure.report
        asked = by_name(layout.sheets, name) if layout else None
        shown = [
            (asked.most_rows if asked and asked.most_rows is not None else MOST_ROWS[each])
            for each in self.formats
            if each in DOCUMENTS
        ]
        points = composing.MOST_POINTS if shown else 0
        sums = wanted_sums(layout, name, columns, is_first=number == 1)
        self.sheets.append(gathered(name, columns, max([points, *shown]), sums))
        return self.sheets[-1]

    def _go_to(self, block: SqlBlock) -> None:
        self.place = f"{self.procedure.path}, SQL of line {block.line}, on source {self.source}"

    # Writing.

    def _all(self) -> Iterator[tuple[str, Writer]]:
        for each in self.formats:
            if each in STREAMED:
                tables = (
                    Table(sheet.name, sheet.columns, sheet.again(), self._numbers(sheet)) for sheet in self.sheets
                )
                yield from self._streamed(each, tables)
            else:
                self.wrote.append((f"{self.stem}.{each}", []))
                yield f"{self.stem}.{each}", self._guarded(partial(self._write_document, each))

    def _streamed(self, file_format: str, tables: Iterator[Table]) -> Iterator[tuple[str, Writer]]:
        path = f"{self.stem}.{file_format}"
        if file_format == "xlsx":
            self.wrote.append((path, self.sheets))
            yield path, self._guarded(lambda file: write_xlsx(file, tables, self._summary))
            return
        write = write_csv if file_format == "csv" else write_json
        for number, table in enumerate(tables):
            own = self._path_of(path, table)
            self.wrote.append((own, self.sheets[number : number + 1]))
            yield own, self._guarded(partial(write, table=table))

    def _numbers(self, sheet: Gathered) -> dict[str, str]:
        return workbooks.numbers(sheet.name, self.procedure.report)

    def _summary(self) -> Summary | None:
        return workbooks.summary(self.sheets, self.procedure.report, self.procedure.title, self.subtitle)

    def _path_of(self, path: str, table: Table) -> str:
        """A file for each block where the format has no sheets."""
        if len(self.procedure.sql_blocks) == 1:
            return path
        whole = PurePosixPath(path)
        return str(whole.with_name(paths.clean(f"{whole.stem}_{table.name}{whole.suffix}")))

    def _guarded(self, write: Writer) -> Writer:
        """A file that is ready when nobody wants it any more does not appear."""

        def write_if_wanted(file: BinaryIO) -> None:
            write(file)
            self.reader.wanted()

        return write_if_wanted

    def _write_document(self, file_format: str, file: BinaryIO) -> None:
        document = self._document(MOST_ROWS[file_format])
        wanted = self.reader.wanted
        template = self._template("md" if file_format == "md" else "html")
        if file_format == "md":
            file.write(rendering.md(document, template, wanted=wanted).encode(errors="replace"))
            return
        page = rendering.html(document, template, paper=file_format == "pdf", wanted=wanted)
        if file_format == "pdf":
            file.write(pdf(page, seconds=max(1.0, self.until - time.monotonic()), wanted=wanted))
        else:
            file.write(page.encode(errors="replace"))

    def _template(self, kind: str) -> Template | None:
        block = next((block for block in self.procedure.templates if block.kind == kind), None)
        return None if block is None else Template(block.text, block.line, self.procedure.path)

    def _check_templates(self) -> None:
        for kind in {"md" if each == "md" else "html" for each in self.formats if each in DOCUMENTS}:
            if template := self._template(kind):
                rendering.check(template, kind)

    def _document(self, most_rows: int) -> Document:
        procedure, run = self.procedure, self.run
        made = f"{run.now.astimezone(run.zone):%Y-%m-%d %H:%M} ({run.zone}) by T-{run.task_id}, attempt {run.attempt}"
        params = {name: value for name, value in self.values.items() if name not in {"due_date", "task_id"}}
        facts = [("Procedure", f"{procedure.path} ({procedure.sha256[:12]})"), ("Source", self.source)]
        given = ", ".join(f"{name} = {_told(value)}" for name, value in params.items() if value is not None)
        facts += [("Parameters", given)] if given else []
        return composing.document(
            self.sheets,
            procedure.report,
            most_rows=most_rows,
            title=procedure.title,
            subtitle=self.subtitle,
            description=procedure.description,
            facts=[*facts, ("Made", made)],
            values={
                "params": params,
                "due_date": run.due_date.isoformat(),
                "task_id": f"T-{run.task_id}",
                "source": self.source,
                "made": made,
            },
        )

    # What came of it.

    def _completed(self, files: list[WrittenFile]) -> Completed:
        first = self.sheets[0]
        data: dict[str, Any] = {
            "rows": first.count,
            "columns": first.columns,
            "preview": first.preview,
            "artifacts": [asdict(file) for file in files],
        }
        if len(self.sheets) > 1:
            data["sheets"] = [
                {"name": sheet.name, "rows": sheet.count, "columns": sheet.columns} for sheet in self.sheets
            ]
        if found := composing.figures(self.sheets, self.procedure.report):
            data["figures"] = {each.title: each.value for each in found}
        wrote = ", ".join(
            f"{file.path} ({' + '.join(str(sheet.count) for sheet in sheets)} rows)" if sheets else file.path
            for file, (_, sheets) in zip(files, self.wrote, strict=True)
        )
        title = self.procedure.title
        about = paths.fill(self.summary, {**self.values, "rows": first.count}) if self.summary else title
        return Completed(
            summary=f"{about}; wrote {wrote}",
            path=files[0].path,
            data=data,
            artifacts=tuple(file.path for file in files),
        )


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
