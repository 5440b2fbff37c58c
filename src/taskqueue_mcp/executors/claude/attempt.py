"""One attempt with Claude: which session, with a plan or without, what was made, and what the queue is told."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.executors.claude import prompt, questions, result
from taskqueue_mcp.executors.claude.command import Call, find_cli
from taskqueue_mcp.executors.claude.delivering import hand_over, own_path, put, write_text
from taskqueue_mcp.executors.claude.judging import Kind, Verdict, judge
from taskqueue_mcp.executors.claude.prompt import Wanted
from taskqueue_mcp.executors.claude.receiving import take_in
from taskqueue_mcp.executors.claude.session import Session, Transcript, new_mark
from taskqueue_mcp.executors.claude.usage import Usage
from taskqueue_mcp.model import Asked, Completed, Failed, Reason, Returned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.claude.delivering import Ordered
    from taskqueue_mcp.executors.claude.keeping import Kept
    from taskqueue_mcp.executors.claude.leave import Leave, Terms
    from taskqueue_mcp.executors.claude.params import ClaudeParams
    from taskqueue_mcp.executors.claude.session import Ended as ProcessEnded
    from taskqueue_mcp.model import Ended

MICROS: Final = 1_000_000
LOG_IN_SECONDS: Final = 600
"""When a task is tried again whose session was not let in."""
LEAST_BUDGET: Final = 0.0001
SUFFIX: Final = ".partial"


class Attempt:
    """Carries one attempt out. `refused_log_in` says why the credentials were refused, if they were."""

    def __init__(
        self, leave: Leave, kept: Kept, params: ClaudeParams, run: Run, terms: Terms, order: Ordered | None
    ) -> None:
        self._leave, self._kept, self._params, self._run, self._terms, self._order = (
            leave, kept, params, run, terms, order,
        )  # fmt: skip
        self._work = run.directory / "work"
        """Private to the task; it comes back with the session."""
        self._cwd = terms.folder or self._work
        self._aside = run.directory / "aside"
        self._transcript = Transcript(run.directory / "transcript.jsonl")
        self._usage = Usage(leave.account)
        self._usage.know(run.earlier_attempts)
        self._until = time.monotonic() + self._seconds
        self._plan: str | None = None
        self._inputs: dict[str, str] = {}
        self._last: ProcessEnded | None = None
        self.refused_log_in: str | None = None

    async def carry_out(self) -> Ended:
        """Do it; what the session left is kept or delivered, however it ends."""
        for folder in (self._work, self._aside):
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            outcome = await self._outcome()
        except OSError as error:
            outcome = Failed(f"Claude Code could not be run: {error}", usage=self._usage.told())
        return await anyio.to_thread.run_sync(self._put_away, outcome)

    async def _outcome(self) -> Ended:
        extra = questions.granted(self._run.answers, self._budget or 0.0)
        if extra is None:
            return self._failed("a person said to stop it at its budget", permanent=True)
        session = await anyio.to_thread.run_sync(self._earlier_session)
        self._inputs = await anyio.to_thread.run_sync(take_in, self._run, self._work, self._cwd)
        the_plan = self._params.plan or self._run.task.get("plan")
        if the_plan is None:
            return await self._do(session, None)
        agreed = questions.plan_answered(self._run.answers)
        if agreed is not None and not agreed.is_yes and agreed.comment is None:
            return self._failed("a person said no to the plan", permanent=True)
        if agreed is not None and agreed.is_yes:
            return await self._do(session, self._plan or agreed.plan)
        if self._plan is not None and the_plan == "auto":
            return await self._do(session, self._plan)
        return await self._do_with_a_plan(session, the_plan, agreed.comment if agreed else None)

    async def _do_with_a_plan(self, session: str | None, the_plan: str, comment: str | None) -> Ended:
        told = prompt.plan(self._run, self._params, comment if session else None, self._inputs)
        verdict = await self._session(told, session, is_planning=True)
        if verdict.kind is not Kind.DONE:
            return await self._other(verdict)
        self._plan = str(self._result.get("result") or "").strip()
        if not self._plan:
            return self._failed("Claude made no plan")
        path = own_path(self._run, f"plan-{self._run.attempt}.md")
        self._run.keep(await anyio.to_thread.run_sync(write_text, self._run, path, self._plan + "\n"))
        if the_plan == "approve":
            return Asked(questions.about_plan(self._plan), usage=self._usage.told())
        return await self._do(self._usage.session, self._plan, knows_it=True)

    async def _do(self, session: str | None, the_plan: str | None, *, knows_it: bool = False) -> Ended:
        wanted = Wanted(
            self._asked_file(),
            tuple(self._params.success_criteria),
            result.schema_of(self._params) is not None,
            self._inputs,
        )
        run, params = self._run, self._params
        if the_plan is not None and (knows_it or not self._was_begun(the_plan)):
            told = prompt.carry_out(run, params, the_plan, wanted, knows_it=session is not None)
        elif session is not None:
            told = prompt.again(run, wanted, _new_answers(run))
        else:
            told = prompt.first(run, params, wanted)
        verdict = await self._session(told, session)
        if verdict.kind is Kind.GONE:
            run.log(f"{verdict.why}; a new one begins with what the queue knows\n")
            verdict = await self._session(prompt.first(run, params, wanted), None)
        return await self._done() if verdict.kind is Kind.DONE else await self._other(verdict)

    def _was_begun(self, the_plan: str) -> bool:
        """Whether an earlier attempt got beyond the yes to the plan."""
        answered = [
            each.get("answered_at") for each in self._run.answers if questions.PLAN in str(each.get("question"))
        ]
        if not answered or the_plan is None:
            return len(self._run.earlier_attempts) > 0
        last = max(str(at) for at in answered)
        return any(str(each.get("claimed_at")) > last for each in self._run.earlier_attempts)

    async def _session(self, told: str, session: str | None, *, is_planning: bool = False) -> Verdict:
        """Have one process talk, within what is left of time and money."""
        budget = self._left()
        if budget is not None and budget < LEAST_BUDGET:
            return Verdict(Kind.BUDGET)
        program = find_cli(self._leave)
        if program is None:
            return Verdict(Kind.BROKEN, "Claude Code is gone; see worker.claude.cli_path")
        call = Call(
            terms=self._terms, cwd=self._cwd, work=self._work, aside=self._aside, mark=new_mark(), session=session,
            schema=None if is_planning else result.schema_of(self._params), budget_usd=budget, is_planning=is_planning,
        )  # fmt: skip
        seconds = max(self._until - time.monotonic(), 0.1)
        process = Session(self._leave, call, self._run, self._transcript, seconds=seconds)
        self._last = await process.converse(program, told)
        self._usage.add(self._last)
        return judge(self._last, self._run.now, seconds=self._seconds, quiet_seconds=self._leave.quiet_seconds)

    async def _done(self) -> Ended:
        given = result.read(self._params, self._result)
        if given.fault is not None:
            return self._failed(given.fault)
        return await anyio.to_thread.run_sync(self._delivered, given)

    def _delivered(self, given: result.Given) -> Ended:
        try:
            handed = hand_over(self._run, self._params, self._order, given.summary, work=self._work, cwd=self._cwd)
        except TaskQueueError as error:
            return self._failed(str(error))
        except OSError as error:
            return self._failed(f"the result could not be written: {(error.strerror or 'disk error').lower()}")
        return Completed(
            summary=given.summary,
            path=handed.main.path if handed.main else None,
            data=given.data,
            artifacts=tuple(file.path for file in handed.files),
            usage=self._usage.told(),
        )

    async def _other(self, verdict: Verdict) -> Ended:
        """The outcome of a session that is not done."""
        usage, account = self._usage.told(), self._leave.account
        match verdict.kind:
            case Kind.STOPPED:
                return Returned(None, verdict.why, usage=usage)
            case Kind.QUOTA:
                return Returned(Reason.QUOTA, f"account {account}: {verdict.why}", verdict.resume_at, usage=usage)
            case Kind.LOG_IN:
                self.refused_log_in = verdict.why
                at = self._run.now + timedelta(seconds=LOG_IN_SECONDS)
                why = f"Claude Code is not let in (account {account}): {verdict.why}; mend its credentials"
                return Returned(Reason.SNOOZE, why, round(at.timestamp() * MICROS), usage=usage)
            case Kind.SPENT:
                return Asked(questions.about_payment(account, verdict.why), usage=usage)
            case Kind.BUDGET:
                kept = await anyio.to_thread.run_sync(self._partial)
                spent = self._usage.spent_before + self._usage.cost_usd
                asked = questions.about_budget(spent, self._ceiling or 0.0, kept, is_counted=self._is_counted)
                return Asked(asked, usage=usage)
            case kind:
                return self._failed(verdict.why, permanent=kind in {Kind.REFUSED, Kind.WRONG})

    def _partial(self) -> list[str]:
        """What there is so far of the file that the task asks for, under a name that says so."""
        if self._order is None:
            return []
        stem, dot, extension = self._order.path.rpartition(".")
        try:
            file = put(self._run, self._work, self._order.name, f"{stem}{SUFFIX}{dot}{extension}")
        except (TaskQueueError, OSError) as error:
            self._run.log(f"{self._order.name} could not be kept: {error}\n")
            return []
        if file is None:
            return []
        self._run.keep(file)
        return [file.path]

    def _put_away(self, outcome: Ended) -> Ended:
        """Keep the transcript, and what a later attempt needs to go on."""
        session = self._usage.session
        if self._transcript.size:
            outcome = self._with_transcript(outcome)
        if session is None:
            return outcome
        is_done = isinstance(outcome, Completed) and not self._may_be_rejected
        if is_done or (isinstance(outcome, Failed) and outcome.permanent):
            self._kept.drop(session)
        elif self._params.resume:
            try:
                left = self._kept.keep(session, self._work, self._plan)
            except (OSError, shutil.Error) as error:
                left = f"its files could not all be kept for the next attempt: {str(error)[:200]}"
            if left:
                self._run.log(f"{left}\n")
        return outcome

    @property
    def _may_be_rejected(self) -> bool:
        """Whether somebody looks at the result before it counts; a further attempt then mends it."""
        procedure = self._run.procedure
        return bool(self._run.task.get("outputs") or (procedure and procedure.outputs))

    def _with_transcript(self, outcome: Ended) -> Ended:
        path = own_path(self._run, f"transcript-{self._run.attempt}.jsonl")
        try:
            with self._transcript.path.open("rb") as lines:
                written = self._run.outputs.write(path, partial(shutil.copyfileobj, lines))
        except (TaskQueueError, OSError) as error:
            self._run.log(f"the transcript could not be kept: {error}\n")
            return outcome
        if isinstance(outcome, Completed):
            return replace(outcome, artifacts=(*outcome.artifacts, written.path))
        self._run.keep(written)
        return outcome

    def _earlier_session(self) -> str | None:
        """The session of the last attempt, with its files, where both are on this machine."""
        if not self._params.resume:
            return None
        for each in reversed(self._run.earlier_attempts):
            session = (each.get("usage") or {}).get("session_id")
            if session is None:
                continue
            if not self._kept.can_go_on(session):
                return None
            self._plan = self._kept.restore(session, self._work)
            return str(session)
        return None

    def _asked_file(self) -> str | None:
        """What the session is told about the file: a name where it works, else the whole path."""
        if self._order is None:
            return None
        return self._order.name if self._cwd == self._work else str(self._work / self._order.name)

    @property
    def _result(self) -> Mapping[str, Any]:
        return (self._last.heard.result if self._last else None) or {}

    @property
    def _seconds(self) -> float:
        procedure = self._run.procedure
        given = self._run.timeout_seconds or (procedure.timeout_seconds if procedure else None)
        return float(given or self._leave.timeout_seconds)

    @property
    def _is_counted(self) -> bool:
        """Whether the queue has set money aside; it then asks for more itself."""
        return (self._run.task.get("budget") or {}).get("usd") is not None

    @property
    def _budget(self) -> float | None:
        procedure = self._run.procedure
        given = self._run.task.get("budget_usd")
        if given is None and procedure is not None:
            given = procedure.budget_usd
        return self._leave.budget_usd if given is None else float(given)

    @property
    def _ceiling(self) -> float | None:
        """The budget with what persons added to it."""
        budget = self._budget
        return None if budget is None else budget + (questions.granted(self._run.answers, budget) or 0.0)

    def _left(self) -> float | None:
        aside = (self._run.task.get("budget") or {}).get("usd")
        if aside is not None:  # by the queue, which has counted earlier attempts and what persons added
            return float(aside) - self._usage.cost_usd
        ceiling = self._ceiling
        return None if ceiling is None else ceiling - self._usage.spent_before - self._usage.cost_usd

    def _failed(self, why: str, *, permanent: bool = False) -> Failed:
        return Failed(why, permanent=permanent, usage=self._usage.told())


def _new_answers(run: Run) -> list[Mapping[str, Any]]:
    """What persons said since the last attempt began."""
    since = str(run.earlier_attempts[-1].get("claimed_at") or "") if run.earlier_attempts else ""
    return [each for each in run.answers if str(each.get("answered_at") or "") >= since]
