"""What can go wrong with a session, by the real Claude Code or by programs that are not: each ends in one reason."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

from taskqueue_mcp.executors.claude import Claude, Leave, executor
from taskqueue_mcp.executors.claude.folders import alone_in
from taskqueue_mcp.model import Asked, Completed, Failed, Reason, Returned
from taskqueue_mcp.sample.scripted_model import BreakOff, Call, Fault, Hang, Say, ScriptedModel
from tests.executors.claude.conftest import living
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.claude.conftest import Play
    from tests.executors.conftest import MakeRun

MICROS = 1_000_000


async def test_a_used_up_subscription_says_when_it_goes_on(
    make_run: MakeRun, play: Play, leave: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-test")
    leave["account"] = "team"
    run = make_run()
    reset = round(run.now.timestamp()) + 7_200
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(reset),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }

    outcome = await play(run, Fault(429, "rate_limit_error", "exceeded", headers, times=9))

    assert isinstance(outcome, Returned), outcome
    assert (outcome.kind, outcome.resume_at) == (Reason.QUOTA, reset * MICROS)
    assert outcome.why.startswith("account team: You've hit your 5-hour limit")
    assert outcome.usage["account"] == "team"
    assert outcome.usage["session_id"]


async def test_no_credit_is_a_question_and_not_a_wait(make_run: MakeRun, play: Play) -> None:
    fault = Fault(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", times=9)

    outcome = await play(make_run(), fault)

    assert isinstance(outcome, Asked)
    assert outcome.question.startswith("The account cannot pay: Credit balance is too low (account default).")


async def test_refused_credentials_cost_no_failure_and_keep_the_next_task_from_being_taken(
    make_run: MakeRun, leave: dict[str, Any]
) -> None:
    with ScriptedModel(Fault(401, "authentication_error", "invalid x-api-key", times=99)) as model:
        claude = Claude(Leave(**leave, base_url=model.url))
        assert await claude.preflight() is None
        outcome = await claude.run(claude.params(), make_run())

    assert isinstance(outcome, Returned)
    assert (outcome.kind, outcome.why.partition(";")[0]) == (
        Reason.SNOOZE,
        "Claude Code is not let in (account default): Invalid API key · Fix external API key",
    )
    assert "credentials were refused: Invalid API key" in str(await claude.preflight())


@pytest.mark.parametrize(
    ("mishap", "why"),
    [
        (Fault(529, "overloaded_error", "Overloaded", times=9), "API Error: 529 Overloaded"),
        (Fault(500, "api_error", "Internal server error", times=9), "API Error: 500"),
        (BreakOff(times=9), "API Error: "),
    ],
)
async def test_a_fault_of_the_api_fails_the_attempt_with_its_reason(
    make_run: MakeRun, play: Play, log: list[str], mishap: Any, why: str
) -> None:
    outcome = await play(make_run(), mishap)

    assert isinstance(outcome, Failed)
    assert not outcome.permanent
    assert outcome.error.startswith(why)
    assert "\n" not in outcome.error
    assert "try 1 of 1 in " in "".join(log)


async def test_a_passing_fault_is_waited_out(make_run: MakeRun, play: Play) -> None:
    outcome = await play(make_run(), Fault(529, "overloaded_error", "Overloaded"), Say("Done after all."))

    assert isinstance(outcome, Completed)


async def test_a_refusal_fails_for_good_with_the_words_of_the_model(make_run: MakeRun, play: Play) -> None:
    outcome = await play(make_run(), Say("I will not help with that.", "refusal"))

    assert outcome == Failed("Claude refused: I will not help with that.", permanent=True, usage=outcome.usage)


async def test_a_model_that_goes_in_circles_is_ended_by_its_turns(make_run: MakeRun, play: Play) -> None:
    outcome = await play(make_run(), Call("Glob", {"pattern": "*"}), max_turns=3)

    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("Claude used up its turns")
    assert outcome.usage["cost_usd"] > 0


async def test_a_model_that_falls_silent_is_given_up(make_run: MakeRun, play: Play, leave: dict[str, Any]) -> None:
    leave["quiet_seconds"] = 3.0

    outcome = await play(make_run(), Hang())

    assert isinstance(outcome, Failed)
    assert outcome.error == "Claude said nothing for 3 s, so it was ended; the model or a tool hangs"
    assert living(leave["home"]) == {}


async def test_a_session_that_takes_too_long_is_ended(make_run: MakeRun, play: Play, leave: dict[str, Any]) -> None:
    outcome = await play(make_run(timeout_seconds=3), Hang())

    assert isinstance(outcome, Failed)
    assert outcome.error == "timed out after 3 s; give it longer with timeout_seconds"
    assert living(leave["home"]) == {}


async def test_a_stop_kills_the_session_and_all_that_it_started_at_once(
    make_run: MakeRun, leave: dict[str, Any]
) -> None:
    command = "tail -f /dev/null & setsid tail -F /dev/null & tail -n 0 -f /dev/null"
    leave |= {"tools": ("Bash", "Bash(tail:*)", "Bash(setsid:*)")}
    run = make_run()
    outcomes: list[Any] = []
    with ScriptedModel(Call("Bash", {"command": command, "description": "wait"}), Say("never")) as model:
        claude = Claude(Leave(**leave, base_url=model.url))

        async def carry_out() -> None:
            outcomes.append(await claude.run(claude.params(), run))

        async with anyio.create_task_group() as group:
            group.start_soon(carry_out)
            await eventually(
                lambda: sum("tail" in each and "/bin/bash" not in each for each in living(leave["home"]).values()) == 3,
                40,
            )
            told = time.monotonic()
            run.stop.set()
        took = time.monotonic() - told

    assert living(leave["home"]) == {}
    assert took < 5
    assert isinstance(outcomes[0], Returned)
    assert outcomes[0].kind is None
    assert outcomes[0].usage["session_id"]


async def test_a_cancelled_attempt_leaves_no_process(make_run: MakeRun, leave: dict[str, Any]) -> None:
    with ScriptedModel(Hang()) as model:
        claude = Claude(Leave(**leave, base_url=model.url))
        async with anyio.create_task_group() as group:
            group.start_soon(claude.run, claude.params(), make_run())
            await eventually(model.hanging.is_set, 40)
            assert living(leave["home"]) != {}
            group.cancel_scope.cancel()

    assert living(leave["home"]) == {}


# Programs that are not Claude Code.


def program(tmp_path: Path, code: str, version: str = "2.1.329 (Claude Code)") -> Path:
    path = tmp_path / "claude-impostor"
    head = (
        f"#!{sys.executable}\nimport sys\nif sys.argv[1:] == ['--version']:\n    print({version!r})\n    sys.exit()\n"
    )
    path.write_text(head + code)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('Usage: claude [options]')", "Claude Code ended (exit 0) without a result: Usage: claude [options]"),
        ("sys.exit(3)", "Claude Code ended (exit 3) without a result; its log has nothing more"),
        ("sys.stderr.write('no room\\n'); sys.exit(1)", "Claude Code ended (exit 1) without a result: no room"),
        ('print(\'{"type": "resu\'); sys.exit(1)', 'Claude Code ended (exit 1) without a result: {"type": "resu'),
        ("print('[1, 2]'); print('{}')", "Claude Code ended (exit 0) without a result: [1, 2]"),
        ("import os; os.kill(os.getpid(), 9)", "Claude Code was ended from outside; its log has nothing more"),
    ],
)
async def test_a_program_without_a_result_fails_the_attempt_in_a_line(
    make_run: MakeRun, play: Play, leave: dict[str, Any], tmp_path: Path, code: str, why: str
) -> None:
    leave["cli_path"] = program(tmp_path, code)

    outcome = await play(make_run())

    assert isinstance(outcome, Failed)
    assert outcome.error == why
    assert not outcome.permanent


async def test_a_flood_of_output_neither_fills_the_log_nor_the_memory(
    make_run: MakeRun, play: Play, leave: dict[str, Any], tmp_path: Path, log: list[str]
) -> None:
    leave["cli_path"] = program(tmp_path, "for _ in range(3_000): sys.stderr.write('x' * 20_000 + '\\n')")
    before = psutil.Process().memory_info().rss

    outcome = await play(make_run())

    assert isinstance(outcome, Failed)
    assert sum(map(len, log)) < 200_000
    assert psutil.Process().memory_info().rss - before < 60_000_000


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"cli_path": "/no/such/claude"}, "Claude Code cannot be started: /no/such/claude: no such file or directory"),
        ({"version": "2.0.14 (Claude Code)"}, "Claude Code 2.0.14 at "),
        ({"version": "hello"}, "is no Claude Code: asked for its version it said 'hello'"),
        ({"folders": {"shop": "/no/such/folder"}}, "the folder shop (/no/such/folder) is not there"),
        ({"home": "/dev/null/x"}, "/dev/null/x cannot be made: not a directory; set worker.claude.home"),
        ({"key": ""}, "Claude Code has no credentials: set ANTHROPIC_API_KEY"),
    ],
)
async def test_why_it_cannot_work_here_is_known_before_a_task_is_taken(
    leave: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, given: Any, why: str
) -> None:
    from pathlib import Path  # noqa: PLC0415 - the settings of this test are paths

    if "key" in given:
        monkeypatch.setenv("ANTHROPIC_API_KEY", given.pop("key"))
    if "version" in given:
        given = {"cli_path": program(tmp_path, "", given["version"])}
    as_paths = {
        name: {key: Path(place) for key, place in value.items()} if isinstance(value, dict) else Path(value)
        for name, value in given.items()
    }
    claude = Claude(Leave(**(leave | as_paths)))

    assert why in str(await claude.preflight())
    outcome = await claude.run(claude.params(), make_run())
    assert isinstance(outcome, Failed)
    assert why in outcome.error


async def test_a_task_whose_folder_is_in_use_is_handed_back_at_no_cost(
    make_run: MakeRun, play: Play, leave: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop/src").mkdir(parents=True)
    leave["folders"] = {"shop": tmp_path / "shop"}
    monkeypatch.setattr(executor, "alone_in", partial(alone_in, patience=0.2))
    run = make_run()

    async with alone_in(tmp_path / "shop", leave["home"]):
        outcome = await play(run, Say("unheard"), cwd="shop/src")

    at = round((run.now + timedelta(minutes=5)).timestamp() * MICROS)
    assert outcome == Returned(Reason.SNOOZE, "another attempt works in shop/src", at)
    assert isinstance(await play(run, Say("heard"), cwd="shop/src"), Completed)


@pytest.mark.parametrize(
    ("environment", "state", "text"),
    [
        ({}, "ok", "claude can work here"),
        (
            {"TASKQUEUE_WORKER__CLAUDE__CLI_PATH": "/no/such/claude"},
            "fail",
            "claude: Claude Code cannot be started: /no",
        ),
        ({"TASKQUEUE_WORKER__CLAUDE__MAY_USE": "Read Bash"}, "fail", "worker.claude: 'Read Bash' is no tool or rule"),
    ],
)
async def test_doctor_says_whether_claude_can_work_here(
    tmp_path: Path, environment: dict[str, str], state: str, text: str
) -> None:
    given = {
        **os.environ,
        "TASKQUEUE_DATABASE": f"sqlite:///{tmp_path / 'queue.db'}",
        "TASKQUEUE_WORKER__EXECUTORS": "claude",
        "TASKQUEUE_WORKER__CLAUDE__HOME": str(tmp_path / "home"),
        **environment,
    }
    ran = await anyio.run_process(
        [sys.executable, "-m", "taskqueue_mcp", "doctor", "--format", "json"], env=given, check=False
    )

    (found,) = [each for each in json.loads(ran.stdout)["checks"] if each["check"] == "worker"]
    assert found["state"] == state
    assert found["text"].startswith(text)
