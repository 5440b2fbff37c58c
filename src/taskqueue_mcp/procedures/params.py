"""The parameters of a procedure: how they are declared, and how a task's values fill them."""

from __future__ import annotations

import copy
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.procedures.faults import in_words
from taskqueue_mcp.procedures.procedure import Param

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from taskqueue_mcp.procedures.procedure import Procedure

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


class _ParamFields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    default: JsonValue = None
    description: str = ""
    required: bool = False
    type: Kind | None = None


def declared(raw: Mapping[str, Any], faults: list[str]) -> Iterator[Param]:
    """Yield the parameters of a front matter; what is wrong with one is added to `faults`."""
    for name, value in raw.items():
        try:
            found = _ParamFields.model_validate(value if isinstance(value, dict) else {"default": value})
        except ValidationError as error:
            faults.extend(in_words(error, _ParamFields, f"params.{name}."))
            continue
        if found.default is not None and found.required:
            faults.append(f"params.{name}: is required and yet has a default; leave one of them out")
        elif not _fits(found.default, found.type):
            faults.append(f"params.{name}: the default must be {_article(found.type)}")
        yield Param(name, found.default, found.description, found.required, found.type)


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
