"""Settings: the environment (`TASKQUEUE_*`) over one TOML file over defaults, checked as a whole."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.settings.budgets import BudgetSettings
from taskqueue_mcp.settings.kinds import Words
from taskqueue_mcp.settings.worker import WorkerSettings

APP = "taskqueue-mcp"
PACKAGE = Path(__file__).parents[1]


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin") from None
    return value


def state_folder() -> Path:
    """Return the folder of what this user's queue keeps."""
    return Path(platformdirs.user_state_path(APP, appauthor=False))


def default_database() -> str:
    """Return the queue in the user's state folder."""
    return f"sqlite:///{state_folder() / 'queue.db'}"


def default_sops() -> Path:
    """Return `./sops` if there is one, else the procedures that came with the program."""
    here = Path("sops")
    if here.is_dir():
        return here.absolute()
    shipped = PACKAGE / "shipped" / "sops"
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / "sops"


def machine_zone() -> str:
    """Return the machine's IANA time zone, UTC if it has none."""
    named = os.environ.get("TZ", "").removeprefix(":")
    link = Path("/etc/localtime")
    found = named
    if not found and link.is_symlink():
        target = str(link.resolve())
        found = target.partition("zoneinfo/")[2]
    if not found and Path("/etc/timezone").is_file():
        found = Path("/etc/timezone").read_text(encoding="utf-8").strip()
    try:
        ZoneInfo(found)
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC"
    return found or "UTC"


class LimitSettings(BaseModel):
    """Bounds on damage; see promise 12."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: int = Field(3, ge=1, le=100)
    depth: int = Field(8, ge=0, le=100)
    children: int = Field(50, ge=0)
    tasks_per_root: int = Field(500, ge=0)
    open_tasks_per_queue: int = Field(10_000, ge=1)
    body_bytes: int = Field(262_144, ge=1_024, le=4_194_304)
    creates_per_minute: int = Field(60_000, ge=1)
    quota_days: float = Field(7.0, gt=0, le=366)


class ApprovalSettings(BaseModel):
    """Task types and executors whose tasks wait for a person."""

    model_config = ConfigDict(extra="forbid")

    always: Words = Field(default_factory=lambda: ["mail", "email", "push", "git_push", "payment"])
    from_strangers: Words = Field(default_factory=lambda: ["shell"])


class Settings(BaseSettings):
    """Every setting of every command; unknown keys of the file are refused."""

    model_config = SettingsConfigDict(
        env_prefix="TASKQUEUE_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    database: str = Field(default_factory=default_database)
    token: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    allowed_hosts: Words = Field(default_factory=list)
    allowed_origins: Words = Field(default_factory=list)
    output: Path | None = None
    largest_upload: int = Field(1024**3, ge=1)
    sops: Path = Field(default_factory=default_sops)
    zone: Annotated[str, BeforeValidator(_zone)] = Field(default_factory=machine_zone)
    lease_seconds: int = Field(900, ge=1, le=86_400)
    retry_seconds: float = Field(10.0, gt=0, le=86_400)
    longest_retry_seconds: float = Field(3_600.0, gt=0, le=86_400)
    unclaimed_seconds: int = Field(900, ge=1)
    keep_finished_days: float = Field(30.0, gt=0)
    keep_history_days: float = Field(365.0, gt=0)
    keep_logs_days: float = Field(7.0, gt=0)
    executor_of_type: dict[str, str] = Field(default_factory=dict)
    open_executors: Words = Field(default_factory=lambda: ["calculation", "claude", "query", "report"])
    approvals: ApprovalSettings = Field(default_factory=ApprovalSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    budgets: BudgetSettings = Field(default_factory=BudgetSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let a command's options win over the environment, and that over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())


def config_file() -> Path:
    """Return where the TOML file is looked for."""
    named = os.environ.get("TASKQUEUE_CONFIG")
    return Path(named) if named else platformdirs.user_config_path(APP, appauthor=False) / "config.toml"


def load_settings(**given: Any) -> Settings:
    """Read the settings; what a command was given wins.

    Raises:
        SettingsRefused: with every fault at once.
    """
    named = os.environ.get("TASKQUEUE_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsRefused(f"TASKQUEUE_CONFIG names {named}, and there is no such file")
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise SettingsRefused("settings: " + "; ".join(faults)) from error
    except SettingsError as error:
        raise SettingsRefused(f"settings: {' '.join(str(error).split())}: give it as JSON") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"{config_file()} is not TOML: {error}") from error
