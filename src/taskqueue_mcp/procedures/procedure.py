"""What a procedure is once its file was read: frozen, and all that the rest of the program knows of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

if TYPE_CHECKING:
    from taskqueue_mcp.procedures.layout import Layout

Format = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9]{1,10}$")]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter a procedure declares; `type` None takes anything."""

    name: str
    default: Any = None
    description: str = ""
    required: bool = False
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """The file a procedure asks for. `summary` says what its rows are: "{rows} products below …".

    `formats` are all of them where one run writes several; `format` is then the first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: Format | None = None
    path: str | None = None
    filename_pattern: str | None = None
    summary: str | None = None
    formats: Annotated[tuple[Format, ...], Field(max_length=8)] = ()


@dataclass(frozen=True, slots=True)
class SqlBlock:
    """A fenced block of SQL; `line` is where it starts in the file, counted from 1."""

    sql: str
    sheet: str | None
    line: int


@dataclass(frozen=True, slots=True)
class TemplateBlock:
    """A fenced block of Jinja; `kind` is `html` or `md`, `line` where it starts in the file, counted from 1."""

    text: str
    kind: str
    line: int


@dataclass(frozen=True, slots=True)
class Procedure:
    """One procedure, as its file says; `path` is relative to the folder, `sha256` is of `text` in UTF-8."""

    path: str
    title: str
    text: str
    body: str
    sha256: str
    description: str = ""
    task_type: str | None = None
    executor: str | None = None
    params: tuple[Param, ...] = ()
    params_strict: bool = False
    output: Output | None = None
    outputs: tuple[Any, ...] = ()
    tools: tuple[str, ...] = ()
    budget_usd: float | None = None
    timeout_seconds: int | None = None
    source: str | None = None
    report: Layout | None = None
    sql_blocks: tuple[SqlBlock, ...] = ()
    templates: tuple[TemplateBlock, ...] = ()
