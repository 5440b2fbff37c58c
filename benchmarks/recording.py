"""The record of a run: a file a subject, from which the page and the charts are made (`python -m benchmarks.page`)."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysqlite3 import dbapi2 as sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measuring import Figure

RESULTS = Path(__file__).parent / "results"


def save(folder: Path, subject: str, title: str, figures: Sequence[Figure], begun: float, load: float) -> None:
    """Write what was found, on which machine, and how busy that was with other things just before."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "subject": subject,
        "title": title,
        "begun": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(begun)),
        "seconds": round(time.time() - begun),
        "load_before": round(load, 2),
        "machine": machine(),
        "figures": [asdict(figure) for figure in figures],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (folder / f"{subject}.json").write_text(f"{text}\n", encoding="utf-8")


def load(subject: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return the record of a subject."""
    record: dict[str, Any] = json.loads((folder / f"{subject}.json").read_text(encoding="utf-8"))
    return record


def points(subject: str, figure: str, folder: Path = RESULTS) -> dict[str, float]:
    """Return the numbers behind one figure of a record, found by a part of its name."""
    (found,) = [each for each in load(subject, folder)["figures"] if each["points"] and figure in each["name"]]
    numbers: dict[str, float] = found["points"]
    return numbers


def machine() -> dict[str, str]:
    """What was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    return {
        "processor": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "system": platform.system(),
        "python": platform.python_version(),
        "sqlite": sqlite.sqlite_version,
    }
