"""What a task may ask for, and that it never gets more than the owner leaves to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.app.executors import registry_of
from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.claude import Claude, Leave, Server
from taskqueue_mcp.executors.claude.leave import agree
from taskqueue_mcp.executors.claude.params import ClaudeParams
from taskqueue_mcp.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    for folder in ("shop/src", "shop-evil", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "shop/out").symlink_to(tmp_path / "other")
    (tmp_path / "shop/file").write_text("")
    return Leave(
        home=tmp_path / "home",
        folders={"shop": tmp_path / "shop", "source": tmp_path / "shop/src"},
        model="sonnet",
        models=("opus",),
        may_use=("WebFetch", "Bash(git log:*)", "Read(//srv/data/**)"),
        mcp_servers={"crm": Server(url="https://crm.example.com/mcp")},
        max_turns=10,
    )


def test_without_a_wish_a_task_has_what_is_usual(leave: Leave) -> None:
    terms = agree(leave, ClaudeParams())

    assert (terms.tools, terms.model, terms.mode, terms.max_turns) == (leave.tools, "sonnet", "acceptEdits", 10)
    assert (terms.folder, dict(terms.servers)) == (None, {})


def test_a_task_gets_what_it_may_have(leave: Leave, tmp_path: Path) -> None:
    wishes: dict[str, Any] = {
        "model": "opus",
        "permission_mode": "plan",
        "max_turns": 3,
        "mcp_servers": ["crm"],
        "allowed_tools": ["Read", "WebFetch", "WebFetch(domain:example.com)", "Bash(git log:*)", "Read(//srv/data/**)"],
        "disallowed_tools": ["Write"],
        "cwd": "source",
    }

    terms = agree(leave, ClaudeParams(**wishes))

    assert (terms.model, terms.mode, terms.max_turns, list(terms.servers)) == ("opus", "plan", 3, ["crm"])
    assert (terms.tools, terms.disallowed) == (tuple(wishes["allowed_tools"]), ("Write",))
    assert (terms.folder, terms.root) == (tmp_path / "shop/src", tmp_path / "shop")


def test_the_tools_of_a_procedure_are_those_of_a_task_that_names_none(leave: Leave) -> None:
    assert agree(leave, ClaudeParams(), ("Read", "WebFetch")).tools == ("Read", "WebFetch")
    assert agree(leave, ClaudeParams(allowed_tools=["Write"]), ("Read",)).tools == ("Write",)
    assert agree(leave, ClaudeParams(allowed_tools=[]), ("Read",)).tools == ()
    with pytest.raises(InvalidInput, match="'Bash' is not left to tasks"):
        agree(leave, ClaudeParams(), ("Bash",))


def test_more_turns_than_there_are_become_as_many_as_there_are(leave: Leave) -> None:
    assert agree(leave, ClaudeParams(max_turns=1_000)).max_turns == 10


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"model": "fable"}, "model 'fable' is not left to tasks; the owner leaves opus"),
        ({"permission_mode": "bypassPermissions"}, "permission_mode bypassPermissions is not left to tasks"),
        ({"permission_mode": "auto"}, "permission_mode auto is not left to tasks; acceptEdits is the most"),
        ({"allowed_tools": ["Bash"]}, "allowed_tools: 'Bash' is not left to tasks"),
        ({"allowed_tools": ["Bash(git push:*)"]}, "allowed_tools: 'Bash(git push:*)' is not left to tasks"),
        ({"allowed_tools": ["Bash(*)"]}, "allowed_tools: 'Bash(*)' is not left to tasks"),
        ({"allowed_tools": ["mcp__crm__delete"]}, "allowed_tools: 'mcp__crm__delete' is not left to tasks"),
        ({"allowed_tools": ["Read(//etc/**)"]}, "would let a tool out of the session's folder"),
        ({"allowed_tools": ["Write(//home/**)"]}, "would let a tool out of the session's folder"),
        ({"mcp_servers": ["mail"]}, "mcp_servers: there is no 'mail'; the owner has crm"),
        ({"cwd": "elsewhere"}, "is in no folder that is left to tasks; the owner has shop, source"),
        ({"cwd": "/etc"}, "is in no folder"),
        ({"cwd": "shop/../shop-evil"}, "leaves the folder shop"),
        ({"cwd": "shop/out"}, "leaves the folder shop"),
        ({"cwd": "shop/none"}, "is no folder"),
        ({"cwd": "shop/file"}, "is no folder"),
        ({"cwd": "../shop"}, "is in no folder"),
        ({"cwd": "a\0b"}, "NUL"),
        ({"cwd": ""}, "is in no folder"),
    ],
)
def test_what_is_not_left_to_tasks_is_refused_in_a_line(leave: Leave, wish: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        agree(leave, ClaudeParams(**wish))

    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"allowed_tools": ["Read,Bash"]}, "is no tool"),
        ({"allowed_tools": ["--dangerously-skip-permissions"]}, "is no tool"),
        ({"allowed_tools": ["Read Bash"]}, "is no tool"),
        ({"allowed_tools": ["Bash(a) Bash(*)"]}, "is no tool"),
        ({"disallowed_tools": ["-x"]}, "is no tool"),
        ({"permission_mode": "yolo"}, "permission_mode"),
        ({"max_turns": 0}, "max_turns"),
        ({"plan": "maybe"}, "plan"),
        ({"output_schema": {"type": "nonsense"}}, "is no JSON schema"),
        ({"output_schema": {"type": "array"}}, "must describe an object"),
        ({"output_schema": {"$ref": "https://example.com/x.json"}}, "only references into the schema itself"),
        ({"output_schema": {"properties": {"a": {"$ref": "file:///etc/passwd"}}}}, "only references into the schema"),
        ({"output_schema": {"description": "x" * 70_000}}, "characters; 65,536 are allowed"),
    ],
)
def test_what_is_no_parameter_is_refused_in_a_line(leave: Leave, raw: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_params(Claude(leave), raw)

    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"folders": {"my shop": "/srv"}}, "the folder 'my shop'"),
        ({"mcp_servers": {"a/b": Server(command="x")}}, "the MCP server 'a/b'"),
        ({"may_use": ("Read,Bash",)}, "'Read,Bash' is no tool or rule"),
        ({"permission_mode": "bypassPermissions"}, "permission_mode bypassPermissions is more than"),
        ({"extra_args": {"--resume": "x"}}, "extra_args: --resume is set by the program"),
    ],
)
def test_settings_that_cannot_be_meant_stop_the_program(tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        Claude(Leave(home=tmp_path, **given))

    assert why in str(refused.value)


def test_other_names_are_data_of_the_task() -> None:
    assert ClaudeParams.model_validate({"threshold": 5}).model_extra == {"threshold": 5}


def test_the_parameters_have_a_schema_without_references() -> None:
    schema = ClaudeParams.model_json_schema()

    assert "$ref" not in json.dumps(schema)
    assert all(each.get("description") for each in schema["properties"].values())


def test_the_settings_become_what_is_left_to_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text("""
[worker.claude]
config_dir = "~/.claude"
models = ["opus"]
budget_usd = 2.0
[worker.claude.folders]
shop = "~/shop"
[worker.claude.mcp_servers.crm]
url = "https://crm.example.com/mcp"
headers = { Authorization = "Bearer x" }
tools = ["find"]
[worker.claude.extra_args]
effort = "high"
""")
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    claude = registry_of(load_settings(), ("claude",))["claude"]

    assert isinstance(claude, Claude)
    assert claude._leave == Leave(
        home=tmp_path / "state/taskqueue-mcp/claude",
        config_dir=tmp_path / ".claude",
        models=("opus",),
        budget_usd=2.0,
        folders={"shop": tmp_path / "shop"},
        mcp_servers={
            "crm": Server(url="https://crm.example.com/mcp", headers={"Authorization": "Bearer x"}, tools=("find",))
        },
        extra_args={"effort": "high"},
    )


@pytest.mark.parametrize("server", ["{}", '{"command": "x", "url": "https://a.example.com"}', '{"url": "u", "key": 1}'])
def test_a_server_is_reached_in_one_way(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("TASKQUEUE_WORKER__CLAUDE__MCP_SERVERS", f'{{"crm": {server}}}')

    with pytest.raises(SettingsRefused, match=r"worker\.claude\.mcp_servers\.crm"):
        load_settings()
