"""`serve`, `stdio`, `worker`, `demo`: options in, and over to `app`."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from taskqueue_mcp.cli.reaching import DATABASE, SERVER, TOKEN, Reach, here

FOLDER = click.Path(path_type=Path, file_okay=False)
PAIR = "NAME=PATH or NAME=URL"


@click.command()
@click.option("--host", help="Address to listen on; 127.0.0.1 unless given.")
@click.option("--port", type=click.IntRange(0, 65_535), help="8080 unless given; 0 takes a free one.")
@click.option("--with-worker", is_flag=True, help="Keep a worker running beside the server.")
@click.option("--no-scheduler", is_flag=True, help="Leave the ticking to another process.")
@DATABASE
def serve(*, host: str | None, port: int | None, with_worker: bool, no_scheduler: bool) -> int:
    """Serve the queue over HTTP: MCP at /mcp, with the scheduler."""
    from taskqueue_mcp import app  # noqa: PLC0415 - help does without
    from taskqueue_mcp.settings import load_settings  # noqa: PLC0415 - help does without

    settings = load_settings(database=here().database, host=host, port=port)
    return app.serve(settings, with_worker=with_worker, scheduler=not no_scheduler)


@click.command()
@click.option("--as", "name", metavar="NAME", help="Principal to speak for; the client's own name unless given.")
@click.option("--scope", multiple=True, help="enqueue, work, answer, admin, exec:NAME; enqueue and work unless given.")
@click.option(
    "--kind", type=click.Choice(["agent", "service"]), default="agent", help="A service is a program of yours."
)
@DATABASE
def stdio(*, name: str | None, scope: tuple[str, ...], kind: str) -> int:
    """Serve the queue to one MCP client over stdin and stdout."""
    gc.disable()  # a client waits: what is imported now stays, and looking through it took a tenth of the start
    from taskqueue_mcp import app  # noqa: PLC0415 - help does without
    from taskqueue_mcp.auth import read_scopes  # noqa: PLC0415 - help does without
    from taskqueue_mcp.model import Kind  # noqa: PLC0415 - help does without

    scopes, executors = read_scopes(scope or ("enqueue", "work"))
    return app.run_stdio(here().settings(), name=name, scopes=scopes, executors=executors, kind=Kind(kind))


@click.command()
@click.option("--queue", "queues", multiple=True, help="Take tasks of this queue only; may be given more than once.")
@click.option("--type", "types", multiple=True, help="Take tasks of this type only.")
@click.option(
    "--executor", "executors", multiple=True, metavar="NAME[=N]", help="Have this executor only, N tasks of it at once."
)
@click.option("--concurrency", type=click.IntRange(1, 64), help="Tasks at once.")
@click.option("--once", is_flag=True, help="End when nothing is ready any more.")
@click.option("--name", help="Name of this worker, always the same.")
@click.option("--output", type=FOLDER, help="Folder that results are written to.")
@click.option("--source", multiple=True, metavar=PAIR, help="A database that may be read.")
@click.option("--calculations", type=FOLDER, help="Folder of Python scripts that calculation tasks may run.")
@click.option("--allow", multiple=True, metavar="COMMAND", help="A command that shell tasks may run.")
@click.option(
    "--drain-seconds", type=click.FloatRange(0), default=10.0, show_default=True, help="For work to end after SIGTERM."
)
@DATABASE
@SERVER
@TOKEN
def worker(
    *, queues: tuple[str, ...], types: tuple[str, ...], executors: tuple[str, ...], concurrency: int | None,
    once: bool, name: str | None, output: Path | None, source: tuple[str, ...], calculations: Path | None,
    allow: tuple[str, ...],
    drain_seconds: float,
) -> int:  # fmt: skip
    """Claim tasks, carry them out, report what came of it. SIGTERM hands back what is unfinished, at no cost."""
    from taskqueue_mcp import app  # noqa: PLC0415 - help does without
    from taskqueue_mcp.settings import load_settings  # noqa: PLC0415 - help does without

    reach = Reach.given()
    given: dict[str, Any] = {
        "output": None if output is None else output.expanduser().absolute(),
        "sources": _sources(source),
        "calculations": None if calculations is None else calculations.expanduser().absolute(),
        "shell_allow": list(allow),
        "executors": [each.partition("=")[0] for each in executors],
        "concurrency": concurrency,
        "concurrency_of": _bounds(executors),
    }
    own = {key: value for key, value in given.items() if value}
    settings = load_settings(database=reach.database, token=reach.token, worker=own or None)
    return app.run_worker(
        settings,
        server=reach.server,
        token=None if reach.server is None else settings.token,
        queues=queues,
        types=types,
        executors=tuple(settings.worker.executors),
        concurrency=settings.worker.concurrency,
        once=once,
        name=name,
        drain_seconds=drain_seconds,
    )


@click.command()
@click.option("--output", type=FOLDER, help="Folder to put the report into.")
@click.option("--keep", is_flag=True, help="Leave the server running at the end.")
def demo(*, output: Path | None, keep: bool) -> int:
    """Show the whole loop on sample data: enqueue, claim, work, result. No account is needed."""
    from taskqueue_mcp.cli.demo import run  # noqa: PLC0415 - help does without

    return run(output=output, keep=keep)


def _bounds(executors: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for name, separator, most in (each.partition("=") for each in executors):
        if separator and not (most.isascii() and most.isdecimal()):
            raise click.BadParameter(f"'{name}={most}' is not NAME or NAME=N", param_hint="--executor")
        if separator:
            found[name] = int(most)
    return found


def _sources(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise click.BadParameter(f"{pair!r} is not {PAIR}", param_hint="--source")
        found[name] = path if "://" in path else str(Path(path).expanduser().absolute())
    return found
