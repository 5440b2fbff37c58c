"""What a child process may use of this machine: set in the child before its program begins, so that nothing escapes.

`subprocess` has no way to do that which is safe beside threads (`preexec_fn` is not), and limits set from outside come
after the program's first steps. So `/bin/sh` sets them and becomes the program: the same process, the same number,
and the arguments are its positional parameters, which no shell reads.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskqueue_mcp.executors.trees import Mark

SHELL: Final = "/bin/sh"
GIBIBYTE: Final = 1024**3
KIBIBYTE: Final = 1024
BLOCK: Final = 512
"""What `ulimit -f` counts in, by POSIX."""
LAST_CPU_SECONDS: Final = 5
"""Between the signal that can be caught and the one that cannot."""
BECOME: Final = 'unset PWD OLDPWD SHLVL _ && exec "$0" "$@"'
"""What a shell would leave in the environment is taken out again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one process and of what it starts, each for itself; 0 means none.

    `memory_bytes` is data that a process may have (reserved address space, of which some runtimes take terabytes,
    does not count), `cpu_seconds` processor time, `file_bytes` the size of a file that it writes, `processes` how many
    more there may be than the machine runs already (for root the system sets none), `open_files` descriptors.
    Windows has none of them, macOS no bound of memory.
    """

    memory_bytes: int = 4 * GIBIBYTE
    cpu_seconds: int = 3_600
    file_bytes: int = 4 * GIBIBYTE
    processes: int = 1_000
    open_files: int = 4_096

    def around(self, argv: Sequence[str], mark: Mark | None = None) -> list[str]:
        """Return the command that runs `argv`, whose first entry is a whole path, within these limits.

        With a mark, whatever it starts carries that.
        """
        if sys.platform == "win32":
            return list(argv)
        wanted = list(_settings(self))
        if mark is not None:  # dash calls the limit -w, bash -x; where it is lower already, a mark is there
            number = mark.number
            wanted.append(f"{{ ulimit -w {number} || ulimit -x {number} || :; }} 2>/dev/null")
        return [SHELL, "-c", f"{' && '.join(wanted)} && {BECOME}", *argv] if wanted else list(argv)

    def how_it_ended(self, code: int) -> str:
        """Return a process's exit code in words, with the limit that it broke."""
        if code >= 0:
            return f"exit {code}"
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
        why = self.broken_by(-code)
        return f"{how}: {why}" if why else how

    def broken_by(self, number: int) -> str | None:
        """Return which limit a process broke that the signal `number` ended, in words, or None."""
        if sys.platform == "win32":
            return None
        if number == signal.SIGXCPU and self.cpu_seconds:
            return f"it used up its {self.cpu_seconds:,} s of processor time"
        if number == signal.SIGXFSZ and self.file_bytes:
            return f"it wrote a file of more than {self.file_bytes:,} bytes"
        return None


NONE: Final = Limits(memory_bytes=0, cpu_seconds=0, file_bytes=0, processes=0, open_files=0)
"""No limits at all."""

if sys.platform != "win32":
    import resource

    def _settings(limits: Limits) -> Iterator[str]:
        """Yield what sets each limit. A limit that is lower already stays: only root could raise it."""
        if limits.memory_bytes and (kept := _least(limits.memory_bytes, resource.RLIMIT_DATA)):
            yield f"ulimit -d {max(kept // KIBIBYTE, 1)}"
        if limits.cpu_seconds and (kept := _least(limits.cpu_seconds, resource.RLIMIT_CPU)):
            yield f"ulimit -S -t {kept} && ulimit -H -t {_least(kept + LAST_CPU_SECONDS, resource.RLIMIT_CPU)}"
        if limits.file_bytes and (kept := _least(limits.file_bytes, resource.RLIMIT_FSIZE)):
            yield f"ulimit -f {max(kept // BLOCK, 1)}"
        if limits.processes and (kept := _least(_running() + limits.processes, resource.RLIMIT_NPROC)):
            yield f"{{ ulimit -u {kept} 2>/dev/null || ulimit -p {kept}; }}"  # dash calls it -p
        if limits.open_files and (kept := _least(limits.open_files, resource.RLIMIT_NOFILE)):
            yield f"ulimit -n {kept}"
        if limits != NONE:
            yield "ulimit -c 0"

    def _least(wanted: int, which: int) -> int:
        _, hard = resource.getrlimit(which)
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    def _running() -> int:
        """How many threads this machine runs, of everybody: the bound is on all processes of one user."""
        try:
            return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
        except (OSError, ValueError, IndexError):
            return KIBIBYTE
