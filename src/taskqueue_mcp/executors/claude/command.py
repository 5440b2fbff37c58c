"""The command line and the environment of one Claude Code process. Nothing that a task wrote is a flag of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.executors.claude.leave import FILE_TOOLS, LOOKING
from taskqueue_mcp.executors.claude.prompt import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.executors.claude.leave import Leave, Terms

MARK: Final = "TASKQUEUE_SESSION"
"""The variable by which every process that a session starts is known, wherever it went."""
INHERITED: Final = ("HOME", "LANG", "TZ", "USER", "LOGNAME", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR",
                    "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")  # fmt: skip
CREDENTIALS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "ENABLE_TOOL_SEARCH": "false",  # the tools of MCP servers are offered at once: a session has few
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one process of Claude Code is started for."""

    terms: Terms
    cwd: Path
    work: Path
    """A private folder that it may write to, where `cwd` is one of the owner's."""
    aside: Path
    """A private folder that is not the session's: what it is configured with, and its temporary files."""
    mark: str
    session: str | None = None
    schema: Mapping[str, Any] | None = None
    budget_usd: float | None = None
    is_planning: bool = False


def find_cli(leave: Leave) -> Path | None:
    """Return the program: the configured one, else that of claude-agent-sdk, else the one on the PATH."""
    if leave.cli_path is not None:
        return leave.cli_path
    found = find_spec("claude_agent_sdk")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "_bundled" / ("claude.exe" if sys.platform == "win32" else "claude")
        if bundled.is_file():
            return bundled
    named = shutil.which("claude")
    return None if named is None else Path(named)


def argv(program: Path, leave: Leave, call: Call) -> list[str]:
    """Return the command line; it holds no prompt, no credential and nothing of the folder it runs in."""
    terms = call.terms
    tools = tuple(tool for tool in terms.tools if not call.is_planning or tool.partition("(")[0] in LOOKING)
    base = dict.fromkeys(tool.partition("(")[0] for tool in tools if not tool.startswith("mcp__"))
    rules = [tool for tool in tools if tool not in FILE_TOOLS]
    for name, server in terms.servers.items():
        rules += [f"mcp__{name}__{tool}" for tool in server.tools] or [f"mcp__{name}"]
    words = [
        str(program), "--output-format", "stream-json", "--input-format", "stream-json", "--verbose",
        "--include-partial-messages",
        # Neither the settings of the folder nor the user's: hooks and servers in them would run without consent.
        "--setting-sources=", "--strict-mcp-config",
        f"--append-system-prompt={RULES}",
        f"--tools={','.join(base)}",
        f"--permission-mode={'plan' if call.is_planning else terms.mode}",
        f"--max-turns={terms.max_turns}",
    ]  # fmt: skip
    if call.work != call.cwd:
        words.append(f"--add-dir={call.work}")
    if rules:
        words.append(f"--allowedTools={','.join(rules)}")
    if terms.disallowed:
        words.append(f"--disallowedTools={','.join(terms.disallowed)}")
    if terms.model:
        words.append(f"--model={terms.model}")
    if terms.servers:
        words.append(f"--mcp-config={_servers_file(call)}")
    if call.budget_usd is not None:
        words.append(f"--max-budget-usd={call.budget_usd:.6f}")
    if call.schema is not None:
        words.append(f"--json-schema={json.dumps(call.schema, ensure_ascii=False)}")
    if call.session is not None:
        words.append(f"--resume={call.session}")
    return words + [f"--{flag}" if value is None else f"--{flag}={value}" for flag, value in leave.extra_args.items()]


def environment(leave: Leave, call: Call) -> dict[str, str]:
    """Return the variables by list: none of ours that is not named here or by the owner."""
    names = {*INHERITED, *CREDENTIALS, *leave.env}
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith("LC_")}
    temporary = call.aside / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    own = {
        "CLAUDE_CONFIG_DIR": str(leave.config),
        "CLAUDE_CODE_MAX_RETRIES": str(leave.retries),
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "TMPDIR": str(temporary),
        "PWD": str(call.cwd),
        MARK: call.mark,
    }
    if leave.base_url is not None:
        own["ANTHROPIC_BASE_URL"] = leave.base_url
    return {"PATH": leave.path, **QUIET, **kept, **own}


def _servers_file(call: Call) -> Path:
    """A file that only we can read: on the command line every user of the machine would see the credentials."""
    path = call.aside / "mcp.json"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"mcpServers": {name: server.described() for name, server in call.terms.servers.items()}}, file)
    return path
