"""Where a result is written, and how: what the task says over what its procedure says over what is usual."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import Params, validated
from taskqueue_mcp.outputs import paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskqueue_mcp.executors.base import Run


class OutputParams(Params):
    """Where and how a result is written; what is left out comes from the task, then the procedure."""

    format: str | None = Field(default=None, description="csv, xlsx, json …; the extension of the pattern says it too")
    path: str | None = Field(default=None, description="Folder inside the output folder")
    filename_pattern: str | None = Field(default=None, description="Such as Query_{timestamp}.csv")
    summary: str | None = Field(default=None, description="What the rows are: '{rows} products below …'")

    @classmethod
    def said(cls, layer: Mapping[str, Any]) -> dict[str, Any]:
        """What one layer says; one that names a file and no format means the format of that name."""
        given = {name: value for name, value in layer.items() if value is not None and name in cls.model_fields}
        extension = PurePosixPath(str(given.get("filename_pattern", ""))).suffix.lower()
        implied = {"format": extension[1:]} if extension in paths.MEDIA_TYPES else {}
        return implied | given


O = TypeVar("O", bound=OutputParams)  # noqa: E741 - the output's type


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What holds where nobody says anything: the first of `formats`, a folder, and a pattern without extension."""

    formats: Sequence[str]
    folder: str
    pattern: str


def output(asked: O | None, model: type[O], run: Run) -> O:
    """What is asked for, field by field: by the parameters, else by the task's own output, else by the procedure's.

    Raises:
        InvalidInput: the task's output is no object, or a field of it is wrong.
    """
    own = run.task.get("output") or {}
    try:
        own = json.loads(own) if isinstance(own, str) else own
    except ValueError:
        own = None
    if not isinstance(own, Mapping):
        raise InvalidInput('the task\'s output must be a JSON object such as {"format": "csv"}')
    of_procedure = run.procedure.output if run.procedure else None
    layers: list[Mapping[str, Any]] = [
        asdict(of_procedure) if of_procedure else {},
        own,
        asked.model_dump(exclude_unset=True) if asked else {},
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= model.said(layer)
    return validated(model, merged, what="output")


def place(wanted: OutputParams, usual: Usual, run: Run, values: Mapping[str, Any]) -> str:
    """The path of the result inside the output folder; its extension is its format.

    Raises:
        InvalidInput: the format is none of the usual ones, or the path would leave the folder.
    """
    file_format = wanted.format.lower() if wanted.format else usual.formats[0]
    if file_format not in usual.formats:
        raise InvalidInput(f"it is written as {', '.join(usual.formats)}, not as {file_format[:20]!a}")
    pattern = wanted.filename_pattern or usual.pattern
    suffix = PurePosixPath(pattern).suffix
    stem = pattern.removesuffix(suffix) if suffix.lower() in paths.MEDIA_TYPES else pattern
    return paths.resolve(
        wanted.path or usual.folder,
        f"{stem}.{file_format}",
        due_date=run.due_date,
        now=run.now.astimezone(run.zone),
        task_id=run.task_id,
        params=values,
    )
