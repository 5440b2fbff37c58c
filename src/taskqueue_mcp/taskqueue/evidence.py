"""What becomes of a result before it is believed: what was declared and named, looked at by somebody else.

Gathered in a transaction, looked at outside of one (files take as long as they take), and written with the outcome.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp import checks
from taskqueue_mcp import cron as crons
from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound
from taskqueue_mcp.model import Body, Kind, Standing
from taskqueue_mcp.outputs import checking, expectations, paths
from taskqueue_mcp.outputs.checking import Claimed, Look, Named, Place
from taskqueue_mcp.store import attempts, schedules, tasks

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from taskqueue_mcp.model import Artifact, Caller, Task
    from taskqueue_mcp.outputs.folder import OutputFolder
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.rules import Rules

LARGEST_INLINE: Final = 64 * 1024
"""Bytes of a file that comes within a call."""
MOST_NOTES: Final = 20
MOST_FILES_TOLD: Final = 20
MICROS: Final = 1_000_000
HOW_TO_SHOW: Final = (
    'write it into the output folder of this server, upload it with PUT /artifacts, or pass it as {"path", "content"}'
)
ONLY_SERVICES: Final = "a worker's own look counts only with a token of kind service"
NOTHING_TO_DO: Final = "the look before it found nothing to do, so nothing had to be made"
ONLY_THE_AGENT: Final = "so nobody but the agent has seen it"


@dataclass(frozen=True, slots=True)
class WorkersLook:
    """What a worker says it found outside the agent, by the keys of `outputs.checking`.

    `skipped` says that the first look which the task asks for (`only_if`) found nothing to do.
    """

    met: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Unweighed:
    """A result that has to be looked at: nothing has been written yet."""

    claimed: Claimed
    inline: tuple[tuple[str, str], ...]
    files: tuple[Mapping[str, Any], ...]
    by_worker: WorkersLook | None
    now: int
    may_be_skipped: bool = False


@dataclass(frozen=True, slots=True)
class Weighed:
    """What was found: `document` is the verdict as it is stored, `files` the artifacts, `written` what we wrote."""

    standing: Standing
    reasons: tuple[str, ...]
    document: str
    files: tuple[Mapping[str, Any], ...]
    written: tuple[str, ...] = ()


def read_look(value: Any, deepest: int) -> WorkersLook | None:
    """Read what a worker found: `{"met": […], "faults": […]}`.

    Raises:
        InvalidInput: it is something else.
    """
    if value is None:
        return None
    told = checks.json_object("evidence", value, deepest)
    met, faults = told.get("met", []), told.get("faults", [])
    is_sound = all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in (met, faults))
    if set(told) - {"met", "faults", "skipped"} or not is_sound or not isinstance(told.get("skipped", False), bool):
        raise InvalidInput(
            'evidence: must be {"met": [keys], "faults": [reasons]}; programs fill it, agents leave it out'
        )
    faults = tuple(fault[: checking.LONGEST_REASON] for fault in faults)
    return WorkersLook(frozenset(met), faults, told.get("skipped", False))


def gather(
    transaction: Transaction, rules: Rules, task: Task, path: str | None, data: str | None,
    files: tuple[dict[str, Any], ...], by_worker: WorkersLook | None,
) -> Unweighed:  # fmt: skip
    """Return what has to be looked at before the attempt can end."""
    body = tasks.fetch_body(transaction, task.id) if task.expects else Body()
    begun_at, baseline = attempts.beginning(transaction, task.id, task.attempt)
    stored = {
        each.path: each
        for each in attempts.artifacts(transaction, task.id)
        if each.attempt == task.attempt and each.stored is not None
    }
    told: dict[str, dict[str, Any]] = {} if path is None else {path: {"path": path}}
    told |= {each["path"]: each for each in files}
    named = [_named(each, stored.get(each["path"])) for each in told.values()]
    named += [
        Named(each.path, each.size, each.sha256, each.stored) for name, each in stored.items() if name not in told
    ]
    claimed = Claimed(
        wanted=() if _is_skipped(body, data) else declared(body),
        named=tuple(named),
        data=data,
        values=values_of(transaction, rules, task, body),
        since=begun_at / MICROS,
        now=transaction.now / MICROS,
        baseline=None if baseline is None else json.loads(baseline),
    )
    inline = tuple((each["path"], each["content"]) for each in files if "content" in each)
    kept = tuple({key: each[key] for key in each if key != "content"} for each in files)
    return Unweighed(claimed, inline, kept, by_worker, transaction.now, body.only_if is not None)


def declared(body: Body) -> tuple[expectations.Expectation, ...]:
    """Return what a task declares that it must produce."""
    return () if body.outputs is None else expectations.read(json.loads(body.outputs))


def _is_skipped(body: Body, data: str | None) -> bool:
    """Whether there was nothing to do, by the look that the task itself asks for: then nothing has to be there."""
    if body.only_if is None or data is None:
        return False
    told = json.loads(data)
    return isinstance(told, dict) and told.get("skipped") is True


def values_of(transaction: Transaction, rules: Rules, task: Task, body: Body) -> dict[str, Any]:
    """Return what the placeholders of a task's patterns stand for."""
    schedule = None if task.schedule_id is None else schedules.by_id(transaction, task.schedule_id)
    zone = rules.zone if schedule is None else schedule.timezone
    day = crons.local_text(task.due_at or task.run_at, zone)[:10]
    params = {} if body.params is None else json.loads(body.params)
    return {**params, "date": day, "task_id": task.id}


