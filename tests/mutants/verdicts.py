"""What a run says about a mutant."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_PASSED, SOME_FAILED = 0, 1
SHOWN = 100
NO_PROGRAM = re.compile(
    r"(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError|AttributeError|\S*ProgrammingError)\b"
    r"|.*(syntax error|no such (table|column)|does not exist)"
)
"""How a test fails when an edit, instead of breaking a promise, makes something that cannot run at all."""


class Fate(StrEnum):
    """How a mutant ended. Only the first is well."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    STALE = "stale"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a mutant ended on an engine: `by` the test that killed it, or why it was not."""

    name: str
    fate: Fate
    by: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.fate.value:8}  {self.seconds:5.1f} s  {self.name}: {self.by}"


def all_killed(found: Sequence[Verdict]) -> bool:
    """Whether every mutant that was tried is dead, and any was tried at all."""
    return bool(found) and all(verdict.fate is Fate.KILLED for verdict in found)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the witness of a run wrote down, and how pytest ended (None: it was stopped)."""

    code: int | None
    output: str
    lines: tuple[dict[str, Any], ...]

    @property
    def imported(self) -> Path | None:
        """Where the product was imported from."""
        return next((Path(line["imported"]) for line in self.lines if "imported" in line), None)

    @property
    def uncollected(self) -> list[str]:
        """What could not even be collected."""
        return [f"{line['uncollected']}: {line['why']}" for line in self.lines if "uncollected" in line]

    def tests(self, outcome: str, *whens: str) -> list[tuple[str, str]]:
        """Return the tests that had this outcome, each with the reason."""
        return [
            (line["test"].removeprefix("tests/"), line["why"])
            for line in self.lines
            if line.get("outcome") == outcome and (not whens or line["when"] in whens)
        ]

    @property
    def last_words(self) -> str:
        """The end of what pytest printed, in one line."""
        return " | ".join(line for line in self.output.splitlines()[-6:] if line.strip())[-400:]


def read(code: int | None, output: str, witness: Path) -> Seen:
    """Read what a witness wrote."""
    lines = witness.read_text(encoding="utf-8").splitlines() if witness.exists() else []
    return Seen(code, output, tuple(json.loads(line) for line in lines))


def fault_of(seen: Seen, root: Path) -> str | None:
    """Return what makes a run worthless as evidence, or None.

    A test that could not be collected or prepared says that the edit is no program, not that somebody checks
    the promise.
    """
    if seen.code is None:
        return "the run did not end"
    if seen.uncollected:
        return f"could not be collected: {seen.uncollected[0].splitlines()[-1]}"
    if seen.code not in {ALL_PASSED, SOME_FAILED}:
        return f"pytest ended with {seen.code}: {seen.last_words}"
    if seen.imported is None or not seen.imported.is_relative_to(root.resolve()):
        return f"the tests imported {seen.imported}, which is not the copy"
    return None


def of_clean(seen: Seen, root: Path) -> str | None:
    """Return why the tests of an untouched copy prove nothing, or None when every one of them passed."""
    fault = fault_of(seen, root)
    bad = [*seen.tests("failed"), *seen.tests("skipped")]
    if fault is None and bad:
        fault = f"red without any mutant, or skipped: {', '.join(dict.fromkeys(test for test, _ in bad))}"
    if fault is None and not seen.tests("passed", "call"):
        fault = "no test ran"
    return fault


def of_mutant(seen: Seen, root: Path) -> tuple[Fate, str]:
    """Return how a mutant ended, and who killed it or why nobody did."""
    fault = fault_of(seen, root)
    if fault is not None:
        return Fate.BROKEN, fault
    for test, why in seen.tests("failed", "call"):
        said = " ".join(why.split())
        if NO_PROGRAM.match(said):
            return Fate.BROKEN, f"{test} fails for another reason: {said[:SHOWN]}"
        return Fate.KILLED, f"{test.partition('[')[0]}: {said[:SHOWN]}"
    for test, why in seen.tests("failed"):
        return Fate.BROKEN, f"{test} could not be prepared or cleared away: {' '.join(why.split())[:SHOWN]}"
    return Fate.SURVIVED, f"{len(seen.tests('passed', 'call'))} tests passed all the same"
