"""Kinds of values that settings are made of."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def words(value: Any) -> Any:
    """Read a list from words with commas between them, or from JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [word.strip() for word in value.split(",") if word.strip()]


Words = Annotated[list[str], NoDecode, BeforeValidator(words)]
