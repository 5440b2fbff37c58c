"""The story of an execution, from the plain JSON that every surface has: asked, done, said, spent and found."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from taskqueue_mcp.outputs.documents import rendering, transcript
from taskqueue_mcp.outputs.documents.document import shown as shown_cell
from taskqueue_mcp.outputs.documents.document import titled
from taskqueue_mcp.outputs.documents.pdf import pdf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Json = dict[str, Any]
FORMATS: Final = ("html", "pdf", "json")
LONGEST_LOG: Final = 200_000
"""Characters of the log that a page shows; json has all of it."""
LONGEST_VALUE: Final = 20_000
MOST_COLUMNS: Final = 16
LINE: Final = 100
"""Characters of JSON that stand on one line."""
SECONDS: Final = 120.0
ENDED_WELL: Final = frozenset({"completed", "verified"})
ENDED_BADLY: Final = frozenset({"failed", "cancelled", "rejected", "lost", "lease_lost"})


def content(
    task: Mapping[str, Any], *, events: Sequence[Mapping[str, Any]] = (), log: str = "",
    transcripts: Mapping[int, Iterable[str | bytes]] | None = None, made_at: str = "",
) -> Json:  # fmt: skip
    """Return everything that a report tells, as JSON: `task` is whole, `log` its text, `transcripts` by attempt."""
    attempts = [dict(each) for each in task.get("attempts", ())]
    messages: list[Json] = []
    calls: list[Json] = []
    for attempt, lines in sorted((transcripts or {}).items()):
        said, called = transcript.read(lines)
        messages += [{"attempt": attempt, **each} for each in said]
        calls += [{"attempt": attempt, **each} for each in called]
    for each in attempts:
        each["execution_id"] = f"{task['id']}:{each['attempt']}"
    sessions = [usage["session_id"] for each in attempts if (usage := each.get("usage") or {}).get("session_id")]
    return {
        "task_id": task["id"],
        "task_name": task["title"],
        "execution_id": f"{task['id']}:{task['attempt']}" if task.get("attempt") else None,
        "session_id": sessions[-1] if sessions else None,
        "status": task["status"],
        "verdict": task.get("verdict"),
        "made_at": made_at,
        "summary": _summary(attempts, messages, calls),
        "task": {key: value for key, value in task.items() if key not in {"attempts", "questions", "artifacts"}},
        "executions": attempts,
        "questions": list(task.get("questions", ())),
        "messages": messages,
        "tool_calls": calls,
        "artifacts": list(task.get("artifacts", ())),
        "events": [dict(each) for each in events],
        "log": log,
    }


def written(found: Mapping[str, Any], file_format: str, *, zone: str = "UTC", seconds: float = SECONDS) -> bytes:
    """Return the report in a format of `FORMATS`; a page tells times by the clock of `zone`.

    Raises:
        PdfFailed: what lays out PDF files is missing, or gave up.
    """
    if file_format == "json":
        return rendering.as_json(found).encode(errors="replace")
    page = rendering.page("execution.html", _context(found, zone), paper=file_format == "pdf")
    return pdf(page, seconds=seconds) if file_format == "pdf" else page.encode(errors="replace")


def _summary(attempts: Sequence[Json], messages: Sequence[Json], calls: Sequence[Json]) -> Json:
    used = [each.get("usage") or {} for each in attempts]
    seconds = [each["seconds"] for each in attempts if each.get("seconds") is not None]
    return {
        "total_attempts": len(attempts),
        "total_messages": len(messages),
        "total_tool_calls": len(calls),
        "duration_ms": round(1_000 * sum(seconds)) if seconds else None,
        "cost_usd": _total(used, "cost_usd"),
        "tokens": _total(used, "tokens"),
        "turns": _total(used, "turns"),
    }


def _total(used: Sequence[Json], key: str) -> float | int | None:
    values = [each[key] for each in used if isinstance(each.get(key), int | float)]
    return round(sum(values), 6) if values else None


def _context(found: Mapping[str, Any], zone: str) -> Json:
    task, summary = found["task"], found["summary"]
    log = str(found["log"])
    return {
        "title": found["task_name"],
        "subtitle": f"Report of {found['task_id']}",
        "landscape": False,
        "facts": [("Task", found["task_id"]), ("Made", _instant(found["made_at"], zone)), ("Times", zone)],
        "found": found,
        "task": task,
        "tones": {"good": ENDED_WELL, "bad": ENDED_BADLY},
        "figures": _figures(found, summary),
        "asked": _asked(task, zone),
        **_data(task.get("result_data")),
        "instant": lambda at: _instant(at, zone),
        "told": _told,
        "cell": shown_cell,
        "conversation": _conversation(found),
        "log": log[:LONGEST_LOG],
        "log_left": max(0, len(log) - LONGEST_LOG),
    }


def _figures(found: Mapping[str, Any], summary: Json) -> list[tuple[str, str]]:
    figures = [("Attempts", str(summary["total_attempts"]))]
    if summary["duration_ms"] is not None:
        figures.append(("Time at work", _lasting(summary["duration_ms"] / 1_000)))
    if summary["cost_usd"] is not None:
        figures.append(("Cost", f"$ {summary['cost_usd']:,.4f}"))
    for key, name in (("tokens", "Tokens"), ("turns", "Turns"), ("total_tool_calls", "Tool calls")):
        if summary[key]:
            figures.append((name, f"{summary[key]:,}"))
    if found["artifacts"]:
        figures.append(("Files", str(len(found["artifacts"]))))
    return figures


def _asked(task: Mapping[str, Any], zone: str) -> list[tuple[str, Any]]:
    told = {
        "Type": task.get("task_type"),
        "Executor": task.get("executor"),
        "Procedure": task.get("sop"),
        "Template": task.get("template"),
        "Asked by": " for ".join(str(each) for each in (task.get("created_by"), task.get("requested_by")) if each),
        "Created": _instant(task.get("created_at"), zone),
        "Due": _instant(task.get("due_at") or task.get("run_at"), zone),
        "Finished": _instant(task.get("finished_at"), zone),
        "Queue": task.get("queue"),
        "Priority": task.get("priority"),
        "Tags": ", ".join(task.get("tags", ())),
        "Depends on": ", ".join(task.get("depends_on", ())),
        "Parameters": task.get("params"),
        "Variables": task.get("variables"),
        "Output": task.get("output"),
        "Must produce": task.get("outputs"),
    }
    return [(name, value) for name, value in told.items() if value not in (None, "", [], {})]


def _data(found: Any) -> Json:
    """A result in its parts: the rows that it shows as a table, what is short as facts, the rest as it is.

    The files that it names have a table of their own.
    """
    if not isinstance(found, dict):
        return {"data": found, "data_rows": [], "data_columns": [], "data_facts": []}
    rows = found.get("preview")
    is_table = isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    columns = list(dict.fromkeys(str(key) for row in rows for key in row)) if is_table and rows else []
    shown = {"artifacts"} | ({"preview", "columns"} if columns else set())
    rest = {key: value for key, value in found.items() if key not in shown}
    facts = [(titled(key), value) for key, value in rest.items() if not isinstance(value, dict | list)]
    inner = rest.pop("figures", None)
    facts += [(str(key), value) for key, value in inner.items()] if isinstance(inner, dict) else []
    left = {key: value for key, value in rest.items() if isinstance(value, dict | list)}
    return {
        "data": left or None,
        "data_rows": rows if columns else [],
        "data_columns": columns[:MOST_COLUMNS],
        "data_facts": [(name, value) for name, value in facts if value is not None],
    }


def _conversation(found: Mapping[str, Any]) -> list[Json]:
    """Messages and tool calls in the order of the session."""
    both = [*found["messages"], *found["tool_calls"]]
    return sorted(both, key=lambda each: (each["attempt"], each["place"]))


def _told(value: Any) -> str:
    """Any value for a person: text as it stands, all else as indented JSON, cut where it is endless."""
    text = value if isinstance(value, str) else _compact(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text):,} characters)"


def _compact(value: Any) -> str:
    """JSON that is indented, with whatever fits on a line in one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= LINE or not isinstance(value, dict | list) or not value:
        return line
    if isinstance(value, list):
        return "[\n" + ",\n".join(_indented(_compact(each)) for each in value) + "\n]"
    pairs = (f"{json.dumps(str(key), ensure_ascii=False)}: {_compact(each)}" for key, each in value.items())
    return "{\n" + ",\n".join(map(_indented, pairs)) + "\n}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _instant(at: Any, zone: str) -> str:
    """An ISO instant by the clock on the wall."""
    if not at:
        return ""
    return datetime.fromisoformat(str(at)).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
