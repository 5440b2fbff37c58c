"""Moving to another database: whole, equal, and noticed by whoever reads the event log."""

from __future__ import annotations

from tests.mutants.mutant import POSTGRES, Edit, Mutant

HERE = "contract/test_moving.py"
OPENING = "contract/test_postgres_opening.py"

WHOLE = "a move carries everything, or says that it did not"
SAFE = "4: at most one lease of a task is valid at any time"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a-table-is-left-behind-by-a-move",
        WHOLE,
        (Edit("store/carrying.py", '    Table("dependencies", ("task_id", "depends_on")),\n', "", "TABLES"),),
        (f"{HERE}::test_no_table_is_forgotten",),
    ),
    Mutant(
        "a-move-skips-the-first-row-of-each-batch",
        WHOLE,
        (
            Edit("store/moving.py", "rows=rows))\n        after", "rows=rows[1:]))\n        after", "_carry"),
            Edit("store/carrying.py", "if last_key(transaction, table) != after:", "if False:", "insert"),
        ),
        (f"{HERE}::test_every_table_arrives_as_it_was_and_the_source_stays",),
    ),
    Mutant(
        "numbers-of-rows-that-are-gone-are-given-again-after-a-move",
        WHOLE,
        (Edit("store/carrying.py", "if table.name in found:", "if False:", "set_numbers"),),
        (f"{HERE}::test_numbers_go_on_above_those_of_rows_that_are_gone",),
    ),
    Mutant(
        "a-source-may-be-written-to-while-it-is-carried",
        WHOLE,
        (
            Edit("store/moving.py", "if await source.read(mark_of) != mark:", "if False:", "move"),
            Edit("store/carrying.py", "if target[name] != digest:", "if False:", "check_equal"),
        ),
        (f"{HERE}::test_a_source_that_is_written_to_meanwhile_is_noticed",),
    ),
    Mutant(
        "only-events-tell-that-a-source-was-written-to",
        WHOLE,
        (Edit("store/carrying.py", "if target[name] != digest:", "if False:", "check_equal"),),
        (f"{HERE}::test_a_source_that_is_written_to_meanwhile_is_noticed",),
    ),
    Mutant(
        "a-move-goes-on-with-what-another-began",
        WHOLE,
        (Edit("store/moving.py", "if under_way is not None:", "if False:", "_begin"),),
        (f"{HERE}::test_a_half_of_another_database_is_not_gone_on_with",),
    ),
    Mutant(
        "a-move-mixes-with-what-the-target-holds",
        WHOLE,
        (Edit("store/moving.py", "if held:", "if False:", "_begin"),),
        (f"{HERE}::test_a_target_that_holds_other_data_is_refused_and_left_alone",),
    ),
    Mutant(
        "a-server-works-on-half-of-a-database",
        WHOLE,
        (Edit("store/opening.py", "if transaction.first(HALF) is not None:", "if False:", "_refuse_half"),),
        (f"{HERE}::test_a_source_that_is_written_to_meanwhile_is_noticed",),
    ),
    Mutant(
        "a-lease-goes-along-with-its-task",
        SAFE,
        (Edit("store/moving.py", "[] if hand_back is None else", "[] if hand_back else", "_finish"),),
        (f"{HERE}::test_what_was_under_way_is_handed_back_at_no_cost",),
    ),
    Mutant(
        "a-restored-database-passes-for-the-old-one",
        "a reader notices a restore",
        (
            Edit(
                "store/backup.py",
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                "ON CONFLICT (name) DO NOTHING",
                "restore_database",
            ),
        ),
        (f"{HERE}::test_a_backup_of_either_engine_is_restored_into_either",),
    ),
    Mutant(
        "a-reader-goes-on-in-a-database-that-is-another",
        "a reader notices a restore",
        (Edit("store/events.py", "if cursor.epoch == epoch", "if cursor.epoch", "of_this_epoch"),),
        (f"{HERE}::test_a_reader_of_the_log_notices_that_the_database_is_another",),
    ),
    Mutant(
        "a-move-makes-the-database-that-it-is-to-read",
        "the source is not changed",
        (Edit("store/opening.py", "if number is None:", "if False:", "open_source"),),
        (f"{HERE}::test_the_command_refuses_what_cannot_be_moved",),
    ),
    Mutant(
        "a-password-is-told-when-its-url-is-cut",
        "passwords are never printed",
        (Edit("store/postgres/address.py", 'parts.netloc.count("@") > 1 or "@" in parts.path', "False", "_split"),),
        (f"{OPENING}::test_a_password_that_cuts_its_url_is_not_told",),
        (POSTGRES,),
    ),
    Mutant(
        "a-standby-is-taken",
        "a queue is not worked from what may be old",
        (Edit("store/postgres/opening.py", "    if standby:\n", "    if False:\n", "check"),),
        (f"{OPENING}::test_a_standby_is_refused_and_of_several_servers_the_primary_is_taken",),
        (POSTGRES,),
    ),
    Mutant(
        "an-encoding-that-is-not-utf-8-is-taken",
        "text may be any Unicode",
        (Edit("store/postgres/opening.py", 'if encoding != "UTF8":', "if False:", "check"),),
        (f"{OPENING}::test_another_encoding_is_refused",),
        (POSTGRES,),
    ),
)
