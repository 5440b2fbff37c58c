"""What a disk holds when the power goes: all that was synced, and of the rest whatever chance leaves.

The disk is an honest one: what it has said to be synced stays. Of what was written since, each piece of 512 bytes may
have reached it or not, in any order. Names are as durable as the last sync of a file that was new in its folder, which
is when SQLite syncs the folder too.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.reliability.disk import OK, Disk, Do, Step

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.reliability.processes import Entry

SECTOR = 512
HEADER = struct.Struct("<BHqqI")
SYNCING, NOTE = "syncing", "note"
CODES = [*Do, SYNCING, NOTE]


class Trace:
    """Everything that processes do to their disk and say in their diaries, in one file, in one order."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record_disk(self) -> None:
        """Record what this process does to its disk from now on: a write before it is done, a sync afterwards."""
        Disk(self._before, self._after)

    def note(self, diary: str, line: bytes) -> None:
        self._append(NOTE, diary, 0, line)

    def _before(self, step: Step) -> int:
        if step.do is Do.SYNC:
            self._append(SYNCING, step.path, 0, b"")
        elif step.do is not Do.OPEN:
            self._append(step.do, step.path, step.offset, step.data)
        return OK

    def _after(self, step: Step) -> None:
        if step.do in {Do.OPEN, Do.SYNC}:
            self._append(step.do, step.path, 0, b"")

    def _append(self, code: str, path: str, offset: int, data: bytes) -> None:
        name = path.encode()
        os.write(self._file, HEADER.pack(CODES.index(code), len(name), os.getpid(), offset, len(data)) + name + data)


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a trace."""

    code: str
    path: str
    process: int
    offset: int
    data: bytes


def read_trace(path: Path) -> Iterator[Record]:
    """Yield the entries of a trace in their order."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            code, name, process, offset, size = HEADER.unpack(header)
            yield Record(CODES[code], file.read(name).decode(), process, offset, file.read(size))


@dataclass(slots=True)
class _File:
    """What is on the platter, and what is still on its way there."""

    synced: bytearray = field(default_factory=bytearray)
    is_named: bool = False
    pending: list[Record] = field(default_factory=list)
    arrived: int = 0

    @property
    def written(self) -> int:
        return self.arrived + len(self.pending)

    def sync(self, upto: int) -> None:
        """Everything that was written before the sync began is on the platter."""
        arriving = self.pending[: max(0, upto - self.arrived)]
        for record in arriving:
            _apply(self.synced, record)
        del self.pending[: len(arriving)]
        self.arrived += len(arriving)
        self.is_named = True

    def left(self, chance: random.Random, luck: float) -> bytes:
        """Return what is found after the cut, when each piece on its way arrived with this probability."""
        content = bytearray(self.synced)
        for record in self.pending:
            if record.code == Do.TRUNCATE:
                if chance.random() < luck:
                    _apply(content, record)
                continue
            for begin, piece in _sectors(record):
                if chance.random() < luck:
                    _put(content, begin, piece)
        return bytes(content)


class Shadow:
    """The disk of a trace, played up to some record."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._gone: dict[str, _File] = {}
        self._syncing: dict[tuple[int, str], tuple[_File, int]] = {}
        self.diaries: dict[str, list[Entry]] = {}
        self.syncs = 0

    def play(self, record: Record) -> None:
        """Do the next thing."""
        match record.code:
            case "note":
                self.diaries.setdefault(record.path, []).append(json.loads(record.data))
            case Do.OPEN:
                self._files.setdefault(record.path, _File())
            case Do.WRITE | Do.TRUNCATE:
                self._files[record.path].pending.append(record)
            case "syncing":
                file = self._files[record.path]
                self._syncing[record.process, record.path] = file, file.written
            case Do.SYNC:
                file, upto = self._syncing.pop((record.process, record.path))
                if not file.is_named:
                    self._gone.clear()  # its folder was synced with it
                file.sync(upto)
                self.syncs += 1
            case Do.DELETE:
                deleted = self._files.pop(record.path, None)
                if deleted is not None and deleted.is_named:
                    self._gone[record.path] = deleted
            case code:
                raise AssertionError(code)

    def cut(self, chance: random.Random, into: Path) -> None:
        """Write what the power cut leaves of each file to a folder, under the files' own names."""
        luck = chance.choice([0.0, 0.0, 0.5, 0.5, 0.9, 1.0])
        for path, file in self._gone.items():
            if chance.random() >= luck:
                (into / Path(path).name).write_bytes(file.left(chance, luck))
        for path, file in self._files.items():
            if file.is_named or chance.random() < luck:
                (into / Path(path).name).write_bytes(file.left(chance, luck))
        for file_left in into.iterdir():
            file_left.chmod(0o600)


def _sectors(record: Record) -> Iterator[tuple[int, bytes]]:
    begin, end = record.offset, record.offset + len(record.data)
    while begin < end:
        until = min(end, begin - begin % SECTOR + SECTOR)
        yield begin, record.data[begin - record.offset : until - record.offset]
        begin = until


def _put(content: bytearray, offset: int, piece: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(piece)] = piece


def _apply(content: bytearray, record: Record) -> None:
    if record.code == Do.TRUNCATE:
        del content[record.offset :]
    else:
        _put(content, record.offset, record.data)
