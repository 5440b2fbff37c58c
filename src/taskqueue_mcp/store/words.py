"""Words: what a text is found by, the same on both engines."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+", re.UNICODE)
SHORTEST_PREFIX = 3
"""A last word of so many letters also finds longer words; SQLite's index keeps prefixes of this length."""
LONGEST = 500
"""Characters of a word that PostgreSQL keeps; a lexeme has at most 2,046 bytes."""


def of_query(search: str) -> tuple[list[str], bool]:
    """Return the words of a search, all of which a text must have, and whether the last may be the start of one."""
    found = WORD.findall(unicodedata.normalize("NFC", search))
    prefix = bool(found) and (search.rstrip().endswith("*") or len(found[-1]) >= SHORTEST_PREFIX)
    return found, prefix


def of_text(text: str) -> list[str]:
    """Return the different words of a text: small, and without diacritics."""
    return sorted({_plain(word)[:LONGEST] for word in WORD.findall(unicodedata.normalize("NFC", text))})


def as_one_text(text: str) -> str:
    """Return those words as FTS5 takes them: its own tokenizer keeps some diacritics."""
    return " ".join(of_text(text))


def match_in_sqlite(found: Sequence[str], prefix: bool) -> str:  # noqa: FBT001 - a field of the dialect
    """Return the FTS5 query."""
    return " ".join(f'"{_plain(word)[:LONGEST]}"' for word in found) + (" *" if prefix else "")


def match_in_postgres(found: Sequence[str], prefix: bool) -> str:  # noqa: FBT001 - a field of the dialect
    """Return the text of a `tsquery`; words are letters and digits, so nothing in them needs to be escaped."""
    return " & ".join(f"'{_plain(word)[:LONGEST]}'" for word in found) + (":*" if prefix else "")


def _plain(word: str) -> str:
    bare = "".join(sign for sign in unicodedata.normalize("NFD", word) if not unicodedata.combining(sign))
    return unicodedata.normalize("NFC", bare).casefold()
