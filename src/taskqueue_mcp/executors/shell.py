"""One command of the owner's list, as an argument vector: never a shell, never more than was allowed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.base import Executor, Params
from taskqueue_mcp.executors.captured import Captured
from taskqueue_mcp.executors.limits import Limits
from taskqueue_mcp.executors.processes import Ending, supervise
from taskqueue_mcp.model import Completed, Failed, Returned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Outcome

SEARCH_PATH: Final = os.defpath if os.name == "nt" else "/usr/local/bin:/usr/bin:/bin"
"""Where bare names are looked up, and the PATH of every command: never the PATH we were started with."""
INHERITED: Final = ("HOME", "LANG", "TZ", "TMPDIR", "SYSTEMROOT")
SECONDS: Final = 600
"""How long a command may take where neither the task nor the procedure says."""
MOST_OUTPUT_BYTES: Final = 1_048_576
MOST_RESULT_BYTES: Final = 8_192
LAST_LINES: Final = 5
PASSING: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""Reasons not to start that another attempt may not meet."""


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no argument can")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a surrogate pair; send it as UTF-8")
    return text


Argument = Annotated[str, AfterValidator(_plain)]


class ShellParams(Params):
    """A command and its arguments; no shell reads them, so nothing in them is special."""

    argv: list[Argument] = Field(min_length=1, max_length=1_000, description="Command, then its arguments")
    stdin: Argument | None = Field(default=None, description="Text the command reads; nothing by default")
    env: dict[str, Argument] = Field(default={}, description="Variables that the owner lets tasks set")
    cwd: str | None = Field(default=None, description="Folder to work in, relative to the allowed folder")


