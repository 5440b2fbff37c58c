"""The end of an attempt that went well: once, however often it is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import Conflict, InvalidInput, LeaseLost, LimitReached
from taskqueue_mcp.model import Status
from tests.contract.desk import CLAUDE, CODEX, Desk, forged

if TYPE_CHECKING:
    from tests.clock import Clock


async def test_a_result_is_kept_with_its_evidence(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    clock.advance(7)
    task = await desk.complete(
        claim,
        "All there.",
        result_path="stock/2026.csv",
        result_data='{ "rows": 3 }',
        artifacts=("stock/2026.csv", {"path": "notes.md", "size": 12}),
        usage={"cost_usd": 0.25, "turns": 4},
    )
    assert (task.status, task.reason, task.finished_at) == (Status.COMPLETED, None, clock.micros)
    assert (task.result_summary, task.result_path) == ("All there.", "stock/2026.csv")
    assert (task.worker, task.lease_principal, task.lease_expires_at) == (None, None, None)
    detail = await desk.detail(claim)
    assert detail.result_data == '{ "rows": 3 }'
    (attempt,) = detail.attempts
    assert (attempt.outcome, attempt.ended_at, attempt.principal) == ("completed", clock.micros, "claude")
    assert json.loads(attempt.usage or "") == {"cost_usd": 0.25, "turns": 4}
    assert [file.path for file in detail.artifacts] == ["stock/2026.csv", "notes.md"]
    events = await desk.events(claim)
    assert [event.kind for event in events] == ["created", "claimed", "completed"]
    assert json.loads(events[-1].data or "") == {
        "summary": "All there.",
        "path": "stock/2026.csv",
        "verdict": "unverified",
    }


async def test_the_same_completion_again_is_fine(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    result: dict[str, Any] = {"result_summary": "All there.", "result_data": {"rows": 3}, "artifacts": ("a.csv",)}
    first = await desk.complete(claim, **result)
    before = await desk.snapshot()
    clock.advance(86_400)
    assert await desk.complete(claim, **result) == first
    assert await desk.snapshot() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"result_summary": "Some are missing."},
        {"result_path": "b.csv"},
        {"result_data": {"rows": 4}},
        {"artifacts": ("b.csv",)},
    ],
)
async def test_another_result_under_the_same_lease_is_a_conflict_and_the_first_stands(
    desk: Desk, changed: dict[str, Any]
) -> None:
    claim = await desk.start()
    await desk.complete(claim, "All there.", result_path="a.csv")
    before = await desk.snapshot()
    with pytest.raises(Conflict, match="ended before with another result, which stands"):
        await desk.complete(claim, **{"result_summary": "All there.", "result_path": "a.csv", **changed})
    assert await desk.snapshot() == before


async def test_a_completed_attempt_can_not_fail_and_a_failed_one_can_not_complete(desk: Desk) -> None:
    done, broken = await desk.start(), await desk.start()
    await desk.complete(done)
    await desk.fail(broken)
    before = await desk.snapshot()
    with pytest.raises(Conflict):
        await desk.fail(done)
    with pytest.raises(Conflict):
        await desk.complete(broken)
    assert await desk.snapshot() == before


async def test_only_the_principal_that_ended_it_may_repeat_the_end(desk: Desk) -> None:
    claim = await desk.start()
    await desk.complete(claim)
    with pytest.raises(LeaseLost):
        await desk.complete(claim, by=CODEX)


async def test_a_forged_lease_of_an_ended_attempt_repeats_nothing(desk: Desk) -> None:
    done, broken, asked = [await desk.start(f"task {number}") for number in range(3)]
    await desk.complete(done)
    await desk.fail(broken)
    await desk.update(asked, question="Hm?")
    for call in (
        desk.complete(forged(done.lease)),
        desk.fail(forged(broken.lease)),
        desk.update(forged(asked.lease), question="Hm?"),
    ):
        with pytest.raises(LeaseLost, match=r"this is not the lease of"):
            await call


async def test_completions_at_the_same_time_end_it_once(desk: Desk, open_queue: Any, clock: Clock) -> None:
    second = Desk(open_queue(), clock)
    claim = await desk.start()
    outcomes: list[str] = []

    async def one(which: Desk, summary: str) -> None:
        try:
            await which.complete(claim, summary)
        except Conflict:
            outcomes.append("conflict")
        else:
            outcomes.append(summary)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, (desk, second)[number % 2], f"result {number}")
    assert outcomes.count("conflict") == 9
    (stands,) = [outcome for outcome in outcomes if outcome != "conflict"]
    assert (await desk.task(claim)).result_summary == stands
    assert (await desk.kinds(claim)).count("completed") == 1


@pytest.mark.parametrize(
    ("result", "named"),
    [
        ({"result_summary": "s" * 20_001}, "result_summary"),
        ({"result_path": ""}, "result_path"),
        ({"result_path": "a\0b"}, "result_path"),
        ({"result_data": "{"}, "result_data"),
        ({"result_data": {"a": float("nan")}}, "result_data"),
        ({"artifacts": (7,)}, "artifact"),
        ({"usage": {"colour": 1}}, "usage"),
    ],
)
async def test_a_bad_argument_of_a_completion_is_refused_by_name(
    desk: Desk, result: dict[str, Any], named: str
) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        await desk.complete(claim, **result)
    assert await desk.snapshot() == before
    assert (await desk.complete(claim)).status is Status.COMPLETED


async def test_more_artifacts_than_are_kept_are_refused(desk: Desk) -> None:
    claim = await desk.start()
    with pytest.raises(LimitReached, match="artifacts"):
        await desk.complete(claim, artifacts=tuple(f"{number}.csv" for number in range(101)))
    await desk.complete(claim, artifacts=tuple(f"{number}.csv" for number in range(100)))
    assert len((await desk.detail(claim)).artifacts) == 100


async def test_result_data_is_any_json_and_comes_back_byte_for_byte(desk: Desk) -> None:
    for written in ("[1, 2,  3]", '"text"', "17", "null", "true", '{"b": 1.0, "a": [ ]}'):
        claim = await desk.start()
        await desk.complete(claim, result_data=written)
        assert (await desk.detail(claim)).result_data == written


async def test_a_task_that_ended_is_handed_to_nobody(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    await desk.complete(claim)
    clock.advance(86_400)
    await desk.queue.tick()
    assert await desk.claim(by=CODEX) is None
    assert (await desk.detail(claim)).task.attempt == 1
    assert await desk.claim(by=CLAUDE) is None
