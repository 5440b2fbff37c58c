"""What pydantic found wrong with a front matter, in words that name the key."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError


def in_words(error: ValidationError, model: type[BaseModel], within: str = "") -> Iterator[str]:
    """Yield a line for each fault; an unknown key is told with those that its place may have."""
    for fault in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in fault["loc"])[:80]
        place = place if place.isprintable() else ascii(place)
        if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            allowed = ", ".join(_keys(_model_at(model, fault["loc"][:-1])))
            yield f"unknown key {within}{place}; allowed are {allowed}"
        else:
            text = fault["msg"].removeprefix("Value error, ")
            yield f"{within}{place}: {text[:1].lower()}{text[1:]}"


def _model_at(model: Any, place: Sequence[int | str]) -> Any:
    """Return what stands at `place` below `model`; names of sheets and numbers of charts lead no deeper."""
    for part in place:
        hints = {name: field.annotation for name, field in getattr(model, "model_fields", {}).items()}
        if part in hints:
            model = next(_models_in(hints[str(part)]), model)
    return model


def _models_in(annotation: Any) -> Iterator[Any]:
    if is_dataclass(annotation) or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _keys(model: Any) -> list[str]:
    return [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)
