"""The files of the tasks that this one depended on, where the session can read them."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.outputs import paths

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run

FOLDER: Final = "inputs"
LARGEST: Final = 256 * 1024 * 1024


def take_in(run: Run, work: Path, cwd: Path) -> dict[str, str]:
    """Copy each input's file into `work` and return, by task, what the session calls it; blocks.

    One that does not lie in this machine's output folder, or is too large, stays away and the log says so.
    """
    names: dict[str, str] = {}
    for each in run.inputs:
        task, path = str(each.get("task")), each.get("result_path")
        if not isinstance(path, str) or not path:
            continue
        try:
            copied = _copied(run, each, path, work)
        except (TaskQueueError, OSError) as error:
            run.log(f"the file of {task} is not there for Claude: {error}\n")
            continue
        names[task] = copied.relative_to(work).as_posix() if work == cwd else str(copied)
    return names


def _copied(run: Run, found: Mapping[str, Any], path: str, work: Path) -> Path:
    place = work / FOLDER / paths.clean(str(found.get("task")))
    copied = place / paths.clean(PurePosixPath(path).name)
    with run.outputs.opened(path) as (source, status):
        if status.st_size > LARGEST:
            raise OSError(f"{status.st_size:,} bytes are more than the {LARGEST:,} that are copied")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        copied.unlink(missing_ok=True)
        with copied.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return copied
