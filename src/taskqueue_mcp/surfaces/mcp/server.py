"""The MCP server over one queue: tools by scope, resources, prompts, completions, updates."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer
from mcp.server.caching import CacheHint
from mcp.server.subscriptions import ListenHandler
from mcp.types import SubscriptionsListenRequestParams

from taskqueue_mcp import __version__
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.surfaces.mcp import reading, tools
from taskqueue_mcp.surfaces.mcp.calls import Calls
from taskqueue_mcp.surfaces.mcp.instructions import INSTRUCTIONS
from taskqueue_mcp.surfaces.mcp.updates import Updates

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.mcpserver import Context
    from mcp.types import GetPromptResult, InitializeRequestParams, InputRequiredResult, Prompt

    from taskqueue_mcp.taskqueue import TaskQueue

NAME = "taskqueue"
MOST_SUBSCRIPTIONS = 200
READER = Caller("server", Kind.SERVICE, frozenset(Scope))
"""Who the server itself reads names for completions and prompts as."""


Who = Callable[[str], Caller]
"""Says who speaks, given the name that the client goes by ("" when it gave none)."""


class ByScope:
    """Shows a caller the tools of its scopes; what may be called is checked again by the service."""

    def __init__(self, who: Who) -> None:
        self._who = who

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: Any) -> Any:
        """Narrow `tools/list` to the caller's tools."""
        result = await call_next(ctx)
        if ctx.method != "tools/list":
            return result
        caller = self._who(client_name(ctx.session.client_params))
        if Scope.ADMIN in caller.scopes or not isinstance(result, dict):
            return result
        shown = [each for each in result["tools"] if caller.scopes & tools.SCOPES.get(each["name"], frozenset())]
        return {**result, "tools": shown}


class QueueServer(MCPServer[Any]):
    """The SDK's server, with a prompt for each procedure that there is at the time."""

    procedures: reading.ProcedurePrompts

    async def list_prompts(self) -> list[Prompt]:
        """List the prompts that are always there, then one for each procedure."""
        return [*await super().list_prompts(), *await self.procedures.offered()]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Return a prompt's text."""
        followed = await self.procedures.get(name, arguments or {})
        return followed or await super().get_prompt(name, arguments, context)


class Built:
    """An MCP server, the short way to its tools, and what has to be closed before it goes."""

    def __init__(self, server: MCPServer[Any], calls: Calls, listen: ListenHandler, updates: Updates) -> None:
        self.server = server
        self.calls = calls
        self.listen = listen
        self.updates = updates


def build(queue: TaskQueue, who: Who) -> Built:
    """Build the MCP server for those whom `who` knows."""
    logging.getLogger("mcp.server.mcpserver.server").setLevel(logging.ERROR)  # a refused call is the model's to read

    def caller(context: Context[Any, Any]) -> Caller:
        return who(client_name(context.request_context.session.client_params))

    updates = Updates()
    offered = tools.tools(queue, caller)
    server = QueueServer(
        NAME,
        title="Task queue",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=list(offered),
        middleware=[ByScope(who)],
        subscriptions=updates,
        cache_hints={"tools/list": CacheHint(ttl_ms=300_000, scope="private")},
        log_level="WARNING",
    )
    server.procedures = reading.ProcedurePrompts(queue, READER)
    reading.add_resources(server, queue, caller)
    reading.add_executors(server, queue, caller, READER)
    reading.add_prompts(server, queue, READER)
    reading.add_completions(server, queue, READER)
    listen = ListenHandler(updates, max_subscriptions=MOST_SUBSCRIPTIONS)
    low = server._lowlevel_server  # noqa: SLF001 - the SDK's own handler cannot be closed, and a stopping server has to
    low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, listen)
    return Built(server, Calls(offered, who, low.server_info_stamp), listen, updates)


def stdio_caller(
    name: str | None, scopes: frozenset[Scope], executors: frozenset[str] = frozenset(), kind: Kind = Kind.AGENT
) -> Who:
    """Return who speaks on stdio: the agent that was named, or else one named after its client."""

    @functools.lru_cache(maxsize=64)
    def who(client: str) -> Caller:
        return Caller(name or _tidy(client), kind, scopes, executors)

    return who


def client_name(params: InitializeRequestParams | None) -> str:
    """Return the name that a client goes by, as it gave it."""
    return "" if params is None else params.client_info.name


def _tidy(name: str) -> str:
    tidy = "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in name.strip())[:60]
    return tidy.strip("-._") or "agent"
