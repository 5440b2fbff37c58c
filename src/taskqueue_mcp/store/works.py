"""Works that have been asked for: each engine gathers them, commits them, and hands out what they came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from taskqueue_mcp.store.database import Signal, Work


@dataclass(slots=True, eq=False)
class Waiting:
    """A work that has been asked for and not yet answered."""

    work: Work[Any]
    future: asyncio.Future[Any] | None
    deadline: float
    result: Any = None
    error: BaseException | None = None
    signals: set[Signal] = field(default_factory=set)

    @property
    def gone(self) -> bool:
        """Whether whoever asked has left before it began."""
        return self.future is not None and self.future.cancelled()

    def answer(self) -> None:
        """Hand the outcome to whoever asked, unless they are gone."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)
