"""The worker's own look at what an executor has made: in its folders and with its checks, outside the agent."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from taskqueue_mcp.outputs import checking, expectations
from taskqueue_mcp.outputs.checking import Claimed, Named, Place
from taskqueue_mcp.outputs.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.base import Executor, Params, Run
    from taskqueue_mcp.model import Completed


@dataclass(frozen=True, slots=True)
class Watch:
    """What a task has to produce, and what the files that are to change were when its attempt began."""

    wanted: tuple[expectations.Expectation, ...]
    run: Run
    place: Place
    values: Mapping[str, Any]
    begun_at: float
    baseline: Mapping[str, str | None] | None
    stop: threading.Event = field(default_factory=threading.Event)

    async def look(self, outcome: Completed) -> dict[str, Any] | None:
        """Return what was found, as `complete_task` takes it; None where nothing was declared.

        A look that is cancelled ends what it runs.
        """
        if not self.wanted:
            return None
        if self.run.task.get("only_if") and isinstance(outcome.data, dict) and outcome.data.get("skipped") is True:
            return {"met": [], "faults": [], "skipped": True}
        data = None if outcome.data is None else json.dumps(outcome.data, ensure_ascii=False, default=str)
        named = dict.fromkeys([*([outcome.path] if outcome.path else []), *outcome.artifacts])
        claimed = Claimed(
            wanted=self.wanted,
            named=tuple(Named(path) for path in named),
            data=data,
            values=self.values,
            since=self.begun_at,
            now=time.time(),
            baseline=self.baseline,
        )
        try:
            found = await anyio.to_thread.run_sync(checking.look, claimed, self.place, abandon_on_cancel=True)
        finally:
            self.stop.set()
        return {"met": found.met, "faults": found.reasons()}


async def begin(
    executor: Executor[Any], params: Params, run: Run, given: Mapping[str, Any], checks: Mapping[str, Sequence[str]]
) -> Watch:
    """Note what a task has to produce, before its executor starts; `given` are its parameters as they came.

    Raises:
        InvalidInput: what it declares cannot be read.
    """
    begun_at = time.time()  # files carry the time of this machine
    wanted = expectations.read(run.task.get("outputs"))
    work = OutputFolder(executor.works_in(params, run))
    values = {**given, "date": run.due_date.isoformat(), "task_id": run.task_id}
    stop = threading.Event()
    place = Place(outputs=run.outputs, work=work, checks=checks, stop=stop)
    baseline = None
    if any(each.changed for each in wanted):
        baseline = await anyio.to_thread.run_sync(checking.baseline, wanted, values, work)
    return Watch(wanted, run, place, values, begun_at, baseline, stop)
