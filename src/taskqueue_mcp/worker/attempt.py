"""One attempt: confirm the lease, carry the task out beside a heartbeat and an eye on the task, settle it."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.errors import Conflict, InvalidInput, LeaseLost, NotFound, TaskQueueError
from taskqueue_mcp.executors.base import Run
from taskqueue_mcp.model import Asked, Completed, Ended, Failed, Reason, Returned
from taskqueue_mcp.worker import claims, evidence, outcomes, preparing, scratch
from taskqueue_mcp.worker.connection import SHOWN, in_a_line, leaf
from taskqueue_mcp.worker.fitness import Unfit
from taskqueue_mcp.worker.reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.executors.base import Executor, Params, Registry
    from taskqueue_mcp.executors.trees import Marks
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
    from taskqueue_mcp.procedures.parsing import Procedure
    from taskqueue_mcp.worker.bench import Bench
    from taskqueue_mcp.worker.claims import Claim
    from taskqueue_mcp.worker.connection import Connection
    from taskqueue_mcp.worker.fitness import Fitness
    from taskqueue_mcp.worker.uploading import Uploads

log = logging.getLogger(__name__)

MOST_SECONDS_BETWEEN_BEATS: Final = 30.0
WATCH_SECONDS: Final = 45.0
"""How long one look at the task is parked; it comes back at once when the task is cancelled."""
LEAST_SECONDS_BETWEEN_LOOKS: Final = 1.0
FIRST_LOOK_SECONDS: Final = 0.2
"""What is over by then is not looked at: the settling call hears of a cancel too."""
STOP_SECONDS: Final = 0.5
"""How long an executor has to end by itself once `run.stop` is set; then it is broken off."""
BREAK_OFF_SECONDS: Final = 3.0
"""How long that may take; an executor that sits in a thread of its own is then left behind."""
UNFIT_SECONDS: Final = 60.0
"""For how long a task is handed back whose executor turned out not to be able to work."""
LOOK_SECONDS: Final = 630.0
"""How long the server may look at a result, with the owner's commands that it may run."""
BACKSTOP_SECONDS: Final = 5.0
"""How much later than the executor's own time-out ours comes: the executor can say more."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every attempt of a worker is carried out with."""

    connection: Connection
    registry: Registry
    fitness: Fitness
    outputs: OutputFolder
    lease_seconds: int
    bench: Bench
    marks: Marks
    left_behind: set[asyncio.Future[Ended]]
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uploads: Uploads | None = None


