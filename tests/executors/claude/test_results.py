"""Results in a form, answers to success criteria, servers of the owner: by the real Claude Code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.executors.claude import Server
from taskqueue_mcp.model import Completed, Failed
from taskqueue_mcp.sample.scripted_model import Call, Say

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.sample.scripted_model import ScriptedModel
    from tests.executors.claude.conftest import Play
    from tests.executors.conftest import MakeRun

COUNT = {
    "type": "object",
    "properties": {"count": {"$ref": "#/$defs/count"}},
    "required": ["count"],
    "$defs": {"count": {"type": "integer", "minimum": 0}},
}


async def test_a_result_comes_back_in_the_form_that_the_task_declares(make_run: MakeRun, play: Play) -> None:
    outcome = await play(
        make_run(),
        Call("StructuredOutput", {"count": -1}),
        Call("StructuredOutput", {"count": 12}),
        output_schema=COUNT,
    )

    assert isinstance(outcome, Completed), outcome
    assert outcome.data == {"count": 12}


async def test_a_result_without_the_form_fails_the_attempt(make_run: MakeRun, play: Play) -> None:
    outcome = await play(make_run(), Say("There are twelve."), output_schema=COUNT)

    assert isinstance(outcome, Failed)
    assert outcome.error == "Claude gave no result in the form that was asked for; it said: There are twelve."


async def test_success_criteria_are_answered_one_by_one(
    make_run: MakeRun, play: Play, models: list[ScriptedModel]
) -> None:
    answer = {
        "summary": "Twelve, counted twice.",
        "criteria": [
            {"number": 2, "is_met": True, "evidence": "both counts gave 12"},
            {"number": 1, "is_met": True, "evidence": "no row was left out"},
        ],
        "data": {"count": 12},
    }

    outcome = await play(
        make_run(), Call("StructuredOutput", answer), output_schema=COUNT,
        success_criteria=["every row is counted", "the count is checked"],
    )  # fmt: skip

    assert isinstance(outcome, Completed), outcome
    assert outcome.summary == "Twelve, counted twice."
    assert outcome.data == {
        "criteria": [
            {"criterion": "every row is counted", "is_met": True, "evidence": "no row was left out"},
            {"criterion": "the count is checked", "is_met": True, "evidence": "both counts gave 12"},
        ],
        "data": {"count": 12},
    }
    assert "1. every row is counted\n2. the count is checked" in models[0].prompts[0]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (
            {"number": 2, "is_met": False, "evidence": "no time"},
            "1 of 2 criteria do not hold: the count is checked (no time)",
        ),
        (
            {"number": 7, "is_met": True, "evidence": "yes"},
            "1 of 2 criteria do not hold: the count is checked (not answered)",
        ),
    ],
)
async def test_a_criterion_that_does_not_hold_fails_the_attempt(
    make_run: MakeRun, play: Play, second: dict[str, Any], why: str
) -> None:
    answer = {"summary": "Twelve.", "criteria": [{"number": 1, "is_met": True, "evidence": "all"}, second]}

    outcome = await play(
        make_run(), Call("StructuredOutput", answer), success_criteria=["every row is counted", "the count is checked"]
    )

    assert isinstance(outcome, Failed)
    assert outcome.error == why


async def test_a_task_names_a_server_of_the_owner_and_claude_calls_its_tools(
    make_run: MakeRun, play: Play, leave: dict[str, Any], tmp_path: Path, log: list[str]
) -> None:
    database = f"sqlite:///{tmp_path / 'other.db'}"
    command = ("-m", "taskqueue_mcp", "stdio", "--database", database, "--as", "claude")
    leave["mcp_servers"] = {"queue": Server(command=sys.executable, args=command)}

    outcome = await play(
        make_run(), Call("mcp__queue__create_task", {"title": "From Claude"}),
        Say(lambda heard: heard.results[0]), mcp_servers=["queue"],
    )  # fmt: skip

    assert isinstance(outcome, Completed), outcome
    assert '"title":"From Claude"' in outcome.summary
    assert "MCP server queue: connected\n" in "".join(log)


async def test_tools_stay_within_what_the_task_has(make_run: MakeRun, play: Play, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    inside = make_run().directory / "work" / "in.txt"

    outcome = await play(
        make_run(),
        Call("Read", {"file_path": str(secret)}),
        Call("Write", {"file_path": str(tmp_path / "out.txt"), "content": "x"}),
        Call("Write", {"file_path": str(inside), "content": "x"}),
        Say(lambda heard: " / ".join(heard.results)),
    )

    assert isinstance(outcome, Completed), outcome
    first, second, third = outcome.summary.split(" / ")[0], outcome.summary, inside.read_text()
    assert "haven't granted" in first
    assert "canary" not in second
    assert not (tmp_path / "out.txt").exists()
    assert third == "x"


async def test_words_are_told_to_the_log_as_they_come(make_run: MakeRun, play: Play, log: list[str]) -> None:
    words = "One word after the other.\n" * 40

    await play(make_run(), Call("Glob", {"pattern": "*"}, say="I look first."), Say(words))

    text = "".join(log)
    assert "I look first.\n[Glob] " in text
    assert words in text
    assert text.count("One word after the other.") == 40
    pieces = [part for part in log if "One word" in part]
    assert len(pieces) > 3
