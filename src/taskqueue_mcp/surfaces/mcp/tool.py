"""A tool as the SDK sees it: our checked arguments in, one JSON result out, errors as one line with a code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context  # noqa: TC002 - pydantic reads it from the annotations
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, Field

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.surfaces.mcp import arguments, fitting

if TYPE_CHECKING:
    from taskqueue_mcp.model import Caller
    from taskqueue_mcp.surfaces.mcp.arguments import Arguments

Handler = Callable[["Call", Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and how to tell them that a parked call is alive."""

    caller: Caller
    context: Context[Any, Any]

    async def beat(self, seconds: float) -> None:
        """Report that the call has been parked for so long."""
        await self.context.report_progress(seconds, message="waiting")


class QueueTool(Tool):
    """Runs a handler over checked arguments; every refusal reaches the model as it was written."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    handler: Any = Field(exclude=True)
    arguments_model: Any = Field(exclude=True)
    who: Any = Field(exclude=True)

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False  # noqa: ARG002, FBT001, FBT002 - the SDK's signature
    ) -> CallToolResult:  # fmt: skip
        """Call the handler; what it cannot do is an error result with a code beside the line."""
        try:
            read = _read(self.arguments_model, arguments)
            view = await self.handler(Call(self.who(context), context), read)
        except TaskQueueError as error:
            told = {"code": error.code, "message": str(error), **error.facts}
            return CallToolResult(
                content=[TextContent(type="text", text=str(error))], structured_content=told, is_error=True
            )
        except Exception as error:
            # The crash's own text may hold secrets: it stays in the log.
            raise UnexpectedToolError(
                f"{self.name} failed inside the server; nothing is known to be changed"
            ) from error
        view, text = fitting.fit(view, _task_of(view))
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=view)


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


_read = arguments.read


def _task_of(view: dict[str, Any]) -> str | None:
    task = view.get("task")
    return task.get("id") if isinstance(task, dict) else None
