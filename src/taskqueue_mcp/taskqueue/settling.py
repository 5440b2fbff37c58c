"""What an attempt comes to, and what it says on the way: every write here is made under its lease."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import budgets, checks, leases, lifecycle
from taskqueue_mcp.errors import Conflict, InvalidInput, LeaseLost, LimitReached
from taskqueue_mcp.model import Completed, Failed, Outcome, Reason, Rejected, Returned, Standing, Task
from taskqueue_mcp.store import attempts, events, tasks
from taskqueue_mcp.taskqueue import accounting, evidence, gating, holding, moving, paying, usages

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.store.attempts import Proof
    from taskqueue_mcp.taskqueue.evidence import Unweighed, Weighed
    from taskqueue_mcp.taskqueue.limits import Limits
    from taskqueue_mcp.taskqueue.rules import Rules

SNOOZE_SECONDS = {"snooze": 900, "quota": 3_600}
FAIL_KINDS = ("error", "permanent", "quota", "snooze", "release")
LONGEST_SUMMARY = 20_000
LONGEST_ERROR = 65_536
MOST_ARTIFACTS = 100
WHOLE = 100
"""Progress is in percent."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The arguments of `complete_task`."""

    lease: str
    result_summary: str = ""
    result_path: str | None = None
    result_data: Any = None
    artifacts: tuple[Any, ...] = ()
    usage: Any = None
    evidence: Any = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The arguments of `fail_task`."""

    lease: str
    error_log: str = ""
    kind: str = "error"
    resume_at: str | None = None
    usage: Any = None


@dataclass(frozen=True, slots=True)
class Update:
    """The arguments of `update_task`."""

    lease: str
    progress: float | None = None
    message: str | None = None
    log: str | None = None
    artifact: Any = None
    question: str | None = None
    extend_seconds: int | None = None
    usage: Any = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A task after its attempt ended; `repeated` when the same call had been made before.

    `verdict` is what was found of a result that was looked at, as JSON text.
    """

    task: Task
    repeated: bool = False
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """An outcome ready to be written, and the hash that a repeated call is known by."""

    outcome: Outcome
    kind: str
    word: str
    result_data: str | None
    usage: str | None
    files: tuple[dict[str, Any], ...] = field(default=())
    resume_at: str | None = None
    weighed: Weighed | None = None

    @property
    def became(self) -> Outcome | Rejected:
        """What the attempt came to, once its result was looked at."""
        if self.weighed is None or self.weighed.standing is not Standing.REJECTED:
            return self.outcome
        return Rejected("the result was rejected: " + "; ".join(self.weighed.reasons))

    def digest(self) -> str:
        told: list[Any]
        match self.outcome:
            case Completed() as done:
                told = [done.summary, done.path, self.result_data, list(self.files)]
            case Failed() as failed:
                told = [failed.error]
            case Returned() as returned:
                told = [returned.why, self.resume_at]
        return hashlib.sha256(json.dumps([self.kind, told], sort_keys=True).encode()).hexdigest()


def complete(
    transaction: Transaction, rules: Rules, caller: Caller, completion: Completion, weighed: Weighed | None = None
) -> Settled | Unweighed:
    """End an attempt as completed; what declares or names files comes back unweighed the first time.

    Raises:
        LeaseLost: the lease is not valid; nothing was changed.
        Conflict: this lease ended the attempt before, with another result, which stands.
    """
    limits = rules.limits
    summary = checks.text("result_summary", completion.result_summary, LONGEST_SUMMARY)
    path = completion.result_path
    if path is not None:
        checks.label("result_path", path, 1_000)
    data = checks.document("result_data", completion.result_data, limits.json_depth)
    if data is not None and len(data.encode()) > limits.body_bytes:
        raise LimitReached(
            f"result_data is {len(data.encode()):,} bytes and {limits.body_bytes:,} are kept; "
            "write a file and pass its result_path"
        )
    if len(completion.artifacts) > MOST_ARTIFACTS:
        raise LimitReached(f"artifacts: {len(completion.artifacts)} given; at most {MOST_ARTIFACTS} are kept")
    files = tuple(_artifact(item, may_hold_content=True) for item in completion.artifacts)
    by_worker = evidence.read_look(completion.evidence, limits.json_depth)
    ending = _Ending(
        Completed(summary, path),
        "completed",
        "completed",
        data,
        usages.read(completion.usage, limits),
        files,
        weighed=weighed,
    )
    held = _held(transaction, caller, completion.lease, ending)
    if isinstance(held, Settled):
        return held
    if weighed is None and (held.task.expects or path is not None or files):
        return evidence.gather(transaction, rules, held.task, path, data, files, by_worker)
    return _end(transaction, rules, caller, held, ending)


