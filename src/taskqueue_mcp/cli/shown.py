"""How tasks and schedules look to people in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_mcp.cli.output import one_line, plain, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskqueue_mcp.cli.output import Out

Json = dict[str, Any]
TRUST = {"owner": "a person", "agent": "an agent", "external": "others, whom nobody here vouches for"}
TASKS = ("id", "status", "priority", "queue", "type", "when", "by", "title")


def task_list(out: Out, tasks: Sequence[Json], none: str = "no tasks") -> None:
    """Print tasks as a table; `when` is when one ended or is due; without any, `none` says so."""
    if not tasks:
        out.note(none)
        return
    is_judged = any(task.get("verdict") in {"verified", "rejected"} for task in tasks)
    rows = [
        (
            task["id"],
            standing(task),
            task["priority"],
            task["queue"],
            task["task_type"],
            out.time(task.get("finished_at") or task["run_at"]),
            task.get("worker") or task["created_by"],
            *([str(task.get("verdict", ""))] if is_judged else []),
            shortened(task["title"]),
        )
        for task in tasks
    ]
    out.table((*TASKS[:-1], *(["verdict"] if is_judged else []), TASKS[-1]), rows, flexible="title")


def standing(task: Json) -> str:
    """Return a task's status with its reason."""
    return f"{task['status']} ({task['reason']})" if task.get("reason") else str(task["status"])


def task_line(out: Out, task: Json) -> None:
    """Print a task as a line, and what it waits for from a person."""
    out.line(f"{task['id']} {standing(task)}: {task['title']}")
    hint = needs(task)
    if hint:
        out.note(hint)


def needs(task: Json) -> str | None:
    """Return what a person has to do about a task, or None."""
    if task["status"] != "waiting":
        return None
    asked = f"{task['id']} asks: {task['question']}" if task.get("question") else f"{task['id']} waits for you"
    how = "approve" if task.get("reason") == "approval" else "answer TEXT"
    return f"{asked} (taskqueue-mcp tasks answer {task['id']} {how})"


def task_sheet(out: Out, task: Json, *, attempts: bool = False) -> None:
    """Print everything about a task but its events and log."""
    progress = task.get("progress")
    out.fields(
        [
            ("id", task["id"]),
            ("title", one_line(task["title"])),
            ("status", standing(task)),
            ("question", task.get("question")),
            ("progress", None if progress is None else f"{progress:g} %"),
            ("message", task.get("message")),
            ("result", task.get("result_summary")),
            ("file", task.get("result_path")),
            ("verdict", _verdict(task)),
            ("data", task.get("result_data")),
            ("error", task.get("error")),
            ("budget", _budget(task.get("budget") or {})),
            ("waits for", _money(task.get("unpaid"))),
            ("held back", ", ".join(_limit(out, gate) for gate in task.get("gates", ()))),
            ("type", task["task_type"]),
            ("executor", task.get("executor")),
            ("priority", task["priority"]),
            ("queue", task["queue"]),
            ("tags", ", ".join(task.get("tags", ()))),
            ("procedure", task.get("sop")),
            ("template", task.get("template")),
            ("created", f"{out.time(task['created_at'])} by {_creator(task)}"),
            ("text from", TRUST.get(task.get("trust", ""))),
            ("due", out.time(task["run_at"])),
            ("finished", out.time(task.get("finished_at"))),
            ("worker", task.get("worker")),
            ("lease until", out.time(task.get("lease_expires_at"))),
            ("parent", task.get("parent")),
            ("depends on", ", ".join(task.get("depends_on", ()))),
            ("params", task.get("params")),
            ("variables", task.get("variables")),
            ("output", task.get("output")),
            ("metadata", task.get("metadata")),
            ("files", ", ".join(each["path"] for each in task.get("artifacts", ()))),
            ("attempts", None if attempts else _count(task)),
            ("instructions", task.get("instructions")),
            ("cut", ", ".join(task.get("truncated", ()))),
        ]
    )
    for question in task.get("questions", ()):
        if question.get("answered_by"):
            asked = (question["question"].splitlines() or [""])[0]
            said = f"{question['answered_by']} answered {asked!r}: {question['answer']}"
            out.line(f"{out.time(question['answered_at'])}  {said}")


