"""What a session needs to go on in another attempt: its record, and the files of its private folder."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SESSION: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST_BYTES: Final = 512 * 1024 * 1024
MOST_FILES: Final = 20_000
DAY: Final = 86_400
PLAN: Final = "plan.md"


def is_session(text: object) -> bool:
    """Whether a text is a session's id and nothing that a path or a flag could be made of."""
    return isinstance(text, str) and SESSION.fullmatch(text) is not None


class Kept:
    """The folders that are kept between attempts, by session; on this machine only."""

    def __init__(self, home: Path, config: Path, *, days: float) -> None:
        self._home = home / "kept"
        self._projects = config / "projects"
        self._days = days

    def can_go_on(self, session: str) -> bool:
        """Whether Claude Code has the record of a session here."""
        return is_session(session) and any(self._projects.glob(f"*/{session}.jsonl"))

    def keep(self, session: str, work: Path, plan: str | None) -> str | None:
        """Take a session's folder in until it goes on; return why not, in a line, where it is too large."""
        if not is_session(session):
            return None
        size, count = _measured(work)
        if size > MOST_BYTES or count > MOST_FILES:
            return f"its {count:,} files ({size:,} bytes) are too many to keep for the next attempt"
        place = self._home / session
        self.drop(session)
        place.mkdir(mode=0o700, parents=True)
        if plan is not None:
            (place / PLAN).write_text(plan, encoding="utf-8")
        shutil.copytree(work, place / "work", symlinks=True)
        return None

    def restore(self, session: str, work: Path) -> str | None:
        """Put a session's files back into `work`; return the plan that it made, if it made one."""
        place = self._home / session
        if (place / "work").is_dir():
            shutil.copytree(place / "work", work, symlinks=True, dirs_exist_ok=True)
        return (place / PLAN).read_text(encoding="utf-8") if (place / PLAN).is_file() else None

    def drop(self, session: str) -> None:
        """Forget a session's folder; it is done."""
        if is_session(session):
            shutil.rmtree(self._home / session, ignore_errors=True)

    def sweep(self) -> None:
        """Forget what nobody came back for."""
        if not self._home.is_dir():
            return
        oldest = time.time() - self._days * DAY
        for place in self._home.iterdir():
            with suppress(OSError):
                if place.stat().st_mtime < oldest:
                    shutil.rmtree(place, ignore_errors=True)


def _measured(folder: Path) -> tuple[int, int]:
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - of a name that os.walk gave
            count += 1
        if count > MOST_FILES:
            break
    return size, count
