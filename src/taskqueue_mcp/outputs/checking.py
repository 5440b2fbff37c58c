"""Looks at what an attempt says it made, outside the agent: what holds, what does not, and what nobody can see here.

The worker and the server both use this, each with its own folder. A requirement has a key: `outputs[0]` is the first
thing declared (`outputs[0].check` and `outputs[0].changed` its command and its changed files), `file a.csv` a file
that was named. What is in neither `met` nor `faults` could not be looked at here, and `unseen` says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from taskqueue_mcp.errors import InvalidInput, NotFound
from taskqueue_mcp.outputs import expectations, folder, paths, running

if TYPE_CHECKING:
    import io
    import threading
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from taskqueue_mcp.outputs.expectations import Expectation
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile

INSPECTION_SECONDS: Final = 60.0
CHECK_SECONDS: Final = 600.0
OUT_OF_TIME: Final = (-signal.SIGXCPU,) if hasattr(signal, "SIGXCPU") else ()
MOST_FILES: Final = 100
"""Files of one pattern that are looked into."""
MOST_REASONS: Final = 20
LONGEST_REASON: Final = 400
LARGEST_PARSED_AT_ONCE: Final = 1024 * 1024
SLACK_SECONDS: Final = 2.0
"""How much coarser than the queue's clock a file system's may be."""


@dataclass(frozen=True, slots=True)
class Named:
    """A file that an attempt names; `stored` is where its bytes lie, if not at its path."""

    path: str
    size: int | None = None
    sha256: str | None = None
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that was looked at: `path` as it was named, `stored` where it lies, `rows` where they were counted."""

    path: str
    size: int
    sha256: str
    media_type: str
    stored: str
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What an attempt says, and what it was held to.

    `values` fill the placeholders of patterns; a file that is not named counts when it was written after `since`
    (seconds since the epoch, as `now`). `baseline` is what the changed files were at the beginning.
    """

    wanted: tuple[Expectation, ...] = ()
    named: tuple[Named, ...] = ()
    data: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0
    now: float = 0.0
    baseline: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to look: the output folder, the folder that work changes, and the owner's commands by name."""

    outputs: OutputFolder | None
    work: OutputFolder | None = None
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stop: threading.Event | None = None


@dataclass(slots=True)
class Look:
    """What was found; see the module."""

    met: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    files: dict[str, Seen] = field(default_factory=dict)

    def reasons(self) -> list[str]:
        """Every fault as a line."""
        lines = [line[:LONGEST_REASON] for each in self.faults.values() for line in each]
        return list(dict.fromkeys(lines))[:MOST_REASONS]


def look(claimed: Claimed, place: Place, *, leave_out: frozenset[str] = frozenset()) -> Look:
    """Look at everything that is declared or named but for the keys `leave_out`; for a thread, as it reads files."""
    found = Look()
    patterns = [filled(each.path, claimed.values) for each in claimed.wanted if each.path is not None]
    for named in claimed.named:
        is_declared = any(_fits(named.path, pattern) for pattern in patterns)
        _look_at_named(found, named, place, is_declared=is_declared)
    for number, wanted in enumerate(claimed.wanted):
        key = f"outputs[{number}]"
        if wanted.is_of_data:
            _judge(found, key, _look_at_data(wanted, claimed.data, place))
        files: list[str] = []
        if wanted.path is not None:
            files = _look_at_files(found, key, wanted, claimed, place)
        if wanted.changed and f"{key}.changed" not in leave_out:
            _look_at_changed(found, f"{key}.changed", wanted, claimed, place)
        if wanted.check is not None and f"{key}.check" not in leave_out:
            _run_check(found, f"{key}.check", wanted.check, files, place)
    return found


def requirements(claimed: Claimed) -> Iterator[tuple[str, bool]]:
    """Yield the key of every requirement, and whether it was declared."""
    for number, wanted in enumerate(claimed.wanted):
        key = f"outputs[{number}]"
        if wanted.path is not None or wanted.is_of_data:
            yield key, True
        if wanted.changed:
            yield f"{key}.changed", True
        if wanted.check is not None:
            yield f"{key}.check", True
    for named in claimed.named:
        yield f"file {named.path}", False


def baseline(wanted: Sequence[Expectation], values: Mapping[str, Any], outputs: OutputFolder) -> dict[str, str | None]:
    """Hash the files that are expected to change; None for one that is not there yet."""
    found: dict[str, str | None] = {}
    for pattern in (filled(each, values) for one in wanted for each in one.changed):
        found |= _hashes(pattern, outputs)
    return found


def filled(pattern: str, values: Mapping[str, Any]) -> str:
    """Return a pattern with its placeholders replaced; one whose value is not known matches anything.

    A value is text and no pattern of its own, and names no other folder.
    """
    known = {name: value for name, value in values.items() if isinstance(value, str | int | float)}
    for name in set(_names(pattern)) - set(known):
        pattern = pattern.replace(f"{{{name}}}", "*")
    plain = {name: _literal(str(value)) for name, value in known.items()}
    return paths.fill(pattern, plain)


