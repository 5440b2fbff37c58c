"""What executors there are and what their tasks' parameters look like, for those who create tasks.

A server starts without any of them: what is needed to know one is imported when its first task is created.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.executors.base import Executor

GROUP = "taskqueue_mcp.executors"
"""The group of entry points in which a package offers an executor: a class that is made without arguments."""
CLASSES = {
    "calculation": "calculation:Calculation",
    "claude": "claude:Claude",
    "mail": "mail:Mail",
    "query": "query:Query",
    "report": "report:Report",
    "shell": "shell:Shell",
}
"""Where the class of each built-in executor is; it is imported when somebody asks."""


class Catalogue:
    """The built-in executors, and those of packages that are installed here."""

    def __init__(self) -> None:
        self._found: dict[str, type[Executor[Any]] | None] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all."""
        from importlib.metadata import entry_points  # noqa: PLC0415 - a start does without

        return tuple(sorted({*CLASSES, *(entry.name for entry in entry_points(group=GROUP))}))

    def describe(self, name: str) -> dict[str, Any]:
        """Return `{name, description, params}` of one; `params` is a JSON schema.

        Raises:
            NotFound: there is none of this name, or it cannot be loaded.
        """
        found = self.load(name)
        if found is None:
            raise NotFound(f"there is no executor {name[:80]!a}; there are {', '.join(self.names())}")
        words = found.description or (found.__doc__ or "").partition("\n")[0]
        return {"name": name, "description": words, "params": found.params.model_json_schema()}

    def check(self, name: str, params: Mapping[str, Any]) -> None:
        """Refuse parameters that the executor would refuse; one that is not known here takes any.

        Raises:
            InvalidInput: one line with every bad field.
        """
        from taskqueue_mcp.executors.base import validated  # noqa: PLC0415 - a start does without

        found = self.load(name)
        if found is not None:
            validated(found.params, params, what=f"params of {name}")

    def load(self, name: str) -> type[Executor[Any]] | None:
        """Return the class of an executor, None for one that is not known here or does not load."""
        if name not in self._found:
            self._found[name] = _built_in(name) if name in CLASSES else _installed(name)
        return self._found[name]


def _built_in(name: str) -> type[Executor[Any]]:
    module, _, called = CLASSES[name].partition(":")
    found: type[Executor[Any]] = getattr(import_module(f"taskqueue_mcp.executors.{module}"), called)
    return found


def _installed(name: str) -> type[Executor[Any]] | None:
    from importlib.metadata import entry_points  # noqa: PLC0415 - a start does without

    from taskqueue_mcp.executors.base import Executor, Params  # noqa: PLC0415 - the same

    for entry in entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        # A package is anyone's code, and may need what only the worker's machine has.
        except Exception:  # noqa: BLE001
            return None
        params = getattr(found, "params", None)
        if isinstance(found, type) and issubclass(found, Executor) and isinstance(params, type):
            return found if issubclass(params, Params) else None
    return None
