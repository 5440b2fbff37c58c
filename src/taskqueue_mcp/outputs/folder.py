"""The output folder: files appear in it whole, under a name that was free, and never outside it."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import mimetypes
import os
import secrets
import stat
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound
from taskqueue_mcp.outputs import paths

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

HOLDS_FOLDERS: Final = {os.open, os.mkdir, os.link, os.unlink, os.rename} <= os.supports_dir_fd
"""Whether the system works relative to a folder held open, so that nobody can swap it for a link."""

MOST_OF_ONE_NAME: Final = 10_000
MOST_LOOKED_AT: Final = 20_000
"""Entries of folders that a search for a pattern looks at."""
LARGEST_HASHED: Final = 64 * 1024 * 1024 * 1024
"""Bytes of a file that is described at all: a sparse one can claim any size."""
# Some answer EPERM or EACCES where they mean that they have no links at all.
NO_HARD_LINKS: Final = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file as it lies in the folder; `path` is relative, with `/`."""

    path: str
    size: int
    sha256: str
    media_type: str


class OutputFolder:
    """A folder that files are written to, whole or not at all."""

    def __init__(self, root: Path, *, holds_folders: bool = HOLDS_FOLDERS) -> None:
        self._root = root
        self._holds_folders = holds_folders

    @property
    def root(self) -> Path:
        """Where the folder lies."""
        return self._root

    def write(self, relative: str, writer: Callable[[BinaryIO], object]) -> WrittenFile:
        """Have `writer` fill a file and let it appear at `relative`, or at `…-2`, `…-3` where that is taken.

        When this returns, the file and its name survive a power cut. If `writer` raises, nothing remains.

        Raises:
            InvalidInput: the path is not clean, or a folder on the way is a link or a file.
            LimitReached: the name is taken ten thousand times.
            OSError: the disk is full, or the folder may not be written.
        """
        return self.write_all([(relative, writer)])[0]

    def write_all(self, files: Iterable[tuple[str, Callable[[BinaryIO], object]]]) -> list[WrittenFile]:
        """Write several files as `write` does one: no name appears before the last of them is filled.

        The pairs of a path and its writer are asked for one after the other, each once the one before is filled.

        Raises:
            InvalidInput: a path is not clean, or a folder on the way is a link or a file.
            LimitReached: a name is taken ten thousand times.
            OSError: the disk is full, or the folder may not be written.
        """
        written: list[WrittenFile] = []
        with ExitStack() as held:
            filled: list[_Filled] = []
            for relative, writer in files:
                paths.check(relative)
                *folders, name = relative.split("/")
                self._root.mkdir(parents=True, exist_ok=True)
                folder = self._walk(folders, held, make=True)
                part = f".{secrets.token_hex(8)}.part"
                held.callback(_remove, folder, part)
                size, sha256 = _fill(folder, part, writer)
                filled.append(_Filled(folder, folders, part, name, size, sha256))
            for each in filled:
                taken = _publish(each.folder, each.part, each.name)
                _remove(each.folder, each.part)
                each.folder.sync()
                written.append(_described("/".join([*each.folders, taken]), each.size, each.sha256))
        return written

    def find(self, relative: str) -> WrittenFile:
        """Size and hash of a file that lies at `relative`; for files that others say they have written.

        Any extension is described; its media type is `application/octet-stream` where nothing is known of it.

        Raises:
            InvalidInput: the path leaves the folder, or is not a regular file.
            NotFound: there is none.
        """
        with self.opened(relative) as (file, status):
            return described(relative, file, status)

    @contextmanager
    def opened(self, relative: str) -> Iterator[tuple[io.BufferedReader, os.stat_result]]:
        """The file that lies at `relative`, open for reading, and what the system knows of it.

        Raises:
            InvalidInput, NotFound: as `find`.
        """
        parts = relative.split("/")
        if {"", ".", ".."} & set(parts) or set(relative) & set("\\:\0"):
            raise InvalidInput(f"{relative[:80]!a} is not a path inside the output folder; write it relative")
        with ExitStack() as held:
            try:
                folder = self._walk(parts[:-1], held, make=False)
                descriptor = folder.open(parts[-1], os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            except FileNotFoundError:
                raise NotFound(f"{relative[:80]!a} is not in the output folder") from None
            except OSError as error:
                raise InvalidInput(f"{relative[:80]!a}: {_why(error)}") from None
            file = held.enter_context(os.fdopen(descriptor, "rb"))
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(f"{relative[:80]!a} is not a regular file")
            if status.st_size > LARGEST_HASHED:
                raise InvalidInput(f"{relative[:80]!a} has {status.st_size:,} bytes, more than are looked at")
            yield file, status

    def matching(self, pattern: str) -> list[str]:
        """The files whose paths match `pattern`, in which `*` and `?` stand for a part of one name; sorted.

        Hidden files and links are passed over.
        """
        found = [""]
        left = MOST_LOOKED_AT
        *folders, name = pattern.split("/")
        for part in folders:
            below: list[str] = []
            for folder in found:
                if not _is_pattern(part):
                    below.append(f"{folder}{part}/")
                    continue
                entries = self._entries(folder, left)
                left -= len(entries)
                below += [f"{folder}{each}/" for each, kind in entries if kind == "folder" and _matches(each, part)]
            found = below
        files: list[str] = []
        for folder in found:
            entries = self._entries(folder, left)
            left -= len(entries)
            files += [f"{folder}{each}" for each, kind in entries if kind == "file" and _matches(each, name)]
        return sorted(files)

    def remove(self, relative: str) -> None:
        """Take back a file that was written here and that nothing refers to; one that is gone is fine."""
        *folders, name = relative.split("/")
        with suppress(FileNotFoundError, InvalidInput), ExitStack() as held:
            folder = self._walk(folders, held, make=False)
            folder.unlink(name)
            folder.sync()

    def _entries(self, folder: str, most: int) -> list[tuple[str, str]]:
        """The names in a folder, each with whether it is a `file` or a `folder`; what cannot be read has none."""
        found: list[tuple[str, str]] = []
        with suppress(OSError, InvalidInput), ExitStack() as held:
            inside = self._walk([part for part in folder.split("/") if part], held, make=False)
            with os.scandir(inside.path if inside.fd is None else inside.fd) as entries:
                for entry in entries:
                    if len(found) >= most:
                        break
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.name, "file"))
                    elif entry.is_dir(follow_symlinks=False):
                        found.append((entry.name, "folder"))
        return found

    def _walk(self, folders: list[str], held: ExitStack, *, make: bool) -> _Folder:
        folder = held.enter_context(_Folder(self._root.resolve(), held_open=self._holds_folders))
        for count, name in enumerate(folders, 1):
            try:
                if make and folder.make(name):
                    folder.sync()
                folder = held.enter_context(folder.inside(name))
            except (NotADirectoryError, FileExistsError) as error:
                raise InvalidInput(f"{'/'.join(folders[:count])!a}: {_why(error)}") from None
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise InvalidInput(f"{'/'.join(folders[:count])!a}: {_why(error)}") from None
        return folder


