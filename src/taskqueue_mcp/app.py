"""Builds everything by hand from the settings; the only file that knows everyone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp.auth import Auth, fixed_token
from taskqueue_mcp.procedures import ProcedureFolder
from taskqueue_mcp.retries import Backoff
from taskqueue_mcp.scheduler import Scheduler
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import Limits, Rules, TaskQueue
from taskqueue_mcp.taskqueue.rules import EXECUTOR_OF_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taskqueue_mcp.settings import Settings
    from taskqueue_mcp.store import Database


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
    database = open_database(settings.database)
    queue = TaskQueue(database, rules_of(settings))
    return App(settings, database, queue, Auth(database, fixed_token(settings.token) if settings.token else None))


def rules_of(settings: Settings) -> Rules:
    """Return the rules that the settings ask for."""
    return Rules(
        procedures=ProcedureFolder(settings.sops) if settings.sops.is_dir() else None,
        limits=Limits(**settings.limits.model_dump()),
        backoff=Backoff(settings.retry_seconds, settings.longest_retry_seconds),
        zone=settings.zone,
        executor_of_type={**EXECUTOR_OF_TYPE, **settings.executor_of_type},
        lease_seconds=settings.lease_seconds,
        unclaimed_seconds=settings.unclaimed_seconds,
        keep_finished_days=settings.keep_finished_days,
        keep_history_days=settings.keep_history_days,
        keep_logs_days=settings.keep_logs_days,
    )


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
        app.queue.waiters.detach()
        await app.database.close()
