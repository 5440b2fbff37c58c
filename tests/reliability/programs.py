"""What the processes do that are raced, stopped and killed. Each opens the database itself."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import Busy, Conflict, LeaseLost, TaskQueueError
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Failure, NewTask, Rules, TaskQueue, Update, Wanted
from tests.reliability.nursery import say, wait_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RULES = Rules(backoff=Backoff(0.02, 0.1), lease_seconds=2, first_lease_seconds=1, redeliver_seconds=1)
Line = dict[str, Any]


def caller(name: str) -> Caller:
    return Caller(name, Kind.SERVICE, frozenset({Scope.ENQUEUE, Scope.WORK}))


def open_queue(url: str) -> TaskQueue:
    return TaskQueue(open_database(url), RULES)


class Diary:
    """What a caller tried and what it was told, a line each, on disk before anything else is done.

    The last line may be torn: its writer was killed.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, line: Line) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)

    @staticmethod
    def read(path: Path) -> list[Line]:
        if not path.exists():
            return []
        whole = path.read_bytes()
        lines = whole.split(b"\n")[:-1]
        found: list[Line] = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:  # a torn line, and what the next writer put behind it
                continue
        return found


class Lane:
    """One caller, one call after the other; what was under way when it was killed is called again with its key."""

    def __init__(self, queue: TaskQueue, name: str, folder: Path, seed: int) -> None:
        self.queue = queue
        self.caller = caller(name)
        self.chance = random.Random(seed)  # noqa: S311 - a story, not a secret
        path = folder / f"{name}.diary"
        past = Diary.read(path)
        self.diary = Diary(path)
        self.number = sum(line["what"] == "try" for line in past)
        self.under_way = past[-1] if past and past[-1]["what"] == "try" else None
        self.leases: list[str] = []

    async def run(self) -> None:
        if self.under_way is not None:
            await self.call(self.under_way)
        while True:
            await self.call(self.next_call())

    def next_call(self) -> Line:
        self.number += 1
        call: Line = {"what": "try", "number": self.number}
        name = f"{self.caller.name}:{self.number}"
        if self.leases and self.chance.random() < 0.75:
            lease = self.leases.pop()
            verb = self.chance.choices(["complete", "fail", "release", "update"], [6, 1, 1, 1])[0]
            return {**call, "verb": verb, "lease": lease, "words": name}
        verb = self.chance.choices(["create", "claim", "tick"], [4, 6, 1])[0]
        return {**call, "verb": verb, "key": name}

    async def call(self, call: Line) -> None:
        self.diary.note(call)
        verb: Callable[[Line], Awaitable[Line]] = getattr(self, call["verb"])
        while True:
            try:
                told = await verb(call)
            except Busy:
                continue
            except (LeaseLost, Conflict) as refused:
                told = {"refused": refused.code}
            self.diary.note({"what": "told", "number": call["number"], "verb": call["verb"], **told})
            return

    async def create(self, call: Line) -> Line:
        serial = f"line {call['number'] % 7}" if call["number"] % 5 == 0 else None
        options = {"max_attempts": 50, "serial_key": serial}
        wanted = Wanted(title=call["key"], options=options)
        made = await self.queue.create(self.caller, NewTask(wanted, idempotency_key=call["key"]))
        return {"task": made.task.id, "key": call["key"]}

    async def claim(self, call: Line) -> Line:
        claim = await self.queue.claim(self.caller, ClaimRequest(claim_id=call["key"], worker=self.caller.name))
        if claim is None:
            return {"task": None}
        self.leases.append(claim.lease)
        return {"task": claim.task.id, "attempt": claim.task.attempt, "lease": claim.lease}

    async def update(self, call: Line) -> Line:
        await self.queue.update(self.caller, Update(call["lease"], message=call["words"], seq=call["number"]))
        self.leases.append(call["lease"])
        return {"lease": call["lease"]}

    async def complete(self, call: Line) -> Line:
        await self.queue.complete(self.caller, Completion(call["lease"], call["words"]))
        return {"lease": call["lease"], "words": call["words"]}

    async def fail(self, call: Line) -> Line:
        await self.queue.fail(self.caller, Failure(call["lease"], call["words"]))
        return {"lease": call["lease"], "words": call["words"]}

    async def release(self, call: Line) -> Line:
        await self.queue.fail(self.caller, Failure(call["lease"], call["words"], "release"))
        return {"lease": call["lease"], "words": call["words"]}

    async def tick(self, _: Line) -> Line:
        return {"moved": await self.queue.tick()}


