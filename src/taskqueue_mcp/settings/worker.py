"""What this machine's worker may do, an executor at a time."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from taskqueue_mcp.settings.kinds import Words


class WorkerSettings(BaseModel):
    """What this machine's worker may do."""

    model_config = ConfigDict(extra="forbid")

    output: Path | None = None
    sources: dict[str, Path] = Field(default_factory=dict)
    shell_allow: Words = Field(default_factory=list)
    shell_env: Words = Field(default_factory=list)
    shell_folder: Path | None = None
    executors: Words = Field(default_factory=lambda: ["report", "shell"])
    concurrency: int = Field(1, ge=1, le=64)
