"""What Claude Code is started with: our flags, a list of variables, and no word of a task on the command line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.executors.claude import Server
from taskqueue_mcp.executors.claude.prompt import RULES
from taskqueue_mcp.model import Completed, Failed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.claude.conftest import Play
    from tests.executors.conftest import MakeRun

SPY = """\
import json, os, sys
if sys.argv[1:] == ["--version"]:
    print("2.1.329 (Claude Code)")
    raise SystemExit
config = [word.partition("=")[2] for word in sys.argv if word.startswith("--mcp-config=")]
first = json.loads(sys.stdin.readline())
print(json.dumps({"type": "control_response",
                  "response": {"subtype": "success", "request_id": first["request_id"], "response": {}}}), flush=True)
second = json.loads(sys.stdin.readline())
json.dump({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "said": second,
           "mode": [oct(os.stat(path).st_mode & 0o777) for path in config],
           "config": [json.load(open(path)) for path in config]}, open(os.environ["SEEN"], "w"))
print(json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": "seen", "num_turns": 1,
                  "session_id": "2ac0e620-17f6-4507-b7ae-c6a000b0a0ec", "total_cost_usd": 0.5, "duration_ms": 1,
                  "duration_api_ms": 1, "usage": {}}), flush=True)
"""

HOSTILE = [
    "--dangerously-skip-permissions",
    "--help",
    "-p",
    "--",
    "@/etc/passwd",
    "/clear",
    "!id",
    "line\nbreak",
    "$(id) `id` ; id",
    "\u202eevil",
    "x" * 1_000_000,
]


@pytest.fixture
def spy(tmp_path: Path, leave: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says how it was started."""
    program = tmp_path / "claude-spy"
    program.write_text(f"#!{sys.executable}\n{SPY}")
    program.chmod(0o755)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    leave |= {"cli_path": program, "env": ("SEEN",)}
    return tmp_path / "seen.json"


async def seen(spy: Path, play: Play, run: Any, **params: Any) -> dict[str, Any]:
    outcome = await play(run, **params)
    assert isinstance(outcome, Completed), outcome
    found: dict[str, Any] = json.loads(spy.read_text())
    return found


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_word_of_a_task_is_on_the_command_line(make_run: MakeRun, play: Play, spy: Path, text: str) -> None:
    run = make_run(
        title=text, instructions=text, inputs=[{"task": "T-1", "status": "completed", "result_summary": text}]
    )

    found = await seen(spy, play, run, prompt=text, data=text)

    assert found["argv"] == [
        "--output-format", "stream-json", "--input-format", "stream-json", "--verbose", "--include-partial-messages",
        "--setting-sources=", "--strict-mcp-config", f"--append-system-prompt={RULES}",
        "--tools=Read,Glob,Grep,Edit,Write,TodoWrite", "--permission-mode=acceptEdits", "--max-turns=100",
        "--allowedTools=TodoWrite", "--max-budget-usd=5.000000",
    ]  # fmt: skip
    assert found["said"]["message"]["content"][0]["text"].count(text) >= 3
    assert found["said"]["client_composed"] is True  # so that no `@path` is read and no `/command` run


async def test_what_a_task_may_say_becomes_flags_that_carry_their_value(
    make_run: MakeRun, play: Play, spy: Path, leave: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    schema = {"type": "object", "properties": {"a": {"const": "--x"}}}
    leave |= {
        "folders": {"shop": tmp_path / "shop"}, "models": ("opus",), "may_use": ("Bash(git log:*)",),
        "extra_args": {"debug": None, "effort": "-high"},
    }  # fmt: skip

    found = await play(
        make_run(task={"budget_usd": 1.25}), model="opus", cwd="shop", max_turns=3, permission_mode="dontAsk",
        allowed_tools=["Read", "Bash(git log:*)"], disallowed_tools=["WebFetch"], output_schema=schema,
    )  # fmt: skip

    assert isinstance(found, Failed)  # the spy gives no structured result
    argv = json.loads(spy.read_text())["argv"][8:]
    assert argv[1:] == [
        "--tools=Read,Bash", "--permission-mode=dontAsk", "--max-turns=3", f"--add-dir={make_run().directory / 'work'}",
        "--allowedTools=Bash(git log:*)", "--disallowedTools=WebFetch", "--model=opus", "--max-budget-usd=1.250000",
        f"--json-schema={json.dumps(schema)}", "--debug", "--effort=-high",
    ]  # fmt: skip
    assert json.loads(spy.read_text())["cwd"] == str(tmp_path / "shop")


async def test_credentials_of_a_server_are_in_a_file_of_ours_and_nowhere_else(
    make_run: MakeRun, play: Play, spy: Path, leave: dict[str, Any]
) -> None:
    leave["mcp_servers"] = {
        "crm": Server(url="https://crm.example.com/mcp", headers={"Authorization": "Bearer canary"}, tools=("find",)),
        "files": Server(command="serve-files", args=("-v",), env={"KEY": "canary"}),
        "unused": Server(command="x", env={"KEY": "canary"}),
    }

    found = await seen(spy, play, make_run(), mcp_servers=["crm", "files"])

    assert found["config"] == [
        {
            "mcpServers": {
                "crm": {
                    "type": "http",
                    "url": "https://crm.example.com/mcp",
                    "headers": {"Authorization": "Bearer canary"},
                },
                "files": {"type": "stdio", "command": "serve-files", "args": ["-v"], "env": {"KEY": "canary"}},
            }
        }
    ]
    assert found["mode"] == ["0o600"]
    assert "canary" not in json.dumps([found["argv"], found["env"], found["said"]])
    assert "--allowedTools=TodoWrite,mcp__crm__find,mcp__files" in found["argv"]


async def test_the_environment_is_a_list(
    make_run: MakeRun, play: Play, spy: Path, leave: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "TASKQUEUE_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "LD_PRELOAD_X",
        "ANTHROPIC_BASE_URL",
        "CLAUDECODE",
        "PGPASSWORD",
    ):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("CHOSEN", "by the owner")
    leave["env"] = ("SEEN", "CHOSEN")

    env = (await seen(spy, play, make_run()))["env"]

    assert "canary" not in env.values()
    assert (env["CHOSEN"], env["ANTHROPIC_API_KEY"]) == ("by the owner", "sk-test-local")
    assert env["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert env["CLAUDE_CONFIG_DIR"] == str(tmp_path / "home/config")
    assert set(env) <= {
        "PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "LC_ALL", "LC_CTYPE", "PWD", "TMPDIR", "SEEN", "CHOSEN",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
        "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CODE_TMPDIR",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "CLAUDE_CODE_DISABLE_AUTO_MEMORY", "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING",
        "ENABLE_TOOL_SEARCH", "TASKQUEUE_SESSION",
    }  # fmt: skip
