"""Limits: a process has them from its first instruction, and so has everything that it starts."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.limits import NONE, Limits
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.model import Completed, Failed, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun

PYTHON = sys.executable
NOBODY = 54_321
"""A user without rights and without processes; only root can become it."""
NAMES = ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE")
SEEN = (
    "import json, os, resource, sys\n"
    f"limits = {{name: resource.getrlimit(getattr(resource, name)) for name in {NAMES}}}\n"
    "json.dump({'argv': sys.argv[1:], 'env': dict(os.environ), 'limits': limits}, sys.stdout)"
)


def seen(limits: Limits, *argv: str, code: str = SEEN) -> dict[str, Any]:
    done = subprocess.run(
        limits.around([PYTHON, "-I", "-c", code, *argv]), env={"A": "1"}, capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def run_code(run: Run, code: str, limits: Limits) -> Outcome:
    executor = Shell(allow=[PYTHON], limits=limits)
    with anyio.fail_after(30):
        return await executor.run(validate_params(executor, {"argv": [PYTHON, "-I", "-c", code]}), run)


def test_a_program_and_what_it_starts_have_every_limit_and_nothing_else_is_changed() -> None:
    limits = Limits(memory_bytes=2**30, cpu_seconds=100, file_bytes=2**20, processes=500, open_files=64)
    arguments = ["$(id)", "; exit", "", "-c", "a b", "*"]

    found = seen(limits, *arguments)

    assert found["argv"] == arguments
    assert {name for name in found["env"] if not name.startswith("LC_")} == {"A"}
    processes = found["limits"].pop("RLIMIT_NPROC")
    assert found["limits"] == {
        "RLIMIT_DATA": [2**30, 2**30],
        "RLIMIT_CPU": [100, 105],
        "RLIMIT_FSIZE": [2**20, 2**20],
        "RLIMIT_NOFILE": [64, 64],
        "RLIMIT_CORE": [0, resource.getrlimit(resource.RLIMIT_CORE)[1] and 0],
    }
    assert 500 < processes[0] < 500 + 200_000
    child = seen(limits, code=f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SEEN!r}])")
    assert child["limits"]["RLIMIT_DATA"] == [2**30, 2**30]


def test_a_limit_that_is_lower_already_stays() -> None:
    code = (
        "import resource, subprocess, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))\n"
        "from taskqueue_mcp.executors.limits import Limits\n"
        "subprocess.run(Limits(open_files=4096).around(['/bin/sh', '-c', 'ulimit -n']), check=True)"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, env=os.environ | {"PYTHONPATH": "src"}, check=True)
    assert done.stdout.split() == [b"50"]


def test_without_limits_a_command_is_left_as_it_is() -> None:
    assert NONE.around(["/bin/true", "x"]) == ["/bin/true", "x"]
    assert replace(NONE, open_files=10).around(["/bin/true"])[-1] == "/bin/true"


def test_a_limit_that_cannot_be_set_keeps_the_program_from_running() -> None:
    command = replace(NONE, open_files=60).around(["/bin/echo", "ran"])
    lower = ["/bin/sh", "-c", 'ulimit -n 50; exec "$@"', "sh", *command]

    done = subprocess.run(lower, capture_output=True, user=NOBODY if os.geteuid() == 0 else None, check=False)

    assert done.returncode != 0
    assert done.stdout == b""


async def test_more_memory_than_is_allowed_ends_the_command_and_not_the_machine(make_run: MakeRun) -> None:
    outcome = await run_code(make_run(), "x = bytearray(600_000_000)", replace(NONE, memory_bytes=300_000_000))

    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("exit 1\nTraceback (most recent call last):\n")
    assert outcome.error.endswith("\nMemoryError")


async def test_reserved_addresses_are_no_memory(make_run: MakeRun) -> None:
    code = (
        "import mmap; mmap.mmap(-1, 2**36, prot=0, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); print('ok')"
    )
    outcome = await run_code(make_run(), code, replace(NONE, memory_bytes=300_000_000))

    assert isinstance(outcome, Completed), outcome


async def test_used_up_processor_time_and_a_file_too_large_are_said_in_words(make_run: MakeRun) -> None:
    slow = await run_code(make_run(), "while True: pass", replace(NONE, cpu_seconds=1))
    code = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "f = open('big', 'wb')\nwhile True: f.write(bytes(65536)); f.flush()"
    )
    large = await run_code(make_run(), code, replace(NONE, file_bytes=1_000_448))

    assert slow == Failed("killed by SIGXCPU: it used up its 1 s of processor time")
    assert large == Failed("killed by SIGXFSZ: it wrote a file of more than 1,000,448 bytes")


async def test_a_command_that_ignores_the_end_of_its_processor_time_is_killed(make_run: MakeRun) -> None:
    code = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    limits = replace(NONE, cpu_seconds=1)
    outcome = await run_code(make_run(), code, limits)

    assert outcome == Failed("killed by SIGKILL")


async def test_a_thousand_descriptors_are_refused_to_a_command_that_may_have_fifty(make_run: MakeRun) -> None:
    code = "import os; held = [os.open('/dev/null', os.O_RDONLY) for _ in range(1000)]"
    outcome = await run_code(make_run(), code, replace(NONE, open_files=50))

    assert isinstance(outcome, Failed)
    assert outcome.error.endswith("OSError: [Errno 24] Too many open files: '/dev/null'")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without processes")
def test_a_fork_bomb_stops_at_its_bound(tmp_path: Path) -> None:
    """As a user of its own: the bound is on all processes of one user, and root has none."""
    code = (
        f"import os, sys, time\nos.setuid({NOBODY})\ncount = 0\ntry:\n    while count < 100_000:\n"
        "        if os.fork() == 0:\n            time.sleep(20); os._exit(0)\n        count += 1\n"
        "except BlockingIOError:\n    pass\nprint(count)\nos.killpg(0, 15)"
    )
    command = replace(NONE, processes=50).around(
        [PYTHON, "-I", "-c", f"import signal; signal.signal(15, lambda *_: None)\n{code}"]
    )
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False, start_new_session=True, timeout=60)
    assert 0 < int(done.stdout.split()[0]) < 5_000
