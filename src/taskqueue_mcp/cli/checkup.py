"""What `doctor` looks at. Each check returns what it found and, where it is not well, what to do."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import stat
import sys
from typing import TYPE_CHECKING, get_origin

from pydantic import BaseModel

from taskqueue_mcp import app
from taskqueue_mcp.app.executors import registry_of
from taskqueue_mcp.auth import fixed_token, local_person
from taskqueue_mcp.cli import checkup_money
from taskqueue_mcp.cli.finding import Finding
from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.settings import Settings, config_file
from taskqueue_mcp.store import startup
from taskqueue_mcp.store.opening import examine, is_postgres, shown, sqlite_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskqueue_mcp.app import App
    from taskqueue_mcp.settings.worker import WorkerSettings

PLENTY = 1024 * 1024 * 1024
SOON = 7 * 86_400 * 1_000_000
DURABLE = {2: "full", 3: "extra"}
SYNCHRONOUS = {0: "off", 1: "normal", **DURABLE}
FROM_ELSEWHERE = {
    "DATABASE_URL": "set TASKQUEUE_DATABASE=sqlite:////PATH/queue.db",
    "REDIS_URL": "leave it out: the queue needs nothing beside its database",
    "CLAUDE_CLI_PATH": "set TASKQUEUE_WORKER__CLAUDE__CLI_PATH",
    "MAX_CONCURRENT_TASKS": "set TASKQUEUE_WORKER__CONCURRENCY",
    "TASK_MAX_CONCURRENT": "set TASKQUEUE_WORKER__CONCURRENCY",
    "TASK_TIMEOUT": "give timeout_seconds in the procedure, or with `tasks create --option timeout_seconds=300`",
    "TASK_TIMEOUT_MS": "give timeout_seconds in the procedure, or with `tasks create --option timeout_seconds=300`",
    "TASK_RETRY_ATTEMPTS": "set TASKQUEUE_LIMITS__MAX_ATTEMPTS",
    "MCP_SERVER": "give --server to the worker and to commands",
    "MCP_SERVER_URL": "give --server to the worker and to commands",
    "POLL_INTERVAL": "leave it out: a claim waits for work and returns when it comes",
    "DASHBOARD_EXECUTOR_AUTORUN": "run `taskqueue-mcp serve --with-worker`",
    "DASHBOARD_EXECUTOR_INTERVAL": "leave it out: a claim waits for work and returns when it comes",
}
"""Names that the plans before this program used, and what does their work here."""
NO_SETTINGS = {"TASKQUEUE_CONFIG", "TASKQUEUE_STDIO", "TASKQUEUE_CI"}


def python() -> Finding:
    """Say which Python this is."""
    found = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}"
    return Finding("python", "ok", found)


def sqlite() -> Finding:
    """Say whether the SQLite library can be trusted with two writers."""
    try:
        startup.check_library()
    except TaskQueueError as error:
        return Finding("sqlite", "fail", str(error))
    return Finding("sqlite", "ok", f"{'.'.join(map(str, startup.SAFE_SQLITE))} or newer")


def settings(found: Settings) -> Finding:
    """Say where the settings come from."""
    file = config_file()
    try:
        fixed_token(found.token or secrets.token_hex())
    except TaskQueueError as error:
        return Finding("settings", "fail", str(error), "choose another token")
    if not file.is_file():
        return Finding("settings", "ok", f"from the environment and defaults; zone {found.zone}")
    if found.token is not None and sys.platform != "win32" and file.stat().st_mode & 0o077:
        return Finding("settings", "warn", f"{file} can be read by other users", f"run: chmod 600 {file}")
    return Finding("settings", "ok", f"{file} and the environment; zone {found.zone}")


def environment() -> Iterator[Finding]:
    """Find variables that mean something elsewhere, and misspelt ones of ours."""
    for name, do in FROM_ELSEWHERE.items():
        if name in os.environ:
            yield Finding("environment", "warn", f"{name} is set and not read here", do)
    variables = dict(_variables(Settings, "TASKQUEUE_"))
    known = NO_SETTINGS | set(variables)
    open_ended = tuple(f"{name}__" for name, takes_names in variables.items() if takes_names)
    for name in sorted(os.environ):
        if name.startswith("TASKQUEUE_") and name not in known and not name.startswith(open_ended):
            yield Finding("environment", "warn", f"{name} is no setting", "see docs/settings.md for their names")


def _variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield the variable of each setting, and whether names of the owner's own may follow it."""
    for field, about in model.model_fields.items():
        name, kind = f"{prefix}{field.upper()}", about.annotation
        yield name, get_origin(kind) is dict
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _variables(kind, f"{name}__")


