"""The seam between engines: a connection that runs works, not a repository per engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from taskqueue_mcp.store.dialect import Dialect
    from taskqueue_mcp.store.inspection import Facts
    from taskqueue_mcp.store.queues import Count

T = TypeVar("T")
Row = tuple[Any, ...]
Params = Mapping[str, Any]
Signal = tuple[str, str]
"""Who should look again after a commit: `("queue", name)`, `("task", "142")`."""

Listener = tuple[Callable[[frozenset[Signal] | None], None], Callable[[], bool] | None]
"""Who is told of commits, and whether anybody waits for that at the moment."""

NOTHING: Params = {}


class Transaction(Protocol):
    """Statements that succeed or fail together. Parameters are written `:name`, `{now}` is the clock."""

    @property
    def now(self) -> int:
        """The database's clock, in microseconds since the epoch, read once for this work."""

    @property
    def dialect(self) -> Dialect:
        """The engine's words."""

    @property
    def counts(self) -> dict[str, Count]:
        """What the works of this commit have counted on queues; stored with it."""

    @property
    def marks(self) -> set[str]:
        """What works of this commit have done for all of them."""

    def first(self, sql: str, params: Params = NOTHING) -> Row | None:
        """Run a statement and return its first row, or None."""

    def all(self, sql: str, params: Params = NOTHING) -> list[Row]:
        """Run a statement and return its rows."""

    def run(self, sql: str, params: Params = NOTHING) -> int:
        """Run a statement and return how many rows it changed."""

    def post(self, sql: str, params: Params) -> None:
        """Run a statement of which nothing is expected but its effect, and none of whose like changes the same row.

        The engine may gather such statements and run them at once, before any that looks at their table.
        """

    def run_many(self, sql: str, rows: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""

    def signal(self, subject: str, name: str) -> None:
        """Wake whoever waits for `subject` and `name` once this work is committed."""


Work = Callable[[Transaction], T]
"""What a transition is: a plain function of a transaction. It may be run again, so it has no other effect."""


class Database(Protocol):
    """A place where works happen, durably and one after the other as far as anyone can tell."""

    async def write(self, work: Work[T]) -> T:
        """Run `work` and return its result once it is durable; cancelling the caller does not undo it.

        Raises:
            Busy: another process holds the database, or the disk is full; nothing was changed.
        """

    def write_now(self, work: Work[T]) -> T:
        """The same, for callers without an event loop."""

    def read_now(self, work: Work[T]) -> T:
        """Run a read-only `work` on a consistent view, for callers without an event loop."""

    async def read(self, work: Work[T]) -> T:
        """Run a short, read-only `work` on a consistent view."""

    async def read_long(self, work: Work[T]) -> T:
        """Run a long, read-only `work` on a thread and a connection of its own."""

    def listen(
        self, listener: Callable[[frozenset[Signal] | None], None], *, needed: Callable[[], bool] | None = None
    ) -> Callable[[], None]:
        """Call `listener` after every commit with its signals (None: look at everything); return a stop.

        While `needed` says that somebody waits, other servers' commits are looked for more often.
        """

    async def backup(self, target: str) -> None:
        """Copy the database to the file `target` while it is in use; an existing file is refused."""

    async def inspect(self, *, whole: bool = False) -> Facts:
        """Return how the database is set up and what it holds; with `whole`, read every page first.

        Raises:
            DatabaseRefused: it is damaged.
        """

    def free_bytes(self) -> int:
        """Return how many bytes the database may still grow by, as far as is known."""

    async def close(self) -> None:
        """Finish what was accepted and release every connection."""

    def close_now(self) -> None:
        """The same, for callers without an event loop; nothing must be under way."""
