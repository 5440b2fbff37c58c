"""Runs the named tests against each mutant, on a copy of the checkout of its own, as many at once as there are cores.

First the same tests have to pass on an untouched copy: a test that fails anyway kills nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants import verdicts
from tests.mutants.copies import Copy, copy_of
from tests.mutants.mutant import Mutant, Stale
from tests.mutants.verdicts import Fate, Seen, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST_TEST = 30
LONGEST_RUN, LONGEST_CHECK = 180.0, 1_200.0
"""Seconds: for one test, after which it counts as failed; for a mutant's tests and for those of all mutants on the
untouched copy, after which they prove nothing."""
CLEARING = 10.0
"""Seconds that a run which is broken off has to end its servers and delete its files."""
NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "VIRTUAL_ENV")


class RedAlready(Exception):
    """The tests do not pass on the untouched product, so they can prove nothing."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A mutant on an engine."""

    mutant: Mutant
    engine: str

    @property
    def name(self) -> str:
        """The mutant's name, with the engine where that is not the usual one."""
        return self.mutant.name if self.engine == "sqlite" else f"{self.mutant.name}@{self.engine}"


def trials(mutants: Iterable[Mutant], engine: str | None = None) -> list[Trial]:
    """Return each mutant on each of its engines, or on the given one."""
    return [Trial(mutant, on) for mutant in mutants for on in mutant.engines if engine in {None, on}]


def sample(chosen: list[Trial], seed: int, count: int) -> list[Trial]:
    """Return `count` that are quickly tried, others for another seed."""
    quick = [trial for trial in chosen if not trial.mutant.is_slow]
    return random.Random(seed).sample(quick, min(count, len(quick)))  # noqa: S311 - a choice of tests


class Runner:
    """Tries mutants of the checkout at `root`."""

    def __init__(self, root: Path, *, seed: int, jobs: int | None = None) -> None:
        self._root = root
        self._seed = seed
        self._jobs = jobs or os.cpu_count() or 1

    def run(self, chosen: list[Trial], tell: Callable[[Verdict], None] = lambda _: None) -> list[Verdict]:
        """Try each; `tell` hears of every verdict as it falls.

        Raises:
            RedAlready: a test that is named fails, or is skipped, without any mutant.
        """
        with tempfile.TemporaryDirectory(prefix="taskqueue-mutants-") as folder:
            return asyncio.run(self._run(Path(folder).resolve(), chosen, tell))

    async def _run(self, folder: Path, chosen: list[Trial], tell: Callable[[Verdict], None]) -> list[Verdict]:
        clean = copy_of(self._root, folder / "clean")
        free = asyncio.Semaphore(self._jobs)
        await self._demand_green(clean, chosen, free)

        async def attempt(number: int, trial: Trial) -> Verdict:
            async with free:
                verdict = await self._try(trial, clean, folder / str(number))
            tell(verdict)
            return verdict

        async with asyncio.TaskGroup() as group:
            running = [group.create_task(attempt(number, trial)) for number, trial in enumerate(chosen)]
        return [task.result() for task in running]

    async def _demand_green(self, clean: Copy, chosen: list[Trial], free: asyncio.Semaphore) -> None:
        wanted = sorted({(trial.engine, test) for trial in chosen for test in trial.mutant.tests})
        engines = sorted({engine for engine, _ in wanted})
        shares = [
            (engine, share)
            for engine in engines
            for part in range(self._jobs)
            if (share := [test for on, test in wanted if on == engine][part :: self._jobs])
        ]

        async def check(number: int, engine: str, tests: list[str]) -> str | None:
            async with free:
                witness = clean.root.parent / f"witness-{number}"
                seen = await self._pytest(clean, tests, engine, witness, longest=LONGEST_CHECK)
            return verdicts.of_clean(seen, clean.root)

        async with asyncio.TaskGroup() as group:
            checks = [group.create_task(check(number, *share)) for number, share in enumerate(shares)]
        faults = [fault for each in checks if (fault := each.result()) is not None]
        if faults:
            raise RedAlready("; ".join(faults))

    async def _try(self, trial: Trial, clean: Copy, folder: Path) -> Verdict:
        began = time.monotonic()
        try:
            broken = copy_of(clean.root, folder)
            try:
                trial.mutant.apply(broken.root)
            except Stale as stale:
                return Verdict(trial.name, Fate.STALE, str(stale), time.monotonic() - began)
            seen = await self._pytest(broken, list(trial.mutant.tests), trial.engine, folder / "witness", "--exitfirst")
            fate, by = verdicts.of_mutant(seen, broken.root)
            return Verdict(trial.name, fate, by, time.monotonic() - began)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _pytest(
        self, copy: Copy, tests: list[str], engine: str, witness: Path, *options: str, longest: float = LONGEST_RUN
    ) -> Seen:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        process = await asyncio.create_subprocess_exec(
            str(copy.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.witness",
            "--tb=line", f"--timeout={LONGEST_TEST}", f"--seed={self._seed}", f"--witness={witness}",
            f"--only-engine={engine}", *options, *(f"tests/{test}" for test in tests),
            cwd=copy.root, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(longest):
                output, _ = await process.communicate()
            return verdicts.read(process.returncode, output.decode(errors="replace"), witness)
        except TimeoutError:
            return verdicts.read(None, "", witness)
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a run that goes on, once it has cleared away, and kill what is left: a mutant may leave children behind."""
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEARING):
                await process.communicate()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
