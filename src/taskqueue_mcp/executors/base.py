"""What an executor is, what it may know of its attempt, and how a worker finds the one it needs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.procedures.parsing import fill_params

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo
    from pathlib import Path

    import anyio

    from taskqueue_mcp.executors.trees import Mark
    from taskqueue_mcp.model import Ended
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
    from taskqueue_mcp.procedures.parsing import Procedure


class Params(BaseModel):
    """What a task's parameters must look like; the fields' descriptions are what a model is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Progress(Protocol):
    """Tells the queue how far an attempt is; this also renews its lease."""

    def __call__(self, percent: float | None, message: str = "") -> Awaitable[None]:
        """Report `percent` from 0 to 100 (None: unknown) and a line on what is being done."""


def _nowhere(_file: WrittenFile) -> None:
    """Where an attempt is not carried out for a queue, an artifact has no place to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What an executor may know of the attempt that it carries out. It never sees the store.

    `task` is the claimed task as plain JSON, `inputs` the results of the tasks it depended on, `earlier_attempts`
    what was tried before and `answers` what persons were asked and said, each as the claim returned them.
    `due_date` is the day in `zone`; `now` is aware. `outputs` is where files for people go, `directory` is private
    to the attempt and goes with it. `log` takes text for the log, from the event loop's thread. `keep` makes a file
    of the output folder an artifact at once, so that it is there however the attempt ends. `stop` is set on
    cancel, lease loss and shutdown: an executor then ends its children at once and returns. Processes that are
    started with `mark` (`Limits.around`) end with the attempt wherever they went.
    """

    task_id: int
    attempt: int
    title: str
    instructions: str
    task: Mapping[str, Any]
    procedure: Procedure | None
    inputs: Sequence[Mapping[str, Any]]
    earlier_attempts: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    due_date: date
    now: datetime
    zone: tzinfo
    outputs: OutputFolder
    directory: Path
    log: Callable[[str], None]
    progress: Progress
    stop: anyio.Event
    timeout_seconds: int | None = None
    keep: Callable[[WrittenFile], None] = _nowhere
    mark: Mark | None = None


M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound=Params)


class Executor(ABC, Generic[P]):
    """Carries out tasks of one kind."""

    name: ClassVar[str]
    description: ClassVar[str] = ""
    writes_files: ClassVar[bool] = True
    """Whether it needs the output folder: while nothing can be written there, it gets no tasks."""
    params: type[P]

    @abstractmethod
    async def run(self, params: P, run: Run) -> Ended:
        """Do the work and say what came of it.

        What another attempt cannot mend is `Failed(permanent=True)`. An exception counts as a failure and is
        recorded by the caller. On `run.stop` this returns within moments, with nothing left running, and a
        `Returned` so that a shutdown costs no failure.
        """

    def works_in(self, params: P, run: Run) -> Path:  # noqa: ARG002 - of those that derive from it
        """Return the folder in which the files lie that a task may expect to change (`changed` of its outputs).

        Raises:
            InvalidInput: the parameters name none that may be worked in.
        """
        return run.directory

    async def preflight(self) -> str | None:
        """Why this executor cannot work on this machine now, in a line that says what to do; None where it can."""
        return None


class Registry(Mapping[str, Executor[Any]]):
    """The executors a worker has, by name.

    Raises:
        SettingsRefused: two have one name, or one is no executor; all faults at once.
    """

    def __init__(self, executors: Iterable[Executor[Any]]) -> None:
        self._executors: dict[str, Executor[Any]] = {}
        faults: list[str] = []
        for executor in executors:
            name = getattr(executor, "name", None)
            if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,49}", name):
                faults.append(f"{type(executor).__name__} has no name of lower-case letters, digits, - and _")
            elif not _takes_params(executor):
                faults.append(f"executor {name}: its `params` must be a class derived from Params")
            elif name in self._executors:
                both = (type(self._executors[name]).__name__, type(executor).__name__)
                faults.append(f"two executors are called {name} ({' and '.join(both)}); list one of them")
            else:
                self._executors[name] = executor
        if faults:
            raise SettingsRefused("; ".join(faults))

    def __getitem__(self, name: str) -> Executor[Any]:
        return self._executors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._executors)

    def __len__(self) -> int:
        return len(self._executors)


def validate_params(executor: Executor[P], raw: Mapping[str, Any]) -> P:
    """`raw` as the executor's parameters.

    Raises:
        InvalidInput: one line with every bad field, and the fields there are.
    """
    return validated(executor.params, raw, what=f"params of {executor.name}")


def validated_over(model: type[M], given: Mapping[str, Any], procedure: Procedure | None, *, what: str) -> M:
    """`given` over the defaults of the procedure that the task follows, as `model`.

    What is the executor's own (a report's `source`) a procedure need not declare, not even a strict one.

    Raises:
        InvalidInput: one line with what is wrong, by the procedure or by the executor.
    """
    if procedure is None:
        return validated(model, given, what=what)
    declared = {param.name for param in procedure.params}
    own = {name for name in given if name in model.model_fields and name not in declared}
    filled = fill_params(procedure, {name: value for name, value in given.items() if name not in own})
    return validated(model, filled | {name: given[name] for name in own}, what=what)


def validated(model: type[M], raw: Mapping[str, Any], *, what: str) -> M:
    """`raw` as `model`; `what` names it where it is wrong.

    Raises:
        InvalidInput: one line with every bad field, and the fields there are.
    """
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        faults = "; ".join(_in_words(error))
        allowed = ", ".join(model.model_fields) or "none"
        raise InvalidInput(f"{what}: {faults}; it takes {allowed}") from None


def _in_words(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in fault["loc"])[:80]
        place = place if place.isprintable() else ascii(place)
        if fault["type"] == "extra_forbidden":
            yield f"{place} is unknown"
        elif fault["type"] == "missing":
            yield f"{place} is missing"
        else:
            text = fault["msg"].removeprefix("Value error, ")
            yield f"{place}: {text[:1].lower()}{text[1:]}"


def _takes_params(executor: object) -> bool:
    params = getattr(executor, "params", None)
    return isinstance(params, type) and issubclass(params, Params)
