"""How a worker works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskqueue_mcp.errors import SettingsRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.base import Registry
    from taskqueue_mcp.outputs.folder import OutputFolder
    from taskqueue_mcp.worker.uploading import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a worker works. `types` and `queues` narrow what it claims; by default it takes what its executors can do.

    `concurrency` is how many tasks there may be at once, `concurrency_of` how many of one executor. `stand_ins` names
    the executor that takes over the tasks of another which could not work for `patience` seconds. `checks` are the
    owner's commands that tasks may name; `uploads` takes files to a server that may be on another machine.
    """

    name: str
    outputs: OutputFolder
    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    concurrency: int = 1
    concurrency_of: Mapping[str, int] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    patience: float = 300.0
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uploads: Uploads | None = None
    once: bool = False
    lease_seconds: int = 900
    wait_seconds: float = 45.0
    drain_seconds: float = 10.0


def check(options: Options, registry: Registry) -> None:
    """Raise for what cannot work together.

    Raises:
        SettingsRefused: all faults at once.
    """
    faults = []
    if not registry:
        faults.append("a worker needs at least one executor; list them in the settings")
    if options.types and options.concurrency_of:
        faults.append("tasks cannot be claimed by type with a bound on an executor; leave out one of them")
    for name, other in options.stand_ins.items():
        if name == other:
            faults.append(f"{name} cannot stand in for itself; name another executor")
    if faults:
        raise SettingsRefused("; ".join(faults))
