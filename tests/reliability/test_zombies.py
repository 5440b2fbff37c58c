"""A holder that was stopped for longer than its lease wakes up; a parked claim hears of a create elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Wanted
from tests.reliability import racers
from tests.reliability.invariants import broken
from tests.reliability.processes import all_ended, start
from tests.reliability.racers import EVERYONE, SHORT, appears, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

THIEF = Caller("thief", Kind.AGENT, frozenset(Scope))
LATE = 0.6
"""Half of the second after which a parked claim would look again by itself, and a little."""


async def told(path: Path) -> Any:
    return json.loads((await appears(path)).read_text(encoding="utf-8"))


def lost(refused: dict[str, dict[str, str]]) -> bool:
    return all(why.startswith("LeaseLost: ") for each in refused.values() for why in each.values())


async def test_a_holder_stopped_past_its_lease_can_write_nothing_once_another_has_the_task(
    database_url: str, folder: Path
) -> None:
    async with opened(database_url) as queue:
        await queue.create(EVERYONE, NewTask(Wanted(title="contended", options={"max_attempts": 5})))
        holder = start(racers.hold, database_url, str(folder), "sleeper")
        held = await told(folder / "sleeper.holds")
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGSTOP)
        claim = await queue.claim_when_ready(EVERYONE, ClaimRequest(worker="other"), 30)
        assert claim is not None
        assert (claim.task.id, claim.task.attempt) == (held["task"], 2)

        (folder / "sleeper.go").touch()
        os.kill(holder.pid, signal.SIGCONT)
        refused = await told(folder / "sleeper.told")
        all_ended([holder])
        refused["another principal's"] = await racers.attempts_to_write(queue, THIEF, claim.lease)
        assert lost(refused)
        assert all("attempt 2 holds the task now" in why for why in refused["stale"].values())

        await queue.complete(EVERYONE, Completion(claim.lease, "the other's"))
        task = (await queue.get(EVERYONE, held["task"])).task
        assert (task.status, task.result_summary, task.message) == ("completed", "the other's", None)
        kinds = [event.kind for event in await queue.history(EVERYONE, task.id)]
        assert kinds == ["created", "claimed", "lease_lost", "ready", "claimed", "completed"]
        assert len((await queue.list_tasks(EVERYONE, racers.ALL, None, 10)).tasks) == 1


async def test_a_holder_stopped_until_another_has_finished_changes_nothing(database_url: str, folder: Path) -> None:
    async with opened(database_url) as queue:
        await queue.create(EVERYONE, NewTask(Wanted(title="contended", options={"max_attempts": 5})))
        holder = start(racers.hold, database_url, str(folder), "sleeper")
        held = await told(folder / "sleeper.holds")
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGSTOP)
        claim = await queue.claim_when_ready(EVERYONE, ClaimRequest(worker="other"), 30)
        assert claim is not None
        await queue.complete(EVERYONE, Completion(claim.lease, "the other's"))
        before = await queue.history(EVERYONE, held["task"])

        (folder / "sleeper.go").touch()
        os.kill(holder.pid, signal.SIGCONT)
        refused = await told(folder / "sleeper.told")
        all_ended([holder])
        assert lost(refused)
        assert (await queue.get(EVERYONE, held["task"])).task.result_summary == "the other's"
        assert await queue.history(EVERYONE, held["task"]) == before


async def test_of_holders_that_wake_while_their_tasks_are_taken_back_each_task_hears_one(
    database_url: str, folder: Path, size: Size, tell: Tell
) -> None:
    sleepers = size(8, 60)
    async with opened(database_url) as queue:
        for number in range(sleepers):
            await queue.create(EVERYONE, NewTask(Wanted(title=f"contended {number}", options={"max_attempts": 5})))
        names = [f"sleeper-{number}" for number in range(sleepers)]
        holders = [start(racers.settle_late, database_url, str(folder), name) for name in names]
        for name in names:
            await appears(folder / f"{name}.holds")
        for holder in holders:
            assert holder.pid is not None
            os.kill(holder.pid, signal.SIGSTOP)
        until = await queue.now() + SHORT * 1_000_000
        (folder / "go").touch()
        while await queue.now() < until:
            await racers.pause()
        for holder in holders:
            assert holder.pid is not None
            os.kill(holder.pid, signal.SIGCONT)
        finished = 0
        while await racers.count_open(queue):
            claim = await queue.claim(EVERYONE, ClaimRequest(worker="other"))
            if claim is None:
                await racers.pause()
                continue
            await queue.complete(EVERYONE, Completion(claim.lease, "the other's"))
            finished += 1
        outcomes = {name: await told(folder / f"{name}.told") for name in names}
        all_ended(holders)
        tell(sleepers=sleepers)
        assert finished == sum(not each["accepted"] for each in outcomes.values())
        for name, each in outcomes.items():
            result = (await queue.get(EVERYONE, each["task"])).task.result_summary
            assert result == (name if each["accepted"] else "the other's")
        assert await queue.database.read(lambda transaction: broken(transaction, SHORT)) == []


async def test_a_claim_parked_in_one_process_wakes_on_a_create_in_another(database_url: str, folder: Path) -> None:
    rounds = 7
    async with opened(database_url) as queue:
        parker = start(racers.park, database_url, str(folder), rounds)
        waits = []
        for number in range(rounds):
            await appears(folder / f"parked-{number}")
            begun = time.monotonic()
            await queue.create(EVERYONE, NewTask(Wanted(title=f"wake up, {number}")))
            waits.append(await told(folder / f"woken-{number}") - begun)
        all_ended([parker])
    assert sorted(waits)[rounds // 2] < LATE, waits
