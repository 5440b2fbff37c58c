"""How a procedure is named, and how large its file may be."""

from __future__ import annotations

from typing import Final

from taskqueue_mcp.errors import InvalidInput

LARGEST: Final = 256 * 1024
"""Bytes a procedure may have."""
LONGEST_REFERENCE: Final = 300


def tidy(reference: str) -> str:
    """`reference` as a path inside the folder, without a leading `sops/` and with `.md`.

    Raises:
        InvalidInput: it is empty, absolute, climbs out, or holds what no file name may.
    """
    shown = ascii(reference[:80])
    if not reference.strip() or len(reference) > LONGEST_REFERENCE or not reference.isprintable():
        raise InvalidInput(f"{shown} names no procedure; write a path such as inventory/reorder_rules.md")
    if "\\" in reference or ":" in reference or reference.startswith(("/", "~")):
        raise InvalidInput(
            f"{shown} is not a path inside the folder of procedures; write it like inventory/reorder_rules.md"
        )
    parts = reference.removeprefix("./").removeprefix("sops/").split("/")
    if any(part.startswith(".") or part != part.strip() or not part for part in parts):
        raise InvalidInput(f"{shown} leaves the folder of procedures or holds an empty part; write plain names")
    path = "/".join(parts)
    return path if path.endswith(".md") else f"{path}.md"
