"""What is asked of a report: which formats, where to and under what name; the task's word over the procedure's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, Field, model_validator

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import Params, validated
from taskqueue_mcp.outputs import paths

if TYPE_CHECKING:
    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.procedures.parsing import Procedure

STREAMED: Final = ("xlsx", "csv", "json")
"""Formats that hold every row, however many."""
DOCUMENTS: Final = ("html", "pdf", "md")
"""Formats that people read."""
FORMATS: Final = (*STREAMED, *DOCUMENTS)
FOLDER: Final = "Reports"


def _several(value: Any) -> Any:
    """`{"format": ["html", "xlsx"]}`, `{"format": "html, xlsx"}` and `{"formats": […]}` mean the same."""
    if not isinstance(value, Mapping):
        return value
    found = value.get("formats") or value.get("format")
    if isinstance(found, str):
        found = [word.strip() for word in found.split(",") if word.strip()]
    if not isinstance(found, list | tuple) or not found:
        return value
    several = list(dict.fromkeys(str(each).lower() for each in found))
    return {**value, "format": several[0], "formats": several}


class ReportOutput(Params):
    """Where and how the report is written; what is left out comes from the task, then the procedure."""

    format: str | None = Field(default=None, description=f"{', '.join(FORMATS)}; or several of them with commas")
    formats: tuple[str, ...] = Field(default=(), description="The same as a list")
    path: str | None = Field(default=None, description="Folder inside the output folder")
    filename_pattern: str | None = Field(default=None, description="Such as LowStock_{date}.xlsx")
    summary: str | None = Field(default=None, description="What the rows are: '{rows} products below …'")

    @model_validator(mode="before")
    @classmethod
    def _read_formats(cls, value: Any) -> Any:
        return _several(value)


class ReportParams(Params):
    """`source` and `output` are the executor's own; every other name is a parameter of the procedure.

    Which those are only the procedure knows, so they are let through here and checked against it when it
    runs: types and required ones always, unknown ones where the procedure says `params_strict`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    source: str | None = Field(default=None, description="Name of a configured source")
    output: ReportOutput | None = None


def output(params: ReportParams, run: Run, procedure: Procedure) -> ReportOutput:
    """Field by field: from the parameters, else the task's own output, else the procedure's.

    A layer that names a file and no format means the format of that name.

    Raises:
        InvalidInput: it is no output, or a format that no report is written as.
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
        given = _several({name: value for name, value in layer.items() if value not in (None, (), [])})
        extension = PurePosixPath(str(given.get("filename_pattern", ""))).suffix.lower()
        if "format" not in given and extension in paths.MEDIA_TYPES:
            given |= {"format": extension[1:], "formats": [extension[1:]]}
        merged |= given
    found = validated(ReportOutput, merged, what="output")
    for each in found.formats:
        if each not in FORMATS:
            raise InvalidInput(f"a report is written as {', '.join(FORMATS)}, not as {each[:20]!a}")
    return found


def stem(asked: ReportOutput, run: Run, procedure: Procedure, values: Mapping[str, Any]) -> str:
    """The path of the report without its extension, relative to the output folder.

    Raises:
        InvalidInput: it would leave the folder, or names an unknown placeholder.
    """
    pattern = asked.filename_pattern or f"{PurePosixPath(procedure.path).stem}_{{date}}"
    suffix = PurePosixPath(pattern).suffix
    plain = pattern.removesuffix(suffix) if suffix.lower() in paths.MEDIA_TYPES else pattern
    longest = f"{plain}.{max(FORMATS, key=len)}"
    found = paths.resolve(
        asked.path or FOLDER,
        longest,
        due_date=run.due_date,
        now=run.now.astimezone(run.zone),
        task_id=run.task_id,
        params=values,
    )
    return found.rpartition(".")[0]
