"""The door through the database: the queue's own service, called by the person at this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_mcp import checks
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.cli.door import LONGEST_WAIT, LOOK_AGAIN
from taskqueue_mcp.model import FINAL, Status
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from taskqueue_mcp.store.attempts import LogChunk
    from taskqueue_mcp.store.lists import Filter
    from taskqueue_mcp.taskqueue import NewSchedule, NewTask, Page, Planned, TaskQueue

Json = dict[str, Any]
EVENTS = 100
CHUNKS = 100
ENDED = FINAL | {Status.WAITING}


class Direct:
    """The queue in this process, beside whoever else has its database open."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._caller = local_person()

    async def create_task(self, new: NewTask) -> Json:
        """Return `{task, created}`."""
        made = await self._queue.create(self._caller, new)
        return {"task": views.task(made.task), "created": made.created, **({"notes": made.notes} if made.notes else {})}

    async def list_tasks(self, narrowed: Filter, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}`, newest first."""
        return _page(await self._queue.list_tasks(self._caller, narrowed, cursor, limit))

    async def list_ready(self, queue: str | None, task_type: str | None, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}` in the order of claiming."""
        return _page(await self._queue.list_ready(self._caller, queue, task_type, cursor, limit))

    async def get_task(self, task_id: str) -> Json:
        """Return the task whole."""
        return views.detail(await self._queue.get(self._caller, checks.task_id(task_id)))

    async def events(self, task_id: str, after: int = 0) -> list[Json]:
        """Return the events of a task after its `seq`, oldest first."""
        number = checks.task_id(task_id)
        found = []
        while page := await self._queue.history(self._caller, number, after, EVENTS):
            found += [views.event(event) for event in page]
            after = page[-1].seq
            if len(page) < EVENTS:
                break
        return found

    async def file(self, task_id: str, path: str) -> bytes:
        """Return a file that a task's attempts made, from the output folder of this machine."""
        _, opened = await self._queue.open_file(self._caller, checks.task_id(task_id), path)
        with opened as file:
            return file.read()

    async def log(self, task_id: str) -> str:
        """Return the log of a task's attempts."""
        number, after = checks.task_id(task_id), (0, 0)
        text = ""
        while page := await self._queue.logs(self._caller, number, after, CHUNKS):
            text += _lines(page)
            after = (page[-1].attempt, page[-1].number)
        return text

    async def follow_log(self, task_id: str) -> AsyncIterator[str]:
        """Yield the log as it is written, until the task is final or waits for a person."""
        number, after = checks.task_id(task_id), (0, 0)
        while True:
            task = await self._queue.wait(self._caller, number, 0)
            while page := await self._queue.logs(self._caller, number, after, CHUNKS):
                yield _lines(page)
                after = (page[-1].attempt, page[-1].number)
            if task.status in ENDED:
                return
            await self._queue.wait(self._caller, number, LOOK_AGAIN, task.seq)

    async def wait(self, task_id: str, seconds: float) -> Json:
        """Wait until a task is final or needs a person; return it as it is then."""
        return views.task(await self._queue.wait(self._caller, checks.task_id(task_id), min(seconds, LONGEST_WAIT)))

    async def follow(self, task_id: str) -> AsyncIterator[tuple[Json, list[Json]]]:
        """Yield a task with its new events each time that there are some, until it is final."""
        number, seen = checks.task_id(task_id), 0
        while True:
            await self._queue.wait(self._caller, number, LONGEST_WAIT, seen)
            events = await self.events(task_id, seen)
            task = await self._queue.wait(self._caller, number, 0)
            if events:
                yield views.task(task), events
            seen = events[-1]["seq"] if events else task.seq
            if task.status in FINAL and task.seq <= seen:
                return

    async def cancel_task(self, task_id: str, reason: str | None) -> Json:
        """Return the cancelled task."""
        return views.task(await self._queue.cancel(self._caller, checks.task_id(task_id), reason))

    async def answer_task(self, task_id: str, action: str, answer: str | None) -> Json:
        """Approve, reject, answer, retry or run now; return the task."""
        return views.task(await self._queue.answer(self._caller, checks.task_id(task_id), action, answer))

    async def put_schedule(self, new: NewSchedule) -> Json:
        """Return `{schedule, next_runs, created}`."""
        planned = await self._queue.put_schedule(self._caller, new)
        return {**_planned(planned), "created": planned.created}

    async def list_schedules(self) -> list[Json]:
        """Return every schedule."""
        found: list[Json] = []
        while page := await self._queue.list_schedules(self._caller, found[-1]["name"] if found else ""):
            found += [views.schedule(schedule) for schedule in page]
        return found

    async def preview_schedule(self, name: str, count: int) -> Json:
        """Return `{schedule, next_runs}`."""
        return _planned(await self._queue.preview_schedule(self._caller, name, count))

    async def switch_schedule(self, name: str, *, enabled: bool) -> Json:
        """Pause or resume a schedule; return `{schedule, next_runs}`."""
        switch = self._queue.resume_schedule if enabled else self._queue.pause_schedule
        return _planned(await switch(self._caller, name))

    async def run_schedule(self, name: str) -> Json:
        """Return the task of a run of its own."""
        return views.task(await self._queue.run_schedule_now(self._caller, name))

    async def delete_schedule(self, name: str) -> Json:
        """Return the schedule that was deleted."""
        return views.schedule(await self._queue.delete_schedule(self._caller, name))

    async def schedule_history(self, name: str, limit: int) -> list[Json]:
        """Return how past due times ended, newest first."""
        found = await self._queue.schedule_history(self._caller, name, None, limit)
        return [views.occurrence(occurrence) for occurrence in found]


def _lines(chunks: Sequence[LogChunk]) -> str:
    return "".join(chunk.text if chunk.text.endswith("\n") else f"{chunk.text}\n" for chunk in chunks)


def _page(page: Page) -> Json:
    return {
        "tasks": [views.task(task) for task in page.tasks],
        "count": len(page.tasks),
        "next_cursor": page.next_cursor,
    }


def _planned(planned: Planned) -> Json:
    zone = planned.schedule.timezone
    view: Json = {
        "schedule": views.schedule(planned.schedule),
        "next_runs": [views.run(due_at, zone) for due_at in planned.next_runs],
    }
    if planned.notes:
        view["notes"] = list(planned.notes)
    return view
