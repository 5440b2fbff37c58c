"""What an attempt used: of a session that goes on, only what is new."""

from __future__ import annotations

from typing import Any

from taskqueue_mcp.executors.claude.hearing import Heard
from taskqueue_mcp.executors.claude.session import Ended, Ending
from taskqueue_mcp.executors.claude.usage import Usage

FIRST, SECOND = "2ac0e620-17f6-4507-b7ae-c6a000b0a0ec", "3602e6fb-385d-4d38-8ac6-8a0c825d7f23"


def ended(session: str, total: float, **more: Any) -> Ended:
    heard = Heard()
    tokens = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 3}
    result = {"type": "result", "session_id": session, "num_turns": 2, "total_cost_usd": total, "usage": tokens, **more}
    heard.take(result)
    return Ended(Ending.BY_ITSELF, heard, 0, seconds=1.5)


def test_the_total_of_a_session_that_goes_on_is_counted_from_where_it_was() -> None:
    usage = Usage("default")
    usage.know(
        [{"usage": {"session_id": FIRST, "cost_usd": 1.0}}, {"usage": {"session_id": FIRST, "cost_usd": 0.5}}, {}]
    )

    usage.add(ended(FIRST, 1.75))
    usage.add(ended(FIRST, 2.0))

    assert usage.spent_before == 1.5
    assert usage.told()["cost_usd"] == 0.5


def test_another_session_counts_from_nothing() -> None:
    usage = Usage("default")
    usage.know([{"usage": {"session_id": FIRST, "cost_usd": 1.0}}])

    usage.add(ended(SECOND, 0.25))

    assert usage.told()["cost_usd"] == 0.25


def test_what_a_process_says_it_cost_goes_before_the_total_of_its_session() -> None:
    usage = Usage("default")

    usage.add(ended(FIRST, 9.0, model_usage_since_last_result={"a": {"costUSD": 0.1}, "b": {"costUSD": 0.2}}))

    assert usage.told()["cost_usd"] == 0.3


def test_tokens_turns_and_time_of_all_processes_add_up() -> None:
    usage = Usage("team")
    for _ in range(2):
        usage.add(ended(FIRST, 0.0))

    assert usage.told() == {
        "account": "team", "cost_usd": 0.0, "tokens": 36, "input_tokens": 30, "output_tokens": 6, "turns": 4,
        "duration_seconds": 3.0, "session_id": FIRST,
    }  # fmt: skip


def test_a_process_without_a_result_counts_its_time() -> None:
    usage = Usage("default")

    usage.add(Ended(Ending.STOPPED, Heard(session=FIRST), -9, seconds=2.0))

    assert (usage.told()["duration_seconds"], usage.told()["session_id"], usage.told()["cost_usd"]) == (2.0, FIRST, 0.0)
