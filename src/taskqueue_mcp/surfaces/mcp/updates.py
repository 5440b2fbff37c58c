"""What changed, as MCP resource updates on open `subscriptions/listen` streams, in every process on the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.subscriptions import ResourceUpdated

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.subscriptions import ServerEvent

    from taskqueue_mcp.store import Signal

SCHEMES = {"queue": "queue://{}", "schedule": "schedule://{}"}


class Updates:
    """The SDK's bus over the database's signals; nothing is spent while nobody listens."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Hand an event to every open stream."""
        self._tell(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Add a stream; return what removes it."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None) and None

    def hear(self, signals: frozenset[Signal] | None) -> None:
        """Turn the signals of a commit into resource updates."""
        if not self._listeners or signals is None:
            return
        for subject, name in signals:
            if subject == "task":
                self._tell(ResourceUpdated(uri=f"task://T-{name}"))
            elif subject in SCHEMES:
                self._tell(ResourceUpdated(uri=SCHEMES[subject].format(name)))

    def _tell(self, event: ServerEvent) -> None:
        for listener in tuple(self._listeners.values()):
            listener(event)
