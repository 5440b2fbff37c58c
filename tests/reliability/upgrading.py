"""A program that knows one migration more, and is killed while it applies it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from taskqueue_mcp.store import migrate, open_database
from tests.reliability.disk import OK, Disk, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEVER = -1
NEXT = """CREATE TABLE notes (task_id {integer} PRIMARY KEY REFERENCES tasks (id), text TEXT NOT NULL) {table};
INSERT INTO notes (task_id, text) SELECT id, title FROM tasks;
ALTER TABLE queues ADD COLUMN note TEXT;
UPDATE queues SET note = name;
CREATE INDEX notes_by_text ON notes (text);
INSERT INTO queues (name, note) VALUES ('of-the-future', 'made by the migration')"""


def know_one_more(files: Callable[[str], list[tuple[int, str]]]) -> Callable[[str], list[tuple[int, str]]]:
    """Return what stands for `migrate._files` in the newer program."""

    def more(engine: str) -> list[tuple[int, str]]:
        found = files(engine)
        return [*found, (found[-1][0] + 1, NEXT)]

    return more


def upgrade(url: str, killed_at_statement: int, killed_at_step: int, counted: str | None) -> None:
    """Open a queue as the newer program; be killed before a statement, or before a step on the disk.

    In the file `counted` there is one character for each step.
    """
    migrate._files = know_one_more(migrate._files)  # type: ignore[assignment]  # this program is another one now
    statements = migrate.statements

    def until_killed(*given: object) -> Iterator[tuple[int, str]]:
        for number, found in enumerate(statements(*given)):  # type: ignore[arg-type]  # whatever it takes
            if number == killed_at_statement:
                os.kill(os.getpid(), signal.SIGKILL)
            yield found

    migrate.statements = until_killed  # type: ignore[assignment]  # the same
    taken = 0
    count = None if counted is None else os.open(counted, os.O_WRONLY | os.O_CREAT, 0o600)

    def step(_: Step) -> int:
        nonlocal taken
        if taken == killed_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        taken += 1
        if count is not None:
            os.write(count, b".")
        return OK

    if killed_at_step != NEVER or counted is not None:
        Disk(step)
    open_database(url)
