"""What this machine's worker may do, an executor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from taskqueue_mcp.settings.claude import ClaudeSettings
from taskqueue_mcp.settings.kinds import Words
from taskqueue_mcp.settings.sources import Named

CheckName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]


class ProcessSettings(BaseModel):
    """What each process of a command or script may use; 0 means no bound."""

    model_config = ConfigDict(extra="forbid")

    memory_bytes: int = Field(4 * 1024**3, ge=0)
    cpu_seconds: int = Field(3_600, ge=0)
    file_bytes: int = Field(4 * 1024**3, ge=0)
    processes: int = Field(1_000, ge=0)
    open_files: int = Field(4_096, ge=0)


class MailSettings(BaseModel):
    """Where messages are handed in, as whom, and whom they may reach."""

    model_config = ConfigDict(extra="forbid")

    host: str | None = None
    port: int = Field(587, ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    sender: str | None = None
    destinations: dict[str, Words] = Field(default_factory=dict)
    most_bytes: int = Field(20 * 1024 * 1024, ge=1)


class WorkerSettings(BaseModel):
    """What this machine's worker may do."""

    model_config = ConfigDict(extra="forbid")

    output: Path | None = None
    checks: dict[CheckName, list[str]] = Field(default_factory=dict)
    sources: dict[str, Named] = Field(default_factory=dict)
    calculations: Path | None = None
    calculation_python: Path | None = None
    calculation_env: Words = Field(default_factory=list)
    shell_allow: Words = Field(default_factory=list)
    shell_env: Words = Field(default_factory=list)
    shell_folder: Path | None = None
    process: ProcessSettings = Field(default_factory=ProcessSettings)
    claude: ClaudeSettings = Field(default_factory=ClaudeSettings)
    mail: MailSettings = Field(default_factory=MailSettings)
    executors: Words = Field(default_factory=lambda: ["calculation", "query", "report", "shell"])
    concurrency: int = Field(1, ge=1, le=64)
    concurrency_of: dict[str, Annotated[int, Field(ge=1, le=64)]] = Field(default_factory=dict)
    stand_ins: dict[str, str] = Field(default_factory=dict)
    stand_in_after_seconds: float = Field(300.0, ge=0)
