"""Builds everything by hand from the settings; the only file that knows everyone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import ipaddress
import logging
import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from taskqueue_mcp import __version__
from taskqueue_mcp.app.catalogue import Catalogue
from taskqueue_mcp.auth import Auth, fixed_token, local_person
from taskqueue_mcp.budgets import ONE, UNITS, Budgets, Unit
from taskqueue_mcp.errors import NotFound, SettingsRefused, TaskQueueError
from taskqueue_mcp.model import Kind, Scope
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.scheduler import Scheduler
from taskqueue_mcp.settings import state_folder
from taskqueue_mcp.store import open_database
from taskqueue_mcp.store.opening import is_postgres, shown, sqlite_file
from taskqueue_mcp.taskqueue import Limits, Rules, TaskQueue
from taskqueue_mcp.taskqueue.rules import EXECUTOR_OF_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from taskqueue_mcp.settings import Settings
    from taskqueue_mcp.store import Database


WORKER_NAME = "worker-local"
WORKER_GRACE = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a worker that died is started again."""
HEALTHY_SECONDS = 60.0
"""One that ran for so long had been well: the pauses begin anew."""
READY_SECONDS = 0.8
"""A probe commonly waits for a second."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class App:
    """An open queue and who may use it."""

    settings: Settings
    database: Database
    queue: TaskQueue
    auth: Auth


def build(settings: Settings) -> App:
    """Open the database and build the queue over it.

    Raises:
        DatabaseRefused, SettingsRefused, Busy: nothing was changed.
    """
    fixed = fixed_token(settings.token) if settings.token else None
    database = open_database(settings.database)
    return App(settings, database, TaskQueue(database, rules_of(settings)), Auth(database, fixed))


def rules_of(settings: Settings) -> Rules:
    """Return the rules that the settings ask for."""
    return Rules(
        procedures=ProcedureFolder(settings.sops) if settings.sops.is_dir() else None,
        outputs=OutputFolder(output_of(settings)),
        checks={name: tuple(command) for name, command in settings.worker.checks.items()},
        limits=Limits(**settings.limits.model_dump()),
        backoff=Backoff(settings.retry_seconds, settings.longest_retry_seconds),
        budgets=budgets_of(settings),
        zone=settings.zone,
        executors=Catalogue(),
        executor_of_type={**EXECUTOR_OF_TYPE, **settings.executor_of_type},
        open_executors=frozenset(settings.open_executors),
        sensitive=frozenset(settings.approvals.always),
        sensitive_from_strangers=frozenset(settings.approvals.from_strangers),
        lease_seconds=settings.lease_seconds,
        unclaimed_seconds=settings.unclaimed_seconds,
        keep_finished_days=settings.keep_finished_days,
        keep_history_days=settings.keep_history_days,
        keep_logs_days=settings.keep_logs_days,
    )


def output_of(settings: Settings) -> Path:
    """Return the folder that holds the files of attempts on this machine: the server's and its worker's are one."""
    return (settings.output or settings.worker.output or Path("output")).absolute()


def budgets_of(settings: Settings) -> Budgets:
    """Return the ceilings of the settings; what is 0 there has none."""
    found = settings.budgets
    queues: dict[str, dict[Unit, int]] = {}
    for unit in UNITS:
        for name, amount in getattr(found, f"queue_{unit}").items():
            if amount:
                queues.setdefault(name, {})[unit] = round(amount * ONE)

    def ceilings(scope: str) -> dict[Unit, int]:
        amounts = {unit: getattr(found, f"{scope}_{unit}") for unit in UNITS}
        return {unit: round(amount * ONE) for unit, amount in amounts.items() if amount}

    return Budgets(frozenset(found.executors), ceilings("task"), ceilings("day"), queues)


@contextlib.asynccontextmanager
async def opened(settings: Settings, *, ticking: bool = False) -> AsyncIterator[App]:
    """Open the queue for the length of a command or a server; with `ticking`, time passes meanwhile."""
    app = build(settings)
    try:
        app.queue.waiters.attach(app.database)
        ticker = asyncio.create_task(Scheduler(app.queue).run()) if ticking else None
        try:
            yield app
        finally:
            if ticker is not None:
                ticker.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticker
    finally:
        app.queue.stop_looking()
        app.queue.waiters.detach()
        await app.database.close()


def serve(settings: Settings, *, with_worker: bool = False, scheduler: bool = True) -> int:
    """Serve MCP over HTTP until SIGTERM or SIGINT; return the exit code.

    Raises:
        TaskQueueError: the address, the database or the tokens do not allow it.
    """
    from taskqueue_mcp.surfaces.mcp import stdio  # noqa: PLC0415 - other commands start without the SDK

    _log_to_stderr()
    stdio.run(partial(_serve, settings, with_worker=with_worker, scheduler=scheduler))
    return 0


async def _serve(settings: Settings, *, with_worker: bool, scheduler: bool) -> None:
    from taskqueue_mcp.surfaces import access, artifacts, asgi  # noqa: PLC0415 - other commands start without them
    from taskqueue_mcp.surfaces.mcp import server as mcp_server  # noqa: PLC0415 - the same

    async with opened(settings, ticking=scheduler) as app:
        await _check_exposure(app)
        token_file = await _first_token(app)
        built = mcp_server.build(app.queue, lambda _: access.caller())
        stop_updates = app.database.listen(built.updates.hear)
        web = asgi.build_app(
            built.server,
            authenticate=app.auth.authenticate,
            calls=built.calls,
            hosts=settings.allowed_hosts,
            origins=settings.allowed_origins,
            ready=partial(_ready, app),
            routes=artifacts.routes(app.queue),
            body_limits={artifacts.PATH: settings.largest_upload},
        )
        helper = LocalWorker(app) if with_worker else None

        def stop() -> None:
            app.queue.stop_looking()
            app.queue.waiters.stop()
            built.listen.close()

        def listening(port: int) -> None:
            url = f"http://{_shown(settings.host)}:{port}/mcp"
            _say(f"taskqueue-mcp {__version__} serves {url} (database {shown(settings.database)})")
            if token_file is not None:
                _say(f"the token for it is in {token_file}")
            if helper is not None:
                helper.start(url)

        gc.freeze()  # what is loaded now stays: no call waits for a look through it
        try:
            await asgi.serve_http(
                web, settings.host, settings.port, on_stop=stop, ready_callback=listening,
                before_stop=None if helper is None else helper.stop,
            )  # fmt: skip
        finally:
            stop_updates()
            if helper is not None:
                await helper.stop()


def run_stdio(
    settings: Settings, *, name: str | None, scopes: frozenset[Scope], executors: frozenset[str] = frozenset(),
    kind: Kind = Kind.AGENT,
) -> int:  # fmt: skip
    """Serve MCP to the one client at stdin and stdout until it leaves; return the exit code."""
    from taskqueue_mcp.surfaces.mcp import stdio  # noqa: PLC0415 - other commands start without the SDK

    _log_to_stderr()
    stdio.run(partial(_stdio, settings, name, scopes, executors, kind))
    return 0


async def _stdio(
    settings: Settings, name: str | None, scopes: frozenset[Scope], executors: frozenset[str], kind: Kind
) -> None:
    from taskqueue_mcp.surfaces.mcp import server as mcp_server  # noqa: PLC0415 - other commands start without it
    from taskqueue_mcp.surfaces.mcp import stdio  # noqa: PLC0415 - the same

    async with opened(settings, ticking=True) as app:
        built = mcp_server.build(app.queue, mcp_server.stdio_caller(name, scopes, executors, kind))
        stop_updates = app.database.listen(built.updates.hear)
        try:

            def stop() -> None:
                app.queue.waiters.stop()
                built.listen.close()

            gc.freeze()
            gc.enable()  # the command had stopped it
            await stdio.serve_stdio(built.server, calls=built.calls, on_stop=stop)
        finally:
            stop_updates()


async def _ready(app: App) -> dict[str, object]:
    return {"database": await _answers(app), "taking calls": not app.queue.waiters.stopping}


async def _answers(app: App) -> bool:
    """Whether the database answers, sooner than whoever probes gives up."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await app.queue.now() > 0
    except (TaskQueueError, TimeoutError):
        return False


