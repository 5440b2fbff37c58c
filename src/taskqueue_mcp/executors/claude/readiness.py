"""Whether Claude Code can work on this machine now."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import import_module
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.executors.claude.command import CREDENTIALS, find_cli

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.claude.leave import Leave

EXTRA: Final = "pip install 'taskqueue-mcp[claude]'"
OLDEST: Final = (2, 1, 248)
"""The first Claude Code that takes a prompt verbatim: before it, `@/path` in a task's text would read that file."""
PROVIDERS: Final = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
VERSION_SECONDS: Final = 20.0


def why_not(leave: Leave) -> str | None:
    """Return in a line why Claude Code cannot work here and what to do about it; None where it can. Blocks shortly."""
    try:
        import_module("claude_agent_sdk")  # takes a second the first time, which must not be the event loop's
    except ImportError as error:
        return f"the Claude Agent SDK is not installed ({error}): {EXTRA}"
    program = find_cli(leave)
    if program is None:
        return f"Claude Code is not installed: {EXTRA}, or name it in worker.claude.cli_path"
    return _of_version(program) or _of_credentials(leave) or _of_folders(leave)


def _of_version(program: Path) -> str | None:
    try:
        process = Popen([program, "--version"], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)  # noqa: S603 - the owner's
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        return f"Claude Code cannot be started: {program}: {why}; see worker.claude.cli_path"
    try:
        said = process.communicate(timeout=VERSION_SECONDS)[0].decode(errors="replace").strip()
    except TimeoutExpired:
        process.kill()
        process.communicate()
        return f"{program} does not say its version within {VERSION_SECONDS:g} s; is it Claude Code?"
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", said)
    oldest = ".".join(map(str, OLDEST))
    if process.returncode or found is None:
        return f"{program} is no Claude Code: asked for its version it said {said[:80]!a}; {oldest} or newer is needed"
    if tuple(map(int, found.groups())) < OLDEST:
        return f"Claude Code {found[0]} at {program} is too old; {oldest} or newer is needed"
    return None


def _of_credentials(leave: Leave) -> str | None:
    """A key, a token or a log-in; one that is there may still be refused, which only a session can tell."""
    names = (*CREDENTIALS, *(name for name in PROVIDERS if name in leave.env))
    if any(os.environ.get(name) for name in names) or sys.platform == "darwin":  # there the keychain holds the log-in
        return None
    if _is_logged_in(leave.config / ".credentials.json"):
        return None
    return (
        "Claude Code has no credentials: set ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN "
        f"(made by `claude setup-token`), or log in with CLAUDE_CONFIG_DIR={leave.config}"
    )


def _is_logged_in(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def _of_folders(leave: Leave) -> str | None:
    for place in (leave.home, leave.config):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            return f"{place} cannot be made: {(error.strerror or 'unknown').lower()}; set worker.claude.home"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"{place} cannot be written; set worker.claude.home or worker.claude.config_dir"
    for name, folder in leave.folders.items():
        if not folder.is_dir():
            return f"the folder {name} ({folder}) is not there; see worker.claude.folders"
    return None
