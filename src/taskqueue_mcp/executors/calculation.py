"""A calculation: a Python script of the owner's, parameters in as JSON, a result out as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import anyio
import anyio.to_thread
from pydantic import AliasChoices, ConfigDict, Field

from taskqueue_mcp.errors import InvalidInput, TaskQueueError
from taskqueue_mcp.executors.base import Executor, Params
from taskqueue_mcp.executors.captured import Captured
from taskqueue_mcp.executors.limits import Limits
from taskqueue_mcp.executors.placing import OutputParams, Usual, output, place
from taskqueue_mcp.executors.processes import Ending, supervise
from taskqueue_mcp.executors.shell import INHERITED, PASSING, SEARCH_PATH
from taskqueue_mcp.model import Completed, Failed, Returned
from taskqueue_mcp.outputs.tables import Table, write_csv, write_xlsx
from taskqueue_mcp.procedures.parsing import fill_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Outcome
    from taskqueue_mcp.outputs.folder import WrittenFile

USUAL: Final = Usual(formats=("json", "csv", "xlsx"), folder="Reports/Calculations", pattern="")
SECONDS: Final = 600
"""How long a script may take where neither the task nor the procedure says."""
MOST_RESULT_BYTES: Final = 16 * 1024 * 1024
MOST_LOG_BYTES: Final = 1_048_576
LARGEST_RETURNED: Final = 131_072
"""Characters of JSON that come back in the task; a larger result is in its file only."""
LONGEST_SHOWN: Final = 120
MOST_NAMED: Final = 20

PROGRAM: Final = """
import hashlib, sys
path, folder, wanted = sys.argv[1:4]
with open(path, "rb") as file:
    source = file.read()
if hashlib.sha256(source).hexdigest() != wanted:
    sys.exit("the script was changed in the moment in which it was started")
sys.argv[:] = [path]
sys.path.insert(0, folder)
__file__ = path
del hashlib, sys, file, folder, wanted
exec(compile(source, path, "exec"))
"""
"""What the interpreter runs: the very bytes whose hash is recorded, beside the modules of their folder."""


class CalculationOutput(OutputParams):
    """Where the result is written; without a word of it, it comes back in the task only."""

    return_to_gemini: bool | None = Field(default=None, description="Whether the result comes back in the task")


class CalculationParams(Params):
    """Which script is run. Every other name is a parameter of the script, as those in `parameters`."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    script: str | None = Field(default=None, description="Path of the script inside the owner's folder")
    calculation_name: str | None = Field(
        default=None,
        validation_alias=AliasChoices("calculation_name", "calculation", "name"),
        description="Name of the calculation; the script is <name>.py unless `script` says another",
    )
    parameters: dict[str, Any] = Field(
        default={},
        validation_alias=AliasChoices("parameters", "params"),
        description="What the script reads as JSON from its standard input",
    )
    return_to_gemini: bool | None = Field(default=None, description="Whether the result comes back in the task (yes)")
    output: CalculationOutput | None = Field(
        default=None, description="format (json, csv, xlsx), path, filename_pattern"
    )