def approvals(found: Settings) -> Finding:
    """Say what everybody with a token may have done, and what waits for a person."""
    bold = sorted({"shell", "mail"} & set(found.open_executors))
    if bold:
        text = f"whoever may create tasks may create those of {', '.join(bold)}"
        return Finding("approvals", "warn", text, "take it off open_executors, and give exec:NAME to whom it is for")
    asked = ", ".join(found.approvals.always) or "nothing"
    return Finding("approvals", "ok", f"{asked} waits for a person; open to all: {', '.join(found.open_executors)}")


async def database(found: Settings) -> list[Finding]:
    """Open the database if there is one, as a server would, and read back what it promises."""
    try:
        if is_postgres(found.database):
            return await _postgres(found)
        path, _ = sqlite_file(found.database)
        startup.check_place(path)
        if not path.exists():
            return [*_missing(path), *_disk(path)]
        async with app.opened(found) as opened:
            promises = [*await _promises(opened), *_rights(path), *_disk(path)]
            return [*promises, *await _tokens(opened), *await checkup_money.spent(opened)]
    except TaskQueueError as error:
        return [Finding("database", "fail", str(error))]
    except OSError as error:
        return [Finding("database", "fail", f"{error.filename}: {error.strerror}", "choose another with --database")]


async def _postgres(found: Settings) -> list[Finding]:
    from taskqueue_mcp.cli import checkup_postgres  # noqa: PLC0415 - most have a file

    health = await asyncio.to_thread(examine, found.database)
    findings = list(checkup_postgres.findings(health))
    if health.number is None or any(finding.state == "fail" for finding in findings):
        return findings
    async with app.opened(found) as opened:
        return [await _size(opened), *findings, *await _tokens(opened), *await checkup_money.spent(opened)]


async def _size(opened: App) -> Finding:
    facts = await opened.database.inspect(whole=True)
    tasks = f"{facts.rows['tasks']:,} tasks, {facts.rows['events']:,} events"
    return Finding("database", "ok", f"{shown(opened.settings.database)} is sound ({tasks})")


def _missing(path: Path) -> Iterator[Finding]:
    folder = _existing(path)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        yield Finding("database", "warn", f"{path} does not exist yet", "the first command that uses it makes it")
    else:
        yield Finding("database", "fail", f"{path} cannot be made: {folder} is not a folder this user can write to",
                      "choose another with --database")  # fmt: skip


async def _promises(opened: App) -> Iterator[Finding]:
    facts = await opened.database.inspect(whole=True)
    findings = [await _size(opened)]
    durable = f"{facts.engine}, journal {facts.journal}, synchronous {facts.synchronous}"
    if facts.durable:
        findings.append(Finding("durability", "ok", durable))
    else:
        findings.append(Finding("durability", "warn", f"{durable}: a power cut may lose the last changes",
                                "leave ?synchronous= out of --database"))  # fmt: skip
    findings.append(Finding("schema", "ok", f"number {facts.schema} of {facts.newest_schema}"))
    return iter(findings)


def _rights(path: Path) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    folder = path.parent.stat()
    if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        yield Finding("rights", "warn", f"other users can write to {path.parent}", f"run: chmod go-w {path.parent}")
        return
    beside = [file for file in path.parent.glob(f"{path.name}*") if file.is_file() and file.stat().st_mode & 0o077]
    if beside:
        names = " ".join(str(file) for file in beside)
        yield Finding("rights", "warn", f"other users can read {names}", f"run: chmod 600 {names}")
    else:
        yield Finding("rights", "ok", "only this user can read the database")


def _disk(path: Path) -> Iterator[Finding]:
    free = startup.free_bytes(_existing(path) / path.name)
    text = f"{free // 1_048_576:,} MiB free"
    if free < startup.LEAST_FREE:
        yield Finding("disk", "fail", text, f"free at least {startup.LEAST_FREE // 1_048_576} MiB")
    elif free < PLENTY:
        yield Finding("disk", "warn", text, "free some space before it is full")
    else:
        yield Finding("disk", "ok", text)


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


