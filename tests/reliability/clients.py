"""Clients that can be killed at any instant: a diary says what they meant to do and what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Failure, NewTask, TaskQueue, Update, Wanted
from tests.reliability.power import Trace
from tests.reliability.processes import Diary, together
from tests.reliability.racers import EVERYONE, SHORT, count_open, opened
from tests.reliability.shared import JumpingClock, Room

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

LANES = 3
"""How many calls a client has under way at a time."""
LINES = 5
MOST_AHEAD = 20
"""A client settles about as many tasks as it creates: this many more at most, in each of its lives."""
PAUSE = 0.005
"""How long a client leaves a queue alone that has nothing for it, in seconds."""
DRAIN_SECONDS = 45.0
"""How long what is left may stay as much as it was."""
MOST_DRAINING = 1_800.0
UNKNOWN = "is not known"
"""In a refusal: the connection to the database was lost in the middle of a commit."""
SETTLING = frozenset({"complete", "fail"})
Call = dict[str, Any]


class Client:
    """Does one random thing after another. What its last life left unanswered it asks for again first."""

    def __init__(self, queue: TaskQueue, diary: Diary, chance: random.Random) -> None:
        self._queue = queue
        self._name = diary.name
        self._chance = chance
        self._made: list[int] = []
        self._held: list[str] = []
        self.unanswered = self._remember(diary.entries)
        self._ahead = 0
        self._diary = diary
        self._calls: dict[str, Callable[[Call], Awaitable[Call]]] = {
            "create": self._create,
            "claim": self._claim,
            "update": self._update,
            "complete": self._complete,
            "fail": self._fail,
            "tick": self._tick,
        }

    def _remember(self, entries: list[Call]) -> list[Call]:
        calls = {entry["n"]: entry for entry in entries if "do" in entry}
        self._next = max(calls, default=0) + 1
        settled = {call["lease"] for call in calls.values() if call["do"] in SETTLING}
        answers = {entry["to"]: entry for entry in entries if "to" in entry}
        self._made = [
            answer["task"] for n, answer in answers.items() if "task" in answer and calls[n]["do"] == "create"
        ]
        leases = [answer["lease"] for answer in answers.values() if answer.get("lease")]
        self._held = [lease for lease in leases if lease not in settled][-10:]
        return [call for n, call in calls.items() if n not in answers]

    async def live(self) -> None:
        """Go on until killed."""
        for call in self.unanswered:
            await self.do(call)
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._lane())

    async def drain(self, seconds: float) -> None:
        """Finish whatever is left, whoever began it; it must become less within so many seconds, however much it is."""
        for call in self.unanswered:
            await self.do(call)
        fewest, since = math.inf, time.monotonic()
        while left := await count_open(self._queue):
            if left < fewest:
                fewest, since = left, time.monotonic()
            assert time.monotonic() < since + seconds, f"the queue does not drain: {left} left"
            if self._held:
                await self._settle(self._held.pop(), "complete")
            else:
                await self._ask_for_work()

    async def do(self, call: Call) -> Call:
        """Call the queue and write down what it says; again, when it could not say whether it was done."""
        while True:
            try:
                told = await self._calls[call["do"]](call)
            except TaskQueueError as error:
                if UNKNOWN in str(error):
                    self._diary.note(unknown=call["n"])
                    await asyncio.sleep(PAUSE)
                    continue
                told = {"refused": error.code}
            self._diary.note(to=call["n"], **told)
            return told

    def _meant(self, do: str, **call: Any) -> Call:
        meant = {"n": self._next, "do": do, **call}
        self._next += 1
        self._diary.note(**meant)
        return meant

    async def _lane(self) -> None:
        chance = self._chance
        while True:
            roll = chance.random()
            if self._held and roll < 0.55:
                await self._work_on(self._held.pop(chance.randrange(len(self._held))))
            elif self._ahead < MOST_AHEAD and roll < 0.75:
                await self._ask_for()
            elif roll < 0.98:
                await self._ask_for_work()
            else:
                await self.do(self._meant("tick"))

    async def _ask_for_work(self) -> None:
        told = await self.do(self._meant("claim", claim_id=f"{self._name}-{self._next}"))
        if told.get("lease") is None:
            await asyncio.sleep(PAUSE)

    async def _ask_for(self) -> None:
        chance = self._chance
        self._ahead += 1
        wanted = {
            "key": f"{self._name}-{self._next}",
            "depends_on": chance.sample(self._made, min(len(self._made), 2)) if chance.random() < 0.2 else [],
            "line": f"line-{chance.randrange(LINES)}" if chance.random() < 0.1 else None,
        }
        if "refused" in await self.do(self._meant("create", **wanted)):
            self._ahead -= 1

    async def _work_on(self, lease: str) -> None:
        roll = self._chance.random()
        if roll < 0.3:
            told = await self.do(self._meant("update", lease=lease, seq=self._next, line=f"{self._name}-{self._next}"))
            if "refused" not in told:
                self._held.append(lease)
        elif roll < 0.85:
            await self._settle(lease, "complete")
        elif roll < 0.95:
            await self._settle(lease, "fail", kind=self._chance.choice(["error", "release", "permanent"]))
        # else it is forgotten, and the queue takes it back when its lease has run out

    async def _settle(self, lease: str, do: str, **call: str) -> None:
        self._ahead -= 1
        await self.do(self._meant(do, lease=lease, told=f"{self._name}-{self._next}", **call))

    async def _create(self, call: Call) -> Call:
        options = {"serial_key": call["line"], "max_attempts": 20}
        wanted = Wanted(title=call["key"], options={name: value for name, value in options.items() if value})
        new = NewTask(wanted, idempotency_key=call["key"], depends_on=tuple(call["depends_on"]))
        task = (await self._queue.create(EVERYONE, new)).task
        self._made.append(task.id)
        return {"task": task.id}

    async def _claim(self, call: Call) -> Call:
        request = ClaimRequest(worker=self._name, claim_id=call["claim_id"], lease_seconds=SHORT)
        claim = await self._queue.claim(EVERYONE, request)
        if claim is None:
            return {"lease": None}
        if claim.lease not in self._held:
            self._held.append(claim.lease)
        return {"task": claim.task.id, "attempt": claim.task.attempt, "lease": claim.lease}

    async def _update(self, call: Call) -> Call:
        news = Update(call["lease"], message=call["line"], log=call["line"] + "\n", seq=call["seq"])
        return {"task": (await self._queue.update(EVERYONE, news)).task.id}

    async def _complete(self, call: Call) -> Call:
        done = Completion(call["lease"], call["told"], result_data={"by": call["told"]})
        return {"task": (await self._queue.complete(EVERYONE, done)).task.id}

    async def _fail(self, call: Call) -> Call:
        return {"task": (await self._queue.fail(EVERYONE, Failure(call["lease"], call["told"], call["kind"]))).task.id}

    async def _tick(self, _: Call) -> Call:
        return {"moved": await self._queue.tick()}


def clock_at(path: str | None) -> JumpingClock | None:
    return None if path is None else JumpingClock(Path(path))


def live(url: str, diary: str, seed: int, clock: str | None = None) -> None:
    """Be a client until killed, by the machine's clock or one that a test sets."""

    async def run() -> None:
        async with opened(url, clock_at(clock), lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
            await Client(queue, Diary(Path(diary)), random.Random(seed)).live()  # noqa: S311 - repeatable chance is the point

    asyncio.run(run())


def live_on_a_small_disk(url: str, diary: str, seed: int, room: str) -> None:
    """Be a client until killed, on a disk with as much room as the test says."""
    Room(Path(room)).small_disk()
    live(url, diary, seed)


def live_on_a_recorded_disk(url: str, diary: str, trace: str, seed: int, lives: int, seconds: float) -> None:
    """Be a client for some lives of so many seconds, with all that is done to the disk in a trace."""
    recorded = Trace(Path(trace))
    recorded.record_disk()
    chance = random.Random(seed)  # noqa: S311 - the same

    async def run() -> None:
        async with opened(url, lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
            entries = Diary(Path(diary), partial(recorded.note, Path(diary).stem))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(Client(queue, entries, chance).live(), seconds)
            entries.close()

    for _ in range(lives):
        asyncio.run(run())


def drain_together(url: str, diaries: Sequence[Path], clock: Path | None = None) -> None:
    """Have the clients of these diaries come back and do whatever is left, side by side."""
    count = len(diaries)
    clocks = [None if clock is None else str(clock)] * count
    together(_drain, [url] * count, [str(diary) for diary in diaries], range(count), clocks, seconds=MOST_DRAINING)


def _drain(url: str, diary: str, seed: int, clock: str | None) -> None:
    async def run() -> None:
        async with opened(url, clock_at(clock), lease_seconds=SHORT, first_lease_seconds=SHORT) as queue:
            await Client(queue, Diary(Path(diary)), random.Random(seed)).drain(DRAIN_SECONDS)  # noqa: S311 - the same

    asyncio.run(run())
