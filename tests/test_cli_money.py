"""`gates`, `budgets` and what `doctor` and `tasks show` say about money, on a database of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp import app
from taskqueue_mcp.settings import load_settings
from taskqueue_mcp.taskqueue import Claim, ClaimRequest, Failure, Update
from tests.test_cli import WORKER, Cli, cli

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from taskqueue_mcp.app import App

__all__ = ["cli"]


def work(cli: Cli, act: Callable[[App, Claim], Coroutine[Any, Any, object]]) -> None:
    """Claim a task as the worker does, and do something with it."""

    async def run() -> None:
        async with app.opened(load_settings(database=cli.url)) as opened:
            request = ClaimRequest(worker="w", task_types=("executor:claude",), claim_id="c")
            claim = await opened.queue.claim(WORKER, request)
            assert claim is not None
            await act(opened, claim)

    asyncio.run(run())


async def run_into_a_limit(opened: App, claim: Claim) -> None:
    failure = Failure(claim.lease, "usage limit reached", "quota", "2h", {"account": "acme"})
    await opened.queue.fail(WORKER, failure)


async def overspend(opened: App, claim: Claim) -> None:
    await opened.queue.update(WORKER, Update(claim.lease, usage={"cost_usd": 5.25}))


async def report(opened: App, claim: Claim) -> None:
    await opened.queue.update(WORKER, Update(claim.lease, usage={"cost_usd": 1}))


def test_a_gate_is_shown_and_opened(cli: Cli) -> None:
    assert "no account has met a usage limit" in cli("gates", "list").stderr
    cli.done("tasks", "create", "Write")
    work(cli, run_into_a_limit)
    (gate,) = cli.json("gates", "list")["gates"]
    assert (gate["account"], gate["state"], gate["reason"]) == ("acme", "closed", "usage limit reached")
    assert "usage limit reached" in cli.done("gates", "list")
    (finding,) = [each for each in cli.json("doctor")["checks"] if each["check"] == "gates"]
    assert finding["state"] == "warn"
    assert finding["text"].startswith("claude waits for the usage limit of acme until ")
    assert cli.done("gates", "open", "acme") == "acme is open for claude\n"
    assert cli.json("gates", "list")["gates"][0]["state"] == "open"
    assert not [each for each in cli.json("doctor")["checks"] if each["check"] == "gates"]


def test_the_budgets_of_today_are_shown_and_raised(cli: Cli) -> None:
    cli.done("tasks", "create", "Write")
    work(cli, report)
    (day,) = cli.json("budgets", "list")["budgets"]
    assert day == {"scope": "day", "unit": "usd", "spent": 0.0, "reserved": 5.0, "ceiling": 50.0}
    assert cli.done("budgets", "raise", "day", "12.5") == "day may spend 62.5 usd, 0 are spent\n"
    assert cli.json("budgets", "list")["budgets"][0]["ceiling"] == 62.5
    assert "62.5" in cli.done("budgets", "list")
    assert cli.done("budgets", "raise", "task", "3", "--name", "T-1") == "task T-1 may spend 8 usd, 0 are spent\n"
    assert "0 of 8 usd spent, 5 set aside" in cli.done("tasks", "show", "T-1")


def test_a_task_at_its_ceiling_asks_and_the_answer_lets_it_go_on(cli: Cli) -> None:
    cli.done("tasks", "create", "Write")
    work(cli, overspend)
    shown = cli.done("tasks", "show", "T-1")
    assert "waiting (budget)" in shown
    assert "5.25 of 5 usd spent" in shown
    assert cli("tasks", "answer", "T-1", "answer", "a bit").exit_code == 1
    said = cli.done("tasks", "answer", "T-1", "answer", "continue with +2")
    assert said.startswith("T-1 ready")
    assert cli.json("tasks", "show", "T-1")["task"]["budget"]["usd"]["ceiling"] == 7.0


def test_the_doctor_tells_the_ceilings_and_warns_when_there_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[str, str]:
        (finding,) = [each for each in cli.json("doctor")["checks"] if each["check"] == "budgets"]
        return finding["state"], finding["text"]

    assert told() == ("ok", "a task of claude may use 5 usd; a day may use 50 usd")
    monkeypatch.setenv("TASKQUEUE_BUDGETS__DAY_TURNS", "400")
    monkeypatch.setenv("TASKQUEUE_BUDGETS__QUEUE_USD", '{"shop": 10}')
    ceilings = "a task of claude may use 5 usd; a day may use 50 usd and 400 turns"
    assert told() == ("ok", f"{ceilings}; queues with a ceiling of their own: shop")
    for name in ("TASK_USD", "DAY_USD", "DAY_TURNS"):
        monkeypatch.setenv(f"TASKQUEUE_BUDGETS__{name}", "0")
    assert told() == ("warn", "nothing bounds what agents may spend")


def test_the_doctor_says_that_the_day_is_used_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_BUDGETS__DAY_USD", "5")
    cli.done("tasks", "create", "Write")
    work(cli, overspend)
    findings = [each for each in cli.json("doctor")["checks"] if each["check"] == "budgets"]
    assert findings[0]["text"] == "the day's budget is used up: 5.25 of 5 usd"
    assert findings[0]["do"] == "taskqueue-mcp budgets raise day AMOUNT"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("gates", "open", "nobody"), 1, "no gate of 'nobody' is closed"),
        (("budgets", "raise", "day", "5", "--name", "x"), 2, "--name goes with queue, schedule and task"),
        (("budgets", "raise", "queue", "5"), 2, "--name goes with queue, schedule and task"),
        (("budgets", "raise", "queue", "5", "--name", "research"), 1, "nothing has been spent"),
        (("budgets", "raise", "schedule", "5", "--name", "nightly"), 1, "there is no schedule 'nightly'"),
        (("budgets", "raise", "task", "5", "--name", "seven"), 1, "seven"),
        (("budgets", "raise", "day", "--", "-5"), 1, "must be above 0"),
        (("budgets", "raise", "day", "nan"), 1, "must be above 0"),
        (("budgets", "raise", "year", "5"), 2, "is not one of"),
        (("budgets", "raise", "day", "5", "--unit", "euro"), 2, "is not one of"),
        (("budgets", "list", "--server", "http://127.0.0.1:9"), 2, "--database"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(cli: Cli, words: tuple[str, ...], code: int, said: str) -> None:
    result = cli(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
