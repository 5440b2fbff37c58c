"""Our real HTTP application with the conformance suite's fixtures on it: `python -m tests.conformance_server --port N`.

The fixtures are loaded onto the very server object that users get, so that our tools, middleware, access control and
transport settings are what is tested; the suite knows no tokens, so a wrapper adds one to each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mcp import MCPError
from mcp.server.mcpserver import Context, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingCapability,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from taskqueue_mcp.app import build
from taskqueue_mcp.settings import load_settings
from taskqueue_mcp.surfaces import access, asgi
from taskqueue_mcp.surfaces.mcp import server as mcp_server

if TYPE_CHECKING:
    from mcp.server import MCPServer

TOKEN = "conformance-suite-token"  # noqa: S105 - it opens a server that lives for one test run
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
Ctx = Context[Any, Any]
Asked = InputRequiredResult | CallToolResult


class AddToken:
    """Adds the token that the suite does not know."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {TOKEN}".encode())]}
        await self._app(scope, receive, send)


class Person(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def result(*blocks: Any) -> CallToolResult:
    return CallToolResult(content=list(blocks))


def form(message: str, **properties: Any) -> ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(words: str, tokens: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=text(words))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


NAME = {"user_name": form("What is your name?", name={"type": "string"})}


def add_contents(server: MCPServer[Any]) -> None:
    embedded = EmbeddedResource(
        type="resource",
        resource=TextResourceContents(
            uri="test://embedded-resource", mime_type="text/plain", text="This is an embedded resource content."
        ),
    )
    mixed = EmbeddedResource(
        type="resource",
        resource=TextResourceContents(
            uri="test://mixed-content-resource", mime_type="application/json", text='{"test":"data","value":123}'
        ),
    )
    picture = ImageContent(type="image", data=PNG, mime_type="image/png")
    answers = {
        "test_simple_text": result(text("This is a simple text response for testing.")),
        "test_image_content": result(picture),
        "test_audio_content": result(AudioContent(type="audio", data=WAV, mime_type="audio/wav")),
        "test_embedded_resource": result(embedded),
        "test_multiple_content_types": result(text("Multiple content types test:"), picture, mixed),
    }
    for name, answer in answers.items():

        async def fixture(answer: CallToolResult = answer) -> CallToolResult:
            return answer

        server.add_tool(_without_arguments(fixture), name=name)


def _without_arguments(fixture: Any) -> Any:
    async def called() -> CallToolResult:
        answer: CallToolResult = await fixture()
        return answer

    return called


def add_behaviours(server: MCPServer[Any]) -> None:
    @server.tool()
    async def test_error_handling() -> CallToolResult:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    async def test_tool_with_progress(ctx: Ctx) -> CallToolResult:
        for percent in (0, 50, 100):
            await ctx.report_progress(percent, 100)
        return result(text("done"))

    async def log(ctx: Ctx, *lines: str) -> CallToolResult:
        for line in lines:
            await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
        return result(text("logged"))

    @server.tool()
    async def test_tool_with_logging(ctx: Ctx) -> CallToolResult:
        return await log(ctx, "Tool execution started", "Tool processing data", "Tool execution completed")

    @server.tool()
    async def test_logging_tool(ctx: Ctx) -> CallToolResult:
        return await log(ctx, "log one")

    @server.tool()
    async def test_sampling(prompt: str, ctx: Ctx) -> CallToolResult:
        message = SamplingMessage(role="user", content=text(prompt))
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return result(text(f"LLM response: {answer.content}"))

    @server.tool()
    async def test_elicitation(message: str, ctx: Ctx) -> CallToolResult:
        answer = await ctx.elicit(message, Person)
        return result(text(f"User response: action={answer.action}"))


def add_protocol(server: MCPServer[Any]) -> None:
    @server.tool()
    async def test_header_tool(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "eu",
    ) -> CallToolResult:
        return result(text(region))

    @server.tool()
    async def test_missing_capability(ctx: Ctx) -> CallToolResult:
        if not ctx.session.check_client_capability(ClientCapabilities(sampling=SamplingCapability())):
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling required", {"requiredCapabilities": {"sampling": {}}}
            )
        return result(text("ok"))

    @server.tool()
    async def test_trigger_tool_change(ctx: Ctx) -> CallToolResult:
        await ctx.notify_tools_changed()
        return result(text("ok"))

    @server.tool()
    async def test_trigger_prompt_change(ctx: Ctx) -> CallToolResult:
        await ctx.notify_prompts_changed()
        return result(text("ok"))

    @server.tool()
    async def test_reconnection(ctx: Ctx) -> CallToolResult:
        await ctx.close_sse_stream()
        return result(text("reconnected"))


