"""An outcome as the call that settles it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.model import Asked, Completed, Ended, Failed, Reason
from taskqueue_mcp.worker.connection import writable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.model import Micros
    from taskqueue_mcp.outputs.folder import OutputFolder

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_SUMMARY: Final = 20_000
LONGEST_ERROR: Final = 65_536
LONGEST_QUESTION: Final = 10_000
LARGEST_RESULT: Final = 2 * 1024 * 1024
"""Characters of a result that are sent at all; what the queue keeps of it is for the queue to say."""

KINDS: Final[dict[Reason | None, str]] = {Reason.QUOTA: "quota", Reason.SNOOZE: "snooze"}

MEASURES: Final = ("path", "size", "sha256", "media_type")

Call = tuple[str, dict[str, Any]]


def as_call(lease: str, outcome: Ended, outputs: OutputFolder) -> Call:
    """Return the tool that settles `outcome`, and its arguments; the same every time.

    Reads the files that a completed attempt names without having measured them.
    """
    if isinstance(outcome, Completed):
        return _completed(lease, outcome, outputs)
    if isinstance(outcome, Asked):
        return "update_task", {"lease": lease, "question": outcome.question[:LONGEST_QUESTION], **_usage(outcome)}
    if isinstance(outcome, Failed):
        told = {"kind": "permanent" if outcome.permanent else "error", "error_log": _cut(outcome.error)}
    else:
        told = {"kind": KINDS.get(outcome.kind, "release"), "error_log": _cut(outcome.why)}
        if outcome.resume_at is not None:
            told["resume_at"] = _instant(outcome.resume_at)
    return "fail_task", {"lease": lease, **told, **_usage(outcome)}


def _completed(lease: str, outcome: Completed, outputs: OutputFolder) -> Call:
    told: dict[str, Any] = {"lease": lease, "result_summary": outcome.summary[:LONGEST_SUMMARY]}
    if outcome.path is not None:
        told["result_path"] = outcome.path
    if outcome.data is not None:
        try:
            data = json.dumps(writable(outcome.data), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            return as_call(lease, Failed(f"the result cannot be written as JSON: {error}", permanent=True), outputs)
        if len(data) > LARGEST_RESULT:
            why = f"the result is {len(data):,} characters of JSON; write a file and return its path"
            return as_call(lease, Failed(why, permanent=True), outputs)
        told["result_data"] = data
    if files := list(_files(outcome, outputs)):
        told["artifacts"] = files
    return "complete_task", {**told, **_usage(outcome)}


def _files(outcome: Completed, outputs: OutputFolder) -> Iterator[str]:
    """Each file as JSON text: as the executor measured it, or else measured here."""
    measured = outcome.data.get("artifacts") if isinstance(outcome.data, dict) else None
    known = {
        each["path"]: {key: each[key] for key in MEASURES if key in each}
        for each in measured or ()
        if isinstance(each, dict) and "path" in each
    }
    for path in dict.fromkeys([*known, *outcome.artifacts]):
        yield json.dumps(known.get(path) or _measured(path, outputs), ensure_ascii=False)


def _measured(path: str, outputs: OutputFolder) -> dict[str, Any]:
    try:
        found = outputs.find(path)
    except TaskQueueError:
        return {"path": path}
    return {key: getattr(found, key) for key in MEASURES}


def _usage(outcome: Ended) -> dict[str, str]:
    return {"usage": json.dumps(outcome.usage)} if outcome.usage else {}


def _cut(text: str) -> str:
    half = LONGEST_ERROR // 2
    return text if len(text) <= LONGEST_ERROR else f"{text[: half - 3]}\n…\n{text[-half:]}"


def _instant(at: Micros) -> str:
    return (EPOCH + timedelta(microseconds=at)).isoformat()
