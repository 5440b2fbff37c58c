"""How long to wait before trying again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_mcp.retries import SECOND, Backoff


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 10), (2, 20), (3, 40), (4, 80), (9, 2_560), (10, 3_600), (11, 3_600), (100, 3_600), (10_000, 3_600)],
)
def test_the_wait_doubles_up_to_its_longest(failures: int, seconds: int) -> None:
    assert Backoff().delay(failures, 0.0) == seconds * SECOND


@given(
    st.integers(1, 200),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.001, 1_000),
    st.floats(1_000, 1_000_000),
    st.floats(0, 1),
)
def test_chance_only_adds_and_never_more_than_its_share(
    failures: int, chance: float, first: float, longest: float, jitter: float
) -> None:
    backoff = Backoff(first, longest, jitter)
    least, delay = backoff.delay(failures, 0.0), backoff.delay(failures, chance)
    assert least <= delay <= least * (1 + jitter) + 1
    assert delay <= longest * (1 + jitter) * SECOND + 1
    assert backoff.delay(failures + 1, 0.0) >= least


def test_chance_spreads_those_that_failed_together() -> None:
    assert len({Backoff().delay(1, number / 100) for number in range(100)}) == 100
