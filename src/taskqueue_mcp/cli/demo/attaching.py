"""How models are attached to a server: commands to copy, with the real address and the file with the token."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taskqueue_mcp.settings import default_database
from taskqueue_mcp.store.opening import sqlite_file

if TYPE_CHECKING:
    from taskqueue_mcp.cli.demo.story import Story


def show(story: Story, url: str | None = None, database: Path | None = None) -> None:
    """Print the commands for the server at `url`, or else for the one that `make run` starts."""
    if url is None or database is None:
        story.head("Attach models of your own: `make run` keeps a server running, with a worker; then")
        url, database = "http://127.0.0.1:8080", sqlite_file(default_database())[0]
    else:
        story.head("The server runs on until Ctrl-C: attach models of your own")
    header = '"Authorization: Bearer $TOKEN"'
    beside = Path(sys.executable).with_name("taskqueue-mcp")
    program = shlex.quote(str(beside)) if beside.is_file() else f"{shlex.quote(sys.executable)} -m taskqueue_mcp"
    stdio = f"{program} stdio --database {shlex.quote(f'sqlite:///{database}')}"
    for what, command in (
        ("the token", f"TOKEN=$(cat {shlex.quote(f'{database}-token')})"),
        ("Claude Code", f"claude mcp add --transport http taskqueue {url}/mcp --header {header}"),
        ("Gemini CLI", f"gemini mcp add --scope user --transport http taskqueue {url}/mcp --header {header}"),
        (
            "MCP Inspector",
            f"npx @modelcontextprotocol/inspector --transport http --server-url {url}/mcp --header {header}",
        ),
        ("Codex, over stdio on the same database", f"codex mcp add taskqueue -- {stdio}"),
    ):
        story.line(f"{what}:")
        story.line(f"    {command}")
    story.line("README.md has them all, Claude Desktop too, and what to say to the models then.")
