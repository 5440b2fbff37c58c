"""The door through a server: the same questions, asked of its MCP tools."""

from __future__ import annotations

import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click
import httpx2

from taskqueue_mcp.cli.door import LONGEST_WAIT, LOOK_AGAIN
from taskqueue_mcp.errors import Forbidden, NotFound, TaskQueueError
from taskqueue_mcp.model import FINAL, Status
from taskqueue_mcp.worker.connection import LOST, REFUSALS, in_a_line, leaf, over_http
from taskqueue_mcp.worker.uploading import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from urllib.parse import SplitResult

    from taskqueue_mcp.store.lists import Filter
    from taskqueue_mcp.taskqueue import NewSchedule, NewTask

Json = dict[str, Any]
ENDED = FINAL | {Status.WAITING}
PREVIEWED = 5
"""How many runs a server's `manage_schedule` shows."""
HISTORY = 20
"""How many due times it shows."""
PATIENCE = 30.0
"""Seconds that an answer may take, on top of what its call parks for."""


class Unreachable(TaskQueueError):
    """The server does not answer, or not as one of ours."""

    code = "unreachable"


class Remote:
    """The queue of a running server, as far as the token's scopes go."""

    def __init__(self, call_tool: Callable[..., Awaitable[Any]], http: httpx2.AsyncClient) -> None:
        self._call_tool = call_tool
        self._http = http

    async def create_task(self, new: NewTask) -> Json:
        """Return `{task, created}`."""
        return await self._call(
            "create_task",
            **new.wanted.given(),
            run_at=new.run_at,
            depends_on=[str(other) for other in new.depends_on] or None,
            idempotency_key=new.idempotency_key,
            requires_approval=new.requires_approval or None,
            requested_by=new.requested_by,
        )

    async def list_tasks(self, narrowed: Filter, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}`, newest first."""
        return await self._call(
            "list_tasks",
            status=",".join(narrowed.status) or None,
            task_type=narrowed.task_type,
            queue=narrowed.queue,
            tag=narrowed.tag,
            search=narrowed.search,
            created_by=narrowed.created_by,
            cursor=cursor,
            limit=limit,
        )

    async def list_ready(self, queue: str | None, task_type: str | None, cursor: str | None, limit: int) -> Json:
        """Return `{tasks, count, next_cursor}` in the order of claiming."""
        return await self._call("list_ready", queue=queue, task_type=task_type, cursor=cursor, limit=limit)

    async def get_task(self, task_id: str) -> Json:
        """Return the task whole; what is too long for an answer is cut and listed under `truncated`."""
        found = await self._call("get_task", task_id=task_id)
        task: Json = found["task"]
        if found.get("truncated"):
            task["truncated"] = found["truncated"]
        return task

    async def events(self, task_id: str) -> list[Json]:
        """Return every event of a task, oldest first."""
        return [event async for page in self._pages(task_id, "events") for event in page["events"]]

    async def file(self, task_id: str, path: str) -> bytes:
        """Return a file that a task's attempts made, from where the server keeps them."""
        answer = await self._http.get(f"/artifacts/{quote(task_id, safe='')}", params={"path": path})
        if answer.status_code == HTTPStatus.OK:
            return answer.content
        try:
            said = answer.json()
        except ValueError:
            said = {}
        refusal = REFUSALS.get(said.get("error", said.get("code", "")), NotFound)
        raise refusal(str(said.get("message") or f"{path}: the server answered {answer.status_code}"))

    async def log(self, task_id: str) -> str:
        """Return the log of a task's attempts."""
        return "".join([page["text"] async for page in self._pages(task_id, "log")])

    async def follow_log(self, task_id: str) -> AsyncIterator[str]:
        """Yield the log as it is written, until the task is final or waits for a person."""
        at = None
        while True:
            found = await self._call("get_task", task_id=task_id, detail="summary")
            async for page in self._pages(task_id, "log", at):
                at = page["cursor"]
                if page["text"]:
                    yield page["text"]
            if found["task"]["status"] in ENDED:
                return
            await self._call(
                "get_task", task_id=task_id, detail="summary", wait_seconds=LOOK_AGAIN, cursor=found["cursor"]
            )

    async def wait(self, task_id: str, seconds: float) -> Json:
        """Wait until a task is final or needs a person; return it as it is then."""
        found = await self._call("get_task", task_id=task_id, wait_seconds=min(seconds, LONGEST_WAIT), detail="summary")
        task: Json = found["task"]
        return task

    async def follow(self, task_id: str) -> AsyncIterator[tuple[Json, list[Json]]]:
        """Yield a task with its new events each time that there are some, until it is final."""
        seen, page_at = 0, None
        found = await self._call("get_task", task_id=task_id, detail="summary")
        while True:
            news: list[Json] = []
            async for page in self._pages(task_id, "events", page_at):
                news += [event for event in page["events"] if event["seq"] > seen]
                page_at = page["next_cursor"] or page_at
            if news:
                seen = news[-1]["seq"]
                yield found["task"], news
            elif found["task"]["status"] in FINAL:
                return
            found = await self._call(
                "get_task", task_id=task_id, detail="summary", wait_seconds=LONGEST_WAIT, cursor=found["cursor"]
            )

    async def cancel_task(self, task_id: str, reason: str | None) -> Json:
        """Return the cancelled task."""
        task: Json = (await self._call("cancel_task", task_id=task_id, reason=reason))["task"]
        return task

    async def answer_task(self, task_id: str, action: str, answer: str | None) -> Json:
        """Approve, reject, answer, retry or run now; return the task."""
        task: Json = (await self._call("answer_task", task_id=task_id, action=action, answer=answer))["task"]
        return task

    async def put_schedule(self, new: NewSchedule) -> Json:
        """Return `{schedule, next_runs, created}`."""
        if new.grace_seconds is not None:
            raise click.UsageError("a server's schedule_task takes no --grace; set it with --database")
        return await self._call(
            "schedule_task",
            **new.wanted.given(),
            name=new.name,
            cron=new.cron,
            timezone=new.timezone,
            misfire=new.misfire,
            overlap=new.overlap,
            enabled=new.enabled,
        )

    async def list_schedules(self) -> list[Json]:
        """Return every schedule."""
        found: list[Json] = (await self._call("manage_schedule", action="list"))["schedules"]
        return found

    async def preview_schedule(self, name: str, count: int) -> Json:
        """Return `{schedule, next_runs}`."""
        if count > PREVIEWED:
            raise click.UsageError(f"a server shows the next {PREVIEWED} runs; see more with --database")
        found = await self._call("manage_schedule", action="preview", name=name)
        return {**found, "next_runs": found["next_runs"][:count]}

    async def switch_schedule(self, name: str, *, enabled: bool) -> Json:
        """Pause or resume a schedule; return `{schedule, next_runs}`."""
        return await self._call("manage_schedule", action="resume" if enabled else "pause", name=name)

    async def run_schedule(self, name: str) -> Json:
        """Return the task of a run of its own."""
        task: Json = (await self._call("manage_schedule", action="run_now", name=name))["task"]
        return task

    async def delete_schedule(self, name: str) -> Json:
        """Return the schedule that was deleted."""
        schedule: Json = (await self._call("manage_schedule", action="delete", name=name))["schedule"]
        return schedule

    async def schedule_history(self, name: str, limit: int) -> list[Json]:
        """Return how past due times ended, newest first."""
        if limit > HISTORY:
            raise click.UsageError(f"a server shows the last {HISTORY} due times; see more with --database")
        found: list[Json] = (await self._call("manage_schedule", action="history", name=name))["occurrences"]
        return found[:limit]

    async def _pages(self, task_id: str, part: str, cursor: str | None = None) -> AsyncIterator[Json]:
        while True:
            page = await self._call("get_task", task_id=task_id, detail=part, cursor=cursor)
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def _call(self, tool: str, **arguments: Any) -> Json:
        given = {name: value for name, value in arguments.items() if value is not None}
        result = await self._call_tool(tool, given, PATIENCE + given.get("wait_seconds", 0.0))
        told: Json = result.structured_content or {}
        if result.is_error:
            said = " ".join(getattr(part, "text", "") for part in result.content)
            refusal = REFUSALS.get(told.get("code", ""), TaskQueueError)
            raise refusal(str(told.get("message") or said or f"{tool} failed on the server"))
        return told


@contextlib.asynccontextmanager
async def opened(url: str, token: str | None) -> AsyncIterator[Remote]:
    """Connect to a server.

    Raises:
        click.UsageError: the URL or the token is none.
        Unreachable: nothing answers there, or it wants another token.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.UsageError(f"--server {url!r} is no URL; use one such as http://127.0.0.1:8080")
    if token is None:
        raise click.UsageError("a server wants a token; give --token or set TASKQUEUE_TOKEN")
    if not token.isascii() or not token.isprintable():
        raise click.UsageError("--token holds characters that no token has; copy it again")
    with _quiet("mcp", "client", "httpx2"):
        try:
            async with over_http(url, token)() as client, _plain(parts, token) as http:
                yield Remote(client.call_tool, http)
        except LOST as error:
            raise _translated(leaf(error), url) from error


def _plain(parts: SplitResult, token: str) -> httpx2.AsyncClient:
    """For files, which are no tool's business."""
    return httpx2.AsyncClient(
        base_url=f"{parts.scheme}://{parts.netloc}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx2.Timeout(PATIENCE, read=4 * PATIENCE),
        trust_env=parts.hostname not in LOOPBACK,  # a proxy of the machine does not reach the machine
    )


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers still: what goes wrong is said once, by us."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _translated(error: BaseException, url: str) -> BaseException:
    if isinstance(error, Forbidden):
        return Unreachable(f"{url} does not let us in ({error}); make a token there: taskqueue-mcp tokens create")
    if isinstance(error, TaskQueueError | click.ClickException):
        return error
    return Unreachable(
        f"{url} does not answer as a queue ({in_a_line(error)}); is it running, and is this its address?"
    )
