"""The store: durable before it is acknowledged, one writer at a time, all of a work or nothing."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

STORE = "test_store.py"
OPENING = "contract/test_opening.py"

DURABLE = "1: when a call returns success, its effect survives kill -9 and a power cut"
WHOLE = "3: a transition and its event are written together or not at all"

MUTANTS = (
    Mutant(
        "a-write-begins-deferred-and-takes-no-turn",
        "processes that share a file take turns",
        (
            Edit("store/sqlite.py", '"BEGIN IMMEDIATE"', '"BEGIN"', "SqliteDatabase._commit"),
            Edit("store/turns.py", "return False", "return True", "Turns.try_take"),
        ),
        (f"{STORE}::test_a_write_keeps_other_programs_out_from_its_first_statement",),
    ),
    Mutant(
        "processes-take-no-turns",
        "processes that share a file take turns",
        (Edit("store/turns.py", "return False", "return True", "Turns.try_take"),),
        (f"{STORE}::test_processes_take_turns_at_the_file",),
    ),
    Mutant(
        "a-turn-is-never-given-back",
        "processes that share a file take turns",
        (Edit("store/turns.py", "fcntl.flock(self._file, fcntl.LOCK_UN)", "pass", "Turns.give_back"),),
        (f"{STORE}::test_processes_take_turns_at_the_file",),
    ),
    Mutant(
        "a-claim-reads-one-row-and-no-transaction-stands-around-it",
        DURABLE,
        (
            Edit("store/sqlite.py", '"BEGIN IMMEDIATE"', '"SELECT 1"', "SqliteDatabase._commit"),
            Edit("store/sqlite.py", 'connection.execute("COMMIT")', "pass", "SqliteDatabase._commit"),
            Edit(
                "store/sqlite_transaction.py",
                "rows = self.all(sql, params)\n        return rows[0] if rows else None",
                "text, pick, timed, _ = _compile(sql)\n        values = pick(params)\n        return "
                "self._execute(text, (*values, self.now) if timed else values).fetchone()",
                "SqliteTransaction.first",
            ),
        ),
        (
            f"{STORE}::test_of_a_work_that_fails_nothing_is_left",
            f"{STORE}::test_of_works_that_share_a_commit_only_those_that_failed_are_left_out",
        ),
    ),
    Mutant(
        "a-call-is-answered-before-the-commit",
        DURABLE,
        (
            Edit(
                "store/sqlite.py",
                'connection.execute("COMMIT")',
                '[waiting.answer() for waiting in batch.works]\n            connection.execute("COMMIT")',
                "SqliteDatabase._commit",
            ),
        ),
        (f"{STORE}::test_what_fails_at_the_commit_is_not_acknowledged",),
    ),
    Mutant(
        "a-commit-does-not-sync",
        "1: SQLite synchronous=FULL",
        (
            Edit(
                "store/sqlite.py", 'synchronous: str = "full"', 'synchronous: str = "normal"', "SqliteDatabase.__init__"
            ),
        ),
        (f"{OPENING}::test_what_was_set_is_what_is_in_force",),
    ),
    Mutant(
        "what-a-failed-work-wrote-stays",
        WHOLE,
        (
            Edit(
                "store/sqlite.py",
                "connection.total_changes != before",
                "connection.total_changes < before",
                "SqliteDatabase._run",
            ),
        ),
        (f"{STORE}::test_of_a_work_that_fails_nothing_is_left",),
    ),
    Mutant(
        "what-a-failed-work-of-a-batch-wrote-stays",
        WHOLE,
        (Edit("store/sqlite.py", 'self._connection.execute("ROLLBACK TO work")', "pass", "SqliteDatabase._take_back"),),
        (f"{STORE}::test_of_works_that_share_a_commit_only_those_that_failed_are_left_out",),
    ),
    Mutant(
        "every-work-has-a-commit-of-its-own",
        "one fsync a batch",
        (
            Edit(
                "store/sqlite.py",
                "works, self._pending = self._pending, []",
                "works, self._pending = self._pending[:1], self._pending[1:]",
                "SqliteDatabase._flush",
            ),
        ),
        (f"{STORE}::test_works_that_arrive_together_share_a_commit",),
    ),
    Mutant(
        "a-read-may-write",
        "a read writes nothing",
        (Edit("store/sqlite.py", '"PRAGMA query_only = ON"', '"PRAGMA query_only = OFF"', "SqliteDatabase.__init__"),),
        (f"{STORE}::test_a_read_writes_nothing",),
    ),
    Mutant(
        "a-read-sees-two-moments",
        "a read is of one moment",
        (Edit("store/sqlite.py", 'connection.execute("BEGIN")', "pass", "SqliteDatabase._read_on"),),
        (f"{STORE}::test_a_read_is_of_one_moment",),
    ),
    Mutant(
        "other-processes-are-not-woken",
        "processes wake each other",
        (Edit("store/sqlite.py", "self._wakeups.send(signals)", "pass", "SqliteDatabase._tell"),),
        (f"{STORE}::test_signals_are_sent_after_the_commit_and_to_other_processes",),
    ),
    Mutant(
        "a-lost-wake-up-is-never-made-up-for",
        "data_version is the truth behind the wake-ups",
        (Edit("store/sqlite.py", "if version != self._seen:", "if version is None:", "SqliteDatabase._look"),),
        ("contract/test_waiting.py::test_a_task_of_another_process_arrives_without_its_wake_up_call",),
    ),
    Mutant(
        "a-database-that-closes-forgets-what-it-accepted",
        "2: an accepted task runs until it is final",
        (
            Edit(
                "store/sqlite.py",
                "while self._busy:",
                "while self._busy and not self._pending:",
                "SqliteDatabase.close",
            ),
        ),
        (f"{STORE}::test_a_database_that_closes_finishes_what_it_accepted",),
    ),
    Mutant(
        "a-migration-that-fails-stays-half-done",
        "a migration changes everything or nothing",
        (
            Edit("store/sqlite.py", 'connection.execute("BEGIN IMMEDIATE")', "pass", "SqliteDatabase._migrate"),
            Edit("store/sqlite.py", 'connection.execute("COMMIT")', "pass", "SqliteDatabase._migrate"),
        ),
        ("contract/test_migrations.py::test_a_migration_that_fails_half_way_changes_nothing",),
    ),
    Mutant(
        "a-file-of-a-newer-program-is-opened",
        "a file that a newer program wrote is refused",
        (Edit("store/migrate.py", "if have > newest:", "if have < 0:", "statements"),),
        ("contract/test_migrations.py::test_a_file_of_a_newer_program_is_refused_and_not_touched",),
    ),
    Mutant(
        "an-old-sqlite-library-is-taken",
        "versions before 3.51.3 are refused",
        (Edit("store/startup.py", "if version < SAFE_SQLITE:", "if not version:", "check_library"),),
        (f"{OPENING}::test_a_sqlite_that_can_corrupt_the_file_is_refused",),
    ),
    Mutant(
        "a-database-in-a-synced-folder-is-opened",
        "sync clients lose work",
        (Edit("store/startup.py", "if named is not None:", "if named is False:", "check_place"),),
        (f"{OPENING}::test_a_synced_folder_is_refused",),
    ),
    Mutant(
        "a-database-that-others-can-read-is-opened",
        "the queue is its owner's alone",
        (Edit("store/startup.py", "found.st_mode & 0o077", "found.st_mode & 0", "prepare_file"),),
        (f"{OPENING}::test_a_file_that_others_can_read_is_refused_with_the_cure",),
    ),
)