class _Folder:
    """One folder, held open where the system can, so that it stays the same folder."""

    def __init__(self, path: Path, *, held_open: bool, within: int | None = None, name: str = "") -> None:
        self.path = path
        self.fd: int | None = None
        if held_open:
            flags = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
            self.fd = os.open(name if within is not None else path, flags, dir_fd=within)
        elif path.resolve() != path or not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a plain folder")

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd is not None:
            os.close(self.fd)

    def at(self, name: str) -> str | Path:
        return name if self.fd is not None else self.path / name

    def inside(self, name: str) -> _Folder:
        return _Folder(self.path / name, held_open=self.fd is not None, within=self.fd, name=name)

    def make(self, name: str) -> bool:
        try:
            os.mkdir(self.at(name), dir_fd=self.fd)
        except FileExistsError:
            return False
        return True

    def open(self, name: str, flags: int) -> int:
        if self.fd is None and (self.path / name).is_symlink():
            raise OSError(errno.ELOOP, "a link")
        return os.open(self.at(name), flags | _FLAGS, 0o666, dir_fd=self.fd)

    def link(self, source: str, name: str) -> None:
        os.link(self.at(source), self.at(name), src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def replace(self, source: str, name: str) -> None:
        os.replace(self.at(source), self.at(name), src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        os.unlink(self.at(name), dir_fd=self.fd)

    def sync(self) -> None:
        if self.fd is not None:
            os.fsync(self.fd)


@dataclass(frozen=True, slots=True)
class _Filled:
    """A file that is whole and has no name yet."""

    folder: _Folder
    folders: list[str]
    part: str
    name: str
    size: int
    sha256: str


def _remove(folder: _Folder, part: str) -> None:
    with suppress(FileNotFoundError):
        folder.unlink(part)


def described(path: str, file: io.BufferedReader, status: os.stat_result) -> WrittenFile:
    """What is to be said of an open file: it is read once, from where it stands."""
    return _described(path, status.st_size, hashlib.file_digest(file, "sha256").hexdigest())


def fits(path: str, pattern: str) -> bool:
    """Whether a path is of a pattern, name by name."""
    names, parts = path.split("/"), pattern.split("/")
    return len(names) == len(parts) and all(map(_matches, names, parts))


def _is_pattern(part: str) -> bool:
    return bool(set(part) & set("*?["))


def _matches(name: str, pattern: str) -> bool:
    return (pattern.startswith(".") or not name.startswith(".")) and fnmatch.fnmatchcase(name, pattern)


def _described(path: str, size: int, sha256: str) -> WrittenFile:
    media_type = paths.media_type(path) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    return WrittenFile(path, size, sha256, media_type)


def _fill(folder: _Folder, part: str, writer: Callable[[BinaryIO], object]) -> tuple[int, str]:
    descriptor = folder.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "w+b") as file:
        writer(file)
        file.flush()
        os.fsync(descriptor)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(descriptor).st_size, sha256


def _publish(folder: _Folder, part: str, name: str) -> str:
    """Give the finished file its name; a hard link fails where it is taken, so two writers never meet."""
    for candidate in _candidates(name):
        try:
            folder.link(part, candidate)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            if not _reserve(folder, candidate):
                continue
            folder.replace(part, candidate)
        return candidate
    raise LimitReached(f"{name!a} exists {MOST_OF_ONE_NAME:,} times; use {{timestamp}} or {{task_id}} in its pattern")


def _reserve(folder: _Folder, name: str) -> bool:
    """Where there are no hard links: take the name with an empty file, which the finished one replaces."""
    try:
        os.close(folder.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _candidates(name: str) -> Iterator[str]:
    yield name
    stem, dot, extension = name.rpartition(".")
    for number in range(2, MOST_OF_ONE_NAME + 1):
        yield f"{stem}-{number}{dot}{extension}"


def _why(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EEXIST}:
        return "is a link or a file where a folder must be; links are not followed"
    return (error.strerror or "cannot be read").lower()
