"""The executors of a worker, as its settings set them up: the built-in ones, and those of installed packages."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.app.catalogue import GROUP
from taskqueue_mcp.app.sources import sources_of
from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.base import Executor, Registry
from taskqueue_mcp.settings import state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint

    from taskqueue_mcp.settings import Settings


def _calculation(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.calculation import Calculation  # noqa: PLC0415 - only a worker that has it loads it
    from taskqueue_mcp.executors.limits import Limits  # noqa: PLC0415 - the same

    means = settings.worker
    folder = None if means.calculations is None else means.calculations.expanduser().absolute()
    limits = Limits(**means.process.model_dump())
    return Calculation(folder, python=means.calculation_python, env_names=means.calculation_env, limits=limits)


def _query(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.query import Query  # noqa: PLC0415 - only a worker that has it loads it

    return Query(sources_of(settings))


def _report(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.report import Report  # noqa: PLC0415 - only a worker that has it loads it

    return Report(sources_of(settings))


def _shell(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.limits import Limits  # noqa: PLC0415 - only a worker that has it loads it
    from taskqueue_mcp.executors.shell import Shell  # noqa: PLC0415 - the same

    means = settings.worker
    limits = Limits(**means.process.model_dump())
    return Shell(allow=means.shell_allow, env_names=means.shell_env, folder=means.shell_folder, limits=limits)


def _claude(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.claude import Claude, Leave, Server  # noqa: PLC0415 - only a worker that has it loads it

    means = settings.worker.claude
    given = {name: getattr(means, name) for name in type(means).model_fields}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    places = {name: value.expanduser().absolute() for name, value in given.items() if isinstance(value, Path)}
    servers = {
        name: Server(**{**server.model_dump(), "args": tuple(server.args), "tools": tuple(server.tools)})
        for name, server in means.mcp_servers.items()
    }
    folders = {name: folder.expanduser().absolute() for name, folder in means.folders.items()}
    own = {"home": (state_folder() / "claude").absolute(), "folders": folders, "mcp_servers": servers}
    return Claude(Leave(**{**given, **lists, **own, **places}))


def _mail(settings: Settings) -> Executor[Any]:
    from taskqueue_mcp.executors.mail import Mail, MailServer  # noqa: PLC0415 - only a worker that has it loads it

    means = settings.worker.mail
    password = None if means.password is None else means.password.get_secret_value()
    server = means.host and MailServer(
        host=means.host, port=means.port, tls=means.tls, user=means.user, password=password, ca_file=means.ca_file
    )
    return Mail(server or None, sender=means.sender, destinations=means.destinations, most_bytes=means.most_bytes)


BUILT_IN: dict[str, Callable[[Settings], Executor[Any]]] = {
    "calculation": _calculation,
    "claude": _claude,
    "mail": _mail,
    "query": _query,
    "report": _report,
    "shell": _shell,
}


def registry_of(settings: Settings, names: tuple[str, ...]) -> Registry:
    """Return the executors of these names, as the settings set them up.

    Raises:
        SettingsRefused: there is no executor of that name, or its settings are wrong.
    """
    check_names(names)
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    return Registry(
        BUILT_IN[name](settings) if name in BUILT_IN else _loaded(offered[name]) for name in dict.fromkeys(names)
    )


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no executor has.

    Raises:
        SettingsRefused: with all of them.
    """
    known = {*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}
    if unknown := sorted(set(names) - known):
        raise SettingsRefused(f"there is no executor {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _loaded(entry: EntryPoint) -> Executor[Any]:
    """Return the executor that a package offers; whatever its code raises is said in a line."""
    try:
        made = entry.load()()
    except Exception as error:
        raise SettingsRefused(f"the executor {entry.name} of {entry.value} cannot be loaded: {error!r}") from error
    if not isinstance(made, Executor):
        raise SettingsRefused(f"{entry.value} makes a {type(made).__name__} and no executor; derive it from Executor")
    return made
