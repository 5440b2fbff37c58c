"""What an attempt says on the way: heartbeat, progress, log, artifact, question."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import InvalidInput, LeaseLost, WrongStatus
from taskqueue_mcp.model import Reason, Status
from taskqueue_mcp.store.attempts import LONGEST_LOG
from tests.contract.desk import CLAUDE, CODEX, OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock

SECOND = 1_000_000


async def test_an_update_renews_the_lease_from_now_on(desk: Desk, clock: Clock) -> None:
    await desk.create()
    claim = await desk.take(lease_seconds=100)
    clock.advance(90)
    after = (await desk.update(claim)).task
    assert (after.lease_expires_at, after.confirmed) == (clock.micros + 100 * SECOND, True)
    clock.advance(100)
    await desk.queue.tick()
    assert (await desk.task(claim)).status is Status.IN_PROGRESS


async def test_an_extension_lasts_and_becomes_the_length_of_the_lease(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    after = (await desk.update(claim, extend_seconds=7_200)).task
    assert after.lease_expires_at == clock.micros + 7_200 * SECOND
    clock.advance(10)
    assert (await desk.update(claim)).task.lease_expires_at == clock.micros + 7_200 * SECOND


async def test_a_heartbeat_is_no_event(desk: Desk) -> None:
    claim = await desk.start()
    for _ in range(3):
        await desk.update(claim)
    assert await desk.kinds(claim) == ["created", "claimed"]


async def test_progress_is_kept_and_told(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, progress=40, message="Half of the shelves")
    after = (await desk.update(claim, progress=60.5)).task
    assert (after.progress, after.message) == (60.5, "Half of the shelves")
    events = await desk.events(claim)
    assert [event.kind for event in events] == ["created", "claimed", "progress", "progress"]
    assert json.loads(events[2].data or "") == {"progress": 40, "message": "Half of the shelves"}


async def test_a_new_attempt_starts_without_the_progress_of_the_last(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, progress=40, message="Half")
    await desk.fail(claim, kind="release")
    again = await desk.take()
    assert (again.task.progress, again.task.message) == (None, None)


@pytest.mark.parametrize(
    ("news", "named"),
    [
        ({"progress": -0.1}, "progress"),
        ({"progress": 100.1}, "progress"),
        ({"progress": float("nan")}, "progress"),
        ({"message": "a\0b"}, "message"),
        ({"message": "m" * 2_001}, "message"),
        ({"log": "\udfff"}, "log"),
        ({"question": "  "}, "question"),
        ({"question": "q" * 10_001}, "question"),
        ({"extend_seconds": 0}, "extend_seconds"),
        ({"extend_seconds": 86_401}, "extend_seconds"),
        ({"artifact": 7}, "artifact"),
        ({"artifact": {"size": 7}}, "artifact"),
        ({"artifact": {"path": "a", "colour": "red"}}, "artifact"),
        ({"artifact": {"path": "a", "size": "large"}}, "artifact"),
        ({"artifact": "two\nlines"}, "artifact path"),
        ({"artifact": '{"path": '}, "artifact"),
        ({"usage": {"colour": 1}}, "usage"),
        ({"usage": "[1]"}, "usage"),
    ],
)
async def test_a_bad_argument_of_an_update_is_refused_by_name(desk: Desk, news: dict[str, Any], named: str) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        await desk.update(claim, **news)
    assert await desk.snapshot() == before


async def test_a_numbered_update_counts_once(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    first = await desk.update(claim, progress=10, log="one", seq=1)
    clock.advance(5)
    again = await desk.update(claim, progress=10, log="one", seq=1)
    await desk.update(claim, progress=20, log="two", seq=2)
    late = await desk.update(claim, progress=10, log="one", seq=1)
    assert [settled.repeated for settled in (first, again, late)] == [False, True, True]
    assert (await desk.task(claim)).progress == 20
    assert [chunk.text for chunk in await desk.queue.logs(OWNER, claim.task.id)] == ["one", "two"]
    assert (await desk.kinds(claim)).count("progress") == 2


async def test_a_repeated_numbered_update_still_renews_the_lease(desk: Desk, clock: Clock) -> None:
    claim = await desk.start()
    await desk.update(claim, seq=1)
    clock.advance(500)
    assert (await desk.update(claim, seq=1)).task.lease_expires_at == clock.micros + 900 * SECOND


async def test_numbers_start_over_with_each_attempt(desk: Desk) -> None:
    first = await desk.start()
    await desk.update(first, log="one", seq=9)
    await desk.fail(first, kind="release")
    second = await desk.take()
    assert not (await desk.update(second, log="one again", seq=1)).repeated


async def test_the_log_is_kept_in_order_and_paged(desk: Desk) -> None:
    claim = await desk.start()
    for line in ("one", "two", "three"):
        await desk.update(claim, log=line)
    chunks = await desk.queue.logs(OWNER, claim.task.id, limit=2)
    rest = await desk.queue.logs(OWNER, claim.task.id, after=(chunks[-1].attempt, chunks[-1].number))
    assert [chunk.text for chunk in chunks + rest] == ["one", "two", "three"]


async def test_the_log_of_an_attempt_is_capped_and_says_so_once(desk: Desk) -> None:
    claim = await desk.start()
    for _ in range(4):
        await desk.update(claim, log="x" * (LONGEST_LOG // 4))
    assert "dropped" not in (await desk.queue.logs(OWNER, claim.task.id))[-1].text
    for _ in range(3):
        await desk.update(claim, log="one more")
    chunks = await desk.queue.logs(OWNER, claim.task.id)
    assert len(chunks) == 5
    assert sum(len(chunk.text) for chunk in chunks[:4]) == LONGEST_LOG
    assert "what came after was dropped" in chunks[-1].text


async def test_the_chunk_that_fills_the_log_is_cut(desk: Desk) -> None:
    claim = await desk.start()
    for _ in range(3):
        await desk.update(claim, log="x" * 262_144)
    await desk.update(claim, log="x" * 262_000)
    await desk.update(claim, log="y" * 1_000)
    last = (await desk.queue.logs(OWNER, claim.task.id))[-1].text
    assert last.count("y") == 144
    assert "dropped" in last


async def test_a_log_of_the_next_attempt_has_room_of_its_own(desk: Desk) -> None:
    claim = await desk.start()
    for _ in range(5):
        await desk.update(claim, log="x" * (LONGEST_LOG // 4))
    await desk.fail(claim, kind="release")
    again = await desk.take()
    await desk.update(again, log="fresh")
    assert (await desk.queue.logs(OWNER, claim.task.id))[-1].text == "fresh"


async def test_an_artifact_is_kept_with_its_attempt_and_replaced_by_path(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, artifact={"path": "stock.csv", "size": 1})
    await desk.update(claim, artifact='{"path": "stock.csv", "size": 2, "sha256": "ab", "media_type": "text/csv"}')
    await desk.update(claim, artifact="notes.md")
    found = (await desk.detail(claim)).artifacts
    assert [(file.path, file.size, file.sha256, file.media_type, file.attempt) for file in found] == [
        ("stock.csv", 2, "ab", "text/csv", 1),
        ("notes.md", None, None, None, 1),
    ]


async def test_usage_is_kept_with_the_attempt(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, usage={"cost_usd": 0.5, "session_id": "s1"})
    await desk.complete(claim)
    (attempt,) = (await desk.detail(claim)).attempts
    assert json.loads(attempt.usage or "") == {"cost_usd": 0.5, "session_id": "s1"}
    other = await desk.start()
    await desk.update(other, usage={"cost_usd": 0.5})
    await desk.complete(other, usage={"cost_usd": 0.75})
    (attempt,) = (await desk.detail(other)).attempts
    assert json.loads(attempt.usage or "") == {"cost_usd": 0.75}


# --- questions


async def test_a_question_ends_the_attempt_and_asks_a_person(desk: Desk) -> None:
    claim = await desk.start()
    task = (await desk.update(claim, question=" Which shop? ")).task
    assert (task.status, task.reason, task.question) == (Status.WAITING, Reason.QUESTION, "Which shop?")
    assert (task.failures, task.handbacks, task.worker) == (0, 0, None)
    detail = await desk.detail(claim)
    assert [(asked.kind, asked.text, asked.answer) for asked in detail.questions] == [("question", "Which shop?", None)]
    assert detail.attempts[0].outcome == "question"
    assert await desk.kinds(claim) == ["created", "claimed", "asked"]
    assert await desk.claim(by=CODEX) is None


async def test_an_answer_is_handed_over_with_the_next_attempt(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, question="Which shop?")
    task = await desk.decide(claim, "answer", "The one in Bonn.")
    assert (task.status, task.question) == (Status.READY, None)
    again = await desk.take()
    assert again.task.attempt == 2
    (asked,) = again.questions
    assert (asked.text, asked.answer, asked.answered_by, asked.attempt) == (
        "Which shop?", "The one in Bonn.", "owner", 1,
    )  # fmt: skip
    assert [attempt.outcome for attempt in again.earlier] == ["question"]
    assert (await desk.complete(again)).status is Status.COMPLETED


async def test_several_questions_are_answered_one_after_the_other(desk: Desk) -> None:
    await desk.create()
    for number in range(3):
        claim = await desk.take()
        await desk.update(claim, question=f"Question {number}?")
        await desk.decide(claim, "answer", f"Answer {number}.")
    claim = await desk.take()
    assert [(asked.number, asked.text, asked.answer) for asked in claim.questions] == [
        (number + 1, f"Question {number}?", f"Answer {number}.") for number in range(3)
    ]


async def test_a_repeated_question_is_fine_and_another_one_is_too_late(desk: Desk) -> None:
    claim = await desk.start()
    first = await desk.update(claim, question="Which shop?")
    before = await desk.snapshot()
    again = await desk.update(claim, question="Which shop?")
    assert (again.task, again.repeated) == (first.task, True)
    with pytest.raises(LeaseLost):
        await desk.update(claim, question="Which town?")
    with pytest.raises(LeaseLost):
        await desk.update(claim, question="Which shop?", by=CODEX)
    assert await desk.snapshot() == before


async def test_the_holder_of_an_asked_task_can_not_complete_it(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, question="Which shop?")
    with pytest.raises(LeaseLost, match="waiting"):
        await desk.complete(claim)


async def test_a_question_that_is_rejected_cancels_the_task(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, question="Which shop?")
    task = await desk.decide(claim, "reject", "None of them.")
    assert (task.status, task.error) == (Status.CANCELLED, "rejected: None of them.")
    (asked,) = (await desk.detail(claim)).questions
    assert (asked.answer, asked.answered_by) == ("None of them.", "owner")


@pytest.mark.parametrize("answer", [None, "", "  "])
async def test_an_answer_says_something(desk: Desk, answer: str | None) -> None:
    claim = await desk.start()
    await desk.update(claim, question="Which shop?")
    with pytest.raises(InvalidInput, match=r"^answer: "):
        await desk.decide(claim, "answer", answer)


async def test_a_task_that_asked_nothing_takes_no_answer(desk: Desk) -> None:
    claim = await desk.start()
    with pytest.raises(WrongStatus):
        await desk.decide(claim, "answer", "The one in Bonn.")
    await desk.complete(claim, by=CLAUDE)


async def test_a_question_comes_with_what_else_the_update_says(desk: Desk) -> None:
    claim = await desk.start()
    await desk.update(claim, progress=30, log="Stuck.", artifact="a.csv", question="Which shop?")
    detail = await desk.detail(claim)
    assert (detail.task.progress, len(detail.artifacts)) == (30, 1)
    assert await desk.kinds(claim) == ["created", "claimed", "progress", "asked"]