def _names(pattern: str) -> Iterator[str]:
    rest = pattern
    while "{" in rest:
        _, _, rest = rest.partition("{")
        name, _, rest = rest.partition("}")
        yield name


def _literal(value: str) -> str:
    cleaned = "".join("_" if letter in "/\\:\0" else letter for letter in value)
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in cleaned)


def _opened(place: Place, path: str) -> AbstractContextManager[tuple[io.BufferedReader, os.stat_result]]:
    if place.outputs is None:
        raise NotFound(f"{path[:80]!a} cannot be looked for: this server keeps no output folder")
    return place.outputs.opened(path)


def _judge(found: Look, key: str, faults: list[str]) -> None:
    if faults:
        found.faults.setdefault(key, []).extend(faults)
    else:
        found.met.append(key)


# --- files that were named -----------------------------------------------------------------------------------


def _look_at_named(found: Look, named: Named, place: Place, *, is_declared: bool) -> None:
    key = f"file {named.path}"
    try:
        with _opened(place, named.stored or named.path) as (file, status):
            written = folder.described(named.stored or named.path, file, status)
            faults = _differences(named, written)
            if not faults and not is_declared:  # what is declared is looked into
                faults = _shape(named.path, file, written.size)
    except (NotFound, InvalidInput) as error:
        found.unseen[key] = str(error)
        return
    except OSError as error:
        found.unseen[key] = f"{named.path}: {error.strerror or 'cannot be read'}"
        return
    found.files[named.path] = _seen(named.path, written)
    _judge(found, key, faults)


def _differences(named: Named, written: WrittenFile) -> list[str]:
    if written.size == 0:
        return [f"{named.path} is empty (0 bytes)"]
    if named.size is not None and named.size != written.size:
        return [f"{named.path} has {written.size:,} bytes and was said to have {named.size:,}"]
    if named.sha256 is not None and named.sha256.lower() != written.sha256:
        return [f"{named.path} is another file than was said: its sha256 is {written.sha256}, not {named.sha256}"]
    return []


def _shape(path: str, file: BinaryIO, size: int) -> list[str]:
    """See whether a file is what its name says, as far as that costs nothing."""
    file.seek(0)
    form = expectations.extension(path)
    if form == "xlsx" and not zipfile.is_zipfile(file):
        return [f"{path} is not a workbook"]
    if form == "pdf" and b"%PDF-" not in file.read(1_024):
        return [f"{path} is not a PDF"]
    if form == "parquet" and file.read(4) != b"PAR1":
        return [f"{path} is not Parquet"]
    if form == "json" and size <= LARGEST_PARSED_AT_ONCE:
        try:
            json.loads(file.read())
        except (ValueError, RecursionError) as error:
            return [f"{path} is not JSON ({str(error)[:120]})"]
    return []


def _seen(path: str, written: WrittenFile, rows: int | None = None) -> Seen:
    return Seen(path, written.size, written.sha256, written.media_type, written.path, rows)


# --- files that were declared --------------------------------------------------------------------------------


def _look_at_files(found: Look, key: str, wanted: Expectation, claimed: Claimed, place: Place) -> list[str]:
    """Look at every file of a pattern and return where they lie."""
    assert wanted.path is not None  # noqa: S101 - the caller has seen it
    pattern = filled(wanted.path, claimed.values)
    named = [each for each in claimed.named if _fits(each.path, pattern)]
    if not named:
        lying = [] if place.outputs is None else place.outputs.matching(pattern)
        named = [Named(path) for path in lying if _is_new(path, claimed.since, place)]
    if not named:
        found.unseen[key] = f"{_shown(pattern)}: there is no such file from this task in the output folder"
        return []
    if len(named) > MOST_FILES:
        _judge(found, key, [f"{_shown(pattern)} fits {len(named)} files; at most {MOST_FILES} are looked into"])
        return []
    faults: list[str] = []
    stored: list[str] = []
    for each in named:
        try:
            faults += [f"{each.path} {reason}" for reason in _look_into(found, each, wanted, claimed.now, place)]
            stored.append(each.stored or each.path)
        except (NotFound, InvalidInput) as error:
            found.unseen[key] = str(error)
            return []
        except OSError as error:
            found.unseen[key] = f"{each.path}: {error.strerror or 'cannot be read'}"
            return []
    _judge(found, key, faults)
    return stored


def _fits(path: str, pattern: str) -> bool:
    """Whether a path is of a pattern; a name that was taken got `-2`, `-3`… from the output folder."""
    if folder.fits(path, pattern):
        return True
    stem, dot, extension = pattern.rpartition(".")
    return bool(dot) and any(
        folder.fits(path, f"{stem}-{digits}{dot}{extension}") for digits in ("[0-9]", "[0-9][0-9]")
    )


def _is_new(path: str, since: float, place: Place) -> bool:
    try:
        with _opened(place, path) as (_, status):
            return status.st_mtime >= since - SLACK_SECONDS
    except (NotFound, InvalidInput, OSError):
        return False


