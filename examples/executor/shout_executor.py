"""An executor of one's own: it writes a text in capitals. `pip install` it where the worker runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import anyio
from pydantic import Field

from taskqueue_mcp.executors.base import Executor, Params
from taskqueue_mcp.model import Asked, Completed, Failed, Returned

if TYPE_CHECKING:
    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Ended

MOST_SECONDS = 60


class ShoutParams(Params):
    """What a task of this executor may say; anything else is refused when the task is created."""

    text: str = Field(min_length=1, max_length=10_000, description="What to shout")
    seconds: float = Field(default=0.0, ge=0, le=MOST_SECONDS, description="Breath to take before")


class Shout(Executor[ShoutParams]):
    """Writes a text in capitals into a file of the output folder."""

    name: ClassVar[str] = "shout"
    description: ClassVar[str] = "Writes a text in capitals into a file"
    params = ShoutParams

    async def preflight(self) -> str | None:
        """Say why this machine cannot do it now; the worker then takes no such task, and tells the reason."""
        return "shout: SHOUT_QUIETLY is set here; unset it" if os.environ.get("SHOUT_QUIETLY") else None

    async def run(self, params: ShoutParams, run: Run) -> Ended:
        """Do the work of one attempt and say what came of it."""
        if "password" in params.text.lower() and not run.answers:
            return Asked("The text has a password in it. Shall I shout it?")
        if not any(letter.isalpha() for letter in params.text):
            return Failed("there is nothing to shout in that; send letters", permanent=True)
        await run.progress(10, "Taking a breath")
        with anyio.move_on_after(params.seconds):
            await run.stop.wait()
        if run.stop.is_set():  # cancelled, or the worker is going: end at once, leave nothing running
            return Returned(None, "stopped before it shouted")
        loud = params.text.upper()
        run.log(f"shouting {len(loud)} characters\n")
        written = run.outputs.write(f"Shouts/{run.task_id}.txt", lambda file: file.write(loud.encode()))
        return Completed(summary=loud[:200], path=written.path, data={"characters": len(loud)})