class Attempt:
    """A task in our hands, from the claim to its outcome."""

    def __init__(self, means: Means, claim: Claim) -> None:
        self._means = means
        self._claim = claim
        self._call = means.connection.call
        beat = min(means.lease_seconds / 3, MOST_SECONDS_BETWEEN_BEATS)
        self._reporter = Reporter(means.connection, claim.lease, beat_seconds=beat)
        self._stop = anyio.Event()
        self._lost = ""
        self._shutting_down = False
        self._folder: Path | None = None
        self._mark = means.marks.next()
        self._wanted = str(claim.task.get("executor", ""))
        self._named = f"{claim.name} attempt {claim.attempt}"
        self._kept: list[str] = []
        self._evidence: dict[str, Any] | None = None

    def shut_down(self) -> None:
        """Have the executor end now; what it has not completed is handed back at no cost."""
        self._shutting_down = True
        self._stop.set()

    def lose(self, why: str) -> None:
        """Have the executor end now, and drop what it comes to: the task is not ours any more."""
        self._lost = self._lost or why
        self._stop.set()

    async def carry_out(self) -> None:
        """Do the task and settle it; an outcome that nobody wants any more is dropped."""
        begun = anyio.current_time()
        try:
            confirmed = await self._call("update_task", {"lease": self._claim.lease})
        except TaskQueueError as error:
            log.warning("%s was lost before it began: %r", self._named, str(error))
            return
        expires_at = datetime.fromisoformat(confirmed["task"]["lease_expires_at"])
        try:
            outcome = await self._supervised(expires_at - timedelta(seconds=self._means.lease_seconds))
            if self._lost:
                log.warning("%s was dropped: %r", self._named, self._lost)
                return
            if isinstance(outcome, Failed):
                self._means.fitness.doubt(self._wanted)
            await self._settle(self._judged(outcome), begun)
        finally:
            if self._folder is not None and not scratch.is_gone(self._folder):
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(scratch.remove, self._folder)

    async def _supervised(self, now: datetime) -> Ended:
        async with anyio.create_task_group() as beside:
            reported = anyio.Event()

            async def report() -> None:
                try:
                    await self._reporter.run()
                except LeaseLost as error:
                    self.lose(str(error))
                reported.set()

            beside.start_soon(report)
            beside.start_soon(self._watch)
            outcome = await self._ended(now)
            self._reporter.close()
            if not self._lost:
                await reported.wait()
            beside.cancel_scope.cancel()
        return outcome

    async def _watch(self) -> None:
        """Learn of a cancel at once: a parked look at the task returns when it becomes final."""
        arguments = {"task_id": self._claim.name, "wait_seconds": WATCH_SECONDS, "detail": "summary"}
        await anyio.sleep(FIRST_LOOK_SECONDS)
        while True:
            looked_at = anyio.current_time()
            try:
                answer = await self._call("get_task", arguments, parked=WATCH_SECONDS)
            except NotFound as error:
                self.lose(str(error))
                return
            except TaskQueueError as error:
                log.warning("%s cannot be watched, so a cancel is noticed later: %r", self._named, str(error))
                return
            task = answer["task"]
            if (task["status"], task["attempt"]) != ("in_progress", self._claim.attempt):
                why = f": {task['error']}" if task.get("error") else ""
                self.lose(f"the task is {task['status']}{why}")
                return
            await anyio.sleep(max(0.0, looked_at + LEAST_SECONDS_BETWEEN_LOOKS - anyio.current_time()))

    async def _ended(self, now: datetime) -> Ended:
        """Run the executor until it is over, told to stop, or out of time; then see to it that all of it ends."""
        if self._stop.is_set():
            return Returned(None, "stopped before it began")
        executor = None
        try:
            claim = await claims.whole(self._means.connection, self._claim)
            executor = self._executor()
            procedure = preparing.procedure(claim)
            params = preparing.params(executor, claim, procedure)
            acting = preparing.conditional(executor, claim, self._means.registry, self._means.fitness)
            run = self._run(claim, procedure, now)
            watch = await evidence.begin(executor, params, run, claim.params, self._means.checks)
        except Unfit as why:
            return _later(now, str(why))
        except TaskQueueError as error:
            if executor is not None and executor.name != self._wanted:
                return _later(now, f"{executor.name} cannot stand in for {self._wanted}: {error}")
            return Failed(str(error), permanent=True)
        except OSError as error:
            return Failed(f"no working directory could be made: {error.strerror or error}")
        try:
            outcome = await self._watched_over(acting, params, run)
        finally:
            with anyio.CancelScope(shield=True):
                await self._end_strays()
        return await self._looked_at(outcome, watch)

    async def _looked_at(self, outcome: Ended, watch: evidence.Watch) -> Ended:
        """Look at a result outside its executor, and take its files to the server, while the lease is kept."""
        named = [outcome.path or "", *outcome.artifacts] if isinstance(outcome, Completed) else []
        paths = [path for path in [*named, *self._kept] if path]
        if not paths and not watch.wanted:
            return outcome

        async def look() -> None:
            if isinstance(outcome, Completed):
                self._evidence = await watch.look(outcome)
            if self._means.uploads is not None:
                await self._means.uploads.send(self._claim.lease, paths, self._means.outputs)
            over.cancel()

        async with anyio.create_task_group() as beside:
            over = beside.cancel_scope
            beside.start_soon(look)
            await self._stop.wait()
            over.cancel()
        if isinstance(outcome, Completed) and self._stop.is_set() and self._evidence is None and watch.wanted:
            return Returned(None, "stopped before its result was looked at", usage=outcome.usage)
        return outcome

    async def _watched_over(self, executor: Executor[Any], params: Params, run: Run) -> Ended:
        """Run the executor on the bench, in a task that nothing waits for in the end.

        A thread cannot be killed, and one that never returns must hold up neither the time-out nor the end of the
        worker.
        """
        place = self._means.bench.place
        scope = anyio.CancelScope()
        running = place.start(self._outcome_of(executor, params, run, scope))
        stopped = asyncio.ensure_future(self._stop.wait())
        either: set[asyncio.Future[Any]] = {running, stopped}
        limit = None if run.timeout_seconds is None else run.timeout_seconds + BACKSTOP_SECONDS
        timed_out = False
        try:
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            timed_out = not running.done() and not self._stop.is_set()
            if not running.done():
                place.loop.call_soon_threadsafe(run.stop.set)
                await asyncio.wait({running}, timeout=STOP_SECONDS)
        finally:
            stopped.cancel()
            if not running.done():
                place.loop.call_soon_threadsafe(run.stop.set)
                place.loop.call_soon_threadsafe(scope.cancel)
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({running}, timeout=BREAK_OFF_SECONDS)
            if not running.done():
                self._leave_behind(running)
                with anyio.CancelScope(shield=True):
                    await self._means.bench.replace_if_blocked(place)
        if timed_out:
            return Failed(f"timed out after {run.timeout_seconds} s; give it longer with timeout_seconds")
        return running.result() if running.done() else Returned(None, "the executor does not end")

    def _leave_behind(self, running: asyncio.Future[Ended]) -> None:
        log.error("the executor of %s does not end and is left behind", self._named)
        self._means.left_behind.add(running)
        running.add_done_callback(self._means.left_behind.discard)

    async def _end_strays(self) -> None:
        """End what the executor has started and not ended, wherever it went."""
        if self._mark is None or not self._means.marks.has_strays(self._mark):
            return
        count = await anyio.to_thread.run_sync(self._means.marks.end, self._mark)
        log.info("%s left %d processes behind; they are ended", self._named, count)

    async def _outcome_of(self, executor: Executor[Any], params: Params, run: Run, scope: anyio.CancelScope) -> Ended:
        with scope:
            try:
                outcome: object = await executor.run(params, run)
            except asyncio.CancelledError:
                if scope.cancel_called:
                    raise
                return Failed("CancelledError: the executor was cancelled from within")
            # An executor is anyone's code: what it throws is a failure of this attempt and of nothing else.
            except (Exception, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001
                self._reporter.log(traceback.format_exc())
                return Failed(in_a_line(leaf(error)))
            if isinstance(outcome, Completed | Failed | Returned | Asked):
                return outcome
            return Failed(f"the executor returned a {type(outcome).__name__} and no outcome", permanent=True)
        return Returned(None, "broken off")

    def _executor(self) -> Executor[Any]:
        """Return what carries the task out.

        Raises:
            InvalidInput: this worker does not have it.
            Unfit: it cannot work now.
        """
        registry = self._means.registry
        if self._wanted not in registry:
            raise InvalidInput(
                f"this worker has no executor {self._wanted[:60]!a}; it has {', '.join(sorted(registry))}"
            )
        name = self._means.fitness.carries_out(self._wanted)
        why = self._means.fitness.why_not(self._wanted)
        if name is None:
            raise Unfit(why)
        if name != self._wanted:
            self._reporter.log(f"{name} stands in for {self._wanted}, which cannot work here: {why}\n")
        return registry[name]

    def _run(self, claim: Claim, procedure: Procedure | None, now: datetime) -> Run:
        self._folder = scratch.make(self._means.marks.owner, f"{claim.name}.{claim.attempt}")
        zone = preparing.zone(claim.task.get("zone"))
        due_date = claim.task.get("due_date")
        local = now.astimezone(zone)
        return Run(
            task_id=claim.number,
            attempt=claim.attempt,
            title=claim.task["title"],
            instructions=claim.task.get("instructions", ""),
            task=claim.task,
            procedure=procedure,
            inputs=claim.inputs,
            earlier_attempts=claim.earlier_attempts,
            answers=claim.answers,
            due_date=date.fromisoformat(due_date) if due_date else local.date(),
            now=local,
            zone=zone,
            outputs=self._means.outputs,
            directory=self._folder,
            log=self._reporter.log,
            progress=self._reporter.progress,
            stop=anyio.Event(),
            timeout_seconds=claim.task.get("timeout_seconds"),
            keep=self._keep,
            mark=self._mark,
        )

    def _keep(self, file: WrittenFile) -> None:
        self._kept.append(file.path)
        self._reporter.artifact(file)

    def _judged(self, outcome: Ended) -> Ended:
        """A shutdown costs no failure, whatever its end looked like to the executor."""
        if self._shutting_down and isinstance(outcome, Failed | Returned):
            if isinstance(outcome, Returned) and outcome.kind is not None:
                return outcome
            return Returned(None, "the worker was stopped", usage=outcome.usage)
        return outcome

    async def _settle(self, outcome: Ended, begun: float) -> None:
        as_call = partial(outcomes.as_call, self._claim.lease, outcome, self._means.outputs)
        reads_files = isinstance(outcome, Completed) and bool(outcome.artifacts)
        tool, arguments = await anyio.to_thread.run_sync(as_call) if reads_files else as_call()
        try:
            looked = tool == "complete_task" and (self._evidence is not None or "artifacts" in arguments)
            if looked and self._evidence is not None:
                arguments["evidence"] = json.dumps(self._evidence, ensure_ascii=False)
            answer = await self._call(tool, arguments, parked=LOOK_SECONDS if looked else 0.0)
        except (LeaseLost, Conflict) as error:
            log.warning("%s came too late: %r", self._named, str(error))
        except TaskQueueError as error:
            if not isinstance(outcome, Completed):
                log.error("%s cannot be settled: %r", self._named, str(error))  # noqa: TRY400 - the queue's answer says it all
                return
            await self._settle(Failed(f"the queue refused the result: {error}", permanent=True), begun)
        else:
            if (answer.get("verdict") or {}).get("status") == "rejected":
                reasons = "; ".join(answer["verdict"].get("reasons", ()))
                outcome = Failed(f"the result was rejected: {reasons}")
            self._say(outcome, answer["task"]["status"], anyio.current_time() - begun)

    def _say(self, outcome: Ended, status: str, seconds: float) -> None:
        match outcome:
            case Completed(summary=summary):
                log.info("%s completed in %.1f s: %r", self._named, seconds, _shown(summary))
            case Failed(error=error):
                log.warning("%s failed after %.1f s (now %s): %r", self._named, seconds, status, _shown(error))
            case Returned(kind=kind, why=why):
                word = kind.value if kind else "release"
                log.info("%s was handed back (%s): %r", self._named, word, _shown(why))
            case Asked(question=question):
                log.info("%s asks a person: %r", self._named, _shown(question))


def _later(now: datetime, why: str) -> Returned:
    """Hand a task back for a while: it must not fail because this machine lacks something."""
    at = round((now.timestamp() + UNFIT_SECONDS) * 1_000_000)
    return Returned(Reason.SNOOZE, f"it cannot be done here: {why}", at)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
