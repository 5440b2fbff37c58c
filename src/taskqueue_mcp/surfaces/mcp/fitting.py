"""Results a model can read: at most so many characters, and what was cut says where the rest is."""

from __future__ import annotations

import json
from typing import Any

LONGEST = 10_000
"""Characters of a result by default: Codex keeps 12,000 of them."""
SHORTEST_CUT = 200
LONG = 300
PAGE = 8_000
DOCUMENTS = ("result_data", "params", "metadata", "variables", "data")
PARTS = {
    "instructions": "instructions",
    "params": "params",
    "variables": "params",
    "text": "procedure",
    "result_data": "result",
    "result_summary": "result",
    "inputs": "inputs",
    "earlier_attempts": "attempts",
    "attempts": "attempts",
    "answers": "questions",
    "question": "questions",
    "questions": "questions",
}


_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one for each call


def write(value: Any) -> str:
    """Return compact JSON text."""
    return _write(value)


def fit(view: dict[str, Any], task_id: str | None = None, longest: int = LONGEST) -> tuple[dict[str, Any], str]:
    """Return the view and its text, cut where it is longest until the text fits.

    What was cut is listed under `truncated`, each with the call that pages the rest.
    """
    text = write(view)
    if len(text) <= longest:
        return view, text
    view = json.loads(text)
    cut: dict[str, str] = {}
    view["truncated"] = cut
    _flatten(view)
    while len(text := write(view)) > longest:
        leaf = max(_leaves(view), key=lambda found: len(found[2]), default=None)
        if leaf is None or len(leaf[2]) <= SHORTEST_CUT:
            if not _shorten_a_list(view, cut, task_id):
                break
            continue
        holder, key, long, path = leaf
        excess = len(text) - longest + 160
        holder[key] = long[: max(SHORTEST_CUT - 1, len(long) - excess)] + "…"
        cut[path] = _how(path, task_id)
    return view, write(view)


def brief(view: dict[str, Any]) -> dict[str, Any]:
    """Return a task as a line of a list: its long texts cut."""
    return {
        key: value[:LONG] + "…" if isinstance(value, str) and len(value) > LONG else value
        for key, value in view.items()
    }


def _flatten(value: Any) -> None:
    """Turn large documents into their JSON text, so that they can be cut like any text."""
    for holder, key, item, _ in _walk(value):
        if key in DOCUMENTS and isinstance(item, dict | list):
            text = write(item)
            if len(text) > LONG:
                holder[key] = text


def _walk(value: Any, path: str = "") -> Any:
    pairs: Any = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, item in pairs:
        where = f"{path}.{key}" if path else str(key)
        yield value, key, item, where
        yield from _walk(item, where)


def _leaves(view: dict[str, Any]) -> Any:
    for holder, key, item, path in _walk(view):
        if isinstance(item, str) and not path.startswith("truncated") and key != "lease":
            yield holder, key, item, path


def _shorten_a_list(view: dict[str, Any], cut: dict[str, str], task_id: str | None) -> bool:
    lists = [found for found in _walk(view) if isinstance(found[2], list) and len(found[2]) > 1]
    if not lists:
        return False
    _, _, items, path = max(lists, key=lambda found: len(write(found[2])))
    del items[: max(1, len(items) // 4)]
    cut[path] = _how(path, task_id)
    return True


def _how(path: str, task_id: str | None) -> str:
    part = next((PARTS[word] for word in path.split(".") if word in PARTS and word != "text"), None)
    if part is None:
        part = "procedure" if path.startswith("procedure") else "full"
    return f"get_task(task_id={task_id!r}, detail={part!r})" if task_id else "ask for less"
