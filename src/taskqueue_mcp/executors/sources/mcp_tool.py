"""A tool of an MCP server as a source: called once a statement, its rows taken from what it answers.

Whether the tool only reads is for its owner to know: nobody here can hold it to that.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation, TextContent
from pydantic import ValidationError

from taskqueue_mcp import __version__
from taskqueue_mcp.executors.sources.binding import must_read, names_of, one_statement
from taskqueue_mcp.executors.sources.reading import Halted, Reader, ReadFailed, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.types import CallToolResult

    from taskqueue_mcp.executors.sources.reading import Row

    Connect = Callable[[Callable[[], None]], AbstractAsyncContextManager[Client]]

ROWS: Final = ("rows", "data", "results", "records", "items", "result")
"""Where in its answer a tool puts rows."""
LONGEST_SAID: Final = 500
SHORTEST_SECRET: Final = 4
"""What is shorter stands in every message."""
LOST: Final = (
    MCPError,
    OSError,
    ValidationError,
    httpx2.HTTPError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


class McpTool(Source):
    """One tool of one server. `arguments` says what it is called with; `secrets` are kept out of every message."""

    def __init__(self, connect: Connect, *, tool: str, arguments: Mapping[str, Any], secrets: Sequence[str]) -> None:
        self._connect = connect
        self._tool = tool
        self._arguments = arguments
        self._secrets = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        self._names = frozenset(_placeholders(arguments))
        self.takes_sql = "sql" in self._names

    def uses(self, name: str, sql: str) -> bool:
        """Also what the call is filled with."""
        return super().uses(name, sql) or not self._names.isdisjoint({name, "params"})

    def open(self, *, seconds: float, most_rows: int) -> McpReader:
        """A visit; each statement of it is a call over a connection of its own."""
        return McpReader(
            self._connect, self._tool, self._arguments, self._secrets, seconds=seconds, most_rows=most_rows
        )


class McpReader(Reader):
    """Calls of one tool. Each sees the moment at which the tool looks."""

    def __init__(
        self, connect: Connect, tool: str, arguments: Mapping[str, Any], secrets: Sequence[str], *, seconds: float,
        most_rows: int,
    ) -> None:  # fmt: skip
        super().__init__(seconds=seconds, most_rows=most_rows)
        self._connect = connect
        self._tool = tool
        self._arguments = arguments
        self._secrets = secrets
        self._calling: tuple[asyncio.AbstractEventLoop, anyio.Event] | None = None

    def halt(self) -> None:
        """End the call, now and for good."""
        self._halted.set()
        calling = self._calling
        if calling is not None:
            loop, stop = calling
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:
                return  # it was over in this moment

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Nothing is held open between calls."""
        self.wanted()
        yield

    def check(self, sql: str, params: Mapping[str, Any]) -> None:
        """Refuse what can be seen from here: a statement that does not read, a parameter that is missing."""
        self._filled(sql, params)

    def read(self, sql: str, params: Mapping[str, Any]) -> tuple[list[str], Iterator[Row]]:
        """The columns and rows of the tool's answer, which is here as a whole."""
        arguments = self._filled(sql, params)
        self.wanted()
        try:
            result = anyio.run(self._called, arguments)
        except BaseExceptionGroup as group:
            raise self._lost(group) from None
        except LOST as error:
            raise self._lost(error) from None
        if result is None or self._over():
            raise self._ended()
        if result.is_error:
            raise ReadFailed(f"the tool {self._tool} says: {self._cleaned(_text_of(result)) or 'it failed'}")
        columns, rows = _table(result, self._tool)
        return columns, self._rows(_Portions(rows).take)

    async def _called(self, arguments: Mapping[str, Any]) -> CallToolResult | None:
        """Call the tool; None once the time is up or nobody wants it any more."""
        stop, begun = anyio.Event(), anyio.Event()
        self._calling = (asyncio.get_running_loop(), stop)
        result: CallToolResult | None = None
        try:
            async with anyio.create_task_group() as beside:

                async def leave() -> None:
                    await begun.wait()
                    with anyio.move_on_after(self._left()):
                        if not self._halted.is_set():
                            await stop.wait()
                    beside.cancel_scope.cancel()

                beside.start_soon(leave)
                async with self._connect(begun.set) as client:
                    patience = self._left() + 1
                    result = await client.call_tool(self._tool, dict(arguments), read_timeout_seconds=patience)
                beside.cancel_scope.cancel()
        finally:
            self._calling = None
        return result

    def _filled(self, sql: str, params: Mapping[str, Any]) -> dict[str, Any]:
        used = set(_placeholders(self._arguments))
        if "sql" not in used and sql.strip():
            raise ReadFailed(f"the tool {self._tool} takes no SQL; leave it out and give parameters")
        if "sql" in used:
            must_read(sql)
            one_statement(sql)
            if (names := names_of(sql)) and "params" not in used:
                raise ReadFailed(f"the tool {self._tool} binds no parameters; write the statement without :{names[0]}")
        values = {**params, "sql": sql, "params": dict(params), "max_rows": self._most_rows}
        if missing := sorted(used - set(values)):
            raise ReadFailed(f"the tool {self._tool} needs the parameter {missing[0]}; give it")
        filled: dict[str, Any] = _fill(self._arguments, values)
        return filled

    def _lost(self, error: BaseException) -> Exception:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if self._over() or isinstance(error, Halted):
            return self._ended()
        if not isinstance(error, Exception) or not isinstance(error, LOST):
            raise error
        said = self._cleaned(str(error)) or type(error).__name__
        is_missing = isinstance(error, FileNotFoundError | PermissionError)
        return ReadFailed(f"its server cannot be reached: {said}", passing=not is_missing)

    def _cleaned(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:LONGEST_SAID]