def write_baseline(found: Mapping[str, str | None]) -> str:
    """Return what files were as the text that is stored."""
    return json.dumps(found, ensure_ascii=False)


def weigh(unweighed: Unweighed, rules: Rules, caller: Caller, stop: threading.Event | None = None) -> Weighed:
    """Look at a result and judge it; reads and writes files, so it is for a thread.

    Raises:
        InvalidInput, LimitReached: a file that came within the call cannot be kept; nothing remains of it.
        OSError: the disk is full.
    """
    claimed, written = _keep_inline(unweighed, rules.outputs)
    by_worker = unweighed.by_worker or WorkersLook()
    is_trusted = caller.kind is not Kind.AGENT
    vouched = by_worker.met if is_trusted else frozenset()
    notes: list[str] = []
    if is_trusted and by_worker.skipped and unweighed.may_be_skipped:
        claimed = replace(claimed, wanted=())
        notes.append(NOTHING_TO_DO)
    place = Place(outputs=rules.outputs, work=rules.outputs, checks=rules.checks, stop=stop)
    found = checking.look(claimed, place, leave_out=_of_the_worker(claimed, by_worker, vouched))
    reasons = [*by_worker.faults, *found.reasons()]
    for key, is_declared in checking.requirements(claimed):
        is_the_workers = bool(by_worker.faults) and key.endswith(ENDS_ELSEWHERE)
        if key in found.met or key in found.faults or key in vouched or is_the_workers:
            continue
        why = found.unseen.get(key, "nobody could look at it")
        if is_declared:
            reasons.append(f"{why}; {ONLY_SERVICES if key in by_worker.met else HOW_TO_SHOW}")
        else:
            notes.append(f"{why}, {ONLY_THE_AGENT}")
    is_empty = not any(True for _ in checking.requirements(claimed))
    standing = Standing.REJECTED if reasons else Standing.UNVERIFIED if notes or is_empty else Standing.VERIFIED
    reasons = list(dict.fromkeys(reasons))[: checking.MOST_REASONS]
    document = _document(standing, reasons, notes, found, unweighed, vouched=vouched)
    return Weighed(standing, tuple(reasons), document, _artifacts(unweighed, found), written)


ENDS_ELSEWHERE: Final = (".changed", ".check")
"""What a worker sees in its own folder, and the server could only see in another one."""


