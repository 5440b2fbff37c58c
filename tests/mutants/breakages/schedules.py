"""Schedules: each due time once, every one a row, by the clock of its own zone."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, Edit, Mutant

SCHEDULES = "contract/test_schedules.py"
CRON = "test_cron.py"

ONCE = "11: a schedule fires at most once per due time"
EVERY_DUE_TIME = "11: every due time ends as a row"
MISFIRE = "11: misfire is coalesce, skip or all"
OVERLAP = "11: overlap is skip, queue_one, allow or cancel_previous"
ZONES = "11: an IANA zone per schedule"

MUTANTS = (
    Mutant(
        "a-due-time-is-not-unique-in-the-database",
        ONCE,
        (
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX tasks_one_per_due_time",
                "CREATE INDEX tasks_one_per_due_time",
            ),
        ),
        (
            f"{SCHEDULES}::test_a_due_time_of_the_same_schedule_is_unique_in_the_database",
            "contract/test_guards.py::test_the_database_itself_refuses",
        ),
        BOTH,
    ),
    Mutant(
        "a-due-time-may-end-twice",
        ONCE,
        (
            Edit(
                "store/schedules.py",
                "ON CONFLICT (schedule_id, due_at) DO NOTHING",
                "ON CONFLICT (schedule_id, due_at) DO UPDATE SET fate = excluded.fate, reason = excluded.reason",
                "RECORD",
            ),
        ),
        ("contract/test_guards.py::test_a_due_time_ends_once",),
        BOTH,
    ),
    Mutant(
        "after-a-jump-back-due-times-fire-again",
        "13: clock jumps never run anything twice",
        (
            Edit(
                "taskqueue/firing.py",
                "while due_at is not None and schedules.is_settled",
                "while due_at is None and schedules.is_settled",
                "unsettled",
            ),
        ),
        (f"{SCHEDULES}::test_an_edit_after_a_jump_back_runs_no_due_time_again",),
    ),
    Mutant(
        "coalesce-runs-all-that-were-missed",
        MISFIRE,
        (Edit("taskqueue/firing.py", "run = alive[-1:] if whole else []", "run = alive", "judge"),),
        (f"{SCHEDULES}::test_an_outage_ends_as_the_misfire_policy_says",),
    ),
    Mutant(
        "misfire-skip-runs-the-last-one-late",
        MISFIRE,
        (Edit("taskqueue/firing.py", "if now - due <= ON_TIME and whole", "if whole", "judge"),),
        (f"{SCHEDULES}::test_an_outage_ends_as_the_misfire_policy_says",),
    ),
    Mutant(
        "misfire-all-has-no-bound",
        "11: misfire all is bounded",
        (Edit("taskqueue/firing.py", "alive[max(0, len(alive) - most_runs + later) :]", "alive", "judge"),),
        (f"{SCHEDULES}::test_made_up_runs_are_bounded_by_a_setting",),
    ),
    Mutant(
        "the-misfire-grace-is-ignored",
        "11: a run within the grace is made up for and no later",
        (Edit("taskqueue/firing.py", "if now - due <= max(grace, ON_TIME)", "if due", "judge"),),
        (f"{SCHEDULES}::test_a_run_within_the_grace_is_made_up_for_and_no_later",),
    ),
    Mutant(
        "a-missed-due-time-leaves-no-row",
        EVERY_DUE_TIME,
        (Edit("taskqueue/firing.py", "for due, fate, reason in rows:", "for due, fate, reason in rows[1:]:", "fire"),),
        (f"{SCHEDULES}::test_an_outage_ends_as_the_misfire_policy_says",),
    ),
    Mutant(
        "overlap-skip-is-ignored",
        OVERLAP,
        (
            Edit(
                "taskqueue/firing.py",
                "if schedule.overlap is Overlap.ALLOW:",
                "if schedule.overlap in {Overlap.ALLOW, Overlap.SKIP}:",
                "_overlapping",
            ),
        ),
        (f"{SCHEDULES}::test_overlap_skip_skips_while_a_run_is_unfinished",),
    ),
    Mutant(
        "overlap-queue-one-keeps-any-number",
        OVERLAP,
        (Edit("taskqueue/firing.py", "if task.attempt == 0", "if task.attempt < 0", "_overlapping"),),
        (f"{SCHEDULES}::test_overlap_queue_one_keeps_one_waiting_behind_the_one_that_runs",),
    ),
    Mutant(
        "overlap-cancel-previous-cancels-nothing",
        OVERLAP,
        (Edit("taskqueue/firing.py", "if task.status not in FINAL:", "if task.status is None:", "_overlapping"),),
        (f"{SCHEDULES}::test_overlap_cancel_previous_ends_the_earlier_run",),
    ),
    Mutant(
        "a-paused-schedule-fires",
        "a paused schedule fires nothing and says what it skipped",
        (
            Edit("taskqueue/firing.py", "paused=not schedule.enabled", "paused=False", "_stand"),
            Edit("taskqueue/firing.py", "paused=not schedule.enabled", "paused=False", "restand"),
        ),
        (f"{SCHEDULES}::test_a_paused_schedule_fires_nothing_and_says_what_it_skipped",),
    ),
    Mutant(
        "only-a-schedulers-tick-fires",
        "any process that claims keeps the schedule going",
        (Edit("taskqueue/claiming.py", "promoting.promote_once(transaction, rules)", "pass", "claim"),),
        (f"{SCHEDULES}::test_whoever_claims_keeps_the_schedule_going",),
    ),
    Mutant(
        "a-repeated-hour-fires-a-fixed-time-twice",
        "11: a repeated hour runs a fixed-time schedule once",
        (Edit("cron.py", '"*" in walls.expanded[_HOUR]', "True", "_plan"),),
        (
            f"{CRON}::test_a_repeated_hour_runs_a_fixed_time_once_at_the_first",
            f"{SCHEDULES}::test_a_fixed_time_runs_once_a_day_whatever_the_clocks_do",
        ),
    ),
    Mutant(
        "an-interval-misses-the-repeated-hour",
        "an interval schedule runs whenever the clock shows the time",
        (Edit("cron.py", '"*" in walls.expanded[_HOUR]', "False", "_plan"),),
        (f"{CRON}::test_an_interval_runs_in_both_of_two_equal_hours",),
    ),
    Mutant(
        "a-skipped-time-does-not-run-at-all",
        "11: a time that daylight saving skips runs once at the first valid instant",
        (
            Edit(
                "cron.py",
                "return _first(range(after, before), lambda instant: self.shown_at(instant) >= wall)",
                "return before + 86_400",
                "_Plan.first_reached",
            ),
        ),
        (f"{CRON}::test_a_time_the_clocks_skip_runs_at_the_first_valid_instant",),
    ),
    Mutant(
        "an-unknown-zone-is-utc",
        "11: an unknown zone is refused, never read as UTC",
        (
            Edit(
                "cron.py",
                "if name in _zone_names():\n        return ZoneInfo(name)",
                'return ZoneInfo(name if name in _zone_names() else "UTC")',
                "_zone",
            ),
        ),
        (f"{CRON}::test_an_unknown_zone_is_refused_and_never_read_as_utc",),
    ),
    Mutant(
        "the-zone-of-a-schedule-is-ignored",
        ZONES,
        (Edit("cron.py", "_zone(cron.timezone)", '_zone("UTC")', "_plan"),),
        (f"{SCHEDULES}::test_a_fixed_time_runs_once_a_day_whatever_the_clocks_do",),
    ),
    Mutant(
        "h-and-r-are-taken",
        "what differs between processes is refused",
        (Edit("cron.py", "if _HASHED_OR_RANDOM.search(text):", "if not text:", "_check_form"),),
        (f"{CRON}::test_a_bad_expression_is_refused_in_one_line",),
    ),
)
