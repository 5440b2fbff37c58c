"""The front matter of a procedure: plain YAML, and what it may say."""

from __future__ import annotations

import math
from datetime import date
from typing import Annotated, Any, Final

import yaml  # type: ignore[import-untyped]  # python-frontmatter's parser; its stubs are not a dependency
from frontmatter.default_handlers import YAMLHandler
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.procedures.faults import in_words
from taskqueue_mcp.procedures.layout import Layout
from taskqueue_mcp.procedures.procedure import Output

LARGEST_FRONT_MATTER: Final = 32 * 1024
DEEPEST: Final = 32


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _formats(value: object) -> object:
    """`format: [html, xlsx]` is the same as `formats`; the first of several is the format."""
    if not isinstance(value, dict):
        return value
    several = value.get("formats") or (value["format"] if isinstance(value.get("format"), list) else None)
    if not isinstance(several, list) or not several:
        return value
    return {**value, "format": several[0], "formats": list(dict.fromkeys(map(str, several)))}


class FrontMatter(BaseModel):
    """Every key that a front matter may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    task_type: str | None = None
    description: str = ""
    params: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], JsonValue] = {}
    params_strict: bool = False
    outputs: list[JsonValue] = []
    output: Annotated[Output, BeforeValidator(_formats)] | None = None
    tools: Annotated[list[str], BeforeValidator(_words)] = []
    budget_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] | None = None
    executor: str | None = None
    source: str | None = None
    report: Layout | None = None


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


def split(path: str, text: str) -> tuple[dict[str, Any], str, int]:
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


def validated(raw: dict[str, Any], faults: list[str]) -> FrontMatter | None:
    """Return what the front matter says; where it is wrong None, and the faults are added to `faults`."""
    if raw["title"] is None:
        faults.append("has no title; give one in the front matter or as the first heading")
        raw = raw | {"title": "untitled"}
    try:
        return FrontMatter.model_validate(raw)
    except ValidationError as error:
        faults.extend(in_words(error, FrontMatter))
    return None
