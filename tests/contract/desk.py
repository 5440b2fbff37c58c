"""The queue in short words: whoever usually does a thing does it, unless a test says who."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.store import lists
from taskqueue_mcp.taskqueue import (
    Claim,
    ClaimRequest,
    Completion,
    Detail,
    Failure,
    NewSchedule,
    NewTask,
    NewTemplate,
    Planned,
    Update,
    Wanted,
)

if TYPE_CHECKING:
    from taskqueue_mcp.model import Event, Occurrence, Task, Template
    from taskqueue_mcp.store.database import Row
    from taskqueue_mcp.taskqueue import Page, Settled, TaskQueue
    from taskqueue_mcp.taskqueue.creating import Created
    from tests.clock import Clock

GEMINI = Caller("gemini", Kind.AGENT, frozenset({Scope.ENQUEUE}))
CLAUDE = Caller("claude", Kind.AGENT, frozenset({Scope.WORK}))
CODEX = Caller("codex", Kind.AGENT, frozenset({Scope.WORK}))
OWNER = Caller("owner", Kind.PERSON, frozenset(Scope))

NEW_TASK_FIELDS = ("run_at", "depends_on", "idempotency_key", "requires_approval", "requested_by", "lease")
SCHEDULE_FIELDS = ("timezone", "misfire", "overlap", "enabled", "grace_seconds")


class Desk:
    """One process's queue, and what people and agents do at it."""

    def __init__(self, queue: TaskQueue, clock: Clock) -> None:
        self.queue = queue
        self.clock = clock

    # --- enqueue

    async def ask_for(self, title: str | None = "Count the stock", *, by: Caller = GEMINI, **asked: Any) -> Created:
        """Create a task from the flat arguments of `create_task`."""
        outer = {name: asked.pop(name) for name in NEW_TASK_FIELDS if name in asked}
        return await self.queue.create(by, NewTask(Wanted(title=title, **asked), **outer))

    async def create(self, title: str | None = "Count the stock", *, by: Caller = GEMINI, **asked: Any) -> Task:
        """The same, for its task."""
        return (await self.ask_for(title, by=by, **asked)).task

    async def cancel(self, task: Task | int | Claim, reason: str | None = None, *, by: Caller = GEMINI) -> Task:
        return await self.queue.cancel(by, number(task), reason)

    async def template(self, name: str, *, defaults: Any = None, by: Caller = OWNER, **wanted: Any) -> Template:
        return await self.queue.put_template(by, NewTemplate(name, Wanted(**wanted), defaults=defaults))

    async def plan(self, name: str, cron: str, *, by: Caller = GEMINI, **asked: Any) -> Planned:
        """Create or edit a schedule."""
        outer = {key: asked.pop(key) for key in SCHEDULE_FIELDS if key in asked}
        return await self.queue.put_schedule(by, NewSchedule(name, cron, Wanted(**asked), **outer))

    # --- answer

    async def decide(
        self, task: Task | int | Claim, action: str, text: str | None = None, *, by: Caller = OWNER
    ) -> Task:
        return await self.queue.answer(by, number(task), action, text)

    # --- work

    async def claim(self, *, by: Caller = CLAUDE, **request: Any) -> Claim | None:
        return await self.queue.claim(by, ClaimRequest(**request))

    async def take(self, *, by: Caller = CLAUDE, **request: Any) -> Claim:
        """Claim what is known to be there."""
        claim = await self.claim(by=by, **request)
        assert claim is not None, "nothing was handed out"
        return claim

    async def start(self, title: str = "Count the stock", *, by: Caller = CLAUDE, **asked: Any) -> Claim:
        """Create a task and claim it."""
        task = await self.create(title, **asked)
        return await self.take(by=by, task_id=task.id)

    async def update(self, lease: Claim | str, *, by: Caller = CLAUDE, **news: Any) -> Settled:
        return await self.queue.update(by, Update(text(lease), **news))

    async def complete(
        self, lease: Claim | str, result_summary: str = "Done.", *, by: Caller = CLAUDE, **result: Any
    ) -> Task:
        return (await self.queue.complete(by, Completion(text(lease), result_summary, **result))).task

    async def fail(
        self, lease: Claim | str, error_log: str = "It broke.", kind: str = "error", *, by: Caller = CLAUDE, **rest: Any
    ) -> Task:
        return (await self.queue.fail(by, Failure(text(lease), error_log, kind, **rest))).task

    async def finish(self, task: Task | int, summary: str = "Done.") -> Task:
        """Claim a ready task and complete it."""
        return await self.complete(await self.take(task_id=number(task)), summary)

    async def fail_for_good(self, task: Task | int) -> Task:
        """Claim a ready task and fail it."""
        return await self.fail(await self.take(task_id=number(task)), kind="permanent")

    # --- time

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, then let the queue do what it asks for."""
        self.clock.advance(seconds)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Tick until the clock asks for nothing more."""
        while True:
            await self.queue.tick()
            following = await self.queue.next_instant()
            if following is None or following >= await self.queue.now():
                await self.queue.tick()
                return

    # --- looking

    async def task(self, task: Task | int | Claim) -> Task:
        return (await self.detail(task)).task

    async def detail(self, task: Task | int | Claim) -> Detail:
        return await self.queue.get(OWNER, number(task))

    async def events(self, task: Task | int | Claim) -> list[Event]:
        return await self.queue.history(OWNER, number(task), limit=10_000)

    async def kinds(self, task: Task | int | Claim) -> list[str]:
        return [event.kind for event in await self.events(task)]

    async def ready(self, queue: str | None = None, task_type: str | None = None) -> list[int]:
        page = await self.queue.list_ready(CLAUDE, queue, task_type, None, 100)
        return [task.id for task in page.tasks]

    async def page(self, cursor: str | None = None, limit: int = 100, **narrowed: Any) -> Page:
        return await self.queue.list_tasks(OWNER, lists.Filter(**narrowed), cursor, limit)

    async def found(self, search: str, **narrowed: Any) -> list[int]:
        return [task.id for task in (await self.page(search=search, **narrowed)).tasks]

    async def ledger(self, name: str) -> list[Occurrence]:
        """Every due time that has ended, oldest first."""
        return (await self.queue.schedule_history(OWNER, name, limit=100_000))[::-1]

    async def rows(self, sql: str, **params: Any) -> list[Row]:
        return await self.queue.database.read(lambda transaction: transaction.all(sql, params))

    async def snapshot(self) -> dict[str, list[Row]]:
        """Everything that is stored, to see that nothing was changed."""
        tables = (
            "tasks", "bodies", "attempts", "questions", "events", "dependencies", "queues", "log_chunks",
            "artifacts", "schedules", "occurrences", "templates", "task_tags",
        )  # fmt: skip
        return {table: await self.rows(f"SELECT * FROM {table}") for table in tables}  # noqa: S608 - our own names


def number(task: Task | int | Claim) -> int:
    """The id of a task, however it is given."""
    if isinstance(task, int):
        return task
    return task.task.id if isinstance(task, Claim) else task.id


def text(lease: Claim | str) -> str:
    """The lease of a claim, however it is given."""
    return lease if isinstance(lease, str) else lease.lease


def forged(lease: str) -> str:
    """A lease of the same attempt with another secret."""
    return lease[:-1] + ("b" if lease[-1] != "b" else "c")


def without(caller: Caller, scope: Scope) -> Caller:
    """The same caller with one scope less."""
    return replace(caller, scopes=caller.scopes - {scope, Scope.ADMIN})
