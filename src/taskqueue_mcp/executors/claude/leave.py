"""What the owner leaves to tasks, and what one attempt is given within it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.claude.params import TOOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.executors.claude.params import ClaudeParams, Mode

PERMISSIVE: Final = ("plan", "dontAsk", "default", "acceptEdits", "auto", "bypassPermissions")
"""The permission modes, from the strictest to the one that allows everything."""
FILE_TOOLS: Final = frozenset(
    {"Read", "Glob", "Grep", "LS", "Edit", "MultiEdit", "Write", "NotebookEdit", "NotebookRead"}
)
"""Tools that stay within the session's folder as long as no rule lets them out."""
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")
OURS: Final = frozenset(
    {"print", "output-format", "input-format", "mcp-config", "resume", "continue", "max-budget-usd"}
)
"""Options that extra ones must not name: the executor would not understand what comes back, or spend without bound."""
LOOKING: Final = frozenset({"Read", "Glob", "Grep", "LS", "NotebookRead", "WebFetch", "WebSearch", "TodoWrite"})
"""Tools that change nothing; a plan is made with these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An MCP server of the owner's; it is reached by a command or at a URL. Credentials stand here and nowhere else."""

    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """Return it as Claude Code's configuration has it."""
        if self.url is not None:
            return {"type": "http", "url": self.url, "headers": dict(self.headers)}
        return {"type": "stdio", "command": self.command, "args": list(self.args), "env": dict(self.env)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """What the owner leaves to tasks. Folders are absolute; times are seconds, money US dollars.

    `home` is where the executor keeps its own things; `config_dir` is Claude Code's, which holds its log-in and its
    sessions. `tools` is what a session has when its task names none, `may_use` what a task may name beside them.
    """

    home: Path
    cli_path: Path | None = None
    config_dir: Path | None = None
    account: str = "default"
    base_url: str | None = None
    env: tuple[str, ...] = ()
    path: str = "/usr/local/bin:/usr/bin:/bin"
    folders: Mapping[str, Path] = field(default_factory=dict)
    model: str | None = None
    models: tuple[str, ...] = ()
    permission_mode: Mode = "acceptEdits"
    most_permissive_mode: Mode = "acceptEdits"
    tools: tuple[str, ...] = ("Read", "Glob", "Grep", "Edit", "Write", "TodoWrite")
    may_use: tuple[str, ...] = ()
    mcp_servers: Mapping[str, Server] = field(default_factory=dict)
    max_turns: int = 100
    budget_usd: float | None = 5.0
    timeout_seconds: float = 3_600.0
    quiet_seconds: float = 900.0
    retries: int = 3
    keep_days: float = 7.0
    extra_args: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Claude Code's own folder."""
        return self.config_dir or self.home / "config"


@dataclass(frozen=True, slots=True)
class Terms:
    """What one attempt is given."""

    tools: tuple[str, ...]
    disallowed: tuple[str, ...]
    servers: Mapping[str, Server]
    model: str | None
    mode: Mode
    max_turns: int
    folder: Path | None
    root: Path | None


def check(leave: Leave) -> None:
    """Refuse settings that cannot be meant.

    Raises:
        SettingsRefused: with all faults at once.
    """
    faults = [
        f"{kind} {name[:80]!a}: write its name with letters, digits, - and _"
        for kind, names in (("the folder", leave.folders), ("the MCP server", leave.mcp_servers))
        for name in names
        if not NAME.fullmatch(name)
    ]
    faults += [
        f"{rule[:80]!a} is no tool or rule" for rule in (*leave.tools, *leave.may_use) if not TOOL.fullmatch(rule)
    ]
    if PERMISSIVE.index(leave.permission_mode) > PERMISSIVE.index(leave.most_permissive_mode):
        faults.append(f"permission_mode {leave.permission_mode} is more than most_permissive_mode")
    taken = sorted({flag.lstrip("-") for flag in leave.extra_args} & OURS)
    if taken:
        faults.append(f"extra_args: --{taken[0]} is set by the program")
    if faults:
        raise SettingsRefused(f"worker.claude: {'; '.join(faults)}")


def agree(leave: Leave, params: ClaudeParams, tools: Sequence[str] = ()) -> Terms:
    """Return what a task is given; `tools` are its procedure's, for a task that names none.

    Raises:
        InvalidInput: it asks for more than the owner leaves to it; the line says what there is.
    """
    unknown = [name for name in params.mcp_servers if name not in leave.mcp_servers]
    if unknown:
        raise InvalidInput(f"mcp_servers: there is no {unknown[0][:80]!a}; the owner has {_listed(leave.mcp_servers)}")
    folder, root = _folder(leave, params.cwd)
    return Terms(
        tools=_tools(leave, params.allowed_tools if params.allowed_tools is not None else tuple(tools) or None),
        disallowed=tuple(params.disallowed_tools),
        servers={name: leave.mcp_servers[name] for name in dict.fromkeys(params.mcp_servers)},
        model=_model(leave, params.model),
        mode=_mode(leave, params.permission_mode),
        max_turns=min(params.max_turns or leave.max_turns, leave.max_turns),
        folder=folder,
        root=root,
    )


def _tools(leave: Leave, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is None:
        return leave.tools
    granted = {*leave.tools, *leave.may_use}
    for rule in wanted:
        # A tool that may be used whole may be used in part; a part never gives the whole.
        if rule not in granted and rule.partition("(")[0] not in granted:
            raise InvalidInput(
                f"allowed_tools: {rule[:80]!a} is not left to tasks; the owner leaves {_listed(granted)}"
            )
        if "(" in rule and rule not in granted and rule.partition("(")[0] in FILE_TOOLS:
            raise InvalidInput(
                f"allowed_tools: {rule[:80]!a} would let a tool out of the session's folder; "
                "the owner has to list that rule itself"
            )
    return tuple(dict.fromkeys(wanted))


def _model(leave: Leave, wanted: str | None) -> str | None:
    if wanted is None or wanted == leave.model:
        return leave.model
    if wanted not in leave.models:
        raise InvalidInput(f"model {wanted[:80]!a} is not left to tasks; the owner leaves {_listed(leave.models)}")
    return wanted


def _mode(leave: Leave, wanted: Mode | None) -> Mode:
    mode = wanted or leave.permission_mode
    if PERMISSIVE.index(mode) > PERMISSIVE.index(leave.most_permissive_mode):
        raise InvalidInput(f"permission_mode {mode} is not left to tasks; {leave.most_permissive_mode} is the most")
    return mode


def _folder(leave: Leave, cwd: str | None) -> tuple[Path | None, Path | None]:
    """The folder to work in, links resolved, and the outermost of the owner's folders that it lies in."""
    if cwd is None:
        return None, None
    if "\0" in cwd:
        raise InvalidInput("cwd holds a NUL character")
    name, _, rest = cwd.strip("/").partition("/")
    if name not in leave.folders or cwd.startswith("/"):
        raise InvalidInput(
            f"cwd {cwd[:80]!a} is in no folder that is left to tasks; the owner has {_listed(leave.folders)}. "
            "Write one of these names, or a path inside: name/src"
        )
    root = leave.folders[name].resolve()
    folder = (root / rest).resolve()
    if not folder.is_relative_to(root):
        raise InvalidInput(f"cwd {cwd[:80]!a} leaves the folder {name}; write a path inside it")
    if not folder.is_dir():
        raise InvalidInput(f"cwd {cwd[:80]!a} is no folder")
    around = [each.resolve() for each in leave.folders.values()]
    return folder, min((each for each in around if folder.is_relative_to(each)), key=lambda each: len(each.parts))


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
