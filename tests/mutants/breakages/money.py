"""Money is never passed and never counted twice; an account that is used up burns nobody else."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, POSTGRES, Edit, Mutant

BUDGETS = "contract/test_budgets.py"
QUOTA = "contract/test_quota.py"
RACES = "contract/test_postgres_money.py"

NEVER_PASSED = "a ceiling is never passed by claims at once"
COUNTED_ONCE = "what an attempt has spent is counted once"
A_PERSON = "at a ceiling a person is asked, and the answer counts"
GATE = "an account that is used up burns no other claim"
OPENS = "when a limit is over, one tries and the others follow"

MUTANTS = (
    Mutant(
        "nobody-looks-whether-there-is-money",
        NEVER_PASSED,
        (
            Edit(
                "taskqueue/accounting.py",
                "short = budgets.shortage(accounts, needs)",
                "short = None",
                "reserve",
            ),
            Edit(
                "store/spending.py",
                " AND (ceiling IS NULL OR spent + reserved + :amount <= ceiling + raised)",
                "",
                "RESERVE",
            ),
        ),
        (f"{BUDGETS}::test_concurrent_claims_never_pass_the_ceiling_of_the_day",),
        BOTH,
    ),
    Mutant(
        "what-is-set-aside-counts-for-nothing",
        NEVER_PASSED,
        (
            Edit(
                "budgets.py",
                "return account.spent + account.reserved + need > account.allowed",
                "return account.spent + need > account.allowed",
                "_is_short",
            ),
            Edit(
                "store/spending.py",
                " AND (ceiling IS NULL OR spent + reserved + :amount <= ceiling + raised)",
                "",
                "RESERVE",
            ),
        ),
        (f"{BUDGETS}::test_concurrent_claims_never_pass_the_ceiling_of_the_day",),
    ),
    Mutant(
        "on-postgres-two-claims-read-the-same-account-at-once",
        NEVER_PASSED,
        (
            Edit("store/spending.py", "ORDER BY account {{lock}}", "ORDER BY account", "LOCKED"),
            Edit(
                "store/spending.py",
                " AND (ceiling IS NULL OR spent + reserved + :amount <= ceiling + raised)",
                "",
                "RESERVE",
            ),
        ),
        (f"{RACES}::test_two_claims_at_once_do_not_both_get_the_last_money",),
        (POSTGRES,),
    ),
    Mutant(
        "the-end-of-an-attempt-is-counted-with-each-repeat",
        COUNTED_ONCE,
        (
            Edit(
                "taskqueue/settling.py",
                "return _again(transaction, caller, lease, proof, ending)",
                "accounting.settle(transaction, None, moving.fetch(transaction, lease.task_id),"
                " usages.as_told(ending.usage), is_reserved=True)\n"
                "        return _again(transaction, caller, lease, proof, ending)",
                "_held",
            ),
            Edit(
                "store/spending.py",
                "DELETE FROM reservations WHERE",
                "DELETE FROM reservations WHERE 1 = 0 AND",
                "GIVE_BACK",
            ),
            Edit("store/spending.py", "> 0", ">= 0", "give_back"),
            Edit(
                "store/spending.py", "reserved = reserved - :released", "reserved = reserved * 0 * :released", "SPEND"
            ),
        ),
        (f"{BUDGETS}::test_a_repeated_end_counts_nothing_twice",),
    ),
    Mutant(
        "usage-on-the-way-adds-up",
        "usage is what an attempt has used in all",
        (
            Edit(
                "taskqueue/accounting.py",
                "told = {**_reported(transaction, task), **usage}",
                "told = {**_reported(transaction, task), **usage}\n    told['cost_usd'] = 2 * told.get('cost_usd', 0)",
                "settle",
            ),
        ),
        (f"{BUDGETS}::test_usage_on_the_way_is_cumulative_and_is_counted_when_the_attempt_is_over",),
    ),
    Mutant(
        "what-was-not-spent-is-not-given-back",
        "what was set aside and not spent is there for others",
        (Edit("store/spending.py", "reserved = reserved - :released", "reserved = reserved + 0 * :released", "SPEND"),),
        (f"{BUDGETS}::test_money_that_is_given_back_is_handed_out_again",),
        BOTH,
    ),
    Mutant(
        "nobody-hears-that-money-was-given-back",
        "what was set aside and not spent is there for others",
        (Edit("taskqueue/accounting.py", "    wake(transaction, changes)", "    pass", "_count"),),
        (f"{BUDGETS}::test_money_that_is_given_back_is_handed_out_again",),
    ),
    Mutant(
        "an-attempt-goes-on-past-its-ceiling",
        A_PERSON,
        (Edit("taskqueue/accounting.py", "over = {unit", "over = {unit for unit in ()} and {unit", "report"),),
        (f"{BUDGETS}::test_at_its_ceiling_a_task_stops_and_asks_and_keeps_its_files",),
    ),
    Mutant(
        "an-answer-raises-no-ceiling",
        A_PERSON,
        (Edit("store/spending.py", "SET raised = raised + :amount", "SET raised = raised + 0 * :amount", "RAISE"),),
        (
            f"{BUDGETS}::test_continue_with_more_raises_the_ceiling_and_the_session_goes_on",
            f"{BUDGETS}::test_a_raised_day_pays_for_what_waited",
        ),
        BOTH,
    ),
    Mutant(
        "everybody-asks-about-the-day",
        "a person is asked once",
        (Edit("taskqueue/paying.py", "and account.asked_task is None", "", "hold"),),
        (f"{BUDGETS}::test_when_the_day_is_used_up_one_task_asks_and_the_others_wait_for_the_next_day",),
    ),
    Mutant(
        "nobody-asks-when-money-that-was-set-aside-is-spent",
        A_PERSON,
        (Edit("taskqueue/accounting.py", "if fits or asks:", "if fits:", "wake"),),
        (f"{BUDGETS}::test_somebody_is_asked_when_what_was_set_aside_is_spent_and_not_given_back",),
    ),
    Mutant(
        "the-day-begins-at-midnight-of-greenwich",
        "a day is one of the default zone",
        (Edit("budgets.py", "tz = ZoneInfo(zone)", 'tz = ZoneInfo("UTC")', "_day"),),
        (
            f"{BUDGETS}::test_the_day_begins_at_midnight_of_the_default_zone",
            "test_budgets.py::test_a_day_ends_at_midnight_of_its_zone",
        ),
    ),
    Mutant(
        "what-waits-for-a-day-waits-for-ever",
        "the next day pays again",
        (Edit("taskqueue/promoting.py", "moved += paying.ripen(transaction, BATCH)", "pass", "promote"),),
        (f"{BUDGETS}::test_when_the_day_is_used_up_one_task_asks_and_the_others_wait_for_the_next_day",),
    ),
    Mutant(
        "a-lost-attempt-that-reported-nothing-frees-its-money",
        "what nobody knows to be unspent stays set aside",
        (
            Edit(
                "taskqueue/accounting.py",
                "if used or not before.confirmed or after.status in FINAL:",
                "if True:",
                "lose",
            ),
        ),
        (f"{BUDGETS}::test_what_a_silent_attempt_had_stays_set_aside_until_the_next_one_is_over",),
    ),
    Mutant(
        "a-task-that-is-over-keeps-its-money",
        "what was set aside and not spent is there for others",
        (Edit("taskqueue/moving.py", "accounting.forget(transaction, before)", "pass", "follow"),),
        (
            f"{BUDGETS}::test_what_a_lost_attempt_had_is_free_when_its_task_is_cancelled",
            f"{BUDGETS}::test_a_cancelled_task_waits_for_no_money",
        ),
    ),
    Mutant(
        "usage-that-is-no-number-is-overlooked",
        "what somebody has spent is counted",
        (Edit("taskqueue/usages.py", "if not 0 <= number < MOST_USED:", "if False:", "_counted"),),
        (f"{BUDGETS}::test_usage_that_is_no_number_is_refused_and_not_overlooked",),
    ),
    Mutant(
        "a-task-that-cannot-be-paid-for-stops-the-claim",
        "a task that cannot be paid for holds up no other",
        (Edit("taskqueue/claiming.py", "if not isinstance(took, Held):", "if True:", "claim"),),
        (f"{BUDGETS}::test_a_task_that_cannot_be_paid_holds_up_no_other",),
    ),
    Mutant(
        "a-closed-gate-holds-nobody-back",
        GATE,
        (Edit("taskqueue/gating.py", "shut = frozenset(gate.executor for", "shut = frozenset(() for", "door"),),
        (f"{QUOTA}::test_nobody_of_that_account_is_handed_work_while_its_gate_is_closed",),
        BOTH,
    ),
    Mutant(
        "a-claim-does-not-see-a-gate-that-its-own-commit-has-closed",
        GATE,
        (Edit("taskqueue/gating.py", "transaction.marks.add(GATED)", "pass", "_close"),),
        (f"{QUOTA}::test_a_claim_sees_the_gate_that_an_earlier_work_of_its_commit_has_closed",),
    ),
    Mutant(
        "a-closed-gate-holds-every-account-back",
        "workers with another account go on",
        (
            Edit(
                "taskqueue/gating.py",
                "if account is None or account == gate.account:",
                "if True:",
                "door",
            ),
        ),
        (f"{QUOTA}::test_a_worker_with_another_account_goes_on",),
    ),
    Mutant(
        "a-closed-gate-holds-all-work-back",
        "other work keeps running",
        (
            Edit(
                "taskqueue/gating.py",
                "left = tuple(name for name in taking.executors if name not in door.closed)",
                "left = ()",
                "narrowed",
            ),
        ),
        (f"{QUOTA}::test_other_work_goes_on_while_a_gate_is_closed",),
    ),
    Mutant(
        "a-gate-never-opens-by-itself",
        OPENS,
        (Edit("taskqueue/gating.py", "return (gate.closed_until or 0) <= now or", "return", "_lets_try"),),
        (f"{QUOTA}::test_when_the_limit_is_over_one_tries_first_and_then_the_others_follow",),
    ),
    Mutant(
        "when-a-limit-is-over-all-try-at-once",
        OPENS,
        (Edit("taskqueue/gating.py", "tries = door.to_try", "tries = ()", "passed"),),
        (f"{QUOTA}::test_when_the_limit_is_over_one_tries_first_and_then_the_others_follow",),
        BOTH,
    ),
    Mutant(
        "a-probe-that-works-opens-nothing",
        OPENS,
        (Edit("taskqueue/gating.py", "worked(transaction, caller, task, account)", "pass", "ended"),),
        (f"{QUOTA}::test_when_the_limit_is_over_one_tries_first_and_then_the_others_follow",),
    ),
    Mutant(
        "what-was-under-way-opens-the-gate",
        GATE,
        (
            Edit(
                "taskqueue/gating.py",
                "later = tried or (task.claimed_at or 0) > (gate.closed_at or 0)",
                "later = True",
                "worked",
            ),
        ),
        (f"{QUOTA}::test_attempts_that_were_under_way_do_not_count_as_further_waits_nor_open_the_gate",),
    ),
    Mutant(
        "on-postgres-two-try-a-gate-at-once",
        OPENS,
        (Edit("store/gates.py", " ORDER BY id {skip_locked}", " ORDER BY id", "TRY"),),
        (f"{RACES}::test_of_two_that_come_when_a_limit_is_over_one_tries",),
        (POSTGRES,),
    ),
    Mutant(
        "a-limit-of-a-month-is-waited-for",
        "a limit that lasts too long is for a person to decide about",
        (Edit("lifecycle.py", "- now > longest_quota", "- now > 10**18", "settle"),),
        (f"{QUOTA}::test_a_limit_that_lasts_too_long_is_for_a_person_to_decide_about",),
    ),
)
