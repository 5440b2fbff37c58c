"""The program's own commands in processes that were forked with its modules loaded: a start costs milliseconds."""

from __future__ import annotations

import logging
import os

import taskqueue_mcp.app
import taskqueue_mcp.executors.shell
import taskqueue_mcp.surfaces.asgi
import taskqueue_mcp.surfaces.mcp.server
import taskqueue_mcp.surfaces.mcp.stdio
import taskqueue_mcp.worker  # noqa: F401 - loaded before the fork, like all of these
from taskqueue_mcp.cli import main, running  # noqa: F401 - the same


def run(arguments: list[str], environment: dict[str, str], log: str, folder: str) -> None:
    """Be `taskqueue-mcp ARGUMENTS` in this folder and environment, with all it says in the file `log`."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    logging.getLogger().handlers.clear()
    main(arguments, standalone_mode=True)
