"""What this machine's worker may do, an executor at a time."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from taskqueue_mcp.settings.claude import ClaudeSettings
from taskqueue_mcp.settings.kinds import Words


class ProcessSettings(BaseModel):
    """What each process of a command or script may use; 0 means no bound."""

    model_config = ConfigDict(extra="forbid")

    memory_bytes: int = Field(4 * 1024**3, ge=0)
    cpu_seconds: int = Field(3_600, ge=0)
    file_bytes: int = Field(4 * 1024**3, ge=0)
    processes: int = Field(1_000, ge=0)
    open_files: int = Field(4_096, ge=0)


class WorkerSettings(BaseModel):
    """What this machine's worker may do."""

    model_config = ConfigDict(extra="forbid")

    output: Path | None = None
    sources: dict[str, Path] = Field(default_factory=dict)
    shell_allow: Words = Field(default_factory=list)
    shell_env: Words = Field(default_factory=list)
    shell_folder: Path | None = None
    process: ProcessSettings = Field(default_factory=ProcessSettings)
    claude: ClaudeSettings = Field(default_factory=ClaudeSettings)
    executors: Words = Field(default_factory=lambda: ["report", "shell"])
    concurrency: int = Field(1, ge=1, le=64)
