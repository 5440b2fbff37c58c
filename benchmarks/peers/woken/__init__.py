"""One worker a file: its library's own, idle until a task comes, whose first line says when that was.

`SERVER` is what the library keeps its tasks in; the worker is the command that `COMMAND` names, and `send` enqueues.
"""

from __future__ import annotations

import os
import socket
import time

SERVER = os.environ.get("PEERS_SERVER", "")
BELL = os.environ.get("PEERS_BELL", "")


def started() -> None:
    """Tell the one who measures that the task has begun, and when."""
    now = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.sendto(str(now).encode(), BELL)