def fail(transaction: Transaction, rules: Rules, caller: Caller, failure: Failure) -> Settled:
    """End an attempt that did not complete: `kind` says whether it costs a failure and when to go on.

    Raises:
        InvalidInput: the kind or the time is not understood.
        LeaseLost: the lease is not valid; nothing was changed.
        Conflict: this lease ended the attempt before, in another way, which stands.
    """
    error = checks.text("error_log", failure.error_log)
    if len(error) > LONGEST_ERROR:
        error = error[: LONGEST_ERROR // 2] + "\n[…]\n" + error[-LONGEST_ERROR // 2 :]
    outcome, word = _outcome(transaction, rules, failure, error)
    usage = usages.read(failure.usage, rules.limits)
    ending = _Ending(outcome, failure.kind, word, None, usage, resume_at=failure.resume_at)
    held = _held(transaction, caller, failure.lease, ending)
    return held if isinstance(held, Settled) else _end(transaction, rules, caller, held, ending)


def update(transaction: Transaction, rules: Rules, caller: Caller, update: Update) -> Settled:
    """Renew a lease and note what is new; a question ends the attempt and hands the task to a person.

    Raises:
        InvalidInput: an argument is not what it must be.
        LeaseLost: the lease is not valid; nothing was changed.
    """
    news, log, question = _checked(rules.limits, update)
    usage = usages.read(update.usage, rules.limits)
    told = usages.as_told(usage)
    try:
        held = holding.held(transaction, caller, update.lease)
    except LeaseLost:
        asked_before = _same_question(transaction, caller, update.lease, question)
        if asked_before is None:
            raise
        return asked_before
    repeated = _is_repeated(transaction, held, update.seq)
    after = tasks.touch(
        transaction, held.task, held.lease.hash, caller.name,
        lease_seconds=_extension(rules.limits, held.task, update.extend_seconds),
        progress=None if repeated else news.get("progress"),
        message=None if repeated else news.get("message"),
        events=int(bool(news) and not repeated),
    )  # fmt: skip
    if after is None:
        raise holding.lost(transaction, caller, held.lease, held.task)
    if repeated:
        return Settled(after, repeated=True)
    if news:
        events.record(transaction, after, "progress", caller.name, news)
    if "artifact" in news:
        attempts.add_artifact(transaction, after, news["artifact"])
    if log:
        attempts.log(transaction, after, log)
    if update.seq is not None or usage is not None:
        attempts.note_update(transaction, after, update.seq, usage)
    is_over = bool(told) and _look_at_usage(transaction, rules, caller, held, after, told)
    if question is None and not is_over:
        return Settled(after)
    now_held = replace(held, task=after)
    return _ask(transaction, rules, caller, now_held, question, told, is_over=is_over)


def _checked(limits: Limits, update: Update) -> tuple[dict[str, Any], str | None, str | None]:
    """Return what is new (progress, message, artifact), the lines for the log, and the question."""
    if update.progress is not None and not 0 <= update.progress <= WHOLE:
        raise InvalidInput("progress: must be from 0 to 100 (percent)")
    question = None if update.question is None else checks.text("question", update.question, 10_000).strip()
    if question == "":
        raise InvalidInput("question: is empty; ask the person one clear question")
    news = {
        "progress": update.progress,
        "message": None if update.message is None else checks.text("message", update.message, 2_000),
        "artifact": None if update.artifact is None else _artifact(update.artifact),
    }
    log = None if update.log is None else checks.text("log", update.log, limits.body_bytes)
    return {key: value for key, value in news.items() if value is not None}, log, question


def _look_at_usage(
    transaction: Transaction, rules: Rules, caller: Caller, held: holding.Held, task: Task, usage: dict[str, Any]
) -> bool:
    """Note what usage on the way means to the gate of its account and to its budget; True when that is used up."""
    account = gating.note_account(transaction, caller, task, usage)
    if held.is_gated and gating.shows_that_it_works(usage):
        gating.worked(transaction, caller, task, account)
    return accounting.report(transaction, rules, task, usage, is_reserved=held.is_reserved)


def _ask(
    transaction: Transaction, rules: Rules, caller: Caller, held: holding.Held, question: str | None,
    usage: dict[str, Any], *, is_over: bool,
) -> Settled:  # fmt: skip
    """End an attempt with a question: the worker's own, or that of a budget that is used up, or both in one."""
    task = held.task
    is_reserved = held.is_reserved or bool(usage)
    accounting.settle(transaction, rules, task, usage, is_reserved=is_reserved)
    short = accounting.own_shortage(transaction, task) if is_over else None
    asked = question or ""
    if short is not None:
        asked = " ".join(part for part in (question, budgets.question(short, f"T-{task.id}")) if part)
    change = lifecycle.ask(task, asked, Reason.QUESTION if short is None else Reason.BUDGET)
    after = tasks.settle(transaction, task, change, held.lease.hash, caller.name)
    if after is None:
        raise holding.lost(transaction, caller, held.lease, task)
    settle_hash = None if question is None else leases.digest(question)
    attempts.end(transaction, after.id, after.attempt, "question", settle_hash=settle_hash)
    if short is None:
        events.record(transaction, after, "asked", caller.name, {"question": asked})
    else:
        paying.note(transaction, after, short, None, task.run_at, asked=True)
    return Settled(moving.follow(transaction, task, after))


def _same_question(transaction: Transaction, caller: Caller, lease_text: str, question: str | None) -> Settled | None:
    if question is None:
        return None
    lease = leases.parse(lease_text)
    proof = holding.ended_under(transaction, caller, lease)
    if proof is None or proof.outcome != "question" or proof.settle_hash != leases.digest(question):
        return None
    return Settled(moving.fetch(transaction, lease.task_id), repeated=True)


def _is_repeated(transaction: Transaction, held: holding.Held, seq: int | None) -> bool:
    if seq is None:
        return False
    proof = attempts.proof(transaction, held.task.id, held.task.attempt)
    return proof is not None and proof.update_seq is not None and proof.update_seq >= seq


def _extension(limits: Limits, task: Task, extend_seconds: int | None) -> int:
    if extend_seconds is None:
        return task.lease_seconds
    if not 1 <= extend_seconds <= limits.longest_lease_seconds:
        raise InvalidInput(f"extend_seconds: must be from 1 to {limits.longest_lease_seconds:,}")
    return extend_seconds


def _outcome(transaction: Transaction, rules: Rules, failure: Failure, error: str) -> tuple[Outcome, str]:
    if failure.kind not in FAIL_KINDS:
        raise InvalidInput(f"kind: {failure.kind!r} is not one of {', '.join(FAIL_KINDS)}")
    now = transaction.now
    resume_at = None
    if failure.resume_at is not None:
        resume_at = checks.instant("resume_at", failure.resume_at, rules.zone, now)
    match failure.kind:
        case "error" | "permanent":
            if resume_at is not None:
                raise InvalidInput("resume_at: goes with kind quota or snooze; a failure is retried by itself")
            why = error or "failed without saying why"
            return Failed(why, permanent=failure.kind == "permanent"), (
                "permanent" if failure.kind == "permanent" else "failed"
            )
        case "release":
            return Returned(None, error, resume_at), "released"
        case kind:
            reason = Reason.QUOTA if kind == "quota" else Reason.SNOOZE
            later = now + SNOOZE_SECONDS[kind] * 1_000_000 if resume_at is None else resume_at
            return Returned(reason, error, later), "quota" if kind == "quota" else "snoozed"


def _held(transaction: Transaction, caller: Caller, lease_text: str, ending: _Ending) -> holding.Held | Settled:
    """Return the task that is to end, or what became of it when this very call was made before."""
    try:
        return holding.held(transaction, caller, lease_text)
    except LeaseLost:
        lease = leases.parse(lease_text)
        proof = holding.ended_under(transaction, caller, lease)
        if proof is None:
            raise
        return _again(transaction, caller, lease, proof, ending)


def _end(transaction: Transaction, rules: Rules, caller: Caller, held: holding.Held, ending: _Ending) -> Settled:
    task, lease = held.task, held.lease
    became, weighed = ending.became, ending.weighed
    delay = rules.backoff.delay(task.failures + 1, rules.chance())
    longest = round(rules.limits.quota_days * 24 * lifecycle.HOUR)
    change = lifecycle.settle(task, became, transaction.now, delay, longest)
    done = ending.outcome if isinstance(ending.outcome, Completed) else None
    is_done = done is not None and became is done
    after = tasks.settle(
        transaction, task, change, lease.hash, caller.name,
        result_summary=done.summary if done and is_done else None,
        result_path=done.path if done and is_done else None,
        verdict=weighed.standing.value if weighed else Standing.UNVERIFIED.value if is_done else None,
    )  # fmt: skip
    if after is None:
        raise holding.lost(transaction, caller, lease, task)
    error = getattr(became, "error", None) or getattr(became, "why", None)
    usage = usages.as_told(ending.usage)
    if usage or held.is_reserved:
        usage = accounting.settle(transaction, rules, task, usage, is_reserved=held.is_reserved)
    if usage or held.is_gated or ending.word == "quota":
        gating.ended(transaction, rules, caller, task, ending.outcome, usage, is_gated=held.is_gated)
    attempts.end(
        transaction, task.id, task.attempt, "failed" if isinstance(became, Rejected) else ending.word,
        settle_hash=ending.digest(),
        error=error,
        result_summary=done.summary if done else None,
        result_path=done.path if done else None,
        result_data=ending.result_data,
        usage=attempts.as_usage(usage),
        verdict=weighed.document if weighed else None,
    )  # fmt: skip
    for artifact in weighed.files if weighed else ():
        attempts.add_artifact(transaction, task, artifact)
    events.record(transaction, after, _event(ending, after), caller.name, _told(ending, after))
    return Settled(moving.follow(transaction, task, after), verdict=weighed.document if weighed else None)


def _again(transaction: Transaction, caller: Caller, lease: leases.Lease, proof: Proof, ending: _Ending) -> Settled:
    task = moving.fetch(transaction, lease.task_id)
    if proof.settle_hash == ending.digest():
        return Settled(task, repeated=True, verdict=proof.verdict)
    if proof.outcome == "question":
        raise holding.lost(transaction, caller, lease, task)
    raise Conflict(
        f"attempt {lease.attempt} of T-{lease.task_id} was ended before with another result, which stands; "
        "nothing was changed",
        task=f"T-{lease.task_id}",
        status=task.status.value,
    )


def _event(ending: _Ending, after: Task) -> str:
    if isinstance(ending.became, Rejected) and after.status.value != "failed":
        return "rejected"
    if after.status.value in {"completed", "failed"}:
        return after.status.value
    if after.status.value == "waiting":
        return "asked"
    return {"failed": "retry"}.get(ending.word, ending.word)


def _told(ending: _Ending, after: Task) -> dict[str, Any] | None:
    told: dict[str, Any]
    match ending.became:
        case Completed() as done:
            verdict = None if ending.weighed is None else ending.weighed.standing.value
            told = {"summary": done.summary[:500] or None, "path": done.path, "verdict": verdict}
        case Rejected() as rejected:
            told = {"error": rejected.error[:500], "failures": after.failures, "verdict": Standing.REJECTED.value}
        case Failed() as failed:
            told = {"error": failed.error[:500], "failures": after.failures}
        case Returned() as returned:
            told = {"why": returned.why[:500] or None}
    return {key: value for key, value in told.items() if value is not None} or None


def _artifact(value: Any, *, may_hold_content: bool = False) -> dict[str, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = checks.json_object("artifact", value, 4)
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise InvalidInput('artifact: give a path, or {"path": …, "size": …, "sha256": …, "media_type": …}')
    unknown = sorted(set(value) - {"path", "size", "sha256", "media_type", "content"})
    if unknown:
        raise InvalidInput(f"artifact: unknown {', '.join(unknown)}; known are path, size, sha256, media_type, content")
    checks.label("artifact path", value["path"], 1_000)
    if "content" in value:
        if not may_hold_content:
            raise InvalidInput("artifact: content goes with complete_task; here a path is enough")
        evidence.check_inline(value["path"], value["content"])
    if value.get("size") is not None and not isinstance(value["size"], int):
        raise InvalidInput("artifact: size must be a whole number of bytes")
    for key in ("sha256", "media_type"):
        if value.get(key) is not None:
            checks.label(f"artifact {key}", str(value[key]), 100)
    return value