def _of_the_worker(claimed: Claimed, by_worker: WorkersLook, vouched: frozenset[str]) -> frozenset[str]:
    """Return what the worker has looked at in its own folder: the server would look in another one."""
    keys = vouched if not by_worker.faults else {key for key, _ in checking.requirements(claimed)}
    return frozenset(key for key in keys if key.endswith(ENDS_ELSEWHERE))


def take_back(weighed: Weighed, outputs: OutputFolder | None) -> None:
    """Remove what was written for a result that did not come to be."""
    for path in weighed.written:
        if outputs is not None:
            with suppress(OSError):
                outputs.remove(path)


def check_inline(path: str, content: Any) -> None:
    """Refuse a file that cannot come within a call.

    Raises:
        InvalidInput, LimitReached: with what is wrong.
    """
    if not isinstance(content, str):
        raise InvalidInput("artifact content: must be text; other files are uploaded with PUT /artifacts")
    if len(content.encode("utf-8", "surrogatepass")) > LARGEST_INLINE:
        raise LimitReached(
            f"artifact content: {path} is over {LARGEST_INLINE:,} bytes; upload it with PUT /artifacts instead"
        )
    checks.text("artifact content", content)
    paths.check(path)


def _named(told: Mapping[str, Any], stored: Artifact | None) -> Named:
    size, sha256 = told.get("size"), told.get("sha256")
    if stored is not None:
        return Named(told["path"], size or stored.size, sha256 or stored.sha256, stored.stored)
    return Named(told["path"], size, sha256)


def _keep_inline(unweighed: Unweighed, outputs: OutputFolder | None) -> tuple[Claimed, tuple[str, ...]]:
    """Write the files that came within the call; one that lies there already is not written again."""
    if not unweighed.inline:
        return unweighed.claimed, ()
    if outputs is None:
        raise InvalidInput("artifact content: this server keeps no output folder; set TASKQUEUE_OUTPUT")
    stored: dict[str, str] = {}
    written: list[str] = []
    try:
        for path, content in unweighed.inline:
            data = content.encode()
            if not _lies_there(outputs, path, data):
                stored[path] = outputs.write(path, lambda file, data=data: file.write(data)).path  # type: ignore[misc]  # a default of a lambda
                written.append(stored[path])
            else:
                stored[path] = path
    except BaseException:
        for path in written:
            outputs.remove(path)
        raise
    named = tuple(replace(each, stored=stored.get(each.path, each.stored)) for each in unweighed.claimed.named)
    return replace(unweighed.claimed, named=named), tuple(written)


def _lies_there(outputs: OutputFolder, path: str, data: bytes) -> bool:
    try:
        return outputs.find(path).sha256 == hashlib.sha256(data).hexdigest()
    except (NotFound, InvalidInput):
        return False


def _document(
    standing: Standing, reasons: list[str], notes: list[str], found: Look, unweighed: Unweighed, *,
    vouched: frozenset[str],
) -> str:  # fmt: skip
    by = [*(["worker"] if unweighed.by_worker is not None else []), *(["server"] if found.met or found.faults else [])]
    told: dict[str, Any] = {"status": standing.value, "checked_by": by, "checked_at": unweighed.now}
    if reasons:
        told["reasons"] = reasons
    if notes:
        told["notes"] = notes[:MOST_NOTES]
    if elsewhere := sorted(key for key in vouched if key not in found.met):
        told["by_worker_alone"] = elsewhere[:MOST_NOTES]
    files = [
        {key: value for key, value in asdict(seen).items() if value is not None and key != "media_type"}
        for seen in found.files.values()
    ]
    if files:
        told["files"] = files[:MOST_FILES_TOLD]
    return json.dumps(told, ensure_ascii=False)


def _artifacts(unweighed: Unweighed, found: Look) -> tuple[Mapping[str, Any], ...]:
    """Return the files of the attempt: as they were named, with what was seen of them."""
    rows: dict[str, dict[str, Any]] = {each["path"]: dict(each) for each in unweighed.files}
    for path, seen in found.files.items():
        rows[path] = rows.get(path, {}) | asdict(seen)
    return tuple(rows.values())
