"""What may be spent, decided purely."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_mcp import budgets
from taskqueue_mcp.budgets import ONE, Account
from taskqueue_mcp.retries import Reopening
from tests.clock import micros

DAY = 86_400 * ONE


def account(scope: str = "day", *, ceiling: float = 5, spent: float = 0, reserved: float = 0, **more: Any) -> Account:
    values = {"raised": 0, "asked_task": None, "unit": "usd", **more}
    return Account(
        id=1, key=f"{scope}:x", scope=scope, name="x", day=1,
        ceiling=round(ceiling * ONE), spent=round(spent * ONE), reserved=round(reserved * ONE), **values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("continue with +5", 5),
        ("Continue with 2.50 USD", 2.5),
        ("+5", 5),
        ("5", 5),
        ("$3", 3),
        ("yes, continue", 0),
        ("continue", 0),
        ("Go on.", 0),
        ("ok", 0),
        ("okay, go on with 4", 4),
        ("continue with +30 turns", 30),
        ("stop", "stop"),
        ("No, stop.", "stop"),
        ("STOP", "stop"),
        ("-5", None),
        ("continue with everything", None),
        ("do not continue", None),
        ("5 or 6", None),
        ("1e9", None),
        ("", None),
    ],
)
def test_an_answer_is_an_amount_or_a_stop_or_refused(said: str, means: float | str | None) -> None:
    found = budgets.read_answer(said)
    assert found == (round(means * ONE) if isinstance(means, int | float) else means)


def test_what_is_spent_and_what_is_only_set_aside_are_told_apart() -> None:
    need = {"usd": 2 * ONE}
    assert budgets.shortage([account(spent=1, reserved=2)], need) is None  # type: ignore[arg-type]
    aside = budgets.shortage([account(spent=1, reserved=3)], need)  # type: ignore[arg-type]
    spent = budgets.shortage([account(spent=4, reserved=0)], need)  # type: ignore[arg-type]
    never = budgets.shortage([account(ceiling=1)], need)  # type: ignore[arg-type]
    assert aside is not None
    assert spent is not None
    assert never is not None
    assert (aside.is_spent, aside.for_good) == (False, False)
    assert (spent.is_spent, spent.for_good) == (True, False)
    assert (never.is_spent, never.for_good) == (True, True)


def test_the_tasks_own_account_is_told_before_any_other() -> None:
    short = budgets.shortage([account(spent=5), account("task", ceiling=1, spent=1)], {"usd": 0})
    assert short is not None
    assert short.account.scope == "task"


def test_whose_cost_nobody_knows_is_held_back_only_when_all_is_spent() -> None:
    assert budgets.shortage([account(spent=4.99, reserved=5)], {}) is None
    assert budgets.shortage([account(spent=5)], {}) is not None


@given(
    st.integers(0, 10 * ONE), st.integers(0, 10 * ONE), st.integers(0, 10 * ONE), st.integers(1, 10 * ONE),
    st.integers(0, 5 * ONE),
)  # fmt: skip
def test_who_is_not_short_can_be_paid(ceiling: int, spent: int, reserved: int, need: int, raised: int) -> None:
    there = Account(1, "k", "day", "", 1, "usd", ceiling, raised, reserved, spent, None)
    short = budgets.shortage([there], {"usd": need})
    assert (short is None) == (spent + reserved + need <= ceiling + raised)
    if short is not None and short.is_spent:
        assert spent + need > ceiling + raised


@pytest.mark.parametrize(
    ("at", "zone", "same_day_until"),
    [
        ("2026-01-15T12:00:00Z", "UTC", "2026-01-16T00:00:00Z"),
        ("2026-01-15T22:59:59Z", "Europe/Berlin", "2026-01-15T23:00:00Z"),
        ("2026-03-28T23:30:00Z", "Europe/Berlin", "2026-03-29T22:00:00Z"),
        ("2026-10-24T22:30:00Z", "Europe/Berlin", "2026-10-25T23:00:00Z"),
        ("2026-01-15T12:00:00Z", "Pacific/Kiritimati", "2026-01-16T10:00:00Z"),
    ],
)
def test_a_day_ends_at_midnight_of_its_zone(at: str, zone: str, same_day_until: str) -> None:
    now, midnight = micros(at), micros(same_day_until)
    assert budgets.next_day(now, zone) == midnight
    assert budgets.day_of(now, zone) == budgets.day_of(midnight - 1, zone)
    assert budgets.day_of(midnight, zone) == budgets.day_of(now, zone) + 1


@given(st.integers(0, 4 * 10**15), st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]))
def test_the_next_day_is_always_ahead_and_is_the_next_one(at: int, zone: str) -> None:
    following = budgets.next_day(at, zone)
    assert at < following <= at + 25 * 3_600 * ONE
    assert budgets.day_of(following, zone) == budgets.day_of(at, zone) + 1


def test_usage_that_is_no_number_counts_nothing() -> None:
    odd = {"cost_usd": "2", "turns": True, "duration_seconds": -1}
    assert budgets.used(odd) == {}
    assert budgets.used({"cost_usd": 0.1, "turns": 3}, 90) == {"usd": 100_000, "turns": 3 * ONE, "minutes": 1_500_000}
    assert budgets.used({"duration_seconds": 30}, 90) == {"minutes": 500_000}


def test_a_gate_opens_after_the_limit_a_little_later_each_time() -> None:
    rule = Reopening()
    assert rule.opens_at(100 * ONE, 0, 1, 0.0) == 100 * ONE
    assert rule.opens_at(100 * ONE, 0, 1, 0.5) == 105 * ONE
    assert rule.opens_at(DAY, 0, 1, 0.999) <= DAY + 30 * ONE
    assert [rule.opens_at(0, 0, waits, 0.0) // ONE for waits in (1, 2, 3, 4, 20)] == [0, 60, 120, 240, 3_600]
