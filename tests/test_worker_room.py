"""Who may claim what: places of an executor, and executors that cannot work here now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.worker.room import Hold, Room

if TYPE_CHECKING:
    from collections.abc import Callable


def everybody(name: str) -> str | None:
    return name


def room(most: dict[str, int] | None = None, carries_out: Callable[[str], str | None] = everybody) -> Room:
    return Room(["claude", "shell"], most or {}, carries_out)


def asks(hold: Hold) -> list[str]:
    return list(hold.names)


def test_without_bounds_every_slot_asks_for_everything() -> None:
    places = room()
    assert [asks(places.enter()) for _ in range(3)] == [["claude", "shell"]] * 3


def test_no_more_slots_ask_for_an_executor_than_it_has_places() -> None:
    places = room({"claude": 1, "shell": 2})
    assert [asks(places.enter()) for _ in range(4)] == [["claude", "shell"], ["shell"], [], []]


def test_a_place_that_a_slot_does_not_need_goes_to_a_parked_one() -> None:
    places = room({"claude": 1})
    first, second = places.enter(), places.enter()

    assert places.leave(first, "shell") == "shell"

    assert asks(second) == ["claude", "shell"]


def test_a_place_that_is_taken_stays_taken_until_it_is_given_back() -> None:
    places = room({"claude": 1})
    first, second = places.enter(), places.enter()
    place = places.leave(first, "claude")
    assert place == "claude"
    assert asks(second) == ["shell"]

    places.give_back(place)

    assert asks(second) == ["claude", "shell"]
    assert asks(places.enter()) == ["shell"]


async def test_a_parked_call_is_cancelled_when_there_is_more_to_ask_for_and_only_then() -> None:
    places = room({"claude": 1})
    first, second, third = places.enter(), places.enter(), places.enter()
    with second.asking() as asked, third.asking() as idle:
        places.leave(first, "shell")
        assert asked.cancel_called
        assert not idle.cancel_called


def test_what_nobody_carries_out_is_not_asked_for_and_a_stand_in_counts_as_itself() -> None:
    doing: dict[str, str | None] = {"claude": None, "shell": "shell"}
    places = room({"shell": 2}, doing.get)
    first = places.enter()
    assert asks(first) == ["shell"]

    doing["claude"] = "shell"
    places.changed()

    assert asks(first) == ["claude", "shell"]
    assert places.leave(first, "claude") == "shell"
    assert [asks(places.enter()) for _ in range(2)] == [["claude", "shell"], []]


def test_a_task_of_an_earlier_question_takes_a_place_too() -> None:
    places = room({"claude": 1})
    first, second = places.enter(), places.enter()

    places.leave(second, "claude")

    assert asks(first) == ["claude", "shell"]
    places.leave(first, None)
    assert asks(places.enter()) == ["shell"]


@pytest.mark.parametrize("claimed", [None, "shell", "claude"])
def test_every_place_comes_back(claimed: str | None) -> None:
    places = room({"claude": 1, "shell": 1})
    for _ in range(5):
        place = places.leave(places.enter(), claimed)
        if place is not None:
            places.give_back(place)
    assert asks(places.enter()) == ["claude", "shell"]
