"""The one door to the queue that commands are written against: its database, or a server's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taskqueue_mcp.store.lists import Filter
    from taskqueue_mcp.taskqueue import NewSchedule, NewTask

Json = dict[str, Any]
LONGEST_WAIT = 50.0
"""How long one call may park, in seconds."""
LOOK_AGAIN = 1.0
"""How often a log that is followed is looked at, in seconds: what is written to it moves no task."""


class Door(Protocol):
    """What commands ask of the queue. Results are those of the MCP tools: plain JSON."""

    async def create_task(self, new: NewTask) -> Json:
        """Return `{task, created}`."""

    async def list_tasks(self, narrowed: Filter, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}`, newest first."""

    async def list_ready(self, queue: str | None, task_type: str | None, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}` in the order of claiming."""

    async def get_task(self, task_id: str) -> Json:
        """Return the task whole."""

    async def events(self, task_id: str) -> list[Json]:
        """Return every event of a task, oldest first."""

    async def file(self, task_id: str, path: str) -> bytes:
        """Return a file that a task's attempts made.

        Raises:
            NotFound: it is not where the queue keeps files.
        """

    async def log(self, task_id: str) -> str:
        """Return the log of a task's attempts."""

    def follow_log(self, task_id: str) -> AsyncIterator[str]:
        """Yield the log as it is written, until the task is final or waits for a person."""

    async def wait(self, task_id: str, seconds: float) -> Json:
        """Wait for at most `LONGEST_WAIT` until a task is final or needs a person; return it as it is then."""

    def follow(self, task_id: str) -> AsyncIterator[tuple[Json, list[Json]]]:
        """Yield a task with its new events each time that there are some, until it is final."""

    async def cancel_task(self, task_id: str, reason: str | None) -> Json:
        """Return the cancelled task."""

    async def answer_task(self, task_id: str, action: str, answer: str | None) -> Json:
        """Approve, reject, answer, retry or run now; return the task."""

    async def put_schedule(self, new: NewSchedule) -> Json:
        """Return `{schedule, next_runs, created}`."""

    async def list_schedules(self) -> list[Json]:
        """Return every schedule."""

    async def preview_schedule(self, name: str, count: int) -> Json:
        """Return `{schedule, next_runs}`."""

    async def switch_schedule(self, name: str, *, enabled: bool) -> Json:
        """Pause or resume a schedule; return `{schedule, next_runs}`."""

    async def run_schedule(self, name: str) -> Json:
        """Return the task of a run of its own."""

    async def delete_schedule(self, name: str) -> Json:
        """Return the schedule that was deleted."""

    async def schedule_history(self, name: str, limit: int) -> list[Json]:
        """Return how past due times ended, newest first."""
