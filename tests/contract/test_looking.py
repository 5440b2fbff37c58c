"""Lists, cursors and search."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, NotFound, TaskQueueError
from taskqueue_mcp.model import Caller, Kind
from taskqueue_mcp.taskqueue import NewTask, Wanted, creating
from taskqueue_mcp.taskqueue.querying import read_statuses
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock


async def test_tasks_are_listed_newest_first_in_pages_without_gaps(desk: Desk) -> None:
    made = [(await desk.create(f"task {number}")).id for number in range(25)]
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await desk.page(cursor, limit=10)
        seen += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
        await desk.create("meanwhile")
    assert seen == made[::-1]


async def test_a_last_page_that_is_full_has_no_next(desk: Desk) -> None:
    for number in range(10):
        await desk.create(f"task {number}")
    assert (await desk.page(limit=10)).next_cursor is None
    assert (await desk.page(limit=9)).next_cursor is not None


async def test_ready_tasks_are_paged_in_the_order_of_claiming(desk: Desk, clock: Clock) -> None:
    for number in range(7):
        await desk.create(f"task {number}", priority=("low", "high")[number % 2])
        clock.advance(number % 3)
    whole = await desk.ready()
    paged: list[int] = []
    cursor: str | None = None
    while True:
        page = await desk.queue.list_ready(CLAUDE, None, None, cursor, 2)
        paged += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole
    assert len(whole) == 7


async def test_lists_are_narrowed(desk: Desk) -> None:
    one = await desk.create("one", queue="day", task_type="report", tags=("a", "b"))
    two = await desk.create("two", queue="night", task_type="count", tags=("b",), by=OWNER)
    done = await desk.complete(await desk.start("three", by=CLAUDE))

    async def ids(**narrowed: Any) -> list[int]:
        return [task.id for task in (await desk.page(**narrowed)).tasks]

    assert await ids(queue="day") == [one.id]
    assert await ids(task_type="count") == [two.id]
    assert await ids(tag="b") == [two.id, one.id]
    assert await ids(tag="b", queue="day") == [one.id]
    assert await ids(created_by="owner") == [two.id]
    assert await ids(status=("completed",)) == [done.id]
    assert await ids(status=("ready", "completed")) == [done.id, two.id, one.id]
    assert await ids(status=("failed",)) == []
    assert await desk.ready("day") == [one.id]
    assert await desk.ready(None, "count") == [two.id]
    assert await desk.ready("day", "count") == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (None, ()),
        ("", ()),
        ("all", ()),
        ("ready", ("ready",)),
        (" Ready , failed", ("ready", "failed")),
        ("open", ("pending", "ready", "in_progress", "waiting")),
        ("final,completed", ("completed", "failed", "cancelled")),
    ],
)
def test_statuses_are_read(written: str | None, read: tuple[str, ...]) -> None:
    assert read_statuses(written) == read


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'done' is not one of pending, ready"):
        read_statuses("done")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "W10", "WyJyIiwxXQ", "WyJ0IixudWxsXQ", "WyJ0IiwxLDJd", "\ud800", "é", "{" * 1_000, "W1tbW1tb" * 20_000],
)
async def test_a_cursor_of_another_kind_is_refused(desk: Desk, cursor: str) -> None:
    with pytest.raises(InvalidInput, match=r"^cursor: "):
        await desk.page(cursor)


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_page_has_a_bounded_size(desk: Desk, limit: int) -> None:
    with pytest.raises(InvalidInput, match=r"^limit: "):
        await desk.page(limit=limit)
    with pytest.raises(InvalidInput, match=r"^limit: "):
        await desk.queue.list_ready(CLAUDE, None, None, None, limit)


@pytest.mark.parametrize("poison", ["\0", "\ud800", "a\0b\udfff"])
@pytest.mark.parametrize("field", ["queue", "task_type", "tag", "created_by", "search"])
async def test_a_filter_that_matches_nothing_does_no_harm(desk: Desk, field: str, poison: str) -> None:
    await desk.create()
    narrowed: dict[str, Any] = {field: poison}
    try:
        assert (await desk.page(**narrowed)).tasks == ()
    except TaskQueueError as refused:
        assert str(refused).startswith(f"{field}: ")  # noqa: PT017 - either answer is a good one
    try:
        assert await desk.ready(poison, poison) == []
    except TaskQueueError as refused:
        assert str(refused).startswith("queue: ")  # noqa: PT017 - either answer is a good one


async def test_reading_needs_some_scope(desk: Desk) -> None:
    nobody = Caller("nobody", Kind.AGENT, frozenset())
    task = await desk.create()
    with pytest.raises(Forbidden):
        await desk.queue.get(nobody, task.id)
    with pytest.raises(Forbidden):
        await desk.queue.list_ready(GEMINI, None, None, None, 10)
    with pytest.raises(NotFound, match="T-999"):
        await desk.detail(999)
    with pytest.raises(NotFound):
        await desk.events(999)
    with pytest.raises(NotFound):
        await desk.queue.logs(OWNER, 999)


# --- search


async def test_words_are_found_in_title_instructions_and_result(desk: Desk) -> None:
    one = await desk.create("Count the sprockets", instructions="In the cellar.")
    two = await desk.create("Sweep the cellar")
    assert await desk.found("sprockets") == [one.id]
    assert await desk.found("cellar") == [two.id, one.id]
    assert await desk.found("cellar sprockets") == [one.id]
    assert await desk.found("SPROCKETS") == [one.id]
    assert await desk.found("attic") == []
    await desk.finish(one, "Seventeen, and a wombat.")
    assert await desk.found("wombat") == [one.id]
    await desk.fail(await desk.take(), "The broom snapped.", kind="permanent")
    assert await desk.found("snapped") == [two.id]


async def test_the_last_word_may_be_the_beginning_of_one(desk: Desk) -> None:
    one = await desk.create("Count the sprockets")
    assert await desk.found("spro") == [one.id]
    assert await desk.found("sp*") == [one.id]
    assert await desk.found("sp") == []
    assert await desk.found("spro count") == []


@pytest.mark.parametrize("status", ["cancelled", "retried"])
async def test_a_task_is_found_whatever_became_of_it(desk: Desk, status: str) -> None:
    one = await desk.create("Count the sprockets")
    assert await desk.found("sprockets") == [one.id]
    await desk.cancel(one, "The elevator is broken.")
    if status == "retried":
        await desk.decide(one, "retry")
    assert await desk.found("sprockets") == [one.id]
    if status == "cancelled":
        assert await desk.found("elevator") == [one.id]


@pytest.mark.parametrize(
    ("title", "search"),
    [
        ("Überprüfe die Größe", "größe"),
        ("Überprüfe die Größe", "uberprufe"),
        ("Проверить склад", "склад"),
        ("在庫を数える", "在庫を数える"),
        ("日本語のタスク", "日本語の"),
        ("عد المخزون", "المخزون"),
        ("snake_case_name", "snake_case_name"),
        ("snake_case_name", "case"),
        ("e-mail to ann@example.com", "ann@example.com"),
        ("cafés of Paris", unicodedata.normalize("NFD", "cafés")),
        ("στην Αθήνας", "αθηνασ"),
        ("Phở in Hà Nội", "pho ha noi"),
        (unicodedata.normalize("NFD", "cafés of Paris"), "cafés"),
        ("version 3.14.1", "3.14"),
        ("emoji 🦊 fox", "🦊 fox"),
    ],
)
async def test_words_of_any_script_are_found(desk: Desk, title: str, search: str) -> None:
    one = await desk.create(title)
    await desk.create("something else")
    assert await desk.found(search) == [one.id]


@pytest.mark.parametrize(
    "search",
    [
        "low-stock", '"low stock', "low AND stock", "low OR", "NOT low", "low NEAR stock", "title:low", "low*stock",
        "^low", "{low stock}", "(low", "low)", "-low", "+low", "low; DROP TABLE tasks", "'low'", "low\\", "col : low",
        "* low", "NEAR(low stock, 2)", "-", '"', "*", "", "   ", "🦊", ",.;",
    ],
)  # fmt: skip
async def test_no_search_is_read_as_a_query_language(desk: Desk, search: str) -> None:
    await desk.create("Low-stock report")
    await desk.found(search)


async def test_operators_are_words(desk: Desk) -> None:
    one = await desk.create("salt and pepper")
    await desk.create("salt only")
    assert await desk.found("salt AND pepper") == [one.id]
    assert await desk.found("low-stock") == []
    two = await desk.create("the low-stock report")
    assert await desk.found("low-stock") == [two.id]
    assert await desk.found("title:salt") == []


async def test_a_search_is_narrowed_and_paged(desk: Desk) -> None:
    made = [await desk.create(f"sprocket {number}", queue=("day", "night")[number % 2]) for number in range(12)]
    day = [task.id for task in made if task.queue == "day"][::-1]
    assert await desk.found("sprocket", queue="day") == day
    page = await desk.page(limit=4, search="sprocket", queue="day")
    rest = await desk.page(page.next_cursor, limit=4, search="sprocket", queue="day")
    assert [task.id for task in page.tasks + rest.tasks] == day
    assert rest.next_cursor is None


async def test_a_search_walks_past_many_hits_that_do_not_fit(desk: Desk) -> None:
    first = await desk.create("sprocket", queue="night")

    def many(transaction: Any) -> None:
        make = partial(creating.create, transaction, desk.queue.rules, GEMINI)
        for number in range(450):
            make(NewTask(Wanted(title=f"sprocket {number}", queue="day")))

    await desk.queue.database.write(many)
    assert await desk.found("sprocket", queue="night") == [first.id]


async def test_ids_are_completed_from_their_beginning(desk: Desk) -> None:
    made = [(await desk.create(f"task {number}")).id for number in range(12)]
    assert await desk.queue.ids_starting("1") == [12, 11, 10, 1]
    assert await desk.queue.ids_starting("12") == [12]
    assert await desk.queue.ids_starting("9") == [9]
    assert await desk.queue.ids_starting("") == made[::-1]
