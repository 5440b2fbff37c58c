"""Which mutants this run of the tests tries: five, others with every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mutants import breakages
from tests.mutants.runner import sample, trials

if TYPE_CHECKING:
    from tests.mutants.runner import Trial

SAMPLE = 5


def _chosen(config: pytest.Config) -> list[Trial]:
    return sample(trials(breakages.ALL), config.option.seed, SAMPLE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test that asks for `tried` the names of the chosen."""
    if "tried" in metafunc.fixturenames:
        metafunc.parametrize("tried", [trial.name for trial in _chosen(metafunc.config)])


@pytest.fixture(scope="session")
def chosen(pytestconfig: pytest.Config) -> list[Trial]:
    """The mutants of this run."""
    return _chosen(pytestconfig)
