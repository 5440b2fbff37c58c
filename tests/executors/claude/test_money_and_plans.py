"""Sessions that go on in another attempt: after a plan, an answer, a used-up budget, a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.executors.claude.questions import PLAN
from taskqueue_mcp.model import Asked, Completed, Failed
from taskqueue_mcp.sample.scripted_model import Call, Fault, Say

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Ended
    from taskqueue_mcp.sample.scripted_model import ScriptedModel
    from tests.executors.claude.conftest import Play
    from tests.executors.conftest import MakeRun

THE_PLAN = "# Plan\n\n1. Look at the prices.\n2. Write the report."
TASK = {"output": {"filename_pattern": "a.md"}}


def write(run: Run, text: str) -> Call:
    return Call("Write", {"file_path": str(run.directory / "work" / "a.md"), "content": text})


def after(*ended: Ended, **answered: str) -> dict[str, Any]:
    """What the next attempt is given of these: `answered` are the answers to their questions, in order."""
    answers = iter(answered.values())
    return {
        "attempt": len(ended) + 1,
        "earlier_attempts": [
            {"attempt": number, "outcome": "x", "usage": each.usage, "claimed_at": f"2026-11-20T0{number}:00:00Z"}
            for number, each in enumerate(ended, 1)
        ],
        "answers": [
            {"question": each.question, "answer": next(answers), "answered_at": f"2026-11-20T0{number}:30:00Z"}
            for number, each in enumerate(ended, 1)
            if isinstance(each, Asked)
        ],
    }


async def test_a_plan_is_made_kept_and_carried_out_by_the_same_session(
    make_run: MakeRun, play: Play, models: list[ScriptedModel], tmp_path: Path
) -> None:
    run = make_run(task=TASK)

    outcome = await play(run, Say(THE_PLAN), write(run, "done\n"), Say("All done."), plan="auto")

    assert isinstance(outcome, Completed), outcome
    assert outcome.summary == "All done."
    (plan,) = (tmp_path / "out").rglob("plan-1.md")
    assert plan.read_text() == THE_PLAN + "\n"
    first, second, third = (each["body"] for each in models[0].requests if each["body"].get("tools"))
    assert {tool["name"] for tool in first["tools"]}.isdisjoint({"Write", "Edit", "Bash"})
    assert "make a plan" in models[0].prompts[0]
    assert "The plan was agreed to" in models[0].prompts[1]
    assert THE_PLAN in [
        block["text"]
        for message in second["messages"]
        if message["role"] == "assistant"
        for block in message["content"]
    ]
    assert len(third["messages"]) > len(second["messages"])
    assert outcome.usage["turns"] == 3


async def test_while_it_plans_nothing_is_changed(make_run: MakeRun, play: Play, tmp_path: Path) -> None:
    run = make_run()
    read = Call("Read", {"file_path": str(run.directory / "work" / "none")})

    outcome = await play(run, read, Say(THE_PLAN), plan="approve")

    assert isinstance(outcome, Asked)
    assert list((tmp_path / "work/work").iterdir()) == []


async def test_a_plan_waits_for_a_yes_and_is_then_carried_out(
    make_run: MakeRun, play: Play, models: list[ScriptedModel], tmp_path: Path
) -> None:
    task = {**TASK, "plan": "approve"}
    asked = await play(make_run(task=task), Say(THE_PLAN))
    assert isinstance(asked, Asked)
    assert asked.question.startswith(PLAN)
    assert asked.question.endswith(THE_PLAN)

    run = make_run(task=task, **after(asked, a="yes"))
    outcome = await play(run, Say(THE_PLAN), write(run, "done\n"), Say("All done."))

    assert isinstance(outcome, Completed), outcome
    assert (tmp_path / "out/claude/a.md").read_text() == "done\n"
    assert outcome.usage["session_id"] == asked.usage["session_id"]
    assert "The plan was agreed to" in models[1].prompts[0]


async def test_a_comment_changes_the_plan_and_asks_again(
    make_run: MakeRun, play: Play, models: list[ScriptedModel]
) -> None:
    asked = await play(make_run(), Say(THE_PLAN), plan="approve")

    again = await play(
        make_run(**after(asked, a="skip step 1")), Say(THE_PLAN), Say("# Plan\n\n1. Write."), plan="approve"
    )

    assert isinstance(again, Asked)
    assert again.question.endswith("# Plan\n\n1. Write.")
    assert again.usage["session_id"] == asked.usage["session_id"]
    assert "skip step 1" in models[1].prompts[0]


async def test_a_no_ends_the_task_without_a_session(make_run: MakeRun, play: Play, models: list[ScriptedModel]) -> None:
    asked = await play(make_run(), Say(THE_PLAN), plan="approve")

    outcome = await play(make_run(**after(asked, a="no")), plan="approve")

    assert outcome == Failed("a person said no to the plan", permanent=True, usage=outcome.usage)
    assert models[1].requests == []


async def test_an_agreed_plan_is_carried_out_on_another_machine_too(
    make_run: MakeRun, play: Play, leave: dict[str, Any], models: list[ScriptedModel], tmp_path: Path
) -> None:
    asked = await play(make_run(), Say(THE_PLAN), plan="approve")
    leave["home"] = tmp_path / "another machine"

    run = make_run(task=TASK, **after(asked, a="yes"))
    outcome = await play(run, write(run, "done\n"), Say("All done."), plan="approve")

    assert isinstance(outcome, Completed), outcome
    assert THE_PLAN in models[1].prompts[0]
    assert outcome.usage["session_id"] != asked.usage["session_id"]


async def test_a_failure_after_the_yes_does_not_ask_again(
    make_run: MakeRun, play: Play, models: list[ScriptedModel]
) -> None:
    asked = await play(make_run(), Say(THE_PLAN), plan="approve")
    broken = await play(
        make_run(**after(asked, a="yes")), Say(THE_PLAN), Fault(500, times=9), Say("unheard"), plan="approve"
    )
    assert isinstance(broken, Failed)

    given = after(asked, broken, a="yes")
    outcome = await play(make_run(**given), Say(THE_PLAN), Say("All done."), plan="approve")

    assert isinstance(outcome, Completed), outcome
    assert "which you began before" in models[2].prompts[0]


# Money.


async def test_at_its_budget_a_session_asks_and_what_there_is_is_kept(
    make_run: MakeRun, play: Play, tmp_path: Path
) -> None:
    kept: list[str] = []
    run = make_run(task={**TASK, "budget_usd": 1.0}, keep=lambda file: kept.append(file.path))

    outcome = await play(
        run,
        write(run, "half\n"),
        Call("Glob", {"pattern": "*"}),
        Call("Glob", {"pattern": "*"}),
        tokens=(100_000, 1_000),
    )

    assert isinstance(outcome, Asked), outcome
    assert outcome.question.startswith("The budget is used up: $1.")
    assert " of $1.00. What there is so far is kept: claude/a.partial.md." in outcome.question
    assert (tmp_path / "out/claude/a.partial.md").read_text() == "half\n"
    assert "claude/a.partial.md" in kept
    assert any("transcript-1" in path for path in kept)
    assert outcome.usage["cost_usd"] >= 1.0


async def test_with_more_money_the_same_session_goes_on_with_its_files_and_counts_only_what_is_new(
    make_run: MakeRun, play: Play, tmp_path: Path
) -> None:
    task = {**TASK, "budget_usd": 1.0}
    run = make_run(task=task)
    asked = await play(run, write(run, "half\n"), Call("Glob", {"pattern": "*"}), tokens=(100_000, 1_000))
    assert isinstance(asked, Asked)

    again = tmp_path / "again"
    again.mkdir()
    rest = make_run(task=task, directory=again, **after(asked, a="continue with +5"))
    outcome = await play(rest, *[Say("") for _ in range(3)], Say("The rest is there."), tokens=(1_000, 10))

    assert isinstance(outcome, Completed), outcome
    assert (tmp_path / "out/claude/a.md").read_text() == "half\n"
    assert outcome.usage["session_id"] == asked.usage["session_id"]
    assert 0 < outcome.usage["cost_usd"] < 0.1


@pytest.mark.parametrize(("answer", "what"), [("stop", Failed), ("well, well", Asked)])
async def test_without_more_money_no_session_begins(
    make_run: MakeRun, play: Play, models: list[ScriptedModel], answer: str, what: type[Ended]
) -> None:
    task = {"budget_usd": 0.5}
    asked = await play(make_run(task=task), Call("Glob", {"pattern": "*"}), tokens=(100_000, 1_000))
    assert isinstance(asked, Asked)

    outcome = await play(make_run(task=task, **after(asked, a=answer)))

    assert isinstance(outcome, what), outcome
    assert models[1].requests == []


async def test_a_further_attempt_goes_on_where_the_failed_one_was(
    make_run: MakeRun, play: Play, models: list[ScriptedModel], tmp_path: Path
) -> None:
    run = make_run(task=TASK)
    broken = await play(run, write(run, "first\n"), Fault(500, times=9), Say("unheard"))
    assert isinstance(broken, Failed)

    again = tmp_path / "again"
    again.mkdir()
    outcome = await play(make_run(task=TASK, directory=again, **after(broken)), Say(""), Say("Now it is done."))

    assert isinstance(outcome, Completed), outcome
    assert (tmp_path / "out/claude/a.md").read_text() == "first\n"
    assert outcome.usage["session_id"] == broken.usage["session_id"]
    assert not list((tmp_path / "home/kept").iterdir())
    assert "which you began before" in models[1].prompts[0]


async def test_an_attempt_may_begin_anew(make_run: MakeRun, play: Play, models: list[ScriptedModel]) -> None:
    broken = await play(make_run(), Fault(500, times=9))

    outcome = await play(make_run(**after(broken)), Say("Done."), resume=False)

    assert isinstance(outcome, Completed)
    assert outcome.usage["session_id"] != broken.usage["session_id"]
    assert "request, written by" in models[1].prompts[0]


@pytest.mark.parametrize(
    "session", ["--dangerously-skip-permissions", "../../x", "2ac0e620-17f6-4507-b7ae-c6a000b0a0ff"]
)
async def test_a_session_that_is_not_ours_is_not_gone_on_with(make_run: MakeRun, play: Play, session: str) -> None:
    earlier = [{"attempt": 1, "outcome": "failed", "usage": {"session_id": session, "cost_usd": 0.1}}]

    outcome = await play(make_run(earlier_attempts=earlier, attempt=2), Say("Done."))

    assert isinstance(outcome, Completed)
    assert outcome.usage["session_id"] != session


async def test_a_rejected_result_is_mended_by_the_same_session_with_its_files(
    make_run: MakeRun, play: Play, models: list[ScriptedModel], tmp_path: Path
) -> None:
    task = {**TASK, "outputs": [{"path": "claude/a.md"}]}
    run = make_run(task=task)
    done = await play(run, write(run, "too short\n"), Say("Done."))
    assert isinstance(done, Completed), done

    again = tmp_path / "again"
    again.mkdir()
    given = after(done)
    given["earlier_attempts"][0] |= {"outcome": "rejected", "verdict": {"faults": ["claude/a.md is too short"]}}
    outcome = await play(make_run(task=task, directory=again, **given), *[Say("")] * 2, Say("It is long enough."))

    assert isinstance(outcome, Completed), outcome
    assert outcome.usage["session_id"] == done.usage["session_id"]
    assert "claude/a.md is too short" in models[1].prompts[0]
    assert (tmp_path / "out" / str(outcome.path)).read_text() == "too short\n"
