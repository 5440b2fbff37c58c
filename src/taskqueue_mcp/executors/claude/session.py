"""One process of Claude Code, from its start to its end: what it was told, what it said, and nothing left of it."""

from __future__ import annotations

import json
import logging
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from taskqueue_mcp.executors.captured import Captured
from taskqueue_mcp.executors.claude import kin
from taskqueue_mcp.executors.claude.command import Call, argv, environment
from taskqueue_mcp.executors.claude.hearing import Heard, Teller, is_recorded
from taskqueue_mcp.executors.limits import Limits
from taskqueue_mcp.executors.processes import supervise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.executors.claude.leave import Leave
    from taskqueue_mcp.executors.claude.transport import Pipe
    from taskqueue_mcp.executors.trees import Mark

log = logging.getLogger(__name__)

UNBOUNDED: Final = Limits(memory_bytes=0, cpu_seconds=0, file_bytes=0, processes=0, open_files=0)
LONGEST_TRANSCRIPT: Final = 64 * 1024 * 1024
MOST_ERRORS: Final = 65_536
LAST_SECONDS: Final = 10.0
"""How long a process may stay silent after its result before it is ended."""
LISTEN_SECONDS: Final = 2.0
LAST_LINES: Final = 5
REPORT_SECONDS: Final = 0.5


class Ending(StrEnum):
    """Why a process is over."""

    BY_ITSELF = "by itself"
    STOPPED = "stopped"
    TIMED_OUT = "timed out"
    WENT_QUIET = "went quiet"


@dataclass(slots=True)
class Ended:
    """What one process came to."""

    ending: Ending
    heard: Heard
    exit_code: int | None
    last_words: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Transcript:
    """The messages of an attempt as lines of JSON, in a file."""

    path: Path
    size: int = 0

    def note(self, message: dict[str, Any]) -> None:
        """Add a message, unless the file is full."""
        if self.size > LONGEST_TRANSCRIPT or not is_recorded(message):
            return
        line = json.dumps(message, ensure_ascii=False).encode(errors="replace") + b"\n"
        with self.path.open("ab") as file:
            file.write(line)
        self.size += len(line)


class Session:
    """A process of Claude Code under our eyes. `converse` starts it, and when that returns nothing of it is left."""

    def __init__(self, leave: Leave, call: Call, run: Run, transcript: Transcript, *, seconds: float) -> None:
        self._leave, self._call, self._run, self._transcript = leave, call, run, transcript
        self._seconds = seconds
        self._heard = Heard()
        self._doing: list[str] = []
        self._teller = Teller(run.log, self._doing.append)
        self._halt = anyio.Event()
        self._ending = Ending.BY_ITSELF
        self._started = self._heard_at = time.monotonic()

    async def converse(self, program: Path, prompt: str) -> Ended:
        """Tell it `prompt` on its standard input, follow what it says, and see it to its end.

        Raises:
            OSError: it cannot be started.
        """
        from taskqueue_mcp.executors.claude.transport import Pipe  # noqa: PLC0415 - needs the extra `claude`

        self._transcript.note(_said(prompt))
        errors = Captured(MOST_ERRORS, lambda text: self._run.log(f"claude: {text}"))
        process = await anyio.to_thread.run_sync(_started, program, self._leave, self._call, self._run.mark)
        pipe = Pipe(process, self._hear)
        try:
            async with anyio.create_task_group() as beside:
                listened = anyio.Event()
                beside.start_soon(self._watch, process)
                beside.start_soon(self._watch_silence, process)
                beside.start_soon(self._report)
                beside.start_soon(_talk, pipe, prompt, listened, self._halt)
                longest = self._seconds + LAST_SECONDS
                await supervise(process, on_output=pipe.feed, on_error=errors.feed, stop=self._halt, seconds=longest)
                pipe.end()
                with anyio.move_on_after(LISTEN_SECONDS):
                    await listened.wait()
                beside.cancel_scope.cancel()
        finally:
            kin.end(self._call.mark)
            errors.close()
            pipe.drop()
        last_words = (*errors.last_lines(LAST_LINES), *pipe.noise)
        return Ended(self._ending, self._heard, process.returncode, last_words, time.monotonic() - self._started)

    def _hear(self, message: dict[str, Any]) -> None:
        self._heard_at = time.monotonic()
        self._heard.take(message)
        self._teller.tell(message)
        self._transcript.note(message)

    def _cut(self, why: Ending, process: Popen[bytes]) -> None:
        """End it and all that it started, now: a signal to its group would miss the shells of its tools."""
        self._ending = why
        kin.end(self._call.mark, process.pid)
        self._halt.set()

    async def _watch(self, process: Popen[bytes]) -> None:
        with anyio.move_on_after(self._seconds) as limit:
            await self._run.stop.wait()
        self._cut(Ending.TIMED_OUT if limit.cancelled_caught else Ending.STOPPED, process)

    async def _watch_silence(self, process: Popen[bytes]) -> None:
        """End it when it hangs; one that has given its result and stays for nothing has ended by itself."""
        while (quiet := time.monotonic() - self._heard_at) < (longest := self._patience()):  # noqa: ASYNC110 - what counts is that nothing comes
            await anyio.sleep(min(longest - quiet, LAST_SECONDS))
        self._cut(Ending.WENT_QUIET if self._heard.result is None else Ending.BY_ITSELF, process)

    def _patience(self) -> float:
        return self._leave.quiet_seconds if self._heard.result is None else LAST_SECONDS

    async def _report(self) -> None:
        """Say what it does, at the pace at which that reaches anyone."""
        while True:
            await anyio.sleep(REPORT_SECONDS)
            if self._doing:
                await self._run.progress(None, self._doing[-1])
                self._doing.clear()


def new_mark() -> str:
    """Return a mark that no other session has."""
    return secrets.token_hex(16)


def _started(program: Path, leave: Leave, call: Call, mark: Mark | None) -> Popen[bytes]:
    # Unbounded, for it builds and tests whatever it likes; the mark lets a worker find what a dead one left behind.
    return Popen(  # noqa: S603 - the owner's program, and flags that are ours
        UNBOUNDED.around(argv(program, leave, call), mark),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        bufsize=0,
        cwd=call.cwd,
        env=environment(leave, call),
        start_new_session=True,
    )


def _said(prompt: str) -> dict[str, Any]:
    message = {"role": "user", "content": [{"type": "text", "text": prompt}]}
    return {"type": "user", "session_id": "", "message": message, "parent_tool_use_id": None}


async def _talk(pipe: Pipe, prompt: str, listened: anyio.Event, halt: anyio.Event) -> None:
    """Have the SDK say the prompt and follow its protocol; what comes back has been heard on its way to it."""
    from claude_agent_sdk import ClaudeAgentOptions, query  # noqa: PLC0415 - needs the extra `claude`

    async def prompts() -> AsyncIterator[dict[str, Any]]:
        yield _said(prompt)

    # Verbatim: a `@/path` or a `/command` in the text of a task must neither read a file nor run anything.
    options = ClaudeAgentOptions(verbatim_prompts=True)
    try:
        async for _ in query(prompt=prompts(), options=options, transport=pipe):
            pass
    except Exception as error:  # noqa: BLE001 - the SDK raises plain exceptions; what the process said decides
        log.debug("the conversation broke off: %r", error)
        await anyio.sleep(LISTEN_SECONDS / 4)  # a process that ends by itself is left to say why
        halt.set()
    finally:
        listened.set()
