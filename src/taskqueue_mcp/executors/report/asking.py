"""What is asked of a report: which formats, where to and under what name; the task's word over the procedure's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, Field, model_validator

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors import placing
from taskqueue_mcp.executors.base import Params
from taskqueue_mcp.executors.placing import OutputParams, Usual

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


class ReportOutput(OutputParams):
    """Where and how the report is written; what is left out comes from the task, then the procedure."""

    format: str | None = Field(default=None, description=f"{', '.join(FORMATS)}; or several of them with commas")
    formats: tuple[str, ...] = Field(default=(), description="The same as a list")

    @model_validator(mode="before")
    @classmethod
    def _read_formats(cls, value: Any) -> Any:
        return _several(value)

    @classmethod
    def said(cls, layer: Mapping[str, Any]) -> dict[str, Any]:
        """What one layer says; its formats take the place of those of the layers below."""
        filled = {name: value for name, value in layer.items() if value not in ((), [])}
        given: dict[str, Any] = _several(super().said(_several(filled)))
        return given


class ReportParams(Params):
    """`source` and `output` are the executor's own; every other name is a parameter of the procedure.

    Which those are only the procedure knows, so they are let through here and checked against it when it
    runs: types and required ones always, unknown ones where the procedure says `params_strict`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    source: str | None = Field(default=None, description="Name of a configured source")
    output: ReportOutput | None = None


def output(params: ReportParams, run: Run) -> ReportOutput:
    """What is asked for, field by field: by the parameters, else by the task's own output, else by the procedure's.

    Raises:
        InvalidInput: it is no output, or a format that no report is written as.
    """
    found = placing.output(params.output, ReportOutput, run)
    for each in found.formats:
        if each not in FORMATS:
            raise InvalidInput(f"a report is written as {', '.join(FORMATS)}, not as {each[:20]!a}")
    return found


def stem(asked: ReportOutput, run: Run, procedure: Procedure, values: Mapping[str, Any]) -> str:
    """The path of the report without its extension, relative to the output folder.

    Raises:
        InvalidInput: it would leave the folder, or names an unknown placeholder.
    """
    usual = Usual(formats=FORMATS, folder=FOLDER, pattern=f"{PurePosixPath(procedure.path).stem}_{{date}}")
    return placing.place(asked, usual, run, values).rpartition(".")[0]