def add_questions(server: MCPServer[Any]) -> None:
    def asks(name: str, requests: Any, state: str | None = None, done: str = "done") -> None:
        async def fixture(ctx: Ctx) -> Asked:
            wanted = requests(ctx) if callable(requests) else requests
            given = ctx.input_responses or {}
            if any(key not in given for key in wanted):
                return InputRequiredResult(input_requests=wanted, request_state=state)
            return result(text(done))

        server.add_tool(fixture, name=name)

    async def named(ctx: Ctx) -> Asked:
        answer = (ctx.input_responses or {}).get("user_name")
        content = getattr(answer, "content", None)
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            return InputRequiredResult(input_requests=NAME)
        return result(text(f"Hello, {content['name']}!"))

    def capable(ctx: Ctx) -> dict[str, Any]:
        can = ctx.client_capabilities and ctx.client_capabilities.elicitation
        return {**(NAME if can else {}), "q": sample("hi")}

    async def several(ctx: Ctx) -> Asked:
        if ctx.request_state is None:
            first = form("Step 1: What is your name?", name={"type": "string"})
            return InputRequiredResult(input_requests={"step1": first}, request_state="1")
        if "step2" not in (ctx.input_responses or {}):
            second = form("Step 2: What is your favorite color?", color={"type": "string"})
            return InputRequiredResult(input_requests={"step2": second}, request_state="2")
        return result(text("done"))

    confirm = {"confirm": form("Please confirm", ok={"type": "boolean"})}
    server.add_tool(named, name="test_input_required_result_elicitation")
    server.add_tool(several, name="test_input_required_result_multi_round")
    prefix = "test_input_required_result_"
    asks(prefix + "sampling", {"capital_question": sample("What is the capital of France?")})
    asks(prefix + "list_roots", {"client_roots": ListRootsRequest()})
    asks(prefix + "request_state", confirm, "s1", "state-ok")
    asks(prefix + "tampered_state", confirm, "s1")
    asks(
        prefix + "multiple_inputs",
        {**NAME, "greeting": sample("Generate a greeting", 50), "client_roots": ListRootsRequest()},
        "s1",
    )
    asks(prefix + "capabilities", capable)
    asks("test_streaming_elicitation", NAME)
    _add_question_prompt(server)
    _add_raw_elicitations(server)


def _add_question_prompt(server: MCPServer[Any]) -> None:
    @server.prompt()
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        """A prompt that asks back."""
        answer = (ctx.input_responses or {}).get("user_context")
        if answer is None:
            return InputRequiredResult(input_requests={"user_context": form("Context?", context={"type": "string"})})
        return UserMessage(f"Context: {getattr(answer, 'content', None)}")


def _add_raw_elicitations(server: MCPServer[Any]) -> None:
    schemas: dict[str, dict[str, Any]] = {
        "test_elicitation_sep1034_defaults": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
        },
        "test_elicitation_sep1330_enums": {"untitledSingle": {"type": "string", "enum": ["option1", "option2"]}},
    }
    for name, properties in schemas.items():

        async def fixture(ctx: Ctx) -> CallToolResult:
            schema = {"type": "object", "required": [], "properties": properties}  # noqa: B023 - refused either way
            answer = await ctx.session.elicit_form("Please fill in", schema, related_request_id=ctx.request_id)
            return result(text(f"Elicitation completed: {answer.action}"))

        server.add_tool(fixture, name=name)


def add_schema(server: MCPServer[Any]) -> None:
    async def called(name: str = "", address: Any = None, contactMethod: str = "") -> CallToolResult:  # noqa: ARG001, N803 - the suite's names
        return result(text("ok"))

    tool = Tool.from_function(
        called, name="json_schema_2020_12_tool", description="Tool with JSON Schema 2020-12 features"
    )
    place = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
    tool.parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", **place}},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
    server._tool_manager._tools[tool.name] = tool


def add_readings(server: MCPServer[Any]) -> None:
    @server.prompt()
    async def test_simple_prompt() -> str:
        """A plain prompt."""
        return "This is a simple prompt for testing."

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        """A prompt with a resource in it."""
        contents = TextResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        embedded = EmbeddedResource(type="resource", resource=contents)
        return [UserMessage(embedded), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image in it."""
        picture = ImageContent(type="image", data=PNG, mime_type="image/png")
        return [UserMessage(picture), UserMessage("Please analyze the image above.")]

    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """Some text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """Some bytes."""
        return b"\x89PNG\r\n"

    @server.resource("test://watched-resource", mime_type="text/plain")
    async def watched() -> str:
        """Something that may change."""
        return "watched"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def templated(id: str) -> str:  # noqa: A002 - the suite's name
        """Something with a name."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.completion()  # type: ignore[untyped-decorator, no-untyped-call]  # the SDK leaves it untyped
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:  # noqa: ARG001 - the SDK's signature
        return Completion(values=["paris", "park"], total=2, has_more=False)


def add_legacy_verbs(server: MCPServer[Any]) -> None:
    async def nothing(ctx: Any, params: Any) -> EmptyResult:  # noqa: ARG001 - the SDK's signature
        return EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, nothing)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, nothing)
    low.add_request_handler("resources/unsubscribe", SubscribeRequestParams, nothing)


async def main(port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(database=f"sqlite:///{Path(folder) / 'queue.db'}", token=TOKEN)
        app = build(settings)
        built = mcp_server.build(app.queue, lambda _: access.caller())
        for add in (
            add_contents,
            add_behaviours,
            add_protocol,
            add_questions,
            add_schema,
            add_readings,
            add_legacy_verbs,
        ):
            add(built.server)
        for tool in built.server._tool_manager.list_tools():
            tool.description = tool.description or f"Fixture {tool.name}."
        stop_updates = app.database.listen(built.updates.hear)
        web = asgi.build_app(built.server, authenticate=app.auth.authenticate, calls=built.calls)
        try:
            await asgi.serve_http(AddToken(web), "127.0.0.1", port, on_stop=built.listen.close)
        finally:
            stop_updates()
            await app.database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(main(parser.parse_args().port))
