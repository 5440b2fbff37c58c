"""What tasks may do with Claude Code on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskqueue_mcp.settings.kinds import Words

Mode = Literal["plan", "dontAsk", "default", "acceptEdits", "auto", "bypassPermissions"]


class ClaudeServerSettings(BaseModel):
    """An MCP server that sessions may be given by its name; its credentials stand here and nowhere else."""

    model_config = ConfigDict(extra="forbid")

    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    tools: Words = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_way(self) -> ClaudeServerSettings:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either a command or a url")
        return self


class ClaudeSettings(BaseModel):
    """What tasks may do with Claude Code on this machine."""

    model_config = ConfigDict(extra="forbid")

    cli_path: Path | None = None
    home: Path | None = None
    config_dir: Path | None = None
    account: str = Field("default", min_length=1, max_length=100)
    base_url: str | None = None
    env: Words = Field(default_factory=list)
    path: str = "/usr/local/bin:/usr/bin:/bin"
    folders: dict[str, Path] = Field(default_factory=dict)
    model: str | None = None
    models: Words = Field(default_factory=list)
    permission_mode: Mode = "acceptEdits"
    most_permissive_mode: Mode = "acceptEdits"
    tools: Words = Field(default_factory=lambda: ["Read", "Glob", "Grep", "Edit", "Write", "TodoWrite"])
    may_use: Words = Field(default_factory=list)
    mcp_servers: dict[str, ClaudeServerSettings] = Field(default_factory=dict)
    max_turns: int = Field(100, ge=1)
    budget_usd: float | None = Field(5.0, gt=0)
    timeout_seconds: float = Field(3_600.0, gt=0)
    quiet_seconds: float = Field(900.0, gt=0)
    retries: int = Field(3, ge=0, le=20)
    keep_days: float = Field(7.0, gt=0)
    extra_args: dict[str, str | None] = Field(default_factory=dict)
