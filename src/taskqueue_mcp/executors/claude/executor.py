"""Carries out a task with headless Claude Code: within what the owner leaves to tasks, in a folder of its own."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.executors.base import Executor
from taskqueue_mcp.executors.claude import readiness
from taskqueue_mcp.executors.claude.attempt import Attempt
from taskqueue_mcp.executors.claude.delivering import ordered
from taskqueue_mcp.executors.claude.folders import alone_in
from taskqueue_mcp.executors.claude.keeping import Kept
from taskqueue_mcp.executors.claude.leave import agree, check
from taskqueue_mcp.executors.claude.params import ClaudeParams
from taskqueue_mcp.model import Failed, Reason, Returned

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.claude.leave import Leave
    from taskqueue_mcp.model import Ended

MICROS: Final = 1_000_000
BUSY_SECONDS: Final = 300
"""When a task whose folder is in use is tried again."""
LOCKED_OUT_SECONDS: Final = 300
"""How long no session is begun after the credentials were refused."""


class Claude(Executor[ClaudeParams]):
    """Has Claude Code do what a task says.

    Nothing of the folder it works in is trusted: neither settings nor hooks nor servers there are loaded. What tools,
    folders, models and servers a task may name is the owner's to say; see `Leave`.

    Raises:
        SettingsRefused: what the owner says cannot be meant, all faults at once.
    """

    name: ClassVar[str] = "claude"
    description: ClassVar[str] = "Has Claude Code do what the instructions say, with the tools that the owner allows."
    params = ClaudeParams

    def __init__(self, leave: Leave) -> None:
        check(leave)
        self._leave = leave
        self._kept = Kept(leave.home, leave.config, days=leave.keep_days)
        self._is_swept = False
        self._locked_out: tuple[float, str] = (0.0, "")

    async def preflight(self) -> str | None:
        """Say why no session can be begun: the program, its version, its credentials, its folders."""
        until, why = self._locked_out
        if time.monotonic() < until:
            return f"Claude Code's credentials were refused: {why}; mend them, this is tried again in a few minutes"
        return await anyio.to_thread.run_sync(readiness.why_not, self._leave)

    def works_in(self, params: ClaudeParams, run: Run) -> Path:
        """Return the folder that the session works in."""
        return agree(self._leave, params).folder or run.directory / "work"

    async def run(self, params: ClaudeParams, run: Run) -> Ended:
        """Begin a session, or go on with an earlier attempt's, and say what came of it."""
        if (why := await anyio.to_thread.run_sync(readiness.why_not, self._leave)) is not None:
            return Failed(why, permanent=False)
        try:
            terms = agree(self._leave, params, run.procedure.tools if run.procedure else ())
            order = ordered(run, params)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        if not self._is_swept:
            self._is_swept = True
            with suppress(OSError):
                await anyio.to_thread.run_sync(self._kept.sweep)
        async with alone_in(terms.root, self._leave.home) as is_alone:
            if not is_alone:
                at = run.now + timedelta(seconds=BUSY_SECONDS)
                why = f"another attempt works in {params.cwd}"
                return Returned(Reason.SNOOZE, why, round(at.timestamp() * MICROS))
            attempt = Attempt(self._leave, self._kept, params, run, terms, order)
            outcome = await attempt.carry_out()
        if attempt.refused_log_in is not None:
            self._locked_out = (time.monotonic() + LOCKED_OUT_SECONDS, attempt.refused_log_in)
        return outcome