def _look_into(found: Look, named: Named, wanted: Expectation, now: float, place: Place) -> list[str]:
    with _opened(place, named.stored or named.path) as (file, status):
        written = folder.described(named.stored or named.path, file, status)
        found.files[named.path] = _seen(named.path, written)
        if written.size == 0:
            return ["is empty (0 bytes)"]
        if wanted.max_age is not None and now - status.st_mtime > wanted.max_age:
            return [f"was written {now - status.st_mtime:,.0f} s ago; at most {wanted.max_age:,} s are allowed"]
        form = wanted.format or expectations.extension(named.path)
        if form is None:
            return []
        file.seek(0)
        rows, reasons = inspect(file, form, wanted, place.stop)
    found.files[named.path] = _seen(named.path, written, rows)
    return reasons


def inspect(
    file: BinaryIO, form: str, wanted: Expectation, stop: threading.Event | None = None
) -> tuple[int | None, list[str]]:
    """Have a process of its own look into a file; return its rows, where it has some, and what is wrong with it."""
    asked = {"format": form, **wanted.model_dump(mode="json", exclude_defaults=True, exclude={"path", "format"})}
    with tempfile.TemporaryDirectory(prefix="taskqueue-look-") as scratch:
        spec = os.path.join(scratch, "expected.json")  # noqa: PTH118 - goes into an argument as text
        with open(spec, "w", encoding="utf-8") as written:  # noqa: PTH123 - the same
            json.dump(asked, written)
        command = [sys.executable, "-I", "-m", "taskqueue_mcp.outputs.inspecting", spec]
        try:
            ran = running.run(command, seconds=INSPECTION_SECONDS, given=file, stop=stop)
        except OSError as error:
            return None, [f"could not be looked into ({error.strerror or error})"]
    if ran.code is None or ran.code in OUT_OF_TIME:
        return None, [f"takes longer than {INSPECTION_SECONDS:.0f} s to look into"]
    try:
        told = json.loads(ran.output)
        return told["rows"], [str(reason) for reason in told["reasons"]]
    except (ValueError, KeyError, TypeError):
        last = ran.errors.strip().rpartition("\n")[2][:160]
        return None, [f"could not be looked into (the look ended with code {ran.code}{f': {last}' if last else ''})"]


def _look_at_data(wanted: Expectation, data: str | None, place: Place) -> list[str]:
    if data is None:
        return ["result_data is missing; pass it to complete_task"]
    with tempfile.TemporaryFile() as file:
        file.write(data.encode())
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        _, reasons = inspect(file, "json", wanted, place.stop)
    return [f"result_data {reason}" for reason in reasons]


# --- what else was declared ----------------------------------------------------------------------------------


def _look_at_changed(found: Look, key: str, wanted: Expectation, claimed: Claimed, place: Place) -> None:
    if claimed.baseline is None or place.work is None:
        found.unseen[key] = f"nobody noted what {', '.join(wanted.changed)} was when the attempt began"
        return
    faults: list[str] = []
    for written in wanted.changed:
        pattern = filled(written, claimed.values)
        now = _hashes(pattern, place.work)
        there = {path: digest for path, digest in now.items() if digest is not None}
        if not there:
            faults.append(f"{_shown(pattern)} does not exist and was expected to change")
        elif all(claimed.baseline.get(path) == digest for path, digest in there.items()):
            faults.append(f"{_shown(pattern)} is what it was before; it was expected to change")
    _judge(found, key, faults)


def _hashes(pattern: str, outputs: OutputFolder) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for path in outputs.matching(pattern)[:MOST_FILES]:
        try:
            with outputs.opened(path) as (file, _):
                found[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except (NotFound, InvalidInput, OSError):
            found[path] = None
    return found or {pattern: None}


def _run_check(found: Look, key: str, name: str, files: Sequence[str], place: Place) -> None:
    command = place.checks.get(name)
    if not command:
        found.unseen[key] = f"the check {name!r} is not among this machine's worker.checks"
        return
    if not any("{file}" in part for part in command):
        _judge(found, key, _failed_check(name, command, place))
        return
    if not files:
        found.unseen[key] = f"the check {name!r} needs a file, and none was seen"
        return
    faults = []
    for path in files:
        whole = path if place.outputs is None else str(place.outputs.root / path)
        faults += _failed_check(name, [part.replace("{file}", whole) for part in command], place)
    _judge(found, key, faults)


def _failed_check(name: str, command: Sequence[str], place: Place) -> list[str]:
    folder_of_work = place.work or place.outputs
    inside = None if folder_of_work is None else folder_of_work.root
    try:
        ran = running.run(command, seconds=CHECK_SECONDS, folder=inside, stop=place.stop)
    except OSError as error:
        return [f"the check {name!r} cannot be run ({error.strerror or error})"]
    if ran.code == 0:
        return []
    said = " ".join((ran.errors.strip() or ran.output.strip())[-240:].split())
    ended = f"did not end within {CHECK_SECONDS:.0f} s" if ran.code is None else f"ended with code {ran.code}"
    return [f"the check {name!r} {ended}{f': {said}' if said else ''}"]


def _shown(pattern: str) -> str:
    return pattern if pattern.isprintable() else ascii(pattern)
