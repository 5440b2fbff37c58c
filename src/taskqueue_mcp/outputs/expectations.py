"""What a task must produce, as it declares it: checked when the task is created, so that no attempt pays for a typo."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs.paths import DEEPEST

MOST_EXPECTATIONS: Final = 20
FORMATS: Final = ("csv", "html", "json", "md", "parquet", "pdf", "svg", "txt", "xlsx")
TABLES: Final = frozenset({"csv", "json", "parquet", "xlsx"})
"""Formats that have rows."""

_AGE: Final = re.compile(r"(\d{1,6})\s*(s|m|h|d)[a-z]*", re.IGNORECASE)
_UNIT: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$"


def _age(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    read = _AGE.fullmatch(value.strip())
    if read is None:
        raise ValueError(f"{value[:40]!a} is not a length of time; write seconds or such as 2h")
    return int(read[1]) * _UNIT[read[2].lower()]


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=4_000)], ...], Field(max_length=100)]


class Expectation(BaseModel):
    """One thing that has to be there when a task is said to be done.

    `path` is a pattern below the output folder (`*`, `?`, and `{date}`, `{task_id}` or a parameter of the task);
    without it, what is asked of rows and schema is asked of `result_data`. `sql` is a SELECT over the table `rows`
    whose first value must be true. `check` names a command of the owner's settings. `changed` are files that have
    to differ from what they were when the attempt began. `max_age` is in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    path: str | None = None
    format: Annotated[Literal[FORMATS] | None, BeforeValidator(_lower)] = None  # type: ignore[valid-type]  # of the tuple
    sheet: Annotated[str, Field(min_length=1, max_length=31)] | None = None
    min_rows: Annotated[int, Field(ge=0)] | None = None
    columns: Annotated[Words, BeforeValidator(_several)] = ()
    no_empty_cells: bool | Words = False
    json_schema: dict[str, Any] | None = None
    max_age: Annotated[int, Field(ge=1), BeforeValidator(_age)] | None = None
    sql: Annotated[Words, BeforeValidator(_several)] = ()
    check: Annotated[str, Field(pattern=_NAME)] | None = None
    changed: Annotated[Words, BeforeValidator(_several)] = ()

    @property
    def looks_into(self) -> bool:
        """Whether rows or a document have to be read for it."""
        return bool(
            self.min_rows is not None or self.columns or self.no_empty_cells or self.json_schema is not None or self.sql
        )

    @property
    def is_of_data(self) -> bool:
        """Whether it is about `result_data`."""
        return self.path is None and self.looks_into

    @model_validator(mode="after")
    def _holds_together(self) -> Expectation:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("says nothing; give a path, changed, check, or what result_data must look like")
        for name, pattern in (("path", self.path), *(("changed", each) for each in self.changed)):
            if pattern is not None:
                _check_pattern(name, pattern)
        if self.path is None and (self.format or self.sheet or self.max_age):
            raise ValueError("format, sheet and max_age are about a file; give its path too")
        if self.path is not None:
            self._check_format(self.format or extension(self.path))
        for statement in self.sql:
            if not re.match(r"\s*(select|with)\b", statement, re.IGNORECASE):
                raise ValueError("sql: must be a SELECT over the table rows, such as SELECT min(stock) >= 0 FROM rows")
        if self.json_schema is not None:
            _check_schema(self.json_schema)
        return self

    def _check_format(self, form: str | None) -> None:
        if self.looks_into and form is None:
            raise ValueError("format: is not said and the path does not show it; give one that has rows")
        rowless = self.looks_into and form not in TABLES
        if rowless:
            raise ValueError(
                f"a {form} has no rows; min_rows, columns, no_empty_cells, json_schema and sql need a table"
            )
        if self.sheet is not None and form != "xlsx":
            raise ValueError("sheet: only xlsx has sheets")


def read(value: Any, *, what: str = "outputs") -> tuple[Expectation, ...]:
    """Return what is declared; `what` names it where it is wrong. None is nothing.

    Raises:
        InvalidInput: one line with every fault, and the keys there are.
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidInput(f'{what}: must be a list such as [{{"path": "reports/*.csv", "min_rows": 1}}]')
    if len(value) > MOST_EXPECTATIONS:
        raise InvalidInput(f"{what}: {len(value)} given; at most {MOST_EXPECTATIONS} are checked")
    found: list[Expectation] = []
    faults: list[str] = []
    for number, each in enumerate(value):
        try:
            found.append(Expectation.model_validate(each))
        except ValidationError as error:
            faults += [f"{what}[{number}]{_in_words(fault)}" for fault in error.errors(include_url=False)]
    if faults:
        raise InvalidInput(f"{'; '.join(faults)}. Keys: {', '.join(Expectation.model_fields)}")
    return tuple(found)


def checkable(value: Any) -> Any:
    """Return what a procedure declares without its plain lines: those are for whoever reads it."""
    return [each for each in value if not isinstance(each, str)] if isinstance(value, list | tuple) else value


def write(found: tuple[Expectation, ...]) -> list[dict[str, Any]]:
    """Return what is declared as plain JSON, without what was not asked for."""
    return [each.model_dump(mode="json", exclude_defaults=True) for each in found]


def extension(path: str) -> str | None:
    """Return the format that a path's extension stands for, or None."""
    found = path.rpartition(".")[2].lower()
    found = {"htm": "html", "markdown": "md"}.get(found, found)
    return found if found in FORMATS else None


def _check_pattern(name: str, pattern: str) -> None:
    parts = pattern.split("/")
    if set(pattern) & set("\\:\0") or pattern.startswith("~") or {"", ".", ".."} & set(parts):
        raise ValueError(
            f"{name}: {pattern[:80]!a} must be relative to the folder, written with / and without two dots"
        )
    if len(parts) > DEEPEST or "**" in pattern:
        raise ValueError(f"{name}: {pattern[:80]!a} reaches too deep; name the folders, at most {DEEPEST} of them")
    if "{" in (rest := _PLACEHOLDER.sub("", pattern)) or "}" in rest:
        raise ValueError(f"{name}: a brace stands alone in {pattern[:80]!a}; write placeholders as {{date}}")


def _check_schema(schema: dict[str, Any]) -> None:
    import jsonschema  # noqa: PLC0415 - takes a tenth of a second, and few tasks have a schema

    try:
        jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"json_schema: is no JSON schema ({error.message[:120]})") from None
    if foreign := next(_references(schema), None):
        raise ValueError(
            f"json_schema: {foreign[:80]!a} is fetched from nowhere; only references within it (#…) are followed"
        )


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(item, str) and not item.startswith("#"):
                yield item
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _in_words(fault: Any) -> str:
    place = "".join(f".{part}" for part in fault["loc"] if not isinstance(part, int) and "[" not in str(part))[:80]
    place = place if place.isprintable() else ascii(place)
    if fault["type"] == "extra_forbidden":
        return f"{place} is unknown"
    if fault["type"] == "model_type":
        return ': must be an object such as {"path": "reports/*.csv"}'
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"{place}: {text[:1].lower()}{text[1:]}"
