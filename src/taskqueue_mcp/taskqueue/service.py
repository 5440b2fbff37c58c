"""The queue as every edge calls it: one method a transition or a query. Checks the scope, records who asked."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from taskqueue_mcp import checks
from taskqueue_mcp.errors import Busy, Forbidden, InvalidInput, LimitReached, NotFound, TaskQueueError, WrongStatus
from taskqueue_mcp.model import FINAL, Caller, Event, Scope, Status, Task, Template
from taskqueue_mcp.store import attempts, gates, keeping, lists, schedules
from taskqueue_mcp.store import tasks as task_store
from taskqueue_mcp.store import templates as template_store
from taskqueue_mcp.taskqueue import (
    answering,
    claiming,
    creating,
    gating,
    moving,
    paying,
    promoting,
    querying,
    rights,
    scheduling,
    settling,
    templating,
)
from taskqueue_mcp.taskqueue.limits import Rates
from taskqueue_mcp.taskqueue.looking import Looks
from taskqueue_mcp.taskqueue.rules import DEFAULT_EXECUTOR
from taskqueue_mcp.taskqueue.uploading import Uploads
from taskqueue_mcp.taskqueue.waiting import ANY, Waiters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from taskqueue_mcp.budgets import Account
    from taskqueue_mcp.model import Artifact, Micros, Occurrence, Schedule
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.store import Database, Transaction
    from taskqueue_mcp.store.attempts import LogChunk
    from taskqueue_mcp.store.gates import Gate
    from taskqueue_mcp.store.lists import Filter, QueueCount
    from taskqueue_mcp.taskqueue.claiming import Claim, ClaimRequest
    from taskqueue_mcp.taskqueue.creating import Created, NewTask
    from taskqueue_mcp.taskqueue.evidence import Unweighed
    from taskqueue_mcp.taskqueue.merging import Wanted
    from taskqueue_mcp.taskqueue.querying import Detail, Page
    from taskqueue_mcp.taskqueue.rules import Rules
    from taskqueue_mcp.taskqueue.scheduling import NewSchedule, Planned
    from taskqueue_mcp.taskqueue.settling import Completion, Failure, Settled, Update
    from taskqueue_mcp.taskqueue.templating import NewTemplate
    from taskqueue_mcp.taskqueue.uploading import Kept, Upload

T = TypeVar("T")

LOOK_AGAIN = 1.0
"""A parked claim looks again this often, in seconds, even when nothing woke it: time makes tasks ready too."""
BEAT = 5.0
"""How often a parked call tells its caller that it is alive, in seconds."""
INDEX_STEP = 500
KEEP_STEP = 200
DAY = 86_400 * 1_000_000


class TaskQueue:
    """The durable queue. Every method is safe to call again after a lost answer, as its docstring says."""

    def __init__(self, database: Database, rules: Rules) -> None:
        self.database = database
        self.rules = rules
        self.waiters = Waiters()
        self._rates = Rates(rules.limits.creates_per_minute)
        self._room = True
        self._looks = Looks(database, rules)
        self._loaded: set[str] = set()
        self._uploads = Uploads(database, rules)

    # --- enqueue ---------------------------------------------------------------------------------------

    async def create(self, caller: Caller, new: NewTask) -> Created:
        """Store a task durably; with an `idempotency_key` a repeated call returns the same task.

        Raises:
            InvalidInput, NotFound, Conflict, LimitReached, LeaseLost, Forbidden, Busy: nothing was changed.
        """
        self._needs(caller, Scope.ENQUEUE if new.lease is None else Scope.WORK)
        self._has_room()
        self._rates.spend(caller.name)
        await self._load_executor(new.wanted)
        try:
            return await self._write(partial(creating.create, rules=self.rules, caller=caller, new=new))
        except Busy:
            raise
        except TaskQueueError:
            if new.idempotency_key is None:
                raise
            # The same call may have been under way, and its task be what this one found no room for.
            made = await self.database.read(partial(creating.made_before, caller=caller, new=new))
            if made is None:
                raise
            return made

    async def cancel(self, caller: Caller, task_id: int, reason: str | None) -> Task:
        """Cancel a task that is not final; its holder's lease is void at once.

        Raises:
            NotFound, WrongStatus, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.ENQUEUE)
        return await self._write(
            partial(answering.cancel, rules=self.rules, caller=caller, task_id=task_id, why=reason)
        )

    async def put_schedule(self, caller: Caller, new: NewSchedule) -> Planned:
        """Create a schedule or edit the one of this name.

        Raises:
            InvalidInput, NotFound, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.ENQUEUE)
        self._has_room()
        await self._load_executor(new.wanted)
        return await self._write(partial(scheduling.put, rules=self.rules, caller=caller, new=new))

    async def pause_schedule(self, caller: Caller, name: str) -> Planned:
        """Stop a schedule until it is resumed."""
        self._needs(caller, Scope.ENQUEUE)
        return await self._write(partial(scheduling.pause, rules=self.rules, caller=caller, name=name))

    async def resume_schedule(self, caller: Caller, name: str) -> Planned:
        """Let a paused schedule go on."""
        self._needs(caller, Scope.ENQUEUE)
        return await self._write(partial(scheduling.resume, rules=self.rules, caller=caller, name=name))

    async def run_schedule_now(self, caller: Caller, name: str) -> Task:
        """Create a run of a schedule beside its due times."""
        self._needs(caller, Scope.ENQUEUE)
        return await self._write(partial(scheduling.run_now, rules=self.rules, caller=caller, name=name))

    async def delete_schedule(self, caller: Caller, name: str) -> Schedule:
        """Delete a schedule; its history stays."""
        self._needs(caller, Scope.ENQUEUE)
        return await self._write(partial(scheduling.delete, rules=self.rules, caller=caller, name=name))

    async def preview_schedule(self, caller: Caller, name: str, count: int = 10) -> Planned:
        """Return a schedule with its next due times."""
        self._needs(caller, Scope.ENQUEUE, Scope.WORK, Scope.ANSWER)
        return await self.database.read(partial(scheduling.preview, name=name, count=count))

    async def list_schedules(self, caller: Caller, after: str = "", limit: int = 100) -> list[Schedule]:
        """Return schedules by name."""
        self._needs(caller, Scope.ENQUEUE, Scope.WORK, Scope.ANSWER)
        return await self.database.read(partial(schedules.all_after, after=after, limit=limit))

    async def schedule_history(
        self, caller: Caller, name: str, before: Micros | None = None, limit: int = 20
    ) -> list[Occurrence]:
        """Return how past due times ended, newest first."""
        self._needs(caller, Scope.ENQUEUE, Scope.WORK, Scope.ANSWER)
        return await self.database.read(partial(scheduling.history, name=name, before=before, limit=limit))

    # --- answer ----------------------------------------------------------------------------------------

    async def answer(self, caller: Caller, task_id: int, action: str, text: str | None) -> Task:
        """Approve, reject, answer, retry, or run now.

        Raises:
            InvalidInput, NotFound, WrongStatus, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.ANSWER)
        return await self._write(
            partial(answering.answer, rules=self.rules, caller=caller, task_id=task_id, action=action, text=text)
        )

    # --- work ------------------------------------------------------------------------------------------

    async def list_ready(
        self, caller: Caller, queue: str | None, task_type: str | None, cursor: str | None, limit: int
    ) -> Page:
        """Return claimable tasks in the order of claiming."""
        self._needs(caller, Scope.WORK)
        if await self.database.read(self._is_due):
            await self._write(partial(promoting.promote, rules=self.rules))
        return await self.database.read(
            partial(querying.ready_page, queue=queue, task_type=task_type, cursor=cursor, limit=limit)
        )

    async def claim(self, caller: Caller, request: ClaimRequest) -> Claim | None:
        """Hand out the first ready task that fits, or None.

        Raises:
            InvalidInput, NotFound, WrongStatus, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.WORK)
        work = partial(claiming.claim, rules=self.rules, caller=caller, request=request)
        while (found := await self._write(work)) is claiming.MORE:  # noqa: ASYNC110 - it works, it does not wait
            await asyncio.sleep(0)  # let calls in between the steps
        if isinstance(found, claiming.Held):
            raise WrongStatus(found.why, status=found.task.status.value)
        if found is not None and found.task.expects:
            await self._looks.note_baseline(found)
        return found

    async def claim_when_ready(
        self,
        caller: Caller,
        request: ClaimRequest,
        wait_seconds: float,
        beat: Callable[[float], Awaitable[None]] | None = None,
    ) -> Claim | None:
        """Claim, waiting up to `wait_seconds` for a task to arrive; `beat` is called with the seconds that passed.

        Raises:
            ShuttingDown: the server is going away; call again.
        """
        longest = self.rules.limits.longest_wait_seconds
        if not 0 <= wait_seconds <= longest:
            raise InvalidInput(f"wait_seconds: must be from 0 to {longest}; call again to wait longer")
        signals = [("queue", queue) for queue in request.queues or (ANY,)]
        begun = time.monotonic()
        self.waiters.attach(self.database)
        with self.waiters.watch(*signals) as woken:
            while True:
                if self.waiters.stopping:
                    await self.waiters.sleep(woken, 0)
                claim = await self.claim_or_release(caller, request)
                left = begun + wait_seconds - time.monotonic()
                if claim is not None or left <= 0:
                    return claim
                await self._park(woken, min(left, LOOK_AGAIN), begun, beat)

    async def claim_or_release(self, caller: Caller, request: ClaimRequest) -> Claim | None:
        """Claim; if the caller is cancelled before it has the answer, hand the task back at once."""
        claiming_ = asyncio.ensure_future(self.claim(caller, request))
        try:
            return await asyncio.shield(claiming_)
        except asyncio.CancelledError:
            claiming_.add_done_callback(partial(self._give_back, caller))
            raise

    async def update(self, caller: Caller, update: Update) -> Settled:
        """Renew a lease and note what is new.

        Raises:
            InvalidInput, LeaseLost, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.WORK)
        return await self._write(partial(settling.update, rules=self.rules, caller=caller, update=update))

    async def complete(
        self, caller: Caller, completion: Completion, beat: Callable[[float], Awaitable[None]] | None = None
    ) -> Settled:
        """End an attempt as completed; the same call again is fine, another result is a `Conflict`.

        What declares or names files is looked at first, which may take a while; `beat` is called meanwhile. A result
        that does not hold is rejected: the attempt then ends as a failed one, and the task gets one more to repair it.

        Raises:
            InvalidInput, LeaseLost, Conflict, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.WORK)
        work = partial(settling.complete, rules=self.rules, caller=caller, completion=completion)
        settled: settling.Settled | Unweighed = await self._write(work)
        if isinstance(settled, settling.Settled):
            return settled
        return await self._looks.settle(caller, completion, settled, beat)

    async def fail(self, caller: Caller, failure: Failure) -> Settled:
        """End an attempt that did not complete.

        Raises:
            InvalidInput, LeaseLost, Conflict, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.WORK)
        return await self._write(partial(settling.fail, rules=self.rules, caller=caller, failure=failure))

    async def has_file(self, caller: Caller, upload: Upload) -> bool:
        """Whether the bytes that an attempt would upload are here already.

        Raises:
            LeaseLost, Forbidden: nothing was changed.
        """
        self._needs(caller, Scope.WORK)
        return await self._uploads.has(caller, upload)

    async def upload(self, caller: Caller, upload: Upload, chunks: AsyncIterator[bytes]) -> Kept:
        """Take in a file that an attempt made; the same bytes again are fine.

        Raises:
            InvalidInput, LeaseLost, Conflict, StorageFull, Forbidden: nothing of it was kept.
        """
        self._needs(caller, Scope.WORK)
        return await self._uploads.take(caller, upload, chunks)

    async def open_file(
        self, caller: Caller, task_id: int, path: str
    ) -> tuple[Artifact, AbstractContextManager[BinaryIO]]:
        """Return a file that a task's attempts made, and what opens it.

        Raises:
            NotFound: it is not kept here.
        """
        self._needs(caller, *Scope)
        return await self._uploads.find(task_id, path)

    # --- reading ---------------------------------------------------------------------------------------

    async def get(self, caller: Caller, task_id: int) -> Detail:
        """Return a task whole.

        Raises:
            NotFound: there is none.
        """
        self._needs(caller, *Scope)
        return await self.database.read(partial(querying.detail, task_id=task_id))

    async def wait(
        self, caller: Caller, task_id: int, wait_seconds: float, since_seq: int | None = None,
        beat: Callable[[float], Awaitable[None]] | None = None,
    ) -> Task:  # fmt: skip
        """Wait until a task is final or needs a person or, with `since_seq`, has changed; return it as it is then.

        Raises:
            NotFound: there is none.
            ShuttingDown: the server is going away; call again.
        """
        self._needs(caller, *Scope)
        longest = self.rules.limits.longest_wait_seconds
        if not 0 <= wait_seconds <= longest:
            raise InvalidInput(f"wait_seconds: must be from 0 to {longest}; call again to wait longer")
        begun = time.monotonic()
        self.waiters.attach(self.database)
        with self.waiters.watch(("task", str(task_id))) as woken:
            while True:
                task = await self.database.read(partial(moving.fetch, task_id=task_id))
                left = begun + wait_seconds - time.monotonic()
                if _settled(task, since_seq) or left <= 0:
                    return task
                await self._park(woken, left, begun, beat)

    async def list_tasks(self, caller: Caller, narrowed: Filter, cursor: str | None, limit: int) -> Page:
        """Return tasks that fit, newest first; a search sees everything that is committed."""
        self._needs(caller, *Scope)
        work = partial(querying.page, narrowed=narrowed, cursor=cursor, limit=limit)
        if narrowed.search is None:
            return await self.database.read(work)
        await self.index_all()
        return await self.database.read_long(work)

    async def history(self, caller: Caller, task_id: int, after: int = 0, limit: int = 100) -> list[Event]:
        """Return a task's events after its `seq`."""
        self._needs(caller, *Scope)
        return await self.database.read(partial(querying.history, task_id=task_id, after=after, limit=limit))

    async def logs(
        self, caller: Caller, task_id: int, after: tuple[int, int] = (0, 0), limit: int = 100
    ) -> list[LogChunk]:
        """Return a task's log after `(attempt, number)`."""
        self._needs(caller, *Scope)
        return await self.database.read(partial(querying.logs, task_id=task_id, after=after, limit=limit))

    async def counts(self, caller: Caller) -> list[QueueCount]:
        """Return every queue with its counts."""
        self._needs(caller, *Scope)
        return await self.database.read_long(lists.queues)

    async def ids_starting(self, prefix: str) -> list[int]:
        """Return ids of tasks that start with `prefix`, newest first, at most 50."""
        return await self.database.read(partial(lists.ids_starting, prefix=prefix))

    def list_procedures(self, caller: Caller) -> list[Procedure]:
        """Return every sound procedure."""
        self._needs(caller, *Scope)
        return [] if self.rules.procedures is None else self.rules.procedures.list()

    def load_procedure(self, caller: Caller, reference: str) -> Procedure:
        """Return a procedure.

        Raises:
            NotFound, InvalidInput: there is none, or it cannot be read.
        """
        self._needs(caller, *Scope)
        if self.rules.procedures is None:
            raise NotFound("this server has no folder of procedures; set TASKQUEUE_SOPS")
        return self.rules.procedures.load(reference)

    def list_executors(self, caller: Caller) -> list[dict[str, Any]]:
        """Return `{name, description, scope}` of each executor known here; `scope` is None where everybody may."""
        self._needs(caller, *Scope)
        known = self.rules.executors
        found = [] if known is None else [known.describe(name) for name in known.names() if known.load(name)]
        return [{key: value for key, value in self._with_scope(each).items() if key != "params"} for each in found]

    def describe_executor(self, caller: Caller, name: str) -> dict[str, Any]:
        """Return `{name, description, scope, params}`; `params` is the JSON schema of its tasks' parameters.

        Raises:
            NotFound: no executor of this name is known here.
        """
        self._needs(caller, *Scope)
        if self.rules.executors is None:
            raise NotFound(f"there is no executor {name[:80]!a} here")
        return self._with_scope(self.rules.executors.describe(name))

    def executor_names(self) -> tuple[str, ...]:
        """Return the names of the executors known here."""
        return () if self.rules.executors is None else self.rules.executors.names()

    async def followed_text(self, caller: Caller, task_id: int) -> str:
        """Return the text of the procedure that the newest attempt follows, or else that the next one would.

        Raises:
            NotFound: the task follows none.
        """
        detail = await self.get(caller, task_id)
        digests = [each.procedure_hash for each in detail.attempts if each.procedure_hash is not None]
        if digests:
            kept = await self.database.read(partial(attempts.procedure_text, digest=digests[-1]))
            if kept is not None:
                return kept[1]
        if detail.body.sop is None:
            raise NotFound(f"T-{task_id} follows no procedure")
        return self.load_procedure(caller, detail.body.sop).text

    # --- owning ----------------------------------------------------------------------------------------

    async def put_template(self, caller: Caller, new: NewTemplate) -> Template:
        """Store a template under its name."""
        self._needs(caller, Scope.ADMIN)
        return await self._write(partial(templating.put, rules=self.rules, caller=caller, new=new))

    async def list_templates(self, caller: Caller) -> list[Template]:
        """Return every template by name."""
        self._needs(caller, *Scope)
        return await self.database.read(template_store.all_templates)

    async def show_template(self, caller: Caller, name: str) -> templating.Shown:
        """Return a template with what became of the tasks made from it."""
        self._needs(caller, *Scope)
        return await self.database.read_long(partial(templating.show, name=name))

    async def delete_template(self, caller: Caller, name: str) -> None:
        """Delete a template; tasks made from it stay."""
        self._needs(caller, Scope.ADMIN)
        await self._write(partial(templating.delete, caller=caller, name=name))

    async def set_queue_state(self, caller: Caller, name: str, state: str) -> None:
        """Open (`open`), pause (`paused`: nothing is handed out) or drain (`draining`: no new work) a queue."""
        self._needs(caller, Scope.ADMIN)
        checks.name("queue", name)
        await self._write(partial(templating.set_queue_state, caller=caller, name=name, state=state))

    async def list_gates(self, caller: Caller) -> list[Gate]:
        """Return the gate of every account that ever met a usage limit."""
        self._needs(caller, *Scope)
        return await self.database.read(gates.everything)

    async def open_gate(self, caller: Caller, account: str, executor: str | None = None) -> list[Gate]:
        """Open the gates of an account, before its usage limit is known to be over.

        Raises:
            NotFound: it has no closed gate.
        """
        self._needs(caller, Scope.ADMIN)
        return await self._write(partial(gating.open_by_hand, caller=caller, account=account, executor=executor))

    async def list_budgets(self, caller: Caller) -> list[Account]:
        """Return what was spent and set aside today, by everything that has a ceiling for a day."""
        self._needs(caller, *Scope)
        return await self.database.read(partial(paying.of_today, rules=self.rules))

    async def raise_budget(self, caller: Caller, scope: str, name: str, amount: float, unit: str = "usd") -> Account:
        """Add to a ceiling: to today's (`day`, `queue`, `schedule`), or to that of a task.

        Raises:
            InvalidInput, NotFound: nothing was changed.
        """
        self._needs(caller, Scope.ADMIN)
        work = partial(
            paying.raise_by_hand, rules=self.rules, caller=caller, scope=scope, name=name, amount=amount, unit=unit
        )
        return await self._write(work)

    # --- time ------------------------------------------------------------------------------------------

    async def tick(self) -> int:
        """Do what the clock asks for; any process may, at any time. Return how many tasks moved."""
        moved = 0
        while True:
            step = await self._write(partial(promoting.promote, rules=self.rules))
            moved += step
            if step < promoting.BATCH:
                break
        if (await self.database.read(schedules.next_alarm) or NEVER) <= await self.now():
            await self._write(promoting.raise_alarms)
        return moved

    async def keep_house(self) -> None:
        """Index what is new for search, and delete what is old; a little at a time."""
        self._room = self._free_bytes() >= self.rules.least_free_bytes
        await self.index_all()
        days = self.rules
        await self._write(partial(keeping.delete_logs, age=round(days.keep_logs_days * DAY)))
        for work in (
            partial(keeping.delete_finished, age=round(days.keep_finished_days * DAY), limit=KEEP_STEP),
            partial(keeping.delete_history, age=round(days.keep_history_days * DAY), limit=KEEP_STEP),
        ):
            while await self._write(work) == KEEP_STEP:  # noqa: ASYNC110 - it works, it does not wait
                await asyncio.sleep(0)  # let calls in between the steps

    async def index_all(self) -> None:
        """Bring the search index up to date."""
        while await self._write(partial(keeping.index_changes, limit=INDEX_STEP)) == INDEX_STEP:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)  # let calls in between the steps

    async def now(self) -> Micros:
        """Return the database's clock."""
        return await self.database.read(lambda transaction: transaction.now)

    async def next_instant(self) -> Micros | None:
        """Return when the clock will ask for something next."""
        due_at, expires_at, payable_at, _ = await self.database.read(task_store.next_instants)
        alarm_at = await self.database.read(schedules.next_alarm)
        found = [instant for instant in (due_at, expires_at, payable_at, alarm_at) if instant is not None]
        return min(found, default=None)

    def stop_looking(self) -> None:
        """Break off what is being looked at, as the process goes; those who asked are told to call again."""
        self._looks.stop()

    # --- within ----------------------------------------------------------------------------------------

    async def _write(self, work: Callable[..., T]) -> T:
        return await self.database.write(work)

    async def _park(
        self,
        woken: asyncio.Event,
        seconds: float,
        begun: float,
        beat: Callable[[float], Awaitable[None]] | None,
    ) -> None:
        """Sleep until woken or the time is over, telling the caller now and then that it is still parked."""
        until = time.monotonic() + seconds
        while not woken.is_set() and (left := until - time.monotonic()) > 0:
            if beat is not None:
                await beat(time.monotonic() - begun)
            await self.waiters.sleep(woken, min(left, BEAT))
        woken.clear()

    def _give_back(self, caller: Caller, claimed: asyncio.Future[Claim | None]) -> None:
        if claimed.cancelled() or claimed.exception() is not None:
            return
        claim = claimed.result()
        if claim is not None and not claim.redelivered:
            failure = settling.Failure(claim.lease, "the caller was gone before the answer went out", "release")
            self._released = asyncio.ensure_future(self.fail(caller, failure))

    async def _load_executor(self, wanted: Wanted) -> None:
        """Load what checks a task's parameters beforehand: no transaction waits for it."""
        known = self.rules.executors
        if known is None or wanted.sop is not None:
            return
        names = {self.rules.executor(wanted.task_type or "")}
        options = wanted.options if isinstance(wanted.options, dict) else {}
        if isinstance(options.get("executor"), str):
            names.add(options["executor"])
        if wanted.params is None:
            names.discard(DEFAULT_EXECUTOR)  # it takes any task
        for name in names - self._loaded:
            await asyncio.to_thread(known.load, name)
            self._loaded.add(name)

    def _with_scope(self, described: dict[str, Any]) -> dict[str, Any]:
        name = described["name"]
        scope = None if name in self.rules.open_executors else rights.scope_of(name)
        return {"name": name, "description": described["description"], "scope": scope, "params": described["params"]}

    @staticmethod
    def _needs(caller: Caller, *scopes: Scope) -> None:
        if not any(caller.may(scope) for scope in scopes):
            wanted = " or ".join(scopes)
            raise Forbidden(f"{caller.name} lacks the scope {wanted}; use a token that has it", scope=wanted)

    def _has_room(self) -> None:
        if not self._room:
            raise LimitReached("the disk is almost full, so no new work is taken; free some space, then call again")

    def _free_bytes(self) -> int:
        return int(self.database.free_bytes())

    @staticmethod
    def _is_due(transaction: Transaction) -> bool:
        due_at, expires_at, payable_at, _ = task_store.next_instants(transaction)
        return (
            (due_at is not None and due_at <= transaction.now)
            or (expires_at is not None and expires_at < transaction.now)
            or (payable_at is not None and payable_at <= transaction.now)
        )


NEVER = 1 << 62


def _settled(task: Task, since_seq: int | None) -> bool:
    if since_seq is not None and task.seq != since_seq:
        return True
    return task.status in FINAL or (since_seq is None and task.status is Status.WAITING)
