"""The pytest plugin that a run under a mutant is watched by: what was imported from where, and what came of each test.

It runs inside the copy and writes a line of JSON for each thing that it sees; the runner reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Witness:
    """Writes down what happens; with `engine`, leaves out the tests of another one."""

    def __init__(self, path: Path, engine: str | None) -> None:
        self._path = path
        self._engine = engine

    def note(self, **seen: Any) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(seen) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self.note(uncollected=report.nodeid, why=report.longreprtext[-2_000:])

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
        """Leave out what runs on another engine."""
        yield
        others = [item for item in items if _engine(item) not in {None, self._engine}]
        if self._engine is not None and others:
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if item not in others]

    def pytest_sessionfinish(self) -> None:
        """Note where the product came from, once whatever imports it late has done so."""
        import taskqueue_mcp  # noqa: PLC0415 - a mutant may not even import, which is for the tests to say

        self.note(imported=str(Path(taskqueue_mcp.__file__).resolve()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what came of a test, and of its preparation if that failed or was left out."""
        if report.when == "call" or report.outcome != "passed":
            crash = getattr(report.longrepr, "reprcrash", None)
            why = "" if crash is None else crash.message
            self.note(test=report.nodeid, when=report.when, outcome=report.outcome, why=why[:1_000])


def _engine(item: pytest.Item) -> str | None:
    call = getattr(item, "callspec", None)
    return None if call is None else call.params.get("engine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take where to write and which engine is wanted."""
    parser.addoption("--witness", type=Path, help="the file that the witness writes to")
    parser.addoption("--only-engine", help="run the tests of this engine, and those of none")


def pytest_configure(config: pytest.Config) -> None:
    """Call the witness."""
    if config.option.witness is not None:
        config.pluginmanager.register(Witness(config.option.witness, config.option.only_engine))
