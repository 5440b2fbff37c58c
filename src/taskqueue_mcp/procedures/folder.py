"""The folder that procedures are read from, and from nowhere else."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.errors import InvalidInput, NotFound, TaskQueueError
from taskqueue_mcp.procedures.references import LARGEST, tidy

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from taskqueue_mcp.procedures.parsing import Procedure

MOST_FILES: Final = 5_000

HOLDS_FOLDERS: Final = os.open in os.supports_dir_fd
"""Whether the system opens a file relative to a folder held open, so that nobody can swap the folder."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file in the folder is not a procedure that can be followed."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ProcedureFolder:
    """The folder of procedures. It is read each time, so that an edit counts from the next claim on."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, reference: str) -> Procedure:
        """Return the procedure that `reference` names (`sops/` before and `.md` after it may be left out).

        Raises:
            InvalidInput: the reference leaves the folder, or the file cannot be followed.
            NotFound: there is no such file.
        """
        path = tidy(reference)
        if _is_readme(path):
            raise NotFound(f"{path} describes the folder and is no procedure; name one of its procedures")
        try:
            return self._read(path)
        except NotFound:
            raise NotFound(f"no procedure {path}; {self._instead_of(path)}") from None

    def check(self) -> builtins.list[Fault]:
        """Everything that is wrong in the folder, in the order of its paths."""
        if not self._root.is_dir():
            return [Fault(".", "the folder of procedures does not exist; create it or change the setting")]
        return [Fault(path, found) for path, found in self._scan() if isinstance(found, str)]

    def list(self) -> builtins.list[Procedure]:
        """The procedures that can be followed, in the order of their paths."""
        return [found for _, found in self._scan() if not isinstance(found, str)]

    def _scan(self) -> Iterator[tuple[str, Procedure | str]]:
        for count, (path, is_linked_folder) in enumerate(sorted(islice(self._names(), MOST_FILES + 1))):
            if count == MOST_FILES:
                yield path, f"more than {MOST_FILES:,} files; keep procedures in a folder of their own"
                return
            if is_linked_folder:
                yield path, "is a link to a folder, which is not followed; move the folder itself here"
                continue
            try:
                yield path, self._read(tidy(path))
            except TaskQueueError as fault:
                yield path, str(fault).removeprefix(f"{path}: ")

    def _names(self) -> Iterator[tuple[str, bool]]:
        for folder, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            within = os.path.relpath(folder, self._root).replace(os.sep, "/").removeprefix(".").lstrip("/")
            prefix = f"{within}/" if within else ""
            for name in folders:
                if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118 - os.walk speaks in text
                    yield prefix + name, True
            for name in files:
                if name.endswith(".md") and not name.startswith(".") and not _is_readme(name):
                    yield prefix + name, False

    def _instead_of(self, path: str) -> str:
        names = sorted(name for name, is_linked_folder in self._names() if not is_linked_folder)
        near = difflib.get_close_matches(path, names, n=3, cutoff=0.4) or names[:10]
        return f"there is {', '.join(near)}" if near else "the folder has none yet"

    def _read(self, path: str) -> Procedure:
        from taskqueue_mcp.procedures.parsing import parse  # noqa: PLC0415 - YAML and models: a twentieth of a start

        try:
            return parse(path, _decode(path, _read_regular_file(self._root, path)))
        except FileNotFoundError:
            raise NotFound(f"no procedure {path}") from None
        except OSError as error:
            raise InvalidInput(f"{path}: {_why_unreadable(error)}") from None


def _is_readme(path: str) -> bool:
    return path.rsplit("/", 1)[-1].lower() == "readme.md"


def _read_regular_file(root: Path, path: str) -> bytes:
    """The file's bytes, at most one more than allowed; no link is followed below `root`."""
    with ExitStack() as held:
        descriptor = _open(root, path.split("/"), held)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file; procedures are plain files")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST + 1)


def _open(root: Path, parts: Sequence[str], held: ExitStack) -> int:
    def hold(descriptor: int) -> int:
        held.callback(os.close, descriptor)
        return descriptor

    # Without O_NONBLOCK a named pipe in the folder would hold us for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not HOLDS_FOLDERS:
        plain = root.resolve().joinpath(*parts)
        if plain.resolve() != plain:
            raise OSError(errno.ELOOP, "is a link")
        return hold(os.open(plain, flags))
    folder = hold(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    for part in parts[:-1]:
        folder = hold(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder))
    return hold(os.open(parts[-1], flags, dir_fd=folder))


def _why_unreadable(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return "is a link or lies behind one, which is not followed; put the file itself in the folder"
    return f"{error.strerror or 'cannot be read'}".lower()


def _decode(path: str, data: bytes) -> str:
    if len(data) > LARGEST:
        raise InvalidInput(f"{path}: is over {LARGEST:,} bytes; split it into several procedures")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: byte {error.start:,} is not UTF-8; save the file as UTF-8") from None