class Shell(Executor[ShellParams]):
    """Runs the commands that the owner allows; without a list it runs none.

    A command gets the fixed PATH, HOME, LANG, LC_*, TZ and TMPDIR, what of `env_names` its task sets, and its task
    and attempt as TASKQUEUE_ATTEMPT. It works in the attempt's private directory, or with `cwd` within `folder`,
    within `limits`. What it started ends with it.

    Raises:
        SettingsRefused: an entry of `allow` is no command, all of them at once.
    """

    name: ClassVar[str] = "shell"
    description: ClassVar[str] = "Runs one command of the owner's list with its arguments; no shell reads them"
    writes_files = False
    params = ShellParams

    def __init__(
        self,
        *,
        allow: Sequence[str] = (),
        env_names: Sequence[str] = (),
        folder: Path | None = None,
        max_output_bytes: int = MOST_OUTPUT_BYTES,
        search_path: str = SEARCH_PATH,
        limits: Limits | None = None,
    ) -> None:
        self._commands = _resolved(allow, search_path)
        self._allowed = ", ".join(allow) or "none; the owner lists them in the settings"
        self._env_names = frozenset(env_names)
        self._folder = folder
        self._max_output_bytes = max_output_bytes
        self._search_path = search_path
        self._limits = Limits() if limits is None else limits

    async def preflight(self) -> str | None:
        """Whether the folder that tasks may work in is there."""
        if self._folder is not None and not self._folder.is_dir():
            return f"there is no folder {self._folder}; make it, or set worker.shell_folder to another"
        return None

    def works_in(self, params: ShellParams, run: Run) -> Path:
        """Return the folder that the command starts in."""
        return self._directory(params.cwd, run)

    async def run(self, params: ShellParams, run: Run) -> Outcome:
        """Run the command and say how it ended."""
        name = params.argv[0]
        out = Captured(self._max_output_bytes, run.log)
        err = Captured(self._max_output_bytes, run.log)
        seconds = run.timeout_seconds or (run.procedure and run.procedure.timeout_seconds) or SECONDS
        await run.progress(None, f"Running {name[:80]}")
        started = time.monotonic()
        try:
            process = self._start(params, run)
        except InvalidInput as error:
            return Failed(str(error), permanent=True)
        except OSError as error:
            why = (error.strerror or "unknown").lower()
            return Failed(f"{name[:80]!a} could not be started: {why}", permanent=error.errno not in PASSING)
        ending = await supervise(process, on_output=out.feed, on_error=err.feed, stop=run.stop, seconds=seconds)
        out.close()
        err.close()
        if ending is Ending.STOPPED:
            return Returned(None, "stopped before the command was over")
        if ending is Ending.TIMED_OUT:
            return _failed(f"timed out after {seconds:g} s; give it longer with timeout_seconds", err)
        if process.returncode:
            return _failed(self._limits.how_it_ended(process.returncode), err)
        data: dict[str, Any] = {
            "exit_code": process.returncode,
            "stdout": out.text(MOST_RESULT_BYTES),
            "stderr": err.text(MOST_RESULT_BYTES),
            "duration_seconds": round(time.monotonic() - started, 3),
        }
        return Completed(summary=next(iter(out.last_lines(1)), "exit 0"), data=data)

    def _start(self, params: ShellParams, run: Run) -> Popen[bytes]:
        command = self._commands.get(params.argv[0])
        if command is None:
            raise InvalidInput(f"the command {params.argv[0][:80]!a} is not allowed; allowed are {self._allowed}")
        environment = self._environment(params.env) | {"TASKQUEUE_ATTEMPT": f"T-{run.task_id}:{run.attempt}"}
        directory = self._directory(params.cwd, run)
        _check_startable(Path(command))
        with tempfile.TemporaryFile(dir=run.directory) as given:
            # A file, not a pipe: a command that does not read its input must not hold anyone up.
            given.write((params.stdin or "").encode())
            given.seek(0)
            return Popen(  # noqa: S603 - no shell, a command of the owner's list
                self._limits.around([command, *params.argv[1:]], run.mark),
                stdin=DEVNULL if params.stdin is None else given,
                stdout=PIPE,
                stderr=PIPE,
                bufsize=0,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    def _environment(self, asked: Mapping[str, str]) -> dict[str, str]:
        if refused := sorted(set(asked) - self._env_names):
            allowed = ", ".join(sorted(self._env_names)) or "none; the owner lists them in the settings"
            raise InvalidInput(f"the variable {refused[0][:80]!a} may not be set; allowed are {allowed}")
        kept = {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("LC_")}
        return kept | {"PATH": self._search_path} | dict(asked)

    def _directory(self, cwd: str | None, run: Run) -> Path:
        if cwd is None:
            return run.directory
        if self._folder is None:
            raise InvalidInput("cwd cannot be given, as the owner has set no folder; leave it out")
        if "\0" in cwd:
            raise InvalidInput("cwd holds a NUL character")
        folder = self._folder.resolve()
        wanted = (folder / cwd).resolve()
        if not wanted.is_relative_to(folder):
            raise InvalidInput(f"cwd {cwd[:80]!a} leaves the allowed folder; write a path inside it")
        if not wanted.is_dir():
            raise InvalidInput(f"cwd {cwd[:80]!a} is no folder inside the allowed folder")
        return wanted


def _check_startable(command: Path) -> None:
    """Say in the system's own words why a command cannot be started; what sets the limits would say it in its own.

    Raises:
        OSError: it is gone, may not be run, or is no program.
    """
    command.stat()
    if not os.access(command, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if os.access(command, os.R_OK):
        with command.open("rb") as file:
            begins = file.read(4)
        if not begins.startswith(b"#!") and begins.isascii() and begins.decode().isprintable():
            # Text: a shell would take it for its own and read it.
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))


def _resolved(allow: Sequence[str], search_path: str) -> dict[str, str]:
    """Each allowed name, and the file that it means, looked up once and for all."""
    commands: dict[str, str] = {}
    faults: list[str] = []
    for entry in allow:
        if Path(entry).is_absolute():
            found = entry if Path(entry).is_file() and os.access(entry, os.X_OK) else None
        elif Path(entry).name != entry or not entry:
            faults.append(f"{entry!a} is neither a bare command name nor an absolute path")
            continue
        else:
            found = shutil.which(entry, path=search_path)
        if found is None:
            faults.append(f"{entry!a} is no command that can be run (looked in {search_path})")
        else:
            commands |= {entry: found, found: found}
    if faults:
        raise SettingsRefused(f"shell commands to allow: {'; '.join(faults)}")
    return commands


def _failed(what: str, err: Captured) -> Failed:
    return Failed("\n".join([what, *err.last_lines(LAST_LINES)]))
