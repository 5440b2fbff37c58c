"""Promise 11: every due time ends as exactly one row, and runs at most once, on any number of servers."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from taskqueue_mcp import cron as crons
from taskqueue_mcp.errors import Forbidden, InvalidInput, NotFound, WrongStatus
from taskqueue_mcp.model import Fate, Reason, Status
from taskqueue_mcp.taskqueue import Limits
from tests.clock import EPOCH, micros
from tests.contract.desk import CLAUDE, CODEX, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from taskqueue_mcp.model import Occurrence, Schedule, Task
    from tests.clock import Clock
    from tests.conftest import OpenQueue

HOUR, DAY = 3_600, 86_400
SECOND = 1_000_000


async def standing(desk: Desk, name: str = "report") -> Task:
    planned = await desk.queue.preview_schedule(OWNER, name)
    return await desk.task(planned.schedule.standing_task_id or 0)


async def events(desk: Desk, schedule: Schedule) -> list[str]:
    rows = await desk.rows(
        "SELECT kind FROM events WHERE subject = 'schedule' AND subject_id = :id ORDER BY seq", id=schedule.id
    )
    return [row[0] for row in rows]


def fates(ledger: list[Occurrence]) -> dict[str, int]:
    return dict(Counter(row.fate.value for row in ledger))


async def check_ledger(desk: Desk, name: str = "report", since: int | None = None) -> None:
    """Every due time has one row; a row that ran has a run of its own, and there are no other runs.

    A standing run that was cancelled keeps its due time, so that it cannot come again.
    """
    schedule = (await desk.queue.preview_schedule(OWNER, name)).schedule
    ledger = await desk.ledger(name)
    cron = crons.Cron(schedule.cron, schedule.timezone)
    start = schedule.created_at if since is None else since
    assert [row.due_at for row in ledger] == crons.due_between(cron, start, desk.clock.micros, 1_000_000)
    ran = {
        row.due_at: row.task_id
        for row in ledger
        if row.fate in {Fate.FIRED, Fate.LATE} or (row.reason or "").startswith("cancelled by ")
    }
    runs = await desk.rows(
        "SELECT due_at, id FROM tasks WHERE schedule_id = :id AND due_at IS NOT NULL AND id <> :standing",
        id=schedule.id, standing=schedule.standing_task_id,
    )  # fmt: skip
    assert dict(runs) == ran
    assert len(runs) == len(ran)
    assert all(row.reason for row in ledger if row.fate is Fate.SKIPPED)


# --- standing and firing


async def test_the_next_run_stands_as_a_pending_task(desk: Desk) -> None:
    planned = await desk.plan("report", "0 9 * * *", title="Count", params={"a": 1}, priority="high", tags=("x",))
    assert planned.created
    assert planned.next_runs[:2] == (micros("2026-01-16T09:00:00Z"), micros("2026-01-17T09:00:00Z"))
    task = await standing(desk)
    assert (task.status, task.reason, task.title) == (Status.PENDING, Reason.SCHEDULED, "Count")
    assert (task.run_at, task.due_at) == (planned.next_runs[0],) * 2
    assert (task.created_by, task.priority, task.schedule_id) == ("gemini", "high", planned.schedule.id)
    body = (await desk.detail(task)).body
    assert (json.loads(body.params or ""), body.tags) == ({"a": 1}, ("x",))
    assert await desk.claim() is None


async def test_a_schedule_without_a_title_is_named_after_itself(desk: Desk) -> None:
    await desk.plan("report", "0 9 * * *")
    assert (await standing(desk)).title == "report"


async def test_a_due_time_fires_once_and_the_next_one_stands(desk: Desk, clock: Clock) -> None:
    planned = await desk.plan("report", "0 9 * * *")
    first = await standing(desk)
    clock.set("2026-01-16T08:59:59.999999Z")
    await desk.catch_up()
    assert await desk.ledger("report") == []
    clock.set("2026-01-16T09:00:00Z")
    await desk.catch_up()
    run = await desk.task(first)
    assert (run.status, run.due_at) == (Status.READY, clock.micros)
    (row,) = await desk.ledger("report")
    assert (row.due_at, row.fate, row.task_id, row.reason, row.recorded_at) == (
        clock.micros, Fate.FIRED, first.id, None, clock.micros,
    )  # fmt: skip
    following = await standing(desk)
    assert (following.id != first.id, following.due_at) == (True, micros("2026-01-17T09:00:00Z"))
    await desk.catch_up()
    assert len(await desk.ledger("report")) == 1
    assert await events(desk, planned.schedule) == ["created", "fired"]
    assert (await desk.take()).task.id == first.id


async def test_whoever_claims_keeps_the_schedule_going(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 9 * * *")
    for day in ("16", "17", "18"):
        clock.set(f"2026-01-{day}T09:00:30Z")
        claim = await desk.take()
        assert claim.task.due_at == micros(f"2026-01-{day}T09:00:00Z")
        await desk.complete(claim)
    assert fates(await desk.ledger("report")) == {"fired": 3}
    await check_ledger(desk)


async def test_a_run_carries_its_due_time_into_the_order_of_claiming(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 9 * * *")
    clock.set("2026-01-16T09:30:00Z")
    await desk.create("meanwhile")
    clock.set("2026-01-16T10:00:00Z")
    assert (await desk.take()).task.title == "report"


async def test_a_run_up_to_a_minute_late_is_on_time(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 9 * * *")
    for day, second, fate in ((16, 60, Fate.FIRED), (17, 61, Fate.LATE)):
        clock.set(f"2026-01-{day}T09:00:00Z")
        clock.advance(second)
        await desk.finish((await desk.ready())[0])
        assert (await desk.ledger("report"))[-1].fate is fate


async def test_each_run_is_made_of_the_template_as_it_is_then(desk: Desk) -> None:
    await desk.template("weekly", title="Old")
    await desk.plan("report", "0 * * * *", template="weekly")
    await desk.template("weekly", title="New")
    await desk.pass_time(HOUR)
    assert (await desk.take()).task.title == "New"


async def test_a_run_whose_template_is_gone_runs_as_it_was_created(desk: Desk) -> None:
    await desk.template("weekly", title="Old", instructions="As it was.")
    planned = await desk.plan("report", "0 * * * *", template="weekly")
    await desk.queue.delete_template(OWNER, "weekly")
    for _ in range(3):
        await desk.pass_time(HOUR)
        claim = await desk.take()
        assert (claim.task.title, claim.body.instructions) == ("Old", "As it was.")
        await desk.complete(claim)
    assert "stale_body" in await events(desk, planned.schedule)
    await check_ledger(desk)


async def test_a_schedule_whose_template_is_gone_can_still_be_stopped(desk: Desk, clock: Clock) -> None:
    await desk.template("weekly", title="Old")
    await desk.plan("report", "0 * * * *", template="weekly")
    await desk.queue.delete_template(OWNER, "weekly")
    await desk.cancel(await standing(desk))
    await desk.queue.pause_schedule(GEMINI, "report")
    clock.advance(5 * HOUR)
    await desk.queue.resume_schedule(GEMINI, "report")
    assert (await standing(desk)).title == "Old"
    await check_ledger(desk)
    await desk.queue.delete_schedule(GEMINI, "report")


async def test_no_limit_makes_a_schedule_miss(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(open_tasks_per_queue=1, creates_per_minute=2)), clock)
    await desk.create("the only one")
    await desk.plan("report", "0 * * * *", overlap="allow")
    await desk.queue.set_queue_state(OWNER, "default", "draining")
    for _ in range(5):
        await desk.pass_time(HOUR)
    assert fates(await desk.ledger("report")) == {"fired": 5}
    assert len(await desk.ready()) == 6


async def test_a_schedule_in_a_paused_queue_fires_and_waits(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", queue="night")
    await desk.queue.set_queue_state(OWNER, "night", "paused")
    await desk.pass_time(HOUR)
    assert fates(await desk.ledger("report")) == {"fired": 1}
    assert await desk.claim() is None


async def test_runs_are_counted_in_their_queue(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", queue="night", overlap="allow")
    await desk.pass_time(3 * HOUR)
    await desk.pass_time(HOUR)
    await desk.plan("report", "0 * * * *", queue="day")
    await desk.pass_time(HOUR)
    counted = await desk.rows("SELECT name, open_tasks FROM queues ORDER BY name")
    real = await desk.rows(
        "SELECT queue, count(*) FROM tasks WHERE status IN ('pending', 'ready') GROUP BY queue ORDER BY queue"
    )
    assert counted == real


async def test_a_run_that_nobody_claims_in_time_is_told_once(desk: Desk, clock: Clock) -> None:
    planned = await desk.plan("report", "0 9 * * *")
    clock.set("2026-01-16T09:00:00Z")
    await desk.catch_up()
    clock.advance(899.999_999)
    await desk.catch_up()
    assert "unclaimed" not in await events(desk, planned.schedule)
    clock.advance(1)
    await desk.catch_up()
    clock.advance(3_600)
    await desk.catch_up()
    assert (await events(desk, planned.schedule)).count("unclaimed") == 1


@pytest.mark.parametrize("way", ["claimed", "cancelled"])
async def test_a_run_that_was_seen_to_is_not_told(desk: Desk, clock: Clock, way: str) -> None:
    planned = await desk.plan("report", "0 9 * * *")
    run = await standing(desk)
    clock.set("2026-01-16T09:00:00Z")
    await desk.catch_up()
    if way == "claimed":
        await desk.take()
    else:
        await desk.cancel(run)
    clock.advance(901)
    await desk.catch_up()
    assert "unclaimed" not in await events(desk, planned.schedule)


# --- outages

OUTAGES = {"10 min": 600, "23 h": 23 * HOUR, "3 days": 3 * DAY}
EXPECTED: dict[tuple[str, str, str], dict[str, int]] = {
    # due at 13:00, 14:00, ... after 12:00; the outage begins at 12:59, and the longer ones end 60 s later than they say
    ("hourly", "coalesce", "10 min"): {"late": 1},
    ("hourly", "skip", "10 min"): {"missed": 1},
    ("hourly", "all", "10 min"): {"late": 1},
    ("hourly", "coalesce", "23 h"): {"coalesced": 23, "fired": 1},
    ("hourly", "skip", "23 h"): {"missed": 23, "fired": 1},
    ("hourly", "all", "23 h"): {"late": 23, "fired": 1},
    ("hourly", "coalesce", "3 days"): {"missed": 48, "coalesced": 24, "fired": 1},
    ("hourly", "skip", "3 days"): {"missed": 72, "fired": 1},
    ("hourly", "all", "3 days"): {"missed": 49, "late": 23, "fired": 1},
}


@pytest.mark.parametrize(("misfire", "outage"), [key[1:] for key in EXPECTED])
async def test_an_outage_ends_as_the_misfire_policy_says(desk: Desk, clock: Clock, misfire: str, outage: str) -> None:
    await desk.plan("report", "0 * * * *", misfire=misfire, overlap="allow")
    clock.set("2026-01-15T12:59:00Z")
    await desk.catch_up()
    clock.advance(OUTAGES[outage] + (60 if outage != "10 min" else 0))
    await desk.catch_up()
    ledger = await desk.ledger("report")
    assert fates(ledger) == EXPECTED["hourly", misfire, outage]
    await check_ledger(desk)
    if misfire == "coalesce" and len(ledger) > 1:
        assert ledger[-1].fate in {Fate.FIRED, Fate.LATE}  # the newest one stands for all
    assert len(await desk.ready()) == sum(fates(ledger).get(fate, 0) for fate in ("fired", "late"))


@pytest.mark.parametrize(("seconds", "fate"), [(DAY, Fate.LATE), (DAY + 1, Fate.MISSED)])
async def test_a_run_within_the_grace_is_made_up_for_and_no_later(
    desk: Desk, clock: Clock, seconds: int, fate: Fate
) -> None:
    await desk.plan("report", "0 9 16 * *")
    clock.set("2026-01-16T09:00:00Z")
    clock.advance(seconds)
    await desk.catch_up()
    (row,) = await desk.ledger("report")
    assert row.fate is fate
    assert len(await desk.ready()) == (fate is Fate.LATE)
    assert (await standing(desk)).due_at == micros("2026-02-16T09:00:00Z")


async def test_a_grace_of_ones_own(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 9 * * *", grace_seconds=HOUR)
    clock.set("2026-01-16T10:00:01Z")
    await desk.catch_up()
    assert fates(await desk.ledger("report")) == {"missed": 1}


@pytest.mark.parametrize("misfire", ["coalesce", "skip", "all"])
async def test_a_long_outage_of_a_minutely_schedule_is_written_down_step_by_step(
    desk: Desk, clock: Clock, misfire: str
) -> None:
    await desk.plan("report", "* * * * *", misfire=misfire, overlap="allow")
    clock.advance(3 * DAY)
    await desk.catch_up()
    await check_ledger(desk)
    ledger = await desk.ledger("report")
    assert len(ledger) == 3 * DAY // 60
    ran = [row for row in ledger if row.fate in {Fate.FIRED, Fate.LATE}]
    assert len(ran) == (24 if misfire == "all" else 1)
    assert ran == ledger[-len(ran) :]  # the newest ones
    assert fates(ledger)["missed"] >= 2 * DAY // 60 - 1  # the first of the last day is within the grace
    assert (await standing(desk)).due_at == clock.micros + 60 * SECOND


async def test_made_up_runs_are_bounded_by_a_setting(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(missed_runs=3)), clock)
    await desk.plan("report", "0 * * * *", misfire="all", overlap="allow")
    await desk.pass_time(10 * HOUR)
    assert fates(await desk.ledger("report")) == {"missed": 7, "late": 2, "fired": 1}


async def test_a_step_of_a_long_outage_holds_the_database_briefly(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "* * * * *")
    clock.advance(3 * DAY)
    before = len(await desk.ledger("report"))
    await desk.queue.tick()
    assert 0 < len(await desk.ledger("report")) - before <= 1_000


# --- overlap


async def test_overlap_skip_skips_while_a_run_is_unfinished(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="skip")
    await desk.pass_time(HOUR)
    claim = await desk.take(lease_seconds=DAY)
    await desk.pass_time(HOUR)
    await desk.pass_time(HOUR)
    await desk.complete(claim)
    await desk.pass_time(HOUR)
    ledger = await desk.ledger("report")
    assert [row.fate.value for row in ledger] == ["fired", "skipped", "skipped", "fired"]
    assert ledger[1].reason == f"T-{claim.task.id} was still in_progress"
    await check_ledger(desk)


@pytest.mark.parametrize("stands", ["ready", "waiting", "retry"])
async def test_a_run_is_unfinished_until_it_is_final(desk: Desk, stands: str) -> None:
    await desk.plan("report", "0 * * * *", overlap="skip")
    await desk.pass_time(HOUR)
    if stands == "waiting":
        await desk.update(await desk.take(), question="Hm?")
    elif stands == "retry":
        await desk.fail(await desk.take(), kind="snooze", resume_at="in 2 hours")
    await desk.pass_time(HOUR)
    assert (await desk.ledger("report"))[-1].fate is Fate.SKIPPED


async def test_overlap_allow_runs_beside_one_another(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="allow")
    for _ in range(3):
        await desk.pass_time(HOUR)
    assert fates(await desk.ledger("report")) == {"fired": 3}
    assert len(await desk.ready()) == 3


async def test_overlap_queue_one_keeps_one_waiting_behind_the_one_that_runs(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="queue_one")
    await desk.pass_time(HOUR)
    first = await desk.take(lease_seconds=DAY)
    await desk.pass_time(HOUR)
    await desk.pass_time(HOUR)
    ledger = await desk.ledger("report")
    assert [row.fate.value for row in ledger] == ["fired", "fired", "skipped"]
    second = await desk.task(ledger[1].task_id or 0)
    assert (second.status, second.reason) == (Status.PENDING, Reason.SERIAL)
    assert ledger[2].reason == f"T-{second.id} was waiting already"
    assert await desk.claim(by=CODEX) is None
    await desk.complete(first)
    assert (await desk.take()).task.id == second.id
    await check_ledger(desk)


async def test_overlap_queue_one_keeps_a_line_of_ones_own(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="queue_one", options={"serial_key": "till"})
    await desk.pass_time(HOUR)
    assert (await desk.take()).task.serial_key == "till"


async def test_overlap_cancel_previous_ends_the_earlier_run(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="cancel_previous")
    await desk.pass_time(HOUR)
    claim = await desk.take(lease_seconds=DAY)
    await desk.pass_time(HOUR)
    task = await desk.task(claim)
    assert (task.status, task.error) == (Status.CANCELLED, "the next run of its schedule is due")
    assert fates(await desk.ledger("report")) == {"fired": 2}
    assert len(await desk.ready()) == 1
    await check_ledger(desk)


# --- owners


async def test_a_paused_schedule_fires_nothing_and_says_what_it_skipped(desk: Desk, clock: Clock) -> None:
    planned = await desk.plan("report", "0 * * * *")
    paused = await desk.queue.pause_schedule(GEMINI, "report")
    assert (paused.schedule.enabled, paused.next_runs) == (False, ())
    assert (await standing(desk)).reason is Reason.PAUSED
    await desk.pass_time(3 * HOUR)
    assert await desk.claim() is None
    resumed = await desk.queue.resume_schedule(GEMINI, "report")
    await desk.catch_up()
    assert resumed.schedule.enabled
    ledger = await desk.ledger("report")
    assert [(row.fate, row.reason) for row in ledger] == [(Fate.SKIPPED, "the schedule was paused")] * 3
    await check_ledger(desk)
    assert await desk.claim() is None
    clock.advance(HOUR)
    assert (await desk.take()).task.due_at == clock.micros
    assert [kind for kind in await events(desk, planned.schedule) if kind != "not_run"] == [
        "created", "paused", "resumed", "fired",
    ]  # fmt: skip


async def test_pausing_and_resuming_twice_is_harmless(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *")
    for _ in range(2):
        await desk.queue.pause_schedule(GEMINI, "report")
    for _ in range(2):
        await desk.queue.resume_schedule(GEMINI, "report")
    await desk.pass_time(HOUR)
    assert fates(await desk.ledger("report")) == {"fired": 1}


async def test_a_due_time_before_the_pause_still_fires(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *")
    clock.advance(HOUR + 30)
    await desk.queue.pause_schedule(GEMINI, "report")
    assert fates(await desk.ledger("report")) == {"fired": 1}
    assert await desk.claim() is not None


async def test_a_long_pause_is_written_down_step_by_step(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "* * * * *")
    await desk.queue.pause_schedule(GEMINI, "report")
    clock.advance(DAY)
    await desk.queue.resume_schedule(GEMINI, "report")
    await desk.catch_up()
    assert fates(await desk.ledger("report")) == {"skipped": 1_440}
    await check_ledger(desk)


@pytest.mark.parametrize("enabled", [True, False])
async def test_an_edit_moves_the_standing_run_and_keeps_what_is_not_given(desk: Desk, enabled: bool) -> None:
    made = await desk.plan("report", "0 9 * * *", title="Count", instructions="All.", misfire="skip", overlap="allow")
    before = await standing(desk)
    edited = await desk.plan("report", "30 10 * * *", title="Count again", enabled=enabled, priority="high")
    assert (edited.created, edited.schedule.id) == (False, made.schedule.id)
    assert (edited.schedule.misfire, edited.schedule.overlap) == ("skip", "allow")
    task = await standing(desk)
    assert (task.id, task.due_at, task.title, task.priority) == (
        before.id, micros("2026-01-16T10:30:00Z"), "Count again", "high",
    )  # fmt: skip
    assert (await desk.detail(task)).body.instructions == "All."
    assert task.reason is (Reason.SCHEDULED if enabled else Reason.PAUSED)
    assert await desk.rows("SELECT count(*) FROM tasks") == [(1,)]


async def test_an_edit_loses_no_due_time_that_has_passed(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "* * * * *", overlap="allow")
    clock.advance(DAY / 2 + 30)
    await desk.plan("report", "0 9 * * *")
    ledger = await desk.ledger("report")
    assert len(ledger) == 720
    assert fates(ledger) == {"coalesced": 719, "fired": 1}


async def test_an_edit_of_a_paused_schedule_loses_no_due_time(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *")
    await desk.queue.pause_schedule(GEMINI, "report")
    clock.advance(3 * HOUR)
    await desk.plan("report", "30 * * * *")
    assert fates(await desk.ledger("report")) == {"skipped": 3}
    clock.advance(2 * HOUR)
    await desk.plan("report", "30 * * * *", enabled=True)
    assert fates(await desk.ledger("report")) == {"skipped": 5}
    await desk.pass_time(HOUR / 2)
    assert fates(await desk.ledger("report")) == {"skipped": 5, "fired": 1}


@pytest.mark.parametrize("paused", [True, False])
async def test_a_deleted_schedule_loses_no_due_time_and_fires_no_more(desk: Desk, clock: Clock, paused: bool) -> None:
    made = await desk.plan("report", "0 * * * *")
    if paused:
        await desk.queue.pause_schedule(GEMINI, "report")
    clock.advance(HOUR + 1)
    await desk.queue.delete_schedule(GEMINI, "report")
    rows = await desk.rows("SELECT fate FROM occurrences WHERE schedule_id = :id", id=made.schedule.id)
    assert rows == [("skipped" if paused else "fired",)]
    assert len(await desk.ledger("report")) == 1  # the history outlives the schedule
    for _ in range(3):
        await desk.pass_time(HOUR)
    runs = await desk.rows("SELECT status FROM tasks ORDER BY id")
    assert runs == ([("cancelled",)] if paused else [("ready",), ("cancelled",)])
    again = await desk.plan("report", "0 * * * *")
    assert (again.created, again.schedule.id != made.schedule.id) == (True, True)
    assert await desk.ledger("report") == []


async def test_a_run_beside_the_due_times_changes_none_of_them(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *", title="Count", overlap="allow")
    before = await standing(desk)
    run = await desk.queue.run_schedule_now(GEMINI, "report")
    assert (run.status, run.title, run.due_at, run.schedule_id) == (Status.READY, "Count", None, before.schedule_id)
    assert await standing(desk) == before
    assert await desk.ledger("report") == []
    clock.advance(HOUR)
    assert {(await desk.take()).task.id, (await desk.take()).task.id} == {run.id, before.id}


async def test_a_run_beside_the_due_times_counts_as_unfinished(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="skip")
    run = await desk.queue.run_schedule_now(GEMINI, "report")
    await desk.pass_time(HOUR)
    (row,) = await desk.ledger("report")
    assert (row.fate, row.reason) == (Fate.SKIPPED, f"T-{run.id} was still ready")


async def test_a_cancelled_standing_run_skips_that_due_time_only(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *")
    task = await standing(desk)
    await desk.cancel(task)
    (row,) = await desk.ledger("report")
    assert (row.due_at, row.fate, row.reason, row.task_id) == (
        task.due_at, Fate.SKIPPED, "cancelled by gemini", task.id,
    )  # fmt: skip
    clock.advance(HOUR)
    assert await desk.claim() is None
    await desk.pass_time(HOUR)
    assert fates(await desk.ledger("report")) == {"skipped": 1, "fired": 1}
    await check_ledger(desk)


async def test_a_standing_run_that_is_due_and_cancelled_before_it_fired_is_skipped(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *")
    task = await standing(desk)
    clock.advance(2 * HOUR + 1)
    await desk.cancel(task)
    await desk.catch_up()
    await check_ledger(desk)


async def test_a_cancelled_standing_run_that_is_retried_is_an_extra_run(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="allow")
    task = await standing(desk)
    await desk.cancel(task)
    await desk.decide(task, "retry")
    await desk.finish(task)
    await desk.pass_time(2 * HOUR)
    ledger = await desk.ledger("report")
    assert [row.due_at for row in ledger] == [micros("2026-01-15T13:00:00Z"), micros("2026-01-15T14:00:00Z")]


async def test_a_standing_run_is_not_hastened(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *")
    with pytest.raises(WrongStatus, match="stands for the next run of schedule 'report'"):
        await desk.decide(await standing(desk), "run_now")


async def test_a_task_may_wait_for_a_run(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *")
    run = await standing(desk)
    after = await desk.create("after it", depends_on=(run.id,))
    await desk.pass_time(HOUR)
    await desk.finish(run)
    assert (await desk.task(after)).status is Status.READY


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"cron": "every day"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "R * * * *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "GMT+25"}, "timezone"),
        ({"misfire": "never"}, "misfire"),
        ({"overlap": "never"}, "overlap"),
        ({"grace_seconds": -1}, "grace_seconds"),
        ({"grace_seconds": 367 * DAY}, "grace_seconds"),
        ({"name": "two words"}, "name"),
        ({"priority": "highest"}, "priority"),
        ({"params": "{"}, "params"),
        ({"options": {"colour": "red"}}, "options"),
        ({"instructions": "a\0b"}, "instructions"),
    ],
)
async def test_a_bad_argument_of_a_schedule_is_refused_by_name(desk: Desk, asked: dict[str, Any], named: str) -> None:
    await desk.plan("other", "0 9 * * *")
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match=named):
        await desk.plan(**{"name": "report", "cron": "0 9 * * *", **asked})
    with pytest.raises(InvalidInput, match=named):
        await desk.plan(**{"cron": "0 9 * * *", **asked, "name": asked.get("name", "other")})
    assert await desk.snapshot() == before


async def test_what_is_not_there_is_not_found(desk: Desk) -> None:
    for call in (
        desk.queue.pause_schedule, desk.queue.resume_schedule, desk.queue.run_schedule_now,
        desk.queue.delete_schedule, desk.queue.preview_schedule,
    ):  # fmt: skip
        with pytest.raises(NotFound, match="no schedule 'report'"):
            await call(OWNER, "report")


async def test_schedules_need_the_scope(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        await desk.plan("report", "0 9 * * *", by=CLAUDE)
    await desk.plan("report", "0 9 * * *")
    with pytest.raises(Forbidden):
        await desk.queue.pause_schedule(CLAUDE, "report")
    assert (await desk.queue.preview_schedule(CLAUDE, "report")).schedule.name == "report"


async def test_schedules_are_listed_and_their_history_is_paged(desk: Desk) -> None:
    for name in ("b", "a", "c"):
        await desk.plan(name, "0 * * * *", overlap="allow")
    assert [schedule.name for schedule in await desk.queue.list_schedules(OWNER)] == ["a", "b", "c"]
    assert [schedule.name for schedule in await desk.queue.list_schedules(OWNER, after="a", limit=1)] == ["b"]
    for _ in range(7):
        await desk.pass_time(HOUR)
    newest = await desk.queue.schedule_history(OWNER, "a", limit=4)
    older = await desk.queue.schedule_history(OWNER, "a", before=newest[-1].due_at, limit=10)
    assert [row.due_at for row in newest + older] == [row.due_at for row in await desk.ledger("a")][::-1]
    assert len(older) == 3


# --- zones


@pytest.mark.parametrize(
    ("zone", "cron", "start", "local"),
    [
        # clocks go ahead: 02:30 does not exist on 29 March 2026 and runs at 03:00
        ("Europe/Berlin", "30 2 * * *", "2026-03-27T12:00:00Z", ["28 02:30", "29 03:00", "30 02:30"]),
        # clocks go back: 02:30 exists twice on 25 October 2026 and runs once
        ("Europe/Berlin", "30 2 * * *", "2026-10-23T12:00:00Z", ["24 02:30", "25 02:30", "26 02:30"]),
        ("America/New_York", "30 2 * * *", "2026-03-06T12:00:00Z", ["07 02:30", "08 03:00", "09 02:30"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02T12:00:00Z", ["03 02:15", "04 02:30", "05 02:15"]),
        ("Asia/Kolkata", "0 9 * * *", "2026-01-15T12:00:00Z", ["16 09:00", "17 09:00", "18 09:00"]),
    ],
)
async def test_a_fixed_time_runs_once_a_day_whatever_the_clocks_do(
    desk: Desk, clock: Clock, zone: str, cron: str, start: str, local: list[str]
) -> None:
    clock.set(start)
    await desk.plan("report", cron, timezone=zone, overlap="allow")
    for _ in range(3 * 96):
        await desk.pass_time(HOUR / 4)
    ledger = await desk.ledger("report")
    shown = [(EPOCH + timedelta(microseconds=row.due_at)).astimezone(ZoneInfo(zone)) for row in ledger]
    assert [instant.strftime("%d %H:%M") for instant in shown] == local
    assert fates(ledger) == {"fired": len(local)}
    await check_ledger(desk)


@pytest.mark.parametrize(("start", "runs"), [("2026-03-28T23:00:00Z", 23 * 2), ("2026-10-24T22:00:00Z", 25 * 2)])
async def test_an_interval_runs_in_every_real_half_hour(desk: Desk, clock: Clock, start: str, runs: int) -> None:
    clock.set(start)  # midnight in Berlin
    await desk.plan("report", "*/30 * * * *", timezone="Europe/Berlin", overlap="allow")
    for _ in range(runs):
        await desk.pass_time(HOUR / 2)
    assert fates(await desk.ledger("report")) == {"fired": runs}


async def test_the_zone_is_the_settings_unless_given(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(zone="Europe/Berlin"), clock)
    assert (await desk.plan("report", "0 9 * * *")).next_runs[0] == micros("2026-01-16T08:00:00Z")
    assert (await desk.plan("other", "0 9 * * *", timezone="UTC")).next_runs[0] == micros("2026-01-16T09:00:00Z")


# --- many servers, long times


@pytest.mark.parametrize("servers", [2, 3])
async def test_on_several_servers_each_due_time_runs_once(
    open_queue: OpenQueue, clock: Clock, seed: int, servers: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    desks = [Desk(open_queue(), clock) for _ in range(servers)]
    for name, cron in (("a", "* * * * *"), ("b", "*/5 * * * *"), ("c", "0 * * * *")):
        await desks[0].plan(name, cron, overlap=chance.choice(["skip", "allow", "queue_one"]), misfire="all")
    with anyio.fail_after(60):
        for _ in range(60):
            clock.advance(chance.choice([20, 60, 61, 300, 1_800]))
            async with anyio.create_task_group() as group:
                for desk in chance.sample(desks, chance.randint(1, servers)):
                    group.start_soon(desk.catch_up if chance.random() < 0.5 else desk.claim)
            while chance.random() < 0.7 and (claim := await chance.choice(desks).claim()) is not None:
                await desks[0].complete(claim)
    await desks[0].catch_up()
    for name in ("a", "b", "c"):
        await check_ledger(desks[0], name)


async def test_a_year_of_a_daily_schedule(desk: Desk, clock: Clock, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    clock.set("2025-12-31T23:59:30Z")
    await desk.plan("report", "30 2 * * *", timezone="Europe/Berlin")
    until = micros("2027-01-01T00:00:00Z")
    while clock.micros < until:
        await desk.pass_time(chance.choice([HOUR, 6 * HOUR, 23 * HOUR]))
        while (claim := await desk.claim()) is not None:
            await desk.complete(claim)
    clock.set(max(clock.micros, until))
    ledger = [row for row in await desk.ledger("report") if row.due_at < until]
    assert len(ledger) == 365
    assert len({datetime.fromtimestamp(row.due_at / SECOND, UTC).date() for row in ledger}) == 365
    assert set(fates(ledger)) <= {"fired", "late", "coalesced"}
    await check_ledger(desk)


@pytest.mark.parametrize("jump", [-1, -60, -3_600, -DAY, -365 * DAY])
async def test_a_clock_that_jumps_back_fires_nothing_twice(desk: Desk, clock: Clock, jump: int) -> None:
    await desk.plan("report", "*/10 * * * *", overlap="allow")
    await desk.pass_time(HOUR)
    before = await desk.ledger("report")
    clock.advance(jump)
    await desk.catch_up()
    assert await desk.ledger("report") == before
    clock.advance(-jump)
    await desk.catch_up()
    await desk.pass_time(HOUR)
    await check_ledger(desk)


async def test_a_clock_that_jumps_ahead_misses_with_a_row_each(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 9 * * *")
    clock.advance(100 * DAY)
    await desk.catch_up()
    assert fates(await desk.ledger("report")) == {"missed": 99, "late": 1}
    await check_ledger(desk)


@pytest.mark.parametrize("jump", [-1_800, -2 * HOUR, -DAY])
async def test_an_edit_after_a_jump_back_runs_no_due_time_again(desk: Desk, clock: Clock, jump: int) -> None:
    await desk.plan("report", "0 * * * *", overlap="allow")
    await desk.pass_time(HOUR)
    await desk.pass_time(HOUR)
    before = await desk.ledger("report")
    clock.advance(jump)
    await desk.plan("report", "*/30 * * * *")
    await desk.catch_up()
    for _ in range(8 - 2 * jump // HOUR):
        await desk.pass_time(HOUR / 2)
    ledger = await desk.ledger("report")
    assert [row for row in ledger if row in before] == before
    assert len({row.due_at for row in ledger}) == len(ledger)
    assert set(fates(ledger)) == {"fired"}


async def test_a_due_time_that_ended_before_a_jump_back_is_left_alone_among_others(desk: Desk, clock: Clock) -> None:
    await desk.plan("report", "0 * * * *", overlap="allow")
    await desk.pass_time(HOUR)
    before = await desk.ledger("report")
    clock.set("2026-01-15T12:30:00Z")
    await desk.plan("report", "*/20 * * * *", misfire="all")
    clock.set("2026-01-15T13:30:00Z")
    await desk.catch_up()
    ledger = await desk.ledger("report")
    assert [row.due_at for row in ledger] == [micros(f"2026-01-15T{time}:00Z") for time in ("12:40", "13:00", "13:20")]
    assert ledger[1] == before[0]
    assert {row.fate for row in (ledger[0], ledger[2])} == {Fate.LATE}


async def test_an_edit_after_the_standing_run_was_cancelled_leaves_that_due_time_alone(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *")
    await desk.cancel(await standing(desk))
    await desk.plan("report", "*/30 * * * *", overlap="allow")
    for _ in range(4):
        await desk.pass_time(HOUR / 2)
    assert [row.fate.value for row in await desk.ledger("report")] == ["fired", "skipped", "fired", "fired"]


async def test_cancelling_the_previous_runs_ends_a_whole_line_of_them(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *", overlap="cancel_previous", options={"serial_key": "till"})
    extra = [await desk.queue.run_schedule_now(GEMINI, "report") for _ in range(3)]
    await desk.take(lease_seconds=DAY)
    await desk.pass_time(HOUR)
    assert [(await desk.task(run)).status for run in extra] == [Status.CANCELLED] * 3
    assert fates(await desk.ledger("report")) == {"fired": 1}
    assert len(await desk.ready()) == 1


async def test_a_schedule_that_is_never_due_again_leaves_nothing_standing(desk: Desk, clock: Clock) -> None:
    clock.set("9998-12-30T12:00:00Z")
    planned = await desk.plan("report", "0 0 1 1 *")
    assert len(planned.next_runs) == 1
    clock.set("9999-01-03T00:00:00Z")
    await desk.catch_up()
    assert await desk.rows("SELECT fate FROM occurrences") == [("missed",)]
    assert await desk.rows("SELECT status FROM tasks") == [("cancelled",)]
    assert await desk.claim() is None
    assert "exhausted" in await events(desk, planned.schedule)


async def test_a_due_time_of_the_same_schedule_is_unique_in_the_database(desk: Desk) -> None:
    await desk.plan("report", "0 * * * *")
    task = await standing(desk)
    names = ", ".join(column for column in COLUMNS if column != "id")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await desk.queue.database.write(
            lambda t: t.run(f"INSERT INTO tasks ({names}) SELECT {names} FROM tasks WHERE id = :id", {"id": task.id})  # noqa: S608 - our own names
        )


COLUMNS = (
    "title", "task_type", "executor", "queue", "priority", "status", "reason", "run_at", "sort_at", "max_attempts",
    "schedule_id", "due_at", "created_by", "created_at",
)  # fmt: skip
