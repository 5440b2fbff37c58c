"""Any history of calls, restarts and clock jumps keeps the promises: checked after every step."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from taskqueue_mcp.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LeaseLost,
    LimitReached,
    NotFound,
    TaskQueueError,
    WrongStatus,
)
from taskqueue_mcp.lifecycle import MOST_HANDBACKS
from taskqueue_mcp.model import FINAL, Event, Reason, Status, Task
from taskqueue_mcp.store import Database, open_database, queues
from taskqueue_mcp.store.rows import EVENT, TASK, as_event, as_task
from taskqueue_mcp.taskqueue import (
    Claim,
    ClaimRequest,
    Completion,
    Failure,
    Limits,
    NewSchedule,
    NewTask,
    Rules,
    Update,
    Wanted,
    answering,
    claiming,
    creating,
    promoting,
    scheduling,
    settling,
)
from tests.clock import Clock
from tests.conftest import MEMORY
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER
from tests.contract.stories import illegal_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.store import Transaction

LIMITS = Limits(children=3, tasks_per_root=5, depth=2, open_tasks_per_queue=12, dependencies=3)
WORKERS = {"claude": CLAUDE, "codex": CODEX}
QUEUES = ("day", "night")
IN_THE_WAY = {Status.READY, Status.IN_PROGRESS}
TIMED = {Reason.SCHEDULED, Reason.RETRY, Reason.SNOOZE, Reason.QUOTA}
COST_A_FAILURE = {"failed", "permanent", "lost"}
COST_NONE = {"released", "snoozed", "quota", "unconfirmed"}
SECOND = 1_000_000


@dataclass
class Lease:
    """A lease that was handed out; it is the valid one as long as nothing has ended it."""

    text: str
    task_id: int
    attempt: int
    holder: str
    claim_id: str | None
    worker: str | None
    claimed_at: int
    touched: bool = False
    ended_with: tuple[str, str] | None = None
    valid: bool = True


@dataclass
class World:
    """Everything that is stored, as the checks want it."""

    tasks: dict[int, Task] = field(default_factory=dict)
    events: dict[int, list[Event]] = field(default_factory=dict)
    attempts: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)
    depends_on: dict[int, set[int]] = field(default_factory=dict)
    policies: dict[int, str] = field(default_factory=dict)
    counters: dict[int, tuple[int, int]] = field(default_factory=dict)
    queues: dict[str, tuple[str, int]] = field(default_factory=dict)
    schedules: list[tuple[Any, ...]] = field(default_factory=list)
    occurrences: list[tuple[Any, ...]] = field(default_factory=list)


def look(transaction: Transaction) -> World:
    world = World()
    for row in transaction.all(f"SELECT {TASK} FROM tasks ORDER BY id"):  # noqa: S608 - our own columns
        world.tasks[row[0]] = as_task(row)
    for row in transaction.all(f"SELECT {EVENT} FROM events WHERE subject = 'task' ORDER BY subject_id, seq"):  # noqa: S608 - our own columns
        event = as_event(row)
        world.events.setdefault(event.subject_id, []).append(event)
    for task_id, *attempt in transaction.all(
        "SELECT task_id, attempt, outcome, ended_at FROM attempts ORDER BY task_id, attempt"
    ):
        world.attempts.setdefault(task_id, []).append(tuple(attempt))
    for task_id, other in transaction.all("SELECT task_id, depends_on FROM dependencies"):
        world.depends_on.setdefault(task_id, set()).add(other)
    for task_id, policy in transaction.all("SELECT task_id, on_dependency_failure FROM bodies"):
        world.policies[task_id] = policy
    for task_id, children, descendants in transaction.all("SELECT id, children, descendants FROM tasks"):
        world.counters[task_id] = (children, descendants)
    for name, state, open_tasks in transaction.all("SELECT name, state, open_tasks FROM queues"):
        world.queues[name] = (state, open_tasks)
    world.schedules = transaction.all("SELECT id, enabled, next_due_at, standing_task_id, deleted_at FROM schedules")
    world.occurrences = transaction.all("SELECT schedule_id, due_at, fate, task_id FROM occurrences")
    return world


A = st.sampled_from
STEPS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "create": (
        6,
        {
            "title": A(["a", "b"]),
            "queue": A(QUEUES),
            "priority": A(["low", "medium", "high", "urgent"]),
            "run_at": A([None, None, None, "in 1 minute", "in 2 hours"]),
            "deps": st.lists(st.integers(0, 9), max_size=2),
            "approval": A([False, False, False, False, True]),
            "serial": A([None, None, "s", "t"]),
            "most": A([1, 2, 3]),
            "policy": A(["fail", "run"]),
            "key": A([None, None, "k1", "k2"]),
            "parent": A([None, None, 0, 1, 2]),
        },
    ),
    "claim": (
        7,
        {
            "worker": A([None, "w1", "w2"]),
            "claim_id": A([None, None, "c1", "c2"]),
            "holder": A(["claude", "codex"]),
            "queues": A([(), (), (), ("day",), ("night",)]),
            "seconds": A([30, 900]),
        },
    ),
    "settle": (
        7,
        {
            "number": st.integers(0, 5),
            "holder": A([None, None, None, None, "claude", "codex"]),
            "kind": A(["completed", "completed", "error", "permanent", "quota", "snooze", "release"]),
            "words": A(["x", "x", "y"]),
        },
    ),
    "update": (
        3,
        {
            "number": st.integers(0, 4),
            "holder": A([None, None, None, None, "claude", "codex"]),
            "progress": A([None, 10.0]),
            "question": A([None, None, None, "Hm?"]),
            "seq": A([None, None, 1, 2]),
        },
    ),
    "time_passes": (4, {"seconds": A([1, 30, 59, 61, 901, 4_000, 90_000, -1, -30, -4_000, -90_000])}),
    "tick": (1, {}),
    "decide": (3, {"number": st.integers(0, 50), "action": A(["approve", "reject", "answer", "retry", "run_now"])}),
    "cancel": (2, {"number": st.integers(0, 50)}),
    "set_queue": (1, {"queue": A(QUEUES), "state": A(["open", "open", "paused", "draining"])}),
    "plan": (
        1,
        {
            "name": A(["hourly", "daily"]),
            "cron": A(["0 * * * *", "*/20 * * * *", "30 2 * * *"]),
            "misfire": A(["coalesce", "skip", "all"]),
            "overlap": A(["skip", "queue_one", "allow", "cancel_previous"]),
            "queue": A(QUEUES),
            "enabled": A([None, None, True, False]),
        },
    ),
    "manage": (1, {"name": A(["hourly", "daily"]), "action": A(["pause", "resume", "delete", "run_now"])}),
    "restart": (1, {"quietly": A([True, True, False])}),
}
WEIGHTED = [name for name, (weight, _) in STEPS.items() for _ in range(weight)]


class History(RuleBasedStateMachine):
    """Two processes' doors to one database, a clock that jumps, and a model of who may still write what."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="taskqueue-", dir=MEMORY if MEMORY.is_dir() else None)
        self.clock = Clock()
        self.latest = self.clock.micros
        url = f"sqlite:///{Path(self.folder.name) / 'queue.db'}"
        self.doors: list[Database] = [open_database(url, clock=self.clock) for _ in range(2)]
        self.url = url
        self.door = 0
        self.rules_ = Rules(limits=LIMITS, chance=lambda: 0.5)
        self.leases: list[Lease] = []
        self.keys: dict[tuple[str, str], tuple[int, str]] = {}
        self.waits: dict[int, set[int]] = {}
        self.before = World()

    def teardown(self) -> None:
        for door in self.doors:
            close: Any = door
            close.close_now()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        for queue in QUEUES:
            self.write(lambda t, name=queue: queues.set_state(t, name, "open"))

    @rule(name=A(WEIGHTED), data=st.data())
    def step(self, name: str, data: st.DataObject) -> None:
        """One rule for all steps: with one a step, most examples would do without the half of them."""
        given = {key: data.draw(strategy) for key, strategy in STEPS[name][1].items()}
        note(f"{name}(**{given})")
        getattr(self, name)(**given)

    # --- doing

    def write(self, work: Callable[..., Any], **arguments: Any) -> Any:
        def whole(transaction: Transaction) -> Any:
            return work(transaction, **arguments)

        return self.doors[self.door].write_now(whole)

    def attempt(self, work: Callable[..., Any], *allowed: type[TaskQueueError], **arguments: Any) -> Any:
        """Do it, or be refused in one of the ways that are allowed here."""
        try:
            return self.write(work, **arguments)
        except allowed as refused:
            note(f"refused: {refused}")
            return refused

    def pick(self, number: int) -> int | None:
        ids = list(self.before.tasks)
        return ids[number % len(ids)] if ids else None

    def lease(self, number: int) -> Lease | None:
        return self.leases[-1 - number % len(self.leases)] if self.leases else None

    # --- the world

    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.latest = max(self.latest, self.clock.micros)

    def restart(self, quietly: bool) -> None:
        """Go on at the other process's door, which may have been started anew."""
        self.door = 1 - self.door
        if quietly:
            return
        old: Any = self.doors[self.door]
        old.close_now()
        self.doors[self.door] = open_database(self.url, clock=self.clock)

    def tick(self) -> None:
        while self.write(promoting.promote, rules=self.rules_):
            pass
        self.nothing_is_overdue()

    # --- enqueue

    def create(
        self, title: str, queue: str, priority: str, run_at: str | None, deps: list[int], approval: bool,
        serial: str | None, most: int, policy: str, key: str | None, parent: int | None,
    ) -> None:  # fmt: skip
        lease = None if parent is None else self.lease(parent)
        caller: Caller = GEMINI if lease is None else WORKERS[lease.holder]
        options = {"serial_key": serial, "max_attempts": most, "on_dependency_failure": policy}
        depends_on = tuple(number for dep in deps if (number := self.pick(dep)) is not None)
        new = NewTask(
            Wanted(title=title, queue=queue, priority=priority, options=options),
            run_at=run_at, depends_on=depends_on, idempotency_key=key, requires_approval=approval,
            lease=None if lease is None else lease.text,
        )  # fmt: skip
        used = self.keys.get((caller.name, key)) if key is not None else None
        made = self.attempt(
            creating.create, Conflict, LimitReached, LeaseLost, InvalidInput, Forbidden,
            rules=self.rules_, caller=caller, new=new,
        )  # fmt: skip
        if used is not None:
            if used[1] == new.digest():
                assert not isinstance(made, TaskQueueError)
                assert (made.task.id, made.created) == (used[0], False)
            else:
                assert isinstance(made, Conflict)
            return
        if lease is not None and not lease.valid:
            assert isinstance(made, LeaseLost | InvalidInput)
        if isinstance(made, TaskQueueError):
            return
        assert made.created
        if key is not None:
            self.keys[caller.name, key] = (made.task.id, new.digest())
        self.waits[made.task.id] = {other for other in depends_on if self.before.tasks[other].status not in FINAL}

    def cancel(self, number: int) -> None:
        task_id = self.pick(number)
        if task_id is not None:
            done = self.attempt(
                answering.cancel, WrongStatus, rules=self.rules_, caller=GEMINI, task_id=task_id, why=None
            )
            assert isinstance(done, WrongStatus) == (self.before.tasks[task_id].status in FINAL)

    def set_queue(self, queue: str, state: str) -> None:
        self.write(queues.set_state, name=queue, state=state)

    # --- answer

    def decide(self, number: int, action: str) -> None:
        task_id = self.pick(number)
        if task_id is None:
            return
        done = self.attempt(
            answering.answer, WrongStatus, rules=self.rules_, caller=OWNER, task_id=task_id, action=action,
            text="Go on.",
        )  # fmt: skip
        if action == "retry" and not isinstance(done, WrongStatus):
            others = self.before.depends_on.get(task_id, set())
            self.waits[task_id] = {other for other in others if self.before.tasks[other].status not in FINAL}

    # --- work

    def claim(
        self, worker: str | None, claim_id: str | None, holder: str, queues: tuple[str, ...], seconds: int
    ) -> None:
        request = ClaimRequest(worker=worker, claim_id=claim_id, queues=queues, lease_seconds=seconds)
        held = self.to_hand_out_again(holder, worker, claim_id)
        claim: Claim | None = self.write(claiming.claim, rules=self.rules_, caller=WORKERS[holder], request=request)
        self.nothing_is_overdue()
        assert (claim is not None and claim.redelivered) == (held is not None)
        if claim is None:
            assert not self.fitting(queues)
            return
        task = claim.task
        assert (task.status, task.lease_principal) == (Status.IN_PROGRESS, holder)
        if held is None:
            known = self.before.tasks[task.id].attempt if task.id in self.before.tasks else 0
            assert task.attempt == known + 1
            assert not self.fitting(queues, before=task)
            now = self.clock.micros
            self.leases.append(Lease(claim.lease, task.id, task.attempt, holder, claim_id, worker, now))
            return
        assert (task.id, task.attempt) == (held.task_id, held.attempt)
        if claim_id is not None:
            assert claim.lease == held.text
        else:
            held.valid = False
            self.leases.append(replace(held, text=claim.lease, valid=True))

    def to_hand_out_again(self, holder: str, worker: str | None, claim_id: str | None) -> Lease | None:
        """The lease whose answer may have been lost, if this claim repeats the one it came from."""
        for lease in self.leases:
            expires_at = self.before.tasks[lease.task_id].lease_expires_at
            if not lease.valid or lease.holder != holder or expires_at is None or expires_at < self.clock.micros:
                continue
            if claim_id is not None and lease.claim_id == claim_id:
                return lease
            fresh = lease.claimed_at > self.clock.micros - self.rules_.redeliver_seconds * SECOND
            by_name = claim_id is None and lease.claim_id is None and worker is not None and lease.worker == worker
            if by_name and fresh and not lease.touched:
                return lease
        return None

    def fitting(self, queues: tuple[str, ...], before: Task | None = None) -> list[int]:
        """Ready tasks that a claim should have preferred."""
        world: World = self.write(look)
        rows = self.write(lambda t: t.all("SELECT id, sort_at FROM tasks WHERE status = 'ready'"))
        sort_at = dict(rows)
        mine = None
        if before is not None:
            mine = (
                self.write(lambda t: t.first("SELECT sort_at FROM tasks WHERE id = :id", {"id": before.id}))[0],
                before.id,
            )
        return [
            task_id
            for task_id in sort_at
            if world.queues[world.tasks[task_id].queue][0] != "paused"
            and (not queues or world.tasks[task_id].queue in queues)
            and (mine is None or (sort_at[task_id], task_id) < mine)
        ]

    def update(
        self, number: int, holder: str | None, progress: float | None, question: str | None, seq: int | None
    ) -> None:
        lease = self.lease(number)
        if lease is None:
            return
        by = holder or lease.holder
        said = Update(lease.text, progress=progress, question=question, seq=seq)
        done = self.attempt(settling.update, LeaseLost, rules=self.rules_, caller=WORKERS[by], update=said)
        if by == lease.holder and lease.ended_with == ("question", question or "-"):
            assert not isinstance(done, LeaseLost)
            assert done.repeated
            return
        assert isinstance(done, LeaseLost) == (not lease.valid or by != lease.holder)
        lease.touched = lease.touched or not isinstance(done, LeaseLost)
        if not isinstance(done, LeaseLost) and question is not None and not done.repeated:
            lease.ended_with, lease.valid = ("question", question), False

    def settle(self, number: int, holder: str | None, kind: str, words: str) -> None:
        lease = self.lease(number)
        if lease is None:
            return
        by = holder or lease.holder
        caller, ending = WORKERS[by], (kind, words)
        if kind == "completed":
            done = self.attempt(
                settling.complete, LeaseLost, Conflict,
                rules=self.rules_, caller=caller, completion=Completion(lease.text, words),
            )  # fmt: skip
        else:
            done = self.attempt(
                settling.fail, LeaseLost, Conflict,
                rules=self.rules_, caller=caller, failure=Failure(lease.text, words, kind),
            )  # fmt: skip
        if by != lease.holder or (lease.ended_with or ("", ""))[0] == "question":
            assert isinstance(done, LeaseLost)
        elif lease.ended_with is not None:
            assert isinstance(done, Conflict) == (lease.ended_with != ending)
            assert isinstance(done, Conflict) or done.repeated
        elif lease.valid:
            assert not isinstance(done, TaskQueueError)
            assert not done.repeated
            lease.ended_with, lease.valid = ending, False
        else:
            assert isinstance(done, LeaseLost)

    # --- schedules

    def plan(self, name: str, cron: str, misfire: str, overlap: str, queue: str, enabled: bool | None) -> None:
        new = NewSchedule(
            name, cron, Wanted(queue=queue), timezone="Europe/Berlin", misfire=misfire, overlap=overlap, enabled=enabled
        )
        self.write(scheduling.put, rules=self.rules_, caller=GEMINI, new=new)

    def manage(self, name: str, action: str) -> None:
        work: Any = getattr(scheduling, action)
        self.attempt(work, NotFound, LimitReached, Forbidden, rules=self.rules_, caller=GEMINI, name=name)

    # --- checks

    def nothing_is_overdue(self) -> None:
        world: World = self.write(look)
        now = self.clock.micros
        for task in world.tasks.values():
            if task.status is Status.IN_PROGRESS:
                assert task.lease_expires_at is not None
                assert task.lease_expires_at >= now
            if task.status is Status.PENDING and task.reason in TIMED:
                assert task.run_at > now or len(world.tasks) > promoting.BATCH

    @invariant()
    def everything_holds(self) -> None:
        world: World = self.write(look)
        for task in world.tasks.values():
            self.check_task(world, task)
        for task_id in self.before.tasks.keys() - world.tasks.keys():
            raise AssertionError(f"T-{task_id} is gone")
        self.check_leases(world)
        self.check_lines(world)
        self.check_counts(world)
        self.check_schedules(world)
        self.before = world

    def check_task(self, world: World, task: Task) -> None:
        was = self.before.tasks.get(task.id)
        events = world.events[task.id]
        assert [event.seq for event in events] == list(range(1, task.seq + 1))
        assert illegal_step(events) is None, [event.kind for event in events]
        news = [event.kind for event in events[was.seq if was else 0 :]]
        assert task.attempt - (was.attempt if was else 0) == news.count("claimed")
        if was is not None and was.status in FINAL and task.status is not was.status:
            assert news[0] == "reopened"
            assert was.status is not Status.COMPLETED
        if was is not None and was.status is Status.COMPLETED:
            assert task == was
        attempts = world.attempts.get(task.id, [])
        assert [number for number, _, _ in attempts] == list(range(1, task.attempt + 1))
        still_open = [number for number, outcome, _ in attempts if outcome is None]
        assert still_open == ([task.attempt] if task.status is Status.IN_PROGRESS else [])
        since = max((event.attempt or 0 for event in events if event.kind == "reopened"), default=0)
        outcomes = Counter(outcome for number, outcome, _ in attempts if number > since)
        assert task.failures == sum(outcomes[name] for name in COST_A_FAILURE)
        assert task.failures <= task.max_attempts
        if task.status not in FINAL:
            assert task.failures < task.max_attempts
        answered = max((event.attempt or 0 for event in events if event.kind in {"reopened", "answered"}), default=0)
        returned = Counter(outcome for number, outcome, _ in attempts if number > answered)
        assert task.handbacks == sum(returned[name] for name in COST_NONE) <= MOST_HANDBACKS + 1
        if task.status is Status.READY:
            assert task.run_at <= self.latest
        self.check_dependencies(world, task)

    def check_dependencies(self, world: World, task: Task) -> None:
        others = world.depends_on.get(task.id, set())
        ended = any(
            event.kind in {"completed", "failed", "cancelled", "rejected"}
            or (event.kind == "lease_lost" and world.tasks[other].status is Status.FAILED)
            for other in others
            for event in world.events[other][self.before.tasks[other].seq if other in self.before.tasks else 0 :]
        )
        if ended and self.waits.get(task.id):
            self.waits[task.id] = {other for other in others if world.tasks[other].status not in FINAL}
        if task.status in FINAL:
            return
        assert task.blockers == len(self.waits.get(task.id, ()))
        if task.status in IN_THE_WAY and world.policies[task.id] == "fail":
            assert {world.tasks[other].status for other in others} <= {Status.COMPLETED}

    def check_leases(self, world: World) -> None:
        valid: dict[int, Lease] = {}
        for lease in self.leases:
            task = world.tasks[lease.task_id]
            if lease.valid and (task.status is not Status.IN_PROGRESS or task.attempt != lease.attempt):
                lease.valid = False
            if lease.valid:
                assert lease.task_id not in valid
                valid[lease.task_id] = lease
        held = {task.id for task in world.tasks.values() if task.status is Status.IN_PROGRESS}
        assert held == set(valid)

    def check_lines(self, world: World) -> None:
        for key in {task.serial_key for task in world.tasks.values()} - {None}:
            line = [task for task in world.tasks.values() if task.serial_key == key]
            heads = [task for task in line if task.status in IN_THE_WAY]
            waiting = [task for task in line if task.reason is Reason.SERIAL]
            assert len(heads) <= 1
            assert heads or not waiting

    def check_counts(self, world: World) -> None:
        open_ = Counter(task.queue for task in world.tasks.values() if task.status not in FINAL)
        for queue, (_, counted) in world.queues.items():
            assert counted == open_[queue]
        children = Counter(task.parent_id for task in world.tasks.values())
        descendants = Counter(task.root_id for task in world.tasks.values())
        for task_id, counted_ in world.counters.items():
            assert counted_ == (children[task_id], descendants[task_id])
            assert counted_[0] <= LIMITS.children
            assert counted_[1] <= LIMITS.tasks_per_root
        assert all(task.depth <= LIMITS.depth for task in world.tasks.values())

    def check_schedules(self, world: World) -> None:
        for schedule_id, enabled, next_due_at, standing, deleted_at in world.schedules:
            if deleted_at is not None:
                continue
            task = world.tasks[standing]
            assert (task.schedule_id, task.due_at, task.attempt) == (schedule_id, next_due_at, 0)
            assert (task.status, task.reason) == (Status.PENDING, Reason.SCHEDULED if enabled else Reason.PAUSED)
        standing_tasks = {row[3] for row in world.schedules}
        ended = {(row[0], row[1]): row for row in world.occurrences}
        runs = [task for task in world.tasks.values() if task.due_at is not None and task.id not in standing_tasks]
        deleted = {row[0] for row in world.schedules if row[4] is not None}
        for task in runs:
            if (task.schedule_id, task.due_at) not in ended:
                assert task.schedule_id in deleted


def test_any_history_keeps_the_promises(soak: bool) -> None:
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=20_000 if soak else 250,
            stateful_step_count=100 if soak else 50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )
