"""PostgreSQL: works that meet are answered as they would be one after the other."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRES, Edit, Mutant

RACES = "contract/test_postgres_races.py"
BATCHES = "contract/test_postgres_batches.py"
NEWS = "contract/test_postgres_news.py"
FOLLOWERS = "contract/test_postgres_followers.py"
ON_POSTGRES = (POSTGRES,)
SAFE = "10: repeating a call is always safe"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "on-postgres-an-attempt-ends-before-it-has-begun",
        "3: every transition is one event, and an attempt has one end",
        (
            Edit(
                "store/postgres/transaction.py",
                "if self._posted_rows.setdefault(row, sql) != sql:",
                "if self._posted_rows.setdefault(row, sql) is None:",
                "PostgresTransaction.post",
            ),
        ),
        (f"{BATCHES}::test_a_task_that_is_claimed_and_cancelled_in_one_commit_can_be_claimed_again",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-work-that-waits-holds-those-of-its-batch-up",
        "a lock is waited for by whom it concerns",
        (
            Edit(
                "store/postgres/committing.py",
                "return [waiting for waiting in works if not self._soon(waiting)]",
                "pass",
                "Committer.write",
            ),
        ),
        (f"{BATCHES}::test_a_work_that_waits_for_a_lock_holds_nobody_else_up",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-calls-wait-one-after-the-other-while-the-database-is-away",
        "a call is answered within its patience",
        (
            Edit(
                "store/postgres/committing.py",
                "timeout=max(left, SHORTEST_WAIT)",
                "timeout=max(left, faults.PATIENCE)",
                "Committer._connection",
            ),
        ),
        (f"{BATCHES}::test_many_calls_are_answered_in_time_while_the_database_is_away",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-housekeeping-deletes-a-task-that-is-retried",
        "2: an accepted task runs until it is final",
        (Edit("store/keeping.py", "LIMIT :limit {skip_locked}", "LIMIT :limit", "OLD_TASKS"),),
        (f"{RACES}::test_a_task_that_is_retried_while_old_ones_are_deleted_stays",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-a-new-task-depends-on-may-end-meanwhile",
        "2: an accepted task runs until it is final",
        (Edit("store/tasks.py", "ORDER BY id {share}", "ORDER BY id", "STATUSES"),),
        (f"{FOLLOWERS}::test_a_task_that_comes_while_what_it_depends_on_completes_is_ready",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-who-joins-a-line-does-not-hold-its-head",
        "2: an accepted task runs until it is final",
        (Edit("store/tasks.py", "LIMIT 1 {share}", "LIMIT 1", "LINE_IS_BUSY"),),
        (f"{FOLLOWERS}::test_the_end_of_a_head_lets_go_what_is_just_joining_its_line",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-is-depended-on-cannot-be-claimed",
        "a claim takes the first ready task that nobody else is claiming",
        (Edit("store/dialect.py", '"FOR KEY SHARE"', '"FOR SHARE"', "POSTGRES"),),
        (f"{RACES}::test_a_claim_takes_what_a_new_task_is_just_made_to_depend_on",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-two-dependencies-that-complete-at-once-see-only-themselves",
        "2: an accepted task runs until it is final",
        (Edit("store/tasks.py", "ORDER BY tasks.id {{lock_tasks}}", "ORDER BY tasks.id", "DEPENDANTS"),),
        (f"{FOLLOWERS}::test_a_task_whose_two_dependencies_complete_at_once_is_ready",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-create-that-its-twin-left-no-room-is-refused",
        "7: idempotent create",
        (
            Edit(
                "taskqueue/service.py",
                "made = await self.database.read(partial(creating.made_before, caller=caller, new=new))",
                "made = None",
                "TaskQueue.create",
            ),
        ),
        (f"{RACES}::test_the_last_child_that_is_made_twice_at_once_is_made_once",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-question-that-is-asked-twice-at-once-loses-the-lease",
        SAFE,
        (Edit("taskqueue/settling.py", "if asked_before is None:", "if asked_before is not update:", "update"),),
        (f"{RACES}::test_a_question_that_is_asked_twice_at_once_is_asked_once",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-two-servers-raise-one-alarm-each",
        "3: what happened is one event",
        (
            Edit(
                "taskqueue/promoting.py",
                "if schedules.unwatch(transaction, task.id)]",
                "if schedules.unwatch(transaction, task.id) or True]",
                "raise_alarms",
            ),
        ),
        (f"{RACES}::test_two_servers_raise_an_alarm_once",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-tick-waits-for-who-changes-a-schedule",
        "who changes a schedule locks it before its run",
        (Edit("store/schedules.py", 'BY_ID + " {skip_locked}"', 'BY_ID + " {lock}"', "LOCK_BY_ID_IF_FREE"),),
        (f"{RACES}::test_a_tick_leaves_a_run_whose_schedule_is_just_being_changed",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-was-under-way-when-the-watch-began-is-not-heard",
        "a commit may become visible after one with a higher position",
        (Edit("store/postgres/watching.py", "LIMIT {MOST_GAPS}", "LIMIT 1", "_news.__init__"),),
        (f"{NEWS}::test_an_event_that_was_under_way_when_the_watch_began_is_heard",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-claim-locks-the-heads-of-other-queues",
        "a claim takes the first ready task that nobody else is claiming",
        (Edit("store/dialect.py", "{first} LIMIT 1)", "{first} ORDER BY first.sort_at LIMIT 1)", "_next_in_postgres"),),
        (f"{RACES}::test_a_claim_locks_no_task_but_its_own",),
        ON_POSTGRES,
    ),
)