def over_stdio(command: Sequence[str], environment: Mapping[str, str]) -> Connect:
    """Return what starts `command` and speaks to it over its pipes; of our environment it gets what programs need.

    What it is given is called once the process is there: a start that is broken off leaves one that nobody ends.
    """
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(environment))

    @asynccontextmanager
    async def started(begun: Callable[[], None]) -> AsyncIterator[Any]:
        async with stdio_client(server) as streams:
            begun()
            yield streams

    @asynccontextmanager
    async def connect(begun: Callable[[], None]) -> AsyncIterator[Client]:
        async with _client(started(begun)) as client:
            yield client

    return connect


def over_http(url: str, headers: Mapping[str, str]) -> Connect:
    """Return what speaks to the server at `url` (streamable HTTP)."""

    @asynccontextmanager
    async def connect(begun: Callable[[], None]) -> AsyncIterator[Client]:
        begun()
        timeout = httpx2.Timeout(10.0, read=None)
        http = httpx2.AsyncClient(headers=dict(headers), timeout=timeout, event_hooks={"response": [_refused]})
        async with http, _client(streamable_http_client(url, http_client=http)) as client:
            yield client

    return connect


def _client(transport: Any) -> Client:
    return Client(transport, client_info=Implementation(name="taskqueue-mcp-source", version=__version__), cache=None)


async def _refused(response: httpx2.Response) -> None:
    """Say what HTTP says: the SDK would pass on that there was an error, and no more."""
    if response.status_code in {401, 403}:
        raise PermissionError(f"HTTP {response.status_code}: it does not let us in; check the source's headers")


class _Portions:
    """Rows that are all here, a portion at a time."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._at = 0

    def take(self, size: int) -> list[Row]:
        taken = self._rows[self._at : self._at + size]
        self._at += size
        return taken


def _placeholders(template: Any) -> Iterator[str]:
    if isinstance(template, str) and template.startswith("{") and template.endswith("}"):
        yield template[1:-1]
    elif isinstance(template, dict):
        for value in template.values():
            yield from _placeholders(value)
    elif isinstance(template, list):
        for value in template:
            yield from _placeholders(value)


def _fill(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str) and template.startswith("{") and template.endswith("}"):
        return values[template[1:-1]]
    if isinstance(template, dict):
        return {key: _fill(value, values) for key, value in template.items()}
    return [_fill(value, values) for value in template] if isinstance(template, list) else template


def _text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def _table(result: CallToolResult, tool: str) -> tuple[list[str], list[Row]]:
    """Columns and rows of an answer: in its structured content, in one JSON text, or a row a text."""
    texts = [_parsed(part.text) for part in result.content if isinstance(part, TextContent)]
    whole = texts[0] if len(texts) == 1 else texts
    for told in (result.structured_content, whole):
        found = _rows_in(told)
        if found is not None:
            return found
    raise ReadFailed(f"the tool {tool} answered with no rows: it must give a list of objects, or columns and rows")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _rows_in(told: Any, depth: int = 3) -> tuple[list[str], list[Row]] | None:
    if isinstance(told, str):
        return _rows_in(_parsed(told), depth - 1) if depth else None
    if isinstance(told, list):
        return _records(told)
    if not isinstance(told, dict):
        return None
    columns, rows = told.get("columns"), told.get("rows")
    if isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        names = [str(each.get("name", "")) if isinstance(each, dict) else str(each) for each in columns]
        return (names, rows) if all(len(row) == len(names) for row in rows) else None
    for key in ROWS:
        if key in told and depth and (found := _rows_in(told[key], depth - 1)):
            return found
    return None


def _records(told: list[Any]) -> tuple[list[str], list[Row]] | None:
    if not all(isinstance(record, dict) for record in told):
        return None
    names = list(dict.fromkeys(str(name) for record in told for name in record))
    return names, [[record.get(name) for name in names] for record in told]
