"""Clients over MCP that repeat each call until it is answered, and what they were told against what is stored."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import INTERNAL_ERROR

from taskqueue_mcp.worker.connection import LOST, leaf
from tests.reliability.fleet import TOKEN
from tests.reliability.racers import count_open, opened

if TYPE_CHECKING:
    from collections.abc import Generator

    from taskqueue_mcp.store import Transaction

LINES = 2
PAUSE = 0.1
"""How long a queue that has nothing is left alone, in seconds."""
GROWTH, LONGEST_PATIENCE = 1.2, 30.0
"""A client waits a little longer after each connection that came to nothing: the machine may be a busy one."""
SHORTER = 2
"""A lease under a claim id: a request that arrives late, when its claim is over, takes a task for so long."""
LONGER = 900
"""A lease without one: what an answer that was lost had handed out has to come again before it runs out."""
FORGETS = 7
"""Of so many claims under a claim id one is never used."""
HELD_TWICE = """
SELECT one.claim_id, one.task_id, other.task_id FROM attempts AS one
  JOIN attempts AS other ON other.claim_id = one.claim_id AND other.principal = one.principal
 WHERE (other.task_id <> one.task_id OR other.attempt <> one.attempt)
   AND one.claimed_at <= other.claimed_at AND (one.ended_at IS NULL OR one.ended_at > other.claimed_at)
"""
WENT_SILENT = """
SELECT subject_id FROM events AS lost
 WHERE subject = 'task' AND kind = 'lease_lost'
   AND EXISTS (SELECT 1 FROM log_chunks WHERE task_id = lost.subject_id AND attempt = lost.attempt)
"""
"""Leases that ran out after their first update; one that was never used costs no failure."""
Json = dict[str, Any]
Call = tuple[str, Json]


class Actor:
    """Creates tasks and works on tasks over MCP; repeats each call with the same arguments until it is done."""

    def __init__(self, name: str, url: str, mode: str, *, claim_ids: bool, patience: float) -> None:
        self.name = name
        self._patience = patience
        self._url = url
        self._mode: Any = mode
        self._claim_ids = claim_ids
        self.created: dict[str, str] = {}
        self.completed: dict[str, str] = {}
        self.noted: list[str] = []
        self.lost = 0
        self._in_vain = 0
        self.busy = 0

    async def live(self, tasks: int, is_over: anyio.Event) -> None:
        """Create so many tasks, then work on whatever is there until told that all is done."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        calls = self._calls(tasks)
        self._call = next(calls)
        async with httpx2.AsyncClient(headers=headers, timeout=LONGEST_PATIENCE, trust_env=False) as http:
            while not is_over.is_set():
                transport = streamable_http_client(self._url, http_client=http)
                try:
                    patience = min(self._patience * GROWTH**self._in_vain, LONGEST_PATIENCE)
                    async with Client(transport, mode=self._mode, read_timeout_seconds=patience) as client:
                        await self._talk(client, calls, is_over)
                except LOST as error:
                    cause = leaf(error)
                    if not isinstance(cause, LOST) or (isinstance(cause, MCPError) and cause.code == INTERNAL_ERROR):
                        raise
                    self.lost += 1
                    self._in_vain += 1

    async def _talk(self, client: Client, calls: Generator[Call, Json], is_over: anyio.Event) -> None:
        """Make one call after the other; the one that is not answered stays for the next connection."""
        while not is_over.is_set():
            result = await client.call_tool(*self._call)
            self._in_vain = 0
            told = dict(result.structured_content or {})
            if told.get("code") == "busy":
                self.busy += 1
                await anyio.sleep(PAUSE)
                continue
            assert not result.is_error or told.get("code") == "lease_lost", result
            if told.get("task", "") is None:
                await anyio.sleep(PAUSE)
            self._call = calls.send(told)

    def _calls(self, tasks: int) -> Generator[Call, Json]:
        """Yield one call after the other; what is sent in is the answer to the last one."""
        for number in range(tasks):
            named = f"{self.name}-{number}"
            wanted: Json = {"title": named, "idempotency_key": named, "options": {"max_attempts": 20}}
            self.created[named] = (yield "create_task", wanted)["task"]["id"]
        for number in count():
            wanted = {"worker": self.name, "lease_seconds": LONGER}
            if self._claim_ids:
                wanted |= {"lease_seconds": SHORTER, "claim_id": f"{self.name}-{number}"}
            claim = yield "claim_task", wanted
            if claim["task"] is not None and not (self._claim_ids and number % FORGETS == 0):
                yield from self._finish(claim["lease"], claim["task"]["id"], f"{self.name} {number}")

    def _finish(self, lease: str, task: str, named: str) -> Generator[Call, Json]:
        for seq in range(1, LINES + 1):
            told = yield "update_task", {"lease": lease, "seq": seq, "log": f"{named} {seq}\n"}
            if "code" in told:
                return
            self.noted.append(f"{named} {seq}")
        told = yield "complete_task", {"lease": lease, "result_summary": named}
        if "code" in told:
            return
        assert task not in self.completed
        self.completed[task] = named


async def run(actors: list[Actor], each: int, url: str) -> None:
    """Let every actor create its share and work until nothing is open."""
    is_over = anyio.Event()
    async with anyio.create_task_group() as group, opened(url) as queue:
        for actor in actors:
            group.start_soon(actor.live, each, is_over)
        while sum(len(actor.created) for actor in actors) < each * len(actors) or await count_open(queue):
            await anyio.sleep(0.05)
        is_over.set()


def untold(transaction: Transaction, actors: list[Actor]) -> list[str]:
    """Return what the actors were told that is not so, and what is there that nobody was told of."""
    stored: list[Any] = transaction.all("SELECT id, idempotency_key, status, result_summary, failures FROM tasks")
    made = {key: f"T-{task}" for task, key, *_ in stored}
    told = {key: task for actor in actors for key, task in actor.created.items()}
    found = [
        f"{key} made {made.get(key)}, and {told.get(key)} was told"
        for key in made | told
        if made.get(key) != told.get(key)
    ]
    found += [f"two tasks have one key: {len(stored)} tasks"] * (len(stored) != len(made))
    completed = {task: summary for actor in actors for task, summary in actor.completed.items()}
    kinds = Counter(transaction.all("SELECT subject_id, kind FROM events WHERE subject = 'task'"))
    silent = Counter(transaction.all(WENT_SILENT))
    for task, _, status, summary, failures in stored:
        if failures != silent[(task,)]:
            found.append(f"T-{task} has {failures} failures, and {silent[(task,)]} holders of it went silent")
        if (status, kinds[task, "completed"]) != ("completed", 1):
            found.append(f"T-{task} is {status} and completed {kinds[task, 'completed']} times")
        if completed.get(f"T-{task}", summary) != summary:
            found.append(f"T-{task} came to {summary!r}, and {completed[f'T-{task}']!r} was told")
    found += [f"under one claim id two tasks were held at once: {row}" for row in transaction.all(HELD_TWICE)]
    texts = transaction.all("SELECT text FROM log_chunks ORDER BY task_id, attempt, number")
    lines = Counter(line for (text,) in texts for line in text.splitlines())
    found += [f"{line} stands {times} times" for line, times in lines.items() if times != 1]
    found += [f"{line} was noted and is not there" for actor in actors for line in actor.noted if line not in lines]
    return found
