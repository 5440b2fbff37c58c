"""A tool: our checked arguments in, one JSON document out, refusals as one line with a code beside it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context  # noqa: TC002 - pydantic reads it from the annotations
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, Field

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.surfaces.mcp import arguments, fitting

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.surfaces.mcp.arguments import Arguments

logger = logging.getLogger(__name__)

Handler = Callable[["Call", Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and how to tell them that a parked call is alive: `beat` takes the seconds it has been parked."""

    caller: Caller
    beat: Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says: `document` is the JSON text of `content`, and what a success shows as its text."""

    text: str
    content: dict[str, Any] | None = None
    document: str | None = None
    is_error: bool = False


class QueueTool(Tool):
    """Runs a handler over checked arguments; every refusal reaches the model as it was written."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    handler: Any = Field(exclude=True)
    arguments_model: Any = Field(exclude=True)
    who: Any = Field(exclude=True)

    async def answer(self, call: Call, given: dict[str, Any]) -> Answer:
        """Call the handler; what it cannot do is an answer too."""
        try:
            view = await self.handler(call, arguments.read(self.arguments_model, given))
        except TaskQueueError as error:
            told = {"code": error.code, "message": str(error), **error.facts}
            return Answer(str(error), told, fitting.write(told), is_error=True)
        except Exception:
            # The crash's own text may hold secrets: it stays in the log.
            logger.exception("%s failed", self.name)
            return Answer(f"{self.name} failed inside the server; nothing is known to be changed", is_error=True)
        view, text = fitting.fit(view, _task_of(view))
        return Answer(text, view, text)

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False  # noqa: ARG002, FBT001, FBT002 - the SDK's signature
    ) -> CallToolResult:  # fmt: skip
        """Answer a call that came the SDK's way."""

        async def beat(seconds: float) -> None:
            await context.report_progress(seconds, message="waiting")

        answer = await self.answer(Call(self.who(context), beat), arguments)
        return CallToolResult(
            content=[TextContent(type="text", text=answer.text)],
            structured_content=answer.content,
            is_error=answer.is_error,
        )


async def _nothing() -> None:
    """Stand where the SDK wants a function; `run` never calls it."""


NOTHING = Tool.from_function(_nothing, name="nothing", description="nothing", structured_output=False)


def make(
    name: str,
    description: str,
    model: type[Arguments],
    handler: Handler,
    who: Callable[[Context[Any, Any]], Caller],
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
) -> QueueTool:
    """Build a tool from its handler."""
    return QueueTool(
        fn=_nothing,
        name=name,
        description=description,
        parameters=arguments.schema(model),
        fn_metadata=NOTHING.fn_metadata,
        is_async=True,
        annotations=_annotations(read_only=read_only, destructive=destructive, idempotent=idempotent),
        handler=handler,
        arguments_model=model,
        who=who,
    )


def _annotations(*, read_only: bool, destructive: bool, idempotent: bool) -> ToolAnnotations:
    """Say only what differs from the protocol's defaults: every character is paid for in each conversation."""
    if read_only:
        return ToolAnnotations(read_only_hint=True, open_world_hint=False)
    return ToolAnnotations(
        destructive_hint=destructive, idempotent_hint=True if idempotent else None, open_world_hint=False
    )


def _task_of(view: dict[str, Any]) -> str | None:
    task = view.get("task")
    return task.get("id") if isinstance(task, dict) else None
