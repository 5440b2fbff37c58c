"""Whether there is anything to do: a cheap look before an attempt, by a statement or a command."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import Field, model_validator

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import Executor, Params, validate_params
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.executors.sources.reading import Halted, ReadFailed, one_of
from taskqueue_mcp.executors.sources.visiting import visited
from taskqueue_mcp.model import Completed, Ended, Failed, Outcome, Returned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.base import Run

SECONDS: Final = 60.0
MOST_ROWS: Final = 1_000
NOTHING: Final = "exit 1"
"""As `test` and `grep` have it: 0 is yes, 1 is no, and anything else is a fault."""


class OnlyIf(Params):
    """What is looked at: rows of a source, or how a command ends."""

    sql: str | None = Field(default=None, min_length=1)
    source: str | None = None
    params: dict[str, Any] = Field(default={})
    command: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.sql is None) == (self.command is None):
            raise ValueError("give either sql (with source) or command")
        if self.command is not None and (self.source or self.params):
            raise ValueError("source and params go with sql")
        return self

    @property
    def executor(self) -> str:
        """The executor whose allow-list it goes by."""
        return "shell" if self.command is not None else "query"


class Conditional(Executor[Any]):
    """An executor that works only if there is something to do."""

    def __init__(self, executor: Executor[Any], asked: OnlyIf, looking: Executor[Any]) -> None:
        self._executor = executor
        self._asked = asked
        self._looking = looking

    async def run(self, params: Params, run: Run) -> Ended:
        """Look first; where there is nothing to do, the attempt is done."""
        await run.progress(None, "Looking whether there is anything to do")
        found = await self._look(run)
        if not isinstance(found, Completed):
            return found
        run.log(f"only_if: {found.summary}\n")
        if found.data:
            return await self._executor.run(params, run)
        why = f"nothing to do: {found.summary}"
        return Completed(summary=why, data={"skipped": True, "why": found.summary})

    async def _look(self, run: Run) -> Ended:
        """Return `Completed` with what was seen, and as its data whether there is anything to do."""
        if self._asked.command is None:
            return await self._read(run)
        try:
            asked = validate_params(self._looking, {"argv": self._asked.command})
        except InvalidInput as error:
            return Failed(f"only_if: {error}", permanent=True)
        outcome = await self._looking.run(asked, run)
        if isinstance(outcome, Completed):
            return Completed(summary=f"{self._asked.command[0]} said yes", data=True)
        if isinstance(outcome, Failed) and outcome.error.partition("\n")[0] == NOTHING:
            return Completed(summary=f"{self._asked.command[0]} said no", data=False)
        return _told(outcome)

    async def _read(self, run: Run) -> Outcome:
        assert isinstance(self._looking, Query)  # noqa: S101 - what the name `query` is registered for
        sources = self._looking.sources
        sql, values = self._asked.sql or "", self._values(run)
        try:
            name = one_of(sources, self._asked.source or (run.procedure.source if run.procedure else None))
        except InvalidInput as error:
            return Failed(f"only_if: {error}", permanent=True)
        reader = sources[name].open(seconds=run.timeout_seconds or SECONDS, most_rows=MOST_ROWS)

        def look() -> Outcome:
            try:
                with reader.opened():
                    reader.check(sql, values)
                    _, rows = reader.read(sql, values)
                    first = [tuple(row) for row in islice(rows, 2)]
            except Halted:
                return Returned(None, "stopped before it was over")
            except ReadFailed as error:
                return Failed(f"only_if: source {name}: {error}", permanent=not error.passing)
            return Completed(summary=_seen(name, first), data=_is_something(first))

        return await visited(run, reader, look, lambda: f"Looking at {name}")

    def _values(self, run: Run) -> Mapping[str, Any]:
        known = {"due_date": run.due_date.isoformat(), "task_id": run.task_id}
        return known | dict(run.task.get("params") or {}) | self._asked.params


def _is_something(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether there are rows; one that is a single number, as `count(*)` is, counts as what it says."""
    return bool(rows) and (len(rows) > 1 or len(rows[0]) > 1 or bool(rows[0][0]))


def _seen(name: str, rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return f"{name} has no rows for it"
    if len(rows) == 1 and len(rows[0]) == 1:
        return f"{name} says {str(rows[0][0])[:100]}"
    return f"{name} has rows for it"


def _told(outcome: Ended) -> Ended:
    return Failed(f"only_if: {outcome.error}", outcome.permanent) if isinstance(outcome, Failed) else outcome
