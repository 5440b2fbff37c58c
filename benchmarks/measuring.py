"""Rounds, medians and small tables: what every subject shares."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `met` is None where there is no target, `points` are the numbers that a chart shows."""

    name: str
    measured: str
    target: str = ""
    met: bool | None = None
    points: dict[str, float] = field(default_factory=dict)


def at_least(name: str, measured: float, target: float, detail: str = "") -> Figure:
    """A ratio that has to reach its target."""
    return Figure(name, _with(f"{measured:.2f}x", detail), f">= {target:g}x", measured >= target)


def at_most(name: str, measured: float, target: float, unit: str = "x", detail: str = "") -> Figure:
    """A figure that has to stay below its target."""
    return Figure(name, _with(f"{measured:.3g} {unit}", detail), f"<= {target:g} {unit}", measured <= target)


def _with(text: str, detail: str) -> str:
    return f"{text} ({detail})" if detail else text


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' own ratios: what slows a whole round down leaves it as it is."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def rates(name: str, found: dict[str, float], unit: str) -> Figure:
    """What everybody reached, for the ratios that follow."""
    return Figure(name, f"{', '.join(f'{who} {rate:,.0f}' for who, rate in found.items())} {unit}", points=found)


def disk(where: Path) -> Figure:
    """How long this disk takes, just now, for what a commit waits for."""
    took = []
    with (where / "probe").open("wb", buffering=0) as file:
        for _ in range(200):
            begin = time.perf_counter()
            file.write(bytes(16_384))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begin)
    return Figure("this disk meanwhile: fdatasync after 16 KiB, median", f"{statistics.median(took) * 1e3:.2f} ms")


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print one subject's table."""
    print(f"\n{title}")
    widths = [max(len(getattr(each, part)) for each in figures) for part in ("name", "measured", "target")]
    for each in figures:
        verdict = {True: "met", False: "MISSED", None: ""}[each.met]
        cells = (each.name.ljust(widths[0]), each.measured.ljust(widths[1]), each.target.ljust(widths[2]), verdict)
        print(("  " + "  ".join(cells)).rstrip(), flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the temporary files lie on."""
    with tempfile.TemporaryDirectory(prefix="taskqueue-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path)
