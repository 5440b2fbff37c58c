"""What the reliability tests can ask for besides: a place for the figures that the summary shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FIGURES = "figures"
"""The name under which a test's report carries them, from whatever process it ran in."""


class Tell(Protocol):
    """Puts what a test went through into the summary of the run: `tell(kills=300, tasks=5_000)`."""

    def __call__(self, **figures: int) -> None: ...


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Tell]:
    """Collect a test's figures; they are shown when it passed."""
    found: dict[str, int] = {}

    def note(**figures: int) -> None:
        for name, number in figures.items():
            found[name] = found.get(name, 0) + number

    yield note
    line = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in found.items())
    request.node.user_properties.append((FIGURES, f"{request.node.name}: {line}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, line in getattr(report, "user_properties", ()):
            if name == FIGURES:
                terminalreporter.write_line(line)
