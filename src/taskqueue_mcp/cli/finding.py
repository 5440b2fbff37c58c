"""One line of what `doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; `state` is ok, warn or fail, and `do` says what to do where it is not well."""

    check: str
    state: str
    text: str
    do: str = ""
