"""PostgreSQL: works that meet on several connections, a commit whose answer is lost, the database's own clock."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRES, Edit, Mutant

HERE = "contract/test_on_postgres.py"

ON_POSTGRES = (POSTGRES,)
DURABLE = "1: when a call returns success, its effect survives"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "on-postgres-a-task-in-progress-is-handed-out-again",
        "4: at most one lease of a task is valid at any time",
        (
            Edit("store/tasks.py", " AND status = 'ready'", "", "_TAKE"),
            Edit(
                "store/dialect.py",
                "WHERE tasks.status = 'ready' AND",
                "WHERE tasks.status IN ('ready', 'in_progress') AND",
                "_line",
            ),
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX attempts_one_open",
                "CREATE INDEX attempts_one_open",
            ),
        ),
        ("contract/test_claiming.py::test_a_task_is_handed_out_once",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-the-newest-task-goes-first",
        "nothing starves",
        (
            Edit(
                "store/dialect.py",
                '"tasks.sort_at, tasks.id"',
                '"tasks.sort_at DESC, tasks.id DESC"',
                "_line",
            ),
        ),
        ("contract/test_claiming.py::test_first_come_first_served",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-paused-queue-hands-out",
        "a paused queue leaves the claim's lists",
        (Edit("store/dialect.py", "queues.state <> 'paused'", "queues.state <> 'closed'", "_walked"),),
        ("contract/test_queues.py::test_a_paused_queue_hands_nothing_out_and_still_takes_work",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-claim-of-a-queue-takes-from-any",
        "a claim takes what it asked for",
        (
            Edit(
                "store/dialect.py",
                '" AND {among:queues.name:queues}"',
                '" AND CAST(:queues AS text[]) IS NOT NULL"',
                "_walked",
            ),
        ),
        ("contract/test_claiming.py::test_a_claim_takes_what_it_asked_for_and_nothing_else",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-the-clock-is-the-applications",
        "13: leases and schedules use the database's clock",
        (
            Edit(
                "store/postgres/transaction.py",
                "told[0] if clock is None else clock()",
                '__import__("time").time_ns() // 1_000 if clock is None else clock()',
                "PostgresTransaction.__init__",
            ),
        ),
        (f"{HERE}::test_the_clock_is_the_servers",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-a-failed-work-of-a-batch-wrote-stays",
        "3: a transition and its event are written together or not at all",
        (
            Edit(
                "store/postgres/committing.py",
                "if transaction.wrote:",
                "if transaction.wrote is None:",
                "Committer._run",
            ),
        ),
        (f"{HERE}::test_of_a_work_that_fails_nothing_is_left_alone_or_in_company",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-a-failed-work-wrote-stays",
        "3: a transition and its event are written together or not at all",
        (
            Edit(
                "store/postgres/committing.py",
                "if _do(waiting, transaction):",
                "if _do(waiting, transaction) or True:",
                "Committer._commit_one",
            ),
        ),
        (f"{HERE}::test_of_a_work_that_fails_nothing_is_left_alone_or_in_company",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-call-is-answered-without-a-commit",
        DURABLE,
        (
            Edit(
                "store/postgres/committing.py",
                'wire.execute("COMMIT", prepare=False)',
                'wire.execute("ROLLBACK", prepare=False)',
                "Committer._commit",
            ),
        ),
        ("contract/test_creating.py::test_a_task_is_ready_at_once_and_knows_who_made_it",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-commit-whose-answer-was-lost-is-run-again",
        "10: a call is not done twice behind the caller's back",
        (Edit("store/postgres/committing.py", "raise faults.Unknown from error", "raise", "Committer._commit"),),
        (f"{HERE}::test_a_commit_whose_answer_was_lost_is_not_made_a_second_time",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-conflict-is-not-tried-again",
        "works that others are in the way of are run again",
        (Edit("store/postgres/committing.py", "MOST_CONFLICTS = 8", "MOST_CONFLICTS = 0"),),
        (f"{HERE}::test_a_work_that_others_are_in_the_way_of_is_run_again",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-two-that-count-at-once-fill-a-queue-beyond-its-limit",
        "12: open tasks a queue are bounded",
        (
            Edit(
                "store/postgres/committing.py",
                "if transaction.counts and not queues.write_counts(transaction):",
                "if transaction.counts and queues.write_counts(transaction) is None:",
                "Committer._commit",
            ),
            Edit(
                "store/queues.py",
                "AND (:added <= 0 OR open_tasks + :added <= :limit)",
                "AND (:added <= 0 OR :limit > 0)",
                "COUNT",
            ),
        ),
        (f"{HERE}::test_two_that_enter_a_queue_at_once_do_not_overfill_it",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-commit-does-not-wait-for-the-disk",
        "1: PostgreSQL synchronous_commit=on",
        (Edit("store/postgres/transaction.py", "if not durable:", "if durable is None:", "beginning"),),
        (f"{HERE}::test_a_commit_waits_for_the_disk_even_where_the_server_would_not",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-read-may-write",
        "a read writes nothing",
        (Edit("store/postgres/transaction.py", "REPEATABLE READ READ ONLY", "REPEATABLE READ", "BEGIN"),),
        (f"{HERE}::test_a_read_writes_nothing",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-read-sees-two-moments",
        "a read is of one moment",
        (Edit("store/postgres/transaction.py", "REPEATABLE READ READ ONLY", "READ COMMITTED READ ONLY", "BEGIN"),),
        (f"{HERE}::test_a_read_is_of_one_moment",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-news-of-other-servers-are-not-looked-for",
        "servers wake each other",
        (Edit("store/postgres/watching.py", "self._hear(_signals(rows))", "pass", "Watch._look"),),
        ("contract/test_postgres_news.py::test_news_of_a_database_that_was_restored_are_heard",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-news-that-come-late-are-passed-over",
        "a commit may become visible after one with a higher position",
        (Edit("store/postgres/watching.py", "self._gaps.update(", "dict().update(", "Watch._note"),),
        (f"{HERE}::test_an_event_that_is_committed_late_is_heard_late_and_not_passed_over",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-events-that-are-committed-late-are-missed",
        "3: every transition is one event, and whoever follows them misses none",
        (
            Edit(
                "store/dialect.py",
                '" AND xid < pg_snapshot_xmin(pg_current_snapshot())"',
                '""',
                "POSTGRES",
            ),
        ),
        (f"{HERE}::test_who_reads_the_events_in_order_misses_none_that_is_committed_late",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-conflict-is-tried-again-for-ever",
        "a work that others are always in the way of ends with an answer",
        (
            Edit(
                "store/postgres/committing.py",
                "conflicts < MOST_CONFLICTS if",
                "conflicts > 0 if",
                "Committer._patiently",
            ),
        ),
        (f"{HERE}::test_a_work_that_others_are_always_in_the_way_of_is_given_up",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-database-that-closes-forgets-what-it-accepted",
        "2: an accepted task runs until it is final",
        (
            Edit(
                "store/postgres/database.py",
                "while not (self._writes.idle and self._reads.idle):",
                "while self._closed and not self._writes.idle:",
                "PostgresDatabase.close",
            ),
        ),
        (f"{HERE}::test_a_database_that_closes_finishes_what_it_accepted",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-what-was-posted-is-not-seen-by-what-follows",
        "the statements of a work see those before it",
        (
            Edit(
                "store/postgres/transaction.py",
                "if self._posted:",
                "if self._posted is None:",
                "PostgresTransaction._execute",
            ),
        ),
        ("contract/test_claiming.py::test_the_same_claim_id_at_the_same_time_is_one_claim",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-of-rows-that-are-gathered-one-is-lost",
        "3: every transition is one event, in a gapless sequence",
        (
            Edit(
                "store/postgres/transaction.py",
                "[params[name] for params in rows]",
                "[params[name] for params in rows[1:]]",
                "PostgresTransaction.send_posted",
            ),
        ),
        (f"{HERE}::test_calls_that_share_a_commit_store_every_row_of_each",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-claim-finds-nothing-where-others-are-just-claiming",
        "a claim takes the first ready task that nobody else is claiming",
        (
            Edit(
                "store/dialect.py",
                "{first} LIMIT 1)",
                "{first} LIMIT 0)",
                "_next_in_postgres",
            ),
        ),
        (f"{HERE}::test_a_claim_passes_by_what_others_are_just_claiming",),
        ON_POSTGRES,
    ),
    Mutant(
        "on-postgres-a-claim-waits-for-what-others-are-just-claiming",
        "a claim takes the first ready task that nobody else is claiming",
        (
            Edit(
                "store/dialect.py",
                'head, reach="1", after=passing, lock=PASSING',
                'head, reach="1", after=passing, lock=" FOR NO KEY UPDATE"',
                "_next_in_postgres",
            ),
        ),
        (f"{HERE}::test_a_claim_passes_by_what_others_are_just_claiming",),
        ON_POSTGRES,
    ),
)
