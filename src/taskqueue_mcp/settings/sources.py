"""What the worker may read, by name: a file, a database behind a URL, or a tool of an MCP server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator


def _whole(value: Any) -> Any:
    """Read a source that is given in one word: a URL, or the path of an SQLite file."""
    if isinstance(value, Path):
        return {"path": value}
    if isinstance(value, str):
        return {"url": value} if "://" in value else {"path": value}
    return value


class SourceSettings(BaseModel):
    """One source: exactly one of `path`, `url`, `command` and `server`, the last two with the `tool` to call.

    `arguments` is what the tool is called with, where a text that is `{sql}`, `{params}`, `{max_rows}` or the name of
    a parameter in braces stands for its value. `env` goes to the command, `headers` with each request to the server.
    """

    model_config = ConfigDict(extra="forbid")

    path: Path | None = None
    url: SecretStr | None = None
    password: SecretStr | None = None
    command: list[str] = Field(default_factory=list)
    env: dict[str, SecretStr] = Field(default_factory=dict)
    server: AnyHttpUrl | None = Field(None, repr=False)  # some carry a key in their query
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    tool: str | None = None
    arguments: dict[str, Any] = Field(default_factory=lambda: {"sql": "{sql}"})

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [name for name in ("path", "url", "command", "server") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of path, url, command and server")
        speaks_mcp = given[0] in {"command", "server"}
        if speaks_mcp != (self.tool is not None):
            raise ValueError("a command or a server needs the tool to call, and nothing else has one")
        if self.password and given[0] != "url":
            raise ValueError("a password belongs to a url")
        return self

    @property
    def shown(self) -> str:
        """What it is, without anything secret: neither passwords nor the options of a URL."""
        if self.url is not None:
            parts = urlsplit(self.url.get_secret_value())
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if self.path is not None:
            return str(self.path)
        return f"tool {self.tool} of {self.command[0] if self.command else urlsplit(str(self.server)).netloc}"


Named = Annotated[SourceSettings, BeforeValidator(_whole)]