async def _tokens(opened: App) -> Iterator[Finding]:
    now = await opened.queue.now()
    tokens = await opened.auth.list(local_person())
    live = [token for token in tokens if token.revoked_at is None and (token.expires_at or now + 1) > now]
    soon = [token.name for token in live if token.expires_at is not None and token.expires_at < now + SOON]
    if soon:
        do = "make new ones with: taskqueue-mcp tokens create"
        return iter([Finding("tokens", "warn", f"{', '.join(soon)} will expire within a week", do)])
    if not live and opened.settings.token is None:
        return iter([Finding("tokens", "ok", "none yet; `serve` makes the first one")])
    fixed = ", and TASKQUEUE_TOKEN" if opened.settings.token is not None else ""
    return iter([Finding("tokens", "ok", f"{len(live)} live{fixed}")])


def procedures(found: Settings) -> Iterator[Finding]:
    """Find procedures that cannot be followed."""
    if not found.sops.is_dir():
        yield Finding("sops", "warn", f"{found.sops} is no folder", "make it, or set TASKQUEUE_SOPS")
        return
    folder = ProcedureFolder(found.sops)
    faults = folder.check()
    for fault in faults:
        yield Finding("sops", "warn", str(fault), "correct the file")
    if not faults:
        yield Finding("sops", "ok", f"{len(folder.list())} procedures in {found.sops}")


def executors(found: Settings) -> Iterator[Finding]:
    """Say whether this machine's worker could do what it is set up for."""
    worker = found.worker
    reads = [name for name in worker.executors if name in {"query", "report"}]
    if reads:
        yield from _sources(found, " and ".join(reads))
    for name in worker.executors:
        if name == "shell":
            yield _shell(worker)
        elif name not in reads:
            yield _executor(found, name)
    if worker.output is not None:
        folder = worker.output if worker.output.exists() else _existing(worker.output.absolute())
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            yield Finding("worker", "ok", f"results go to {worker.output}")
        else:
            do = "choose another with TASKQUEUE_WORKER__OUTPUT"
            yield Finding("worker", "fail", f"this user cannot write results to {worker.output}", do)


def _executor(found: Settings, name: str) -> Finding:
    """Whatever an executor says of itself."""
    try:
        executor = registry_of(found, (name,))[name]
        reason = asyncio.run(executor.preflight())
    except TaskQueueError as error:
        return Finding("worker", "fail", str(error), "correct TASKQUEUE_WORKER__EXECUTORS, or the settings of it")
    if name == "calculation" and found.worker.calculations is None:
        return Finding("worker", "ok", f"calculation may run no script: {reason}")
    if reason is not None:
        return Finding("worker", "fail", f"{name}: {reason}", "the worker takes none of its tasks until then")
    return Finding("worker", "ok", f"{name} can work here")


def _shell(worker: WorkerSettings) -> Finding:
    try:
        Shell(allow=worker.shell_allow, env_names=worker.shell_env, folder=worker.shell_folder)
    except TaskQueueError as error:
        return Finding("worker", "fail", str(error), "correct TASKQUEUE_WORKER__SHELL_ALLOW")
    if not worker.shell_allow:
        do = "list commands in TASKQUEUE_WORKER__SHELL_ALLOW when it should run some"
        return Finding("worker", "ok", f"shell may run no command; {do}")
    return Finding("worker", "ok", f"shell may run {', '.join(worker.shell_allow)}")


def _sources(found: Settings, readers: str) -> Iterator[Finding]:
    """Say of each source whether it can be read now."""
    from taskqueue_mcp.app.sources import sources_of  # noqa: PLC0415 - it loads SQLAlchemy
    from taskqueue_mcp.executors.sources.reading import PROBE_SECONDS  # noqa: PLC0415 - the same

    try:
        sources = sources_of(found)
    except TaskQueueError as error:
        yield Finding("worker", "fail", str(error), "correct it under [worker.sources]")
        return
    if not sources:
        do = "name one with TASKQUEUE_WORKER__SOURCES or `worker --source NAME=PATH`"
        yield Finding("worker", "ok", f"no source to read for {readers}; {do}")
    for name, source in sources.items():
        shown = f"source {name} ({found.worker.sources[name].shown})"
        if why := source.probe(PROBE_SECONDS):
            yield Finding("worker", "fail", f"{shown} cannot be read: {why}", "correct it under [worker.sources]")
        else:
            yield Finding("worker", "ok", f"{readers} reads {shown}")
