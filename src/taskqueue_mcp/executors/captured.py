"""What a command writes: passed on line by line, and its head and tail kept within a bound."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE: Final = 8_192
"""Characters after which a line is passed on before its end."""


class Captured:
    """One stream of bytes. Neither what is kept nor what is passed on exceeds `most_bytes`, roughly."""

    def __init__(self, most_bytes: int, log: Callable[[str], None]) -> None:
        self._half = max(most_bytes // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0
        self._log = log
        self._may_log = most_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._total += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]
        self._pass_on(self._decoder.decode(chunk))

    def close(self) -> None:
        """Pass on what is left of the last line."""
        self._pass_on(self._decoder.decode(b"", final=True))
        if self._line:
            self._say(f"{self._line}\n")
            self._line = ""

    def text(self, most_bytes: int | None = None) -> str:
        """Head and tail, with a line between them that says how much was left out."""
        kept = bytes(self._head + self._tail)
        half = self._half if most_bytes is None else min(most_bytes // 2, self._half)
        if self._total <= 2 * half:
            return kept.decode(errors="replace")
        left_out = self._total - 2 * half
        head, tail = kept[:half].decode(errors="replace"), kept[-half:].decode(errors="replace")
        return f"{head}\n… {left_out:,} bytes left out …\n{tail}"

    def last_lines(self, count: int) -> list[str]:
        """The last lines that are not blank, each cut to a readable length."""
        end = bytes(self._head + self._tail)[-LONGEST_LINE:].decode(errors="replace")
        return [line.rstrip()[:300] for line in end.splitlines() if line.strip()][-count:]

    def _pass_on(self, text: str) -> None:
        self._line += text
        lines, newline, rest = self._line.rpartition("\n")
        if newline:
            self._say(lines + newline)
            self._line = rest
        if len(self._line) > LONGEST_LINE:
            self._say(f"{self._line}\n")
            self._line = ""

    def _say(self, text: str) -> None:
        if self._may_log <= 0:
            return
        self._log(text[: self._may_log])
        self._may_log -= len(text)
        if self._may_log <= 0:
            self._log("\n… more output is not logged …\n")