async def _check_exposure(app: App) -> None:
    """Refuse to be reachable from other machines before there is a token that somebody chose."""
    if _is_loopback(app.settings.host) or await app.auth.any_token():
        return
    raise SettingsRefused(
        f"--host {app.settings.host} is reachable from other machines and no token is configured; make one first "
        "(taskqueue-mcp tokens create --name NAME --scope enqueue) or set TASKQUEUE_TOKEN"
    )


async def _first_token(app: App) -> Path | None:
    """Make the owner's token at the first start; return the file that holds it, if there is one."""
    file = _token_file(app.settings.database)
    if not await app.auth.any_token():
        owner = local_person()
        made = await app.auth.create(owner, owner.name, owner.scopes, kind=Kind.PERSON)
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
            written.write(made.secret + "\n")
    return file if file.exists() else None


def _token_file(url: str) -> Path:
    """Return where the owner's token is kept: beside the file, or for PostgreSQL in the user's state folder."""
    if not is_postgres(url):
        database, _ = sqlite_file(url)
        return database.with_name(database.name + "-token")
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(shown(url).encode()).hexdigest()[:16]}-token"


class LocalWorker:
    """A worker beside the server, in a process of its own: it is started again when it dies."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    def start(self, url: str) -> None:
        """Start it against the server at `url`."""
        self._task = asyncio.get_running_loop().create_task(self._keep_alive(url))

    async def stop(self) -> None:
        """Let it hand back what it holds, while the server still answers."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(WORKER_GRACE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _keep_alive(self, url: str) -> None:
        pause = FIRST_PAUSE
        token = await self._token()
        while True:
            began = asyncio.get_running_loop().time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "taskqueue_mcp", "worker", "--server", url, "--drain-seconds", "0",
                env={**os.environ, "TASKQUEUE_TOKEN": token}, stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            code = await self._process.wait()
            if asyncio.get_running_loop().time() - began > HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            log.warning("the worker ended with code %s and is started again in %.0f s", code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _token(self) -> str:
        """Make a token for this run of the worker; the one of the last run is revoked."""
        auth, owner = self._app.auth, local_person()
        with contextlib.suppress(NotFound):
            await auth.revoke(owner, WORKER_NAME)
        made = await auth.create(owner, WORKER_NAME, frozenset({Scope.WORK}), kind=Kind.SERVICE)
        return made.secret


def run_worker(
    settings: Settings, *, server: str | None, token: str | None, queues: tuple[str, ...], types: tuple[str, ...],
    executors: tuple[str, ...], concurrency: int | None, once: bool, name: str | None, drain_seconds: float,
) -> int:  # fmt: skip
    """Work for the server at `server`, or for the database of the settings through a stdio server of our own."""
    from taskqueue_mcp import worker  # noqa: PLC0415 - other commands start without the SDK
    from taskqueue_mcp.app.executors import check_names, registry_of  # noqa: PLC0415 - only workers need executors

    means = settings.worker
    called = name or f"{socket.gethostname()}-{os.getpid()}"
    options = worker.Options(
        name=called,
        outputs=OutputFolder((means.output or output_of(settings)).absolute()),
        queues=queues,
        types=types,
        concurrency=concurrency or means.concurrency,
        concurrency_of=means.concurrency_of,
        stand_ins=means.stand_ins,
        patience=means.stand_in_after_seconds,
        checks=means.checks,
        uploads=worker.Uploads(server, token or "") if server else None,
        once=once,
        lease_seconds=settings.lease_seconds,
        drain_seconds=drain_seconds,
    )
    check_names({*means.concurrency_of, *means.stand_ins, *means.stand_ins.values()})
    registry = registry_of(settings, executors or tuple(means.executors))
    if server:
        connect = worker.over_wire(server, token or "")
    else:  # the URL may hold a password, and other users can read arguments
        own = {"TASKQUEUE_DATABASE": settings.database, "TASKQUEUE_OUTPUT": str(options.outputs.root)}
        connect = worker.over_stdio(_own_stdio(called), **own)
    _log_to_stderr()
    with asyncio.Runner(loop_factory=_quick_loop()) as runner:
        return runner.run(worker.run_worker(connect, registry, options))


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where that is installed; None means asyncio's own."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - Windows is without it
    except ImportError:
        return None
    return new_event_loop


def _own_stdio(name: str) -> list[str]:
    """Return the command of a stdio server for this worker alone."""
    return [sys.executable, "-m", "taskqueue_mcp", "stdio", "--as", name, "--scope", "work", "--kind", "service"]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _log_to_stderr() -> None:
    """Keep stdout for the protocol; set up before the SDK would do it in its own way."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("uvicorn", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