class Calculation(Executor[CalculationParams]):
    """Runs scripts of one folder, each in an interpreter of its own; names reach it, never paths outside of it.

    A script gets the fixed PATH, HOME, LANG, LC_*, TZ, TMPDIR, and of the worker those of `env_names`. It works in the
    attempt's private directory, where `inputs.json` holds what the tasks before it came to.
    """

    name: ClassVar[str] = "calculation"
    description: ClassVar[str] = (
        "Runs a Python script of the owner's by name, with JSON parameters; its JSON result comes back."
    )
    params = CalculationParams

    def __init__(
        self, folder: Path | None = None, *, python: Path | None = None, env_names: Sequence[str] = (),
        limits: Limits | None = None, most_result_bytes: int = MOST_RESULT_BYTES,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._python = python or Path(sys.executable)
        self._env_names = frozenset(env_names)
        self._limits = Limits() if limits is None else limits
        self._most_result_bytes = most_result_bytes

    async def preflight(self) -> str | None:
        """Whether there is a folder of scripts, and an interpreter."""
        if self._folder is None:
            return "no folder of scripts is configured; set worker.calculations"
        if not self._folder.is_dir():
            return f"there is no folder {self._folder}; make it, or set worker.calculations to another"
        if not os.access(self._python, os.X_OK):
            return f"{self._python} is no interpreter that can be run; set worker.calculation_python to another"
        return None

    async def run(self, params: CalculationParams, run: Run) -> Outcome:
        """Run the script and say what it came to."""
        try:
            calculation = self._prepared(params, run)
            await run.progress(None, f"Calculating {calculation.name}")
            run.log(f"{calculation.script}, sha256 {calculation.sha256}\n")
            process = self._start(calculation, run)
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        except OSError as error:
            why = (error.strerror or "unknown").lower()
            return Failed(f"the calculation could not be started: {why}", permanent=error.errno not in PASSING)
        ended = await self._ended(process, calculation, run)
        if not isinstance(ended, bytes):
            return ended
        return await anyio.to_thread.run_sync(partial(_completed, calculation, ended, run))

    def _prepared(self, params: CalculationParams, run: Run) -> _Calculation:
        more = params.model_extra or {}
        given = {**more, **params.parameters}
        values = fill_params(run.procedure, given) if run.procedure else given
        path, script = self._found(params)
        wanted = output(params.output, CalculationOutput, run)
        name = params.calculation_name or PurePosixPath(script).stem
        is_asked_for = bool(params.output or run.task.get("output") or (run.procedure and run.procedure.output))
        usual = Usual(formats=USUAL.formats, folder=USUAL.folder, pattern=f"{_as_pattern(name)}_{{timestamp}}")
        returned = params.return_to_gemini if params.return_to_gemini is not None else wanted.return_to_gemini
        return _Calculation(
            name=name,
            script=script,
            path=path,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            values=values,
            result_path=place(wanted, usual, run, values),
            is_written=is_asked_for or returned is False,
            is_returned=returned is not False,
            seconds=run.timeout_seconds or (run.procedure and run.procedure.timeout_seconds) or SECONDS,
            began=time.monotonic(),
        )

    def _found(self, params: CalculationParams) -> tuple[Path, str]:
        """The script as a file of the folder, and as a path in it."""
        if self._folder is None:
            raise InvalidInput("no folder of scripts is configured; set worker.calculations")
        wanted = params.script or (f"{params.calculation_name}.py" if params.calculation_name else "")
        shown = ascii(wanted[:80])
        if not wanted:
            raise InvalidInput(f"which script to run is not said; give script or calculation_name ({self._known()})")
        if not wanted.endswith(".py") or "\0" in wanted or "\\" in wanted:
            raise InvalidInput(f"{shown} is no script; name a .py file of the folder ({self._known()})")
        folder = self._folder.resolve()
        path = (folder / wanted).resolve()
        if not path.is_relative_to(folder):
            raise InvalidInput(f"{shown} leaves the folder of scripts; name one inside it ({self._known()})")
        if not path.is_file():
            raise InvalidInput(f"there is no script {shown}; {self._known()}")
        return path, path.relative_to(folder).as_posix()

    def _known(self) -> str:
        folder = (self._folder or Path()).resolve()
        scripts = (each for each in folder.rglob("*.py") if each.is_file() and each.resolve().is_relative_to(folder))
        found = sorted(each.relative_to(folder).as_posix() for each in scripts)
        more = " …" if len(found) > MOST_NAMED else ""
        return f"there is {', '.join(found[:MOST_NAMED])}{more}" if found else "there is none"

    def _start(self, calculation: _Calculation, run: Run) -> Popen[bytes]:
        text = json.dumps(calculation.values, ensure_ascii=False, allow_nan=False)
        (run.directory / "inputs.json").write_text(json.dumps(list(run.inputs), ensure_ascii=False), encoding="utf-8")
        wanted = {*INHERITED, *self._env_names}
        kept = {name: value for name, value in os.environ.items() if name in wanted or name.startswith("LC_")}
        own = {"PATH": SEARCH_PATH, "PYTHONIOENCODING": "utf-8", "TASKQUEUE_ATTEMPT": f"T-{run.task_id}:{run.attempt}"}
        command = [str(self._python), "-I", "-B", "-X", "utf8", "-c", PROGRAM]
        script = [str(calculation.path), str(calculation.path.parent), calculation.sha256]
        with tempfile.TemporaryFile(dir=run.directory) as given:
            # A file, not a pipe: a script that does not read its input must not hold anyone up.
            given.write(text.encode(errors="replace"))
            given.seek(0)
            return Popen(  # noqa: S603 - no shell, a script of the owner's folder
                self._limits.around([*command, *script], run.mark),
                stdin=given,
                stdout=PIPE,
                stderr=PIPE,
                bufsize=0,
                cwd=run.directory,
                env=kept | own,
                start_new_session=True,
            )

    async def _ended(self, process: Popen[bytes], calculation: _Calculation, run: Run) -> bytes | Outcome:
        """What the script printed, or why that is nothing."""
        err = Captured(MOST_LOG_BYTES, run.log)
        printed = bytearray()
        stop = anyio.Event()

        def take(chunk: bytes) -> None:
            printed.extend(chunk[: self._most_result_bytes + 1 - len(printed)])
            if len(printed) > self._most_result_bytes:
                stop.set()

        async with anyio.create_task_group() as beside:

            async def pass_on() -> None:
                await run.stop.wait()
                stop.set()

            beside.start_soon(pass_on)
            ending = await supervise(process, on_output=take, on_error=err.feed, stop=stop, seconds=calculation.seconds)
            beside.cancel_scope.cancel()
        err.close()
        if run.stop.is_set() and ending is Ending.STOPPED:
            return Returned(None, "stopped before the calculation was over")
        if len(printed) > self._most_result_bytes:
            return Failed(
                f"it printed more than {self._most_result_bytes:,} bytes; print the result alone", permanent=True
            )
        if ending is Ending.TIMED_OUT:
            return Failed(f"timed out after {calculation.seconds:g} s; give it longer with timeout_seconds")
        if process.returncode:
            said = err.last_lines(1)
            return Failed(f"{self._limits.how_it_ended(process.returncode)}{f'; {said[0]}' if said else ''}")
        return bytes(printed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calculation:
    """One calculation that is about to run."""

    name: str
    script: str
    path: Path
    sha256: str
    values: Mapping[str, Any]
    result_path: str
    is_written: bool
    is_returned: bool
    seconds: float
    began: float


def _completed(calculation: _Calculation, printed: bytes, run: Run) -> Outcome:
    try:
        result = _result(printed)
    except InvalidInput as error:
        return Failed(str(error), permanent=True)
    text = json.dumps(result, ensure_ascii=False)
    is_large = len(text) > LARGEST_RETURNED
    data: dict[str, Any] = {
        "calculation": calculation.name,
        "script": calculation.script,
        "script_sha256": calculation.sha256,
        "duration_seconds": round(time.monotonic() - calculation.began, 3),
    }
    if calculation.is_returned and not is_large:
        data["result"] = result
    elif calculation.is_returned:
        data["result_omitted"] = f"{len(text):,} characters; the file holds it"
    file: WrittenFile | None = None
    if calculation.is_written or is_large:
        try:
            file = run.outputs.write(calculation.result_path, partial(_write, result=result, calculation=calculation))
        except TaskQueueError as error:
            return Failed(str(error), permanent=True)
        except OSError as error:
            return Failed(f"the result could not be written: {(error.strerror or 'disk error').lower()}")
        data["artifacts"] = [asdict(file)]
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
    return Completed(
        summary=f"{calculation.name}: {shown}" + (f"; wrote {file.path}" if file else ""),
        path=file.path if file else None,
        data=data,
        artifacts=(file.path,) if file else (),
    )


def _result(printed: bytes) -> Any:
    """What the script printed, as JSON.

    Raises:
        InvalidInput: it printed nothing, something else, or a number that JSON does not have.
    """
    text = printed.decode(errors="replace").strip()
    if not text:
        raise InvalidInput("it printed nothing; print the result as JSON")
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise InvalidInput("its result is nested too deeply") from None
    except ValueError as error:
        begins = ascii(text[:60])
        raise InvalidInput(
            f"it printed no JSON ({error}), beginning with {begins}; print the result alone, and all else to stderr"
        ) from None


def _no_number(constant: str) -> Any:
    raise InvalidInput(f"its result holds {constant}, which JSON does not have; print null in its place")


def _write(file: BinaryIO, *, result: Any, calculation: _Calculation) -> None:
    """As JSON, or as a table where that is asked for.

    Raises:
        InvalidInput: a table is asked for, and the result is no list of objects.
    """
    if calculation.result_path.endswith(".json"):
        file.write((json.dumps(result, ensure_ascii=False, indent=2) + "\n").encode(errors="replace"))
        return
    if not isinstance(result, list) or not all(isinstance(row, dict) for row in result):
        raise InvalidInput("its result is no list of objects, of which a table could be made; have it written as json")
    columns = list(dict.fromkeys(name for row in result for name in row))
    table = Table(calculation.name, columns, ([row.get(name) for name in columns] for row in result))
    if calculation.result_path.endswith(".csv"):
        write_csv(file, table)
    else:
        write_xlsx(file, [table])


def _as_pattern(name: str) -> str:
    """A calculation's name in a file's name: braces would be placeholders, slashes folders."""
    return "".join("_" if character in "{}/\\:" else character for character in name)
