"""One part of a task, paged: what did not fit into a claim or a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.surfaces import views
from taskqueue_mcp.surfaces.mcp import fitting
from taskqueue_mcp.taskqueue import querying

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.taskqueue import TaskQueue

Json = dict[str, Any]
EVENTS = 30
CHUNKS = 20


async def page(queue: TaskQueue, caller: Caller, task_id: int, part: str, cursor: str | None) -> Json:
    """Return a page of `part`: rows of events, or `text` of the others, with where the next page is."""
    match part:
        case "events":
            return await _events(queue, caller, task_id, cursor)
        case "log":
            return await _log(queue, caller, task_id, cursor)
        case _:
            return await _paged(queue, caller, task_id, part, cursor)


async def _paged(queue: TaskQueue, caller: Caller, task_id: int, part: str, cursor: str | None) -> Json:
    text = await _text(queue, caller, task_id, part)
    start = 0 if cursor is None else querying.read_cursor(cursor, "p", 1)[0]
    end = _end(text, start)
    return {
        "id": views.name(task_id),
        "detail": part,
        "text": text[start:end],
        "characters": len(text),
        "next_cursor": querying.write_cursor("p", end) if end < len(text) else None,
    }


def _end(text: str, start: int) -> int:
    """Return how far a page may go: escapes make some characters longer on the wire."""
    end = min(len(text), start + fitting.PAGE)
    while end - start > 1 and len(fitting.write(text[start:end])) > fitting.PAGE + 1_000:
        end = start + (end - start) * 3 // 4
    return end


async def _text(queue: TaskQueue, caller: Caller, task_id: int, part: str) -> str:
    found = await queue.get(caller, task_id)
    match part:
        case "instructions":
            return found.body.instructions
        case "params":
            return found.body.params or "{}"
        case "procedure":
            return await queue.followed_text(caller, task_id)
        case "inputs":
            inputs = [views.detail(await queue.get(caller, other)) for other in found.depends_on]
            shown = [{"task": each.pop("id"), **each} for each in map(_result, inputs)]
        case "result":
            return _write(_result(views.detail(found)))
        case "attempts":
            shown = [views.attempt(each) for each in found.attempts]
        case _:
            shown = [views.question(each) for each in found.questions]
    return _write(shown)


def _result(view: Json) -> Json:
    kept = ("id", "title", "status", "result_summary", "result_path", "result_data", "error", "artifacts")
    return {key: view[key] for key in kept if key in view}


async def _events(queue: TaskQueue, caller: Caller, task_id: int, cursor: str | None) -> Json:
    after = 0 if cursor is None else querying.read_cursor(cursor, "e", 1)[0]
    found = await queue.history(caller, task_id, after, EVENTS + 1)
    more = querying.write_cursor("e", found[EVENTS - 1].seq) if len(found) > EVENTS else None
    shown = [views.event(each) for each in found[:EVENTS]]
    return {"id": views.name(task_id), "events": shown, "count": len(shown), "next_cursor": more}


async def _log(queue: TaskQueue, caller: Caller, task_id: int, cursor: str | None) -> Json:
    attempt, number, offset = (0, 0, 0) if cursor is None else querying.read_cursor(cursor, "l", 3)
    found = await queue.logs(caller, task_id, (attempt, number), CHUNKS)
    text, more = "", None
    for chunk in found:
        rest = chunk.text[offset:]
        end = _end(rest, 0)
        if text and len(text) + end > fitting.PAGE:
            more = querying.write_cursor("l", attempt, number, offset)
            break
        text += rest[:end] + ("" if rest.endswith("\n") or end < len(rest) else "\n")
        if end < len(rest):
            more = querying.write_cursor("l", attempt, number, offset + end)
            break
        attempt, number, offset = chunk.attempt, chunk.number, 0
    else:
        if len(found) == CHUNKS:
            more = querying.write_cursor("l", attempt, number, 0)
    read = more or querying.write_cursor("l", attempt, number, offset)  # who follows the log goes on from here
    return {"id": views.name(task_id), "text": text, "next_cursor": more, "cursor": read}


def _write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
