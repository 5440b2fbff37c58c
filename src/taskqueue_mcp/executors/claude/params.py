"""What a task may ask of a Claude session."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

from jsonschema import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, ConfigDict, Field

from taskqueue_mcp.executors.base import Params

Mode = Literal["plan", "dontAsk", "default", "acceptEdits", "auto", "bypassPermissions"]
Plan = Literal["auto", "approve"]

TOOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}(\([^()\x00-\x1f\x7f]{1,500}\))?")
"""A tool, or a rule such as `Bash(git log:*)`. It reaches a command line, where commas and brackets separate."""
LONGEST_SCHEMA: Final = 65_536
"""Characters: a schema is one argument of a command, and the system bounds those."""


def _rule(text: str) -> str:
    if not TOOL.fullmatch(text):
        raise ValueError(f"{text[:80]!a} is no tool; write one such as Read or Bash(git log:*)")
    return text


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value)
    if len(text) > LONGEST_SCHEMA:
        raise ValueError(f"has {len(text):,} characters; {LONGEST_SCHEMA:,} are allowed")
    for reference in _references(value):
        if not reference.startswith("#"):
            raise ValueError(f"refers to {reference[:80]!a}; only references into the schema itself are followed")
    try:
        validator_for(value).check_schema(value)
    except SchemaError as error:
        raise ValueError(f"is no JSON schema: {error.message[:200]}") from None
    if value.get("type", "object") != "object":
        raise ValueError('must describe an object; write {"type": "object", "properties": …}')
    return value


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(item) for key, item in value.items() if key in {"$ref", "$dynamicRef"} and isinstance(item, str)]
        return own + [each for item in value.values() for each in _references(item)]
    if isinstance(value, list):
        return [each for item in value for each in _references(item)]
    return []


Rule = Annotated[str, AfterValidator(_rule)]
Schema = Annotated[dict[str, Any], AfterValidator(_schema)]


class ClaudeParams(Params):
    """What is Claude's own; any other name is data that the session is given with the task.

    What of it a task may have is the owner's to say; see `Leave`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    prompt: str = Field(default="", description="What else Claude should know or do, beside the instructions")
    model: str | None = Field(default=None, description="One of the models that the owner allows")
    allowed_tools: list[Rule] | None = Field(
        default=None, description="Tools it has, such as Read or Bash(git log:*), of those the owner allows"
    )
    disallowed_tools: list[Rule] = Field(default=[], description="Tools it must not use")
    permission_mode: Mode | None = Field(
        default=None, description="How much it may do unasked, up to the owner's bound"
    )
    mcp_servers: list[str] = Field(default=[], description="Names of the owner's MCP servers to connect")
    cwd: str | None = Field(default=None, description="One of the owner's folders, or a path inside: shop/src")
    max_turns: int | None = Field(default=None, ge=1, description="Turns after which it is ended")
    output_schema: Schema | None = Field(default=None, description="JSON schema that the result has to fit")
    success_criteria: list[str] = Field(default=[], max_length=50, description="What must hold; each is answered")
    files: list[str] = Field(default=[], max_length=50, description="Globs of files it makes that are kept")
    plan: Plan | None = Field(default=None, description="Make a plan first; approve: and wait for a yes")
    resume: bool = Field(default=True, description="Whether a further attempt goes on with the same session")