def _money(unpaid: Json | None) -> str | None:
    """Return which budget has to have how much before a task goes on."""
    if unpaid is None or unpaid["budget"] == "task":  # the question says it
        return None
    of = {"day": "the day", "schedule": "its schedule"}.get(unpaid["budget"], f"queue {unpaid.get('queue')}")
    need = f"{unpaid['need']:g} {unpaid['unit']} from " if unpaid["need"] else ""
    return f"{need}the budget of {of}"


def _limit(out: Out, gate: Json) -> str:
    """Return which usage limit holds a ready task back."""
    return f"by the usage limit of {gate['account']} until {out.time(gate['closed_until'])}"


def _budget(accounts: Json) -> str:
    """Return what a task has spent of what, and what is set aside for its running attempt."""
    told = []
    for unit, of in accounts.items():
        aside = f", {of['reserved']:g} set aside" if of["reserved"] else ""
        told.append(f"{of['spent']:g} of {of['ceiling']:g} {unit} spent{aside}")
    return "; ".join(told)


def attempt_list(out: Out, task: Json) -> None:
    """Print a task's attempts as a table."""
    rows = [
        (
            str(attempt["attempt"]),
            attempt["outcome"] or "running",
            attempt["by"],
            out.time(attempt["claimed_at"]),
            "" if attempt.get("seconds") is None else f"{attempt['seconds']:g} s",
            (attempt.get("verdict") or {}).get("status", ""),
            shortened(attempt.get("error") or attempt.get("result_summary") or ""),
        )
        for attempt in task.get("attempts", ())
    ]
    if rows:
        out.table(("attempt", "outcome", "by", "claimed", "took", "verdict", "came to"), rows, flexible="came to")
    else:
        out.line("(no attempts)")


def event_lines(out: Out, events: Sequence[Json]) -> None:
    """Print what happened, a line an event."""
    for event in events:
        data = event.get("data") or {}
        rest = ", ".join(f"{name} {value}" for name, value in data.items()) if isinstance(data, dict) else str(data)
        attempt = f" (attempt {event['attempt']})" if event.get("attempt") else ""
        out.line(f"{out.time(event['at'])}  {event['event']} by {event['by']}{attempt}{f': {rest}' if rest else ''}")


def schedule_list(out: Out, schedules: Sequence[Json]) -> None:
    """Print schedules as a table."""
    if not schedules:
        out.note("no schedules")
        return
    rows = [
        (
            schedule["name"],
            "on" if schedule["enabled"] else "paused",
            schedule["cron"],
            schedule["timezone"],
            out.time(schedule["next_run_at"]),
            schedule["overlap"],
            schedule["misfire"],
        )
        for schedule in schedules
    ]
    out.table(("name", "state", "cron", "zone", "next run", "overlap", "misfire"), rows)


def planned(out: Out, found: Json) -> None:
    """Print a schedule with its next runs, by the clock of its own zone."""
    schedule = found["schedule"]
    state = "on" if schedule["enabled"] else "paused"
    out.line(f"{schedule['name']} {state}: {schedule['cron']} in {schedule['timezone']}")
    for run in found["next_runs"]:
        out.line(run["local"].replace("T", " ", 1))
    for note in found.get("notes", ()):
        out.note(f"note: {note}")


def history(out: Out, occurrences: Sequence[Json]) -> None:
    """Print how due times ended."""
    if not occurrences:
        out.note("no due time has passed yet")
        return
    rows = [
        (out.time(each["due_at"]), each["fate"], each.get("task", ""), plain(each.get("reason", "")))
        for each in occurrences
    ]
    out.table(("due", "fate", "task", "reason"), rows, flexible="reason")


def _creator(task: Json) -> str:
    asked_for = task.get("requested_by")
    return f"{task['created_by']} for {asked_for}" if asked_for else str(task["created_by"])


def _verdict(task: Json) -> str | None:
    """Return what somebody other than the agent found, with why where it does not hold or nobody could see."""
    if task.get("verdict") is None:
        return None
    last: Json = next((each["verdict"] for each in reversed(task.get("attempts", ())) if each.get("verdict")), {})
    why = "; ".join(last.get("reasons") or last.get("notes") or ())
    by = " and ".join(last.get("checked_by") or ())
    return str(task["verdict"]) + (f" by the {by}" if by else "") + (f": {one_line(why)}" if why else "")


def _count(task: Json) -> str | None:
    count = len(task.get("attempts", ()))
    return f"{count} (--attempts shows them)" if count else None
