"""The disk under this process's SQLite: every write, sync and delete passes through here and can be seen or refused.

Done in the library that the queue itself uses, by its own interface for file systems, so it needs no compiler, no
privilege and no other build of SQLite.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from pysqlite3 import _sqlite3

if TYPE_CHECKING:
    from collections.abc import Callable

OK, FULL = 0, 13
OUR_FILES = 0x100 | 0x800 | 0x80000
"""SQLITE_OPEN_MAIN_DB, _MAIN_JOURNAL and _WAL; what it keeps in temporary files survives nothing anyway."""


class Do(StrEnum):
    OPEN = "open"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to a file; `offset` is where a write begins or what a truncated file is left with."""

    do: Do
    path: str
    offset: int = 0
    data: bytes = b""


class _Methods(ctypes.Structure):
    """SQLite's `sqlite3_io_methods`, of which four are replaced."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    )


class _File(ctypes.Structure):
    _fields_ = (("methods", POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """SQLite's `sqlite3_vfs` up to the last function that is replaced."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("following", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
    )


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class Disk:
    """From now on `before` is told each step and may refuse it by SQLite's number for an error; `after` what was done.

    It is for the rest of the process's life, once a process.
    """

    _alive: ClassVar[list[Disk]] = []
    """SQLite keeps pointers into them."""

    def __init__(self, before: Callable[[Step], int], after: Callable[[Step], None] = lambda _: None) -> None:
        self._before = before
        self._after = after
        self._paths: dict[int, str] = {}
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._vfs = library.sqlite3_vfs_find(None).contents
        self._real_open = _OPEN(self._vfs.open)
        self._real_delete = _DELETE(self._vfs.delete)
        self._methods: dict[int, _Methods] = {}
        self._kept = [_OPEN(self._open), _DELETE(self._delete)]
        self._vfs.open, self._vfs.delete = (cast(each, c_void_p) for each in self._kept)
        self._alive.append(self)

    def _do(self, step: Step, real: Callable[[], int]) -> int:
        try:
            refused = self._before(step)
            if refused:
                return refused
            code = real()
            if code == OK:
                self._after(step)
        except BaseException:  # noqa: BLE001 - it cannot leave a callback; a disk that is not what it says helps nobody
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(70)
        return code

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        if not flags & OUR_FILES or not name:
            return int(self._real_open(vfs, name, file, flags, out))
        path = os.fsdecode(ctypes.string_at(name))

        def real() -> int:
            code = int(self._real_open(vfs, name, file, flags, out))
            if code == OK:
                self._paths[file] = path
                opened = cast(file, POINTER(_File)).contents
                opened.methods = ctypes.pointer(self._replaced(opened.methods))
            return code

        return self._do(Step(Do.OPEN, path), real)

    def _delete(self, vfs: int, name: bytes, sync: int) -> int:
        return self._do(Step(Do.DELETE, os.fsdecode(name)), lambda: int(self._real_delete(vfs, name, sync)))

    def _replaced(self, methods: Any) -> _Methods:
        """Return the methods with ours among them; SQLite has one set for each way of locking."""
        address = ctypes.addressof(methods.contents)
        if address not in self._methods:
            ours = _Methods.from_buffer_copy(methods.contents)
            real_write, real_truncate, real_sync = _WRITE(ours.write), _TRUNCATE(ours.truncate), _SYNC(ours.sync)

            def write(file: int, data: int, size: int, offset: int) -> int:
                step = Step(Do.WRITE, self._paths[file], offset, ctypes.string_at(data, size))
                return self._do(step, lambda: int(real_write(file, data, size, offset)))

            def truncate(file: int, size: int) -> int:
                return self._do(Step(Do.TRUNCATE, self._paths[file], size), lambda: int(real_truncate(file, size)))

            def sync(file: int, flags: int) -> int:
                return self._do(Step(Do.SYNC, self._paths[file]), lambda: int(real_sync(file, flags)))

            kept = [_WRITE(write), _TRUNCATE(truncate), _SYNC(sync)]
            ours.write, ours.truncate, ours.sync = (cast(each, c_void_p) for each in kept)
            self._kept += kept
            self._methods[address] = ours
        return self._methods[address]