def churn(url: str, folder: str, name: str, lanes: int, seed: int) -> None:
    """Create, claim, finish and fail for ever, in several lanes that share commits."""

    async def run() -> None:
        queue = open_queue(url)
        async with asyncio.TaskGroup() as group:
            for lane in range(lanes):
                group.create_task(Lane(queue, f"{name}-{lane}", Path(folder), seed + lane).run())

    asyncio.run(run())


def drain(url: str, gate: str, name: str, claimers: int) -> None:
    """Wait at the gate, then claim and complete until nothing is left."""

    async def run() -> None:
        queue = open_queue(url)
        say({"said": "ready", "name": name})
        wait_at(gate)
        claimed: list[tuple[int, int]] = []
        slowest = 0.0

        async def claimer(number: int) -> None:
            nonlocal slowest
            who = caller(f"{name}-{number}")
            while True:
                begun = time.perf_counter()
                claim = await queue.claim(who, ClaimRequest())
                slowest = max(slowest, time.perf_counter() - begun)
                if claim is None:
                    return
                claimed.append((claim.task.id, claim.task.attempt))
                await queue.complete(who, Completion(claim.lease, f"{name}-{number}"))

        async with asyncio.TaskGroup() as group:
            for number in range(claimers):
                group.create_task(claimer(number))
        await queue.database.close()
        for start in range(0, len(claimed), 100):
            say({"said": "claimed", "name": name, "tasks": claimed[start : start + 100]})
        say({"said": "done", "name": name, "count": len(claimed), "slowest": slowest})

    asyncio.run(run())


def park(url: str, rounds: int) -> None:
    """Wait for a task to arrive, complete it, and say so; `rounds` times."""

    async def run() -> None:
        queue = open_queue(url)
        queue.waiters.attach(queue.database)
        who = caller("parked")
        say({"said": "ready"})
        for _ in range(rounds):
            claim = await queue.claim_when_ready(who, ClaimRequest(), 50)
            assert claim is not None
            say({"said": "got", "task": claim.task.id})
            await queue.complete(who, Completion(claim.lease, "got it"))
        await queue.database.close()

    asyncio.run(run())


def hold(url: str, gate: str) -> None:
    """Claim a task, wait at the gate, then try everything that a holder may do."""

    async def run() -> None:
        queue = open_queue(url)
        who = caller("holder")
        claim = await queue.claim(who, ClaimRequest(lease_seconds=1))
        assert claim is not None
        await queue.update(who, Update(claim.lease))
        say({"said": "holding", "lease": claim.lease})
        wait_at(gate)
        for verb, call in (
            ("update", queue.update(who, Update(claim.lease, progress=99))),
            ("complete", queue.complete(who, Completion(claim.lease, "by the holder"))),
            ("fail", queue.fail(who, Failure(claim.lease, "by the holder"))),
        ):
            try:
                await call
            except TaskQueueError as refused:
                say({"said": verb, "code": refused.code, "why": str(refused)})
            else:
                say({"said": verb, "code": None})
        await queue.database.close()

    asyncio.run(run())


def own(url: str, gate: str) -> None:
    """Take the file's turn and a write transaction, and keep both until the gate opens or it is killed."""
    database: Any = open_database(url)

    def work(transaction: Any) -> None:
        transaction.run("INSERT INTO queues (name) VALUES ('half done')")
        say({"said": "owning"})
        wait_at(gate)

    database.write_now(work)
    database.close_now()
    say({"said": "let go"})
