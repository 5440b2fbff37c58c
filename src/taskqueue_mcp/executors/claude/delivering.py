"""The files that a session leaves behind, from where it worked into the output folder."""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.outputs import paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.claude.params import ClaudeParams
    from taskqueue_mcp.outputs.folder import WrittenFile

FOLDER: Final = "claude"
ANSWERS: Final = frozenset({".md", ".txt"})
"""What the last message itself can be, where the session wrote no file."""
MOST_FILES: Final = 50
LARGEST: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ordered:
    """The file that the task asks for: its path in the output folder, and its name in the working folder."""

    path: str
    name: str


def ordered(run: Run, params: ClaudeParams) -> Ordered | None:
    """Return the file that the task asks for, if it asks for one.

    Raises:
        InvalidInput: its name comes to nothing, or leaves the output folder.
    """
    asked = run.task.get("output") or {}
    asked = json.loads(asked) if isinstance(asked, str) else asked
    given = run.procedure.output if run.procedure else None
    folder = asked.get("path") or (given.path if given else None)
    pattern = asked.get("filename_pattern") or (given.filename_pattern if given else None)
    file_format = asked.get("format") or (given.format if given else None)
    if pattern is None and file_format is None:
        return None
    pattern = pattern or "T-{task_id}_{date}"
    if file_format and PurePosixPath(pattern).suffix.lower() not in paths.MEDIA_TYPES:
        pattern = f"{pattern}.{file_format}"
    values = _values(params.model_extra or {})
    path = paths.resolve(
        folder or FOLDER, pattern, due_date=run.due_date, now=run.now, task_id=run.task_id, params=values
    )
    return Ordered(path, PurePosixPath(path).name)


@dataclass(frozen=True, slots=True)
class Handed:
    """What was handed over: the file that the task asks for, and all files."""

    main: WrittenFile | None
    files: tuple[WrittenFile, ...]


def hand_over(run: Run, params: ClaudeParams, order: Ordered | None, answer: str, *, work: Path, cwd: Path) -> Handed:
    """Copy what a session made: the file that the task asks for from `work`, what its globs name from `cwd`.

    Raises:
        InvalidInput: the session did not write what the task asks for, or it is no plain file.
        OSError: the disk is full, or the output folder cannot be written.
    """
    main = None
    if order is not None:
        main = put(run, work, order.name, order.path)
        if main is None and PurePosixPath(order.path).suffix.lower() in ANSWERS:
            main = write_text(run, order.path, answer.rstrip() + "\n")
        if main is None:
            said = " ".join(answer.split())[:300]
            raise InvalidInput(f"Claude did not write {order.name}, which the task asks for; it said: {said}")
    files = [main] if main else []
    folder = str(PurePosixPath(main.path).parent) if main else FOLDER
    for name in _named(cwd, params.files):
        if order is not None and name == order.name:
            continue
        try:
            clean = "/".join(paths.clean(part) for part in PurePosixPath(name).parts)
            copied = put(run, cwd, name, f"{folder}/{clean}".removeprefix("./"))
        except TaskQueueError as error:
            run.log(f"{name[:80]!a} stays behind: {error}\n")
        else:
            files += [copied] if copied else []
    return Handed(main, tuple(files))


def put(run: Run, folder: Path, name: str, path: str) -> WrittenFile | None:
    """Copy the file `name` of `folder` to `path` of the output folder; None where there is none.

    Raises:
        InvalidInput: it is no plain file inside the folder, or too large.
        OSError: the disk is full, or the output folder cannot be written.
    """
    source = _plain(folder.resolve(), name)
    if source is None:
        return None
    with source:
        return run.outputs.write(path, lambda file: shutil.copyfileobj(source, file, 1 << 20))


def write_text(run: Run, path: str, text: str) -> WrittenFile:
    """Write a text to `path` of the output folder."""
    return run.outputs.write(path, lambda file: file.write(text.encode(errors="replace")))


def _named(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files that the globs name, each once; a link is named too and refused when it is opened."""
    names: dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith(("/", "~")) or ".." in PurePosixPath(pattern).parts or "\0" in pattern:
            continue
        with suppress(ValueError, NotImplementedError, OSError):
            found = (each for each in sorted(folder.glob(pattern)) if each.is_file())
            names |= {each.relative_to(folder).as_posix(): None for each in found}
    return list(names)[:MOST_FILES]


def _plain(folder: Path, name: str) -> BinaryIO | None:
    """The file, opened; what a session names is data, so no link leads out of its folder."""
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{name[:80]!a} is no plain file: {(error.strerror or 'unreadable').lower()}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not path.resolve().is_relative_to(folder) or status.st_size > LARGEST:
        os.close(descriptor)
        raise InvalidInput(f"{name[:80]!a} is no plain file of at most {LARGEST:,} bytes in the working folder")
    return os.fdopen(descriptor, "rb")


def own_path(run: Run, name: str) -> str:
    """Where the executor's own files of a task lie: plans and transcripts."""
    return f"{FOLDER}/T-{run.task_id}/{name}"


def _values(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if isinstance(value, str | int | float | list)}
