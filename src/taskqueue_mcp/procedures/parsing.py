"""What a procedure's file says: front matter, params, SQL blocks. Pure: text in, a `Procedure` or its faults out."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import yaml  # type: ignore[import-untyped]  # python-frontmatter's parser; its stubs are not a dependency
from frontmatter.default_handlers import YAMLHandler
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.procedures.references import LARGEST, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST_FRONT_MATTER: Final = 32 * 1024
DEEPEST: Final = 32

Kind = Literal["string", "integer", "number", "boolean", "array", "object", "date"]
TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "date": (str,),
}


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
    """The file a procedure asks for. `summary` says what its rows are: "{rows} products below …"."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9]{1,10}$")] | None = None
    path: str | None = None
    filename_pattern: str | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class SqlBlock:
    """A fenced block of SQL; `line` is where it starts in the file, counted from 1."""

    sql: str
    sheet: str | None
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
    sql_blocks: tuple[SqlBlock, ...] = ()


def parse(path: str, text: str) -> Procedure:
    """Take a procedure's text apart; pure, so that a worker can do it with the text that came with its claim.

    Raises:
        InvalidInput: all faults of the text in one line, the path first.
    """
    path = tidy(path)
    faults: list[str] = []
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{path}: holds half a surrogate pair; save it as UTF-8") from None
    if len(data) > LARGEST or "\0" in text:
        why = "holds a NUL character" if "\0" in text else f"has {len(data):,} bytes; {LARGEST:,} are allowed"
        raise InvalidInput(f"{path}: {why}")
    raw, body, body_line = _split(path, text)
    blocks = _sql_blocks(body, body_line, faults)
    raw.setdefault("title", _first_heading(body))
    front = _validated(raw, faults)
    params = () if front is None else tuple(_params(front.params, faults))
    if faults or front is None:
        raise InvalidInput(f"{path}: {'; '.join(faults)}")
    return Procedure(
        path=path,
        text=text,
        body=body,
        sha256=hashlib.sha256(data).hexdigest(),
        params=params,
        output=front.output,
        outputs=tuple(front.outputs),
        tools=tuple(front.tools),
        sql_blocks=blocks,
        **front.model_dump(exclude={"params", "output", "outputs", "tools"}),
    )


