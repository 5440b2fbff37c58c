"""How a command reaches the queue: the options that say where it is, and the decorators that open it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskqueue_mcp.cli.output import Out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from taskqueue_mcp.cli.door import Door
    from taskqueue_mcp.settings import Settings

C = TypeVar("C", bound="Callable[..., Any] | click.Command")
Code = int | None
"""What a command returns: its exit code, None for 0."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What was said about where the queue is; None where nothing was."""

    database: str | None
    server: str | None
    token: str | None
    format: str

    @classmethod
    def given(cls) -> Reach:
        """Return what the options say; the one nearest to the command wins.

        Raises:
            click.UsageError: they contradict each other.
        """
        found = click.get_current_context().meta.get(__name__, {})
        reach = cls(
            found.get("database"), found.get("server"), found.get("token"), found.get("output_format") or "table"
        )
        if reach.database is not None and reach.server is not None:
            raise click.UsageError("give --database or --server, not both")
        if reach.token is not None and reach.server is None:
            raise click.UsageError("--token goes with --server; a database needs none")
        return reach

    def settings(self) -> Settings:
        """Return the settings, with what the options say.

        Raises:
            SettingsRefused: they are wrong.
        """
        from taskqueue_mcp.settings import load_settings  # noqa: PLC0415 - help does without

        return load_settings(database=self.database, token=self.token)


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        ctx.meta[__name__] = {**ctx.meta.get(__name__, {}), param.name: value}


def _option(*declarations: str, **settings: Any) -> Callable[[C], C]:
    return click.option(*declarations, expose_value=False, callback=_keep, **settings)


DATABASE = _option("--database", metavar="URL", help="Database, sqlite:///PATH (or TASKQUEUE_DATABASE).")
SERVER = _option("--server", metavar="URL", help="Running server, such as http://127.0.0.1:8080.")
TOKEN = _option("--token", help="Token for --server (or TASKQUEUE_TOKEN).")
FORMAT = _option(
    "--format", "output_format", type=click.Choice(["table", "json"]), help="Tables for people (default) or JSON."
)


def reaching(command: C) -> C:
    """Add the options that every command takes, before or after its name."""
    return _placed(FORMAT(command))


def _placed(command: C) -> C:
    for option in (TOKEN, SERVER, DATABASE):
        command = option(command)
    return command


def talking(work: Callable[..., Awaitable[Code]]) -> Callable[..., Code]:
    """Run `work(door, out, …)` with a door to the queue: its database, or a server."""
    return reaching(_talking(work))


def downloading(work: Callable[..., Awaitable[Code]]) -> Callable[..., Code]:
    """The same as `talking`, for a command whose own `--format` is that of a file."""
    return _placed(_talking(work))


def _talking(work: Callable[..., Awaitable[Code]]) -> Callable[..., Code]:
    @functools.wraps(work)
    def run(**params: Any) -> Code:
        async def talk() -> Code:
            async with _door(reach, settings) as door:
                return await work(door, Out(reach.format, settings.zone), **params)

        reach = Reach.given()
        settings = reach.settings()
        return asyncio.run(talk())

    return run


@contextlib.asynccontextmanager
async def _door(reach: Reach, settings: Settings) -> AsyncIterator[Door]:
    if reach.server is None:
        from taskqueue_mcp import app  # noqa: PLC0415 - a server's client does without
        from taskqueue_mcp.cli.direct import Direct  # noqa: PLC0415 - a server's client does without

        async with app.opened(settings) as opened:
            yield Direct(opened.queue)
        return
    from taskqueue_mcp.cli import remote  # noqa: PLC0415 - the MCP client takes half a second to import

    async with remote.opened(reach.server, settings.token) as door:
        yield door


def owning(work: Callable[..., Awaitable[Code]]) -> Callable[..., Code]:
    """Run `work(app, out, …)` on the database itself; no tool of a server covers what it does."""

    @reaching
    @functools.wraps(work)
    def run(**params: Any) -> Code:
        from taskqueue_mcp import app  # noqa: PLC0415 - help does without

        async def own() -> Code:
            async with app.opened(settings) as opened:
                return await work(opened, Out(reach.format, settings.zone), **params)

        reach = here()
        settings = reach.settings()
        return asyncio.run(own())

    return run


def local(work: Callable[..., Code]) -> Callable[..., Code]:
    """Run `work(settings, out, …)` on this machine's files, without opening the database."""

    @reaching
    @functools.wraps(work)
    def run(**params: Any) -> Code:
        reach = here()
        settings = reach.settings()
        return work(settings, Out(reach.format, settings.zone), **params)

    return run


def here() -> Reach:
    """Return what the options say, for a command that no server can do.

    Raises:
        click.UsageError: a server was named.
    """
    reach = Reach.given()
    if reach.server is not None:
        raise click.UsageError("no server does this from afar; run it beside the database with --database")
    return reach
