"""What differs between the engines in a statement: a handful of named tokens, rendered once per text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(r"\{(\w+)(?::(\w+):(\w+))?\}")


@dataclass(slots=True)
class Dialect:
    """Renders `{token}` and `{among:column:parameter}` in the one SQL text both engines share.

    `among` is `column IN (the JSON array bound as :parameter)`. A rendered text is remembered, with whether
    it needs the clock.
    """

    words: dict[str, str]
    among: str
    _rendered: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def render(self, sql: str) -> tuple[str, bool]:
        """Return the engine's own text and whether `:now` has to be bound."""
        known = self._rendered.get(sql)
        if known is None:
            known = self._rendered[sql] = (TOKEN.sub(self._word, sql), "{now}" in sql)
        return known

    def _word(self, match: re.Match[str]) -> str:
        token, column, parameter = match.groups()
        if column is not None:
            return self.among.format(column=column, parameter=parameter)
        return self.words[token]


SQLITE = Dialect(
    words={
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "integer": "INTEGER",
        "real": "REAL",
        "table": "STRICT",
        "keyed_table": "STRICT, WITHOUT ROWID",
        "now": ":now",
        "greatest": "max",
        "skip_locked": "",
    },
    among="{column} IN (SELECT value FROM json_each(:{parameter}))",
)