def fill_params(procedure: Procedure, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the procedure's defaults under it. A null counts as not given.

    Raises:
        InvalidInput: one is missing, has the wrong type, or is unknown to a procedure with `params_strict`.
    """
    filled = {param.name: copy.deepcopy(param.default) for param in procedure.params}
    if unknown := [name for name in given if name not in filled and procedure.params_strict]:
        takes = ", ".join(filled) or "none"
        raise InvalidInput(f"{procedure.path} has no parameter {unknown[0][:80]!a}; it takes {takes}")
    filled |= {name: value for name, value in given.items() if value is not None}
    for param in procedure.params:
        value = filled[param.name]
        if value is None and param.required:
            about = f" ({param.description})" if param.description else ""
            raise InvalidInput(f"{procedure.path} needs the parameter {param.name}{about}; give it in params")
        if not _fits(value, param.type):
            raise InvalidInput(f"{procedure.path}: the parameter {param.name} must be {_article(param.type)}")
    return filled


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ParamFields(_Strict):
    default: JsonValue = None
    description: str = ""
    required: bool = False
    type: Kind | None = None


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


class _FrontMatter(_Strict):
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    task_type: str | None = None
    description: str = ""
    params: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], JsonValue] = {}
    params_strict: bool = False
    outputs: list[JsonValue] = []
    output: Output | None = None
    tools: Annotated[list[str], BeforeValidator(_words)] = []
    budget_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] | None = None
    executor: str | None = None
    source: str | None = None


class _PlainYaml(yaml.SafeLoader):  # type: ignore[misc]  # the base has no types
    """Safe YAML without aliases (they multiply), repeated keys or deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self._refuse("aliases (*name) are not read", self.peek_event().start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            self._refuse(f"nested deeper than {DEEPEST}", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: Any = False) -> Any:  # noqa: FBT002 - PyYAML's signature
        keys = [key.value for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if key.value in keys[:number]:
                self._refuse(f"the key {key.value!a} stands twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)

    @staticmethod
    def _refuse(problem: str, mark: Any) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _split(path: str, text: str) -> tuple[dict[str, Any], str, int]:
    """Front matter, body, and the line of the file on which the body starts."""
    stripped = text.removeprefix("\ufeff").strip()
    handler = YAMLHandler()
    if not handler.detect(stripped):
        return {}, stripped, _line_of(text, stripped)
    try:
        front, body = handler.split(stripped)
    except ValueError:
        raise InvalidInput(f"{path}: the front matter has no end; close it with a line ---") from None
    if len(front) > LARGEST_FRONT_MATTER:
        raise InvalidInput(f"{path}: the front matter is over {LARGEST_FRONT_MATTER:,} characters; use the body")
    try:
        raw = _plain(handler.load(front, Loader=_PlainYaml))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        line = _line_of(text, front) + getattr(getattr(error, "problem_mark", None), "line", 0)
        why = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise InvalidInput(f"{path}: line {line}: the front matter is not YAML: {why}") from None
    if not isinstance(raw, dict | None):
        raise InvalidInput(f"{path}: the front matter must be `key: value` lines")
    body = body.strip()
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    return given, body, _line_of(text, body)


def _line_of(text: str, part: str) -> int:
    return text.count("\n", 0, max(text.rfind(part), 0)) + 1


def _plain(value: Any) -> Any:
    """What YAML read, as JSON could hold it: it has no dates and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _first_heading(body: str) -> str | None:
    found = re.search(r"^# +(.+?) *#*$", body, re.MULTILINE)
    return found[1] if found else None


def _validated(raw: dict[str, Any], faults: list[str]) -> _FrontMatter | None:
    if raw["title"] is None:
        faults.append("has no title; give one in the front matter or as the first heading")
        raw = raw | {"title": "untitled"}
    try:
        return _FrontMatter.model_validate(raw)
    except ValidationError as error:
        faults.extend(_in_words(error, _FrontMatter))
    return None


def _in_words(error: ValidationError, model: type[BaseModel], within: str = "") -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in fault["loc"])[:80]
        place = place if place.isprintable() else ascii(place)
        if fault["type"] == "extra_forbidden":
            yield f"unknown key {within}{place}; allowed are {', '.join(model.model_fields)}"
        elif fault["type"] == "unexpected_keyword_argument":
            yield f"unknown key {place}; allowed are {', '.join(each.name for each in fields(Output))}"
        else:
            yield f"{within}{place}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"


def _params(raw: Mapping[str, Any], faults: list[str]) -> Iterator[Param]:
    for name, value in raw.items():
        try:
            declared = _ParamFields.model_validate(value if isinstance(value, dict) else {"default": value})
        except ValidationError as error:
            faults.extend(_in_words(error, _ParamFields, f"params.{name}."))
            continue
        if declared.default is not None and declared.required:
            faults.append(f"params.{name}: is required and yet has a default; leave one of them out")
        elif not _fits(declared.default, declared.type):
            faults.append(f"params.{name}: the default must be {_article(declared.type)}")
        yield Param(name, declared.default, declared.description, declared.required, declared.type)


def _fits(value: Any, kind: str | None) -> bool:
    if value is None or kind is None:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "date" and isinstance(value, str):
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
    return isinstance(value, TYPES[kind])


def _article(kind: str | None) -> str:
    words = {"array": "a list", "integer": "a whole number", "string": "text", "object": "a mapping"}
    return words.get(kind or "", "a date such as 2026-11-20" if kind == "date" else f"a {kind}")


_FENCE: Final = re.compile(r"^[ \t]*(?P<fence>`{3,}(?=[^`]*$)|~{3,})[ \t]*(?P<info>.*?)[ \t]*\r?$")
_SETTING: Final = re.compile(r"sheet=(?:\"([^\"]+)\"|(\S+))")


def _sql_blocks(body: str, first_line: int, faults: list[str]) -> tuple[SqlBlock, ...]:
    """Every fenced block whose info string starts with `sql`, closed or not, in order."""
    blocks: list[SqlBlock] = []
    lines: list[str] = []
    fence, info, start = "", "", 0
    for number, line in enumerate(body.split("\n"), first_line):
        found = _FENCE.match(line)
        if not fence and found:
            fence, info, start, lines = found["fence"], found["info"], number, []
        elif found and fence and found["fence"].startswith(fence) and not found["info"]:
            if info.split(" ")[0].lower() == "sql":
                sheet = _SETTING.search(info)
                blocks.append(SqlBlock("\n".join(lines).strip(), sheet and (sheet[1] or sheet[2]), start))
            fence = ""
        else:
            lines.append(line)
    if fence:
        faults.append(f"line {start}: the block opened with {fence} is never closed")
    faults.extend(f"line {block.line}: the SQL block is empty" for block in blocks if not block.sql)
    names = [block.sheet.lower() for block in blocks if block.sheet]
    faults.extend(f"two SQL blocks are called {name}" for name in dict.fromkeys(names) if names.count(name) > 1)
    return tuple(blocks)
