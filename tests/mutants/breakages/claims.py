"""Leases and claims: who may write an attempt, and what is handed out to whom."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, Edit, Mutant

LEASES = "contract/test_leases.py"
CLAIMING = "contract/test_claiming.py"
STORE = "test_store.py"
GUARDS = "contract/test_guards.py"

ONE_LEASE = "4: at most one lease of a task is valid at any time"
LEASE_FOR_EVERY_WRITE = "5: a lease is needed for every write of an attempt"
SOFT_EXPIRY = "6: a late holder may still finish until the task has been taken back; then never"
IDEMPOTENT_CLAIM = "8: a lost answer costs neither the task nor a failure"

MUTANTS = (
    Mutant(
        "any-secret-is-a-lease",
        LEASE_FOR_EVERY_WRITE,
        (Edit("taskqueue/holding.py", "hmac.compare_digest(lease_hash, lease.hash)", "lease_hash", "held"),),
        (f"{LEASES}::test_a_forged_lease_writes_nothing",),
        BOTH,
    ),
    Mutant(
        "any-attempts-number-is-a-lease",
        LEASE_FOR_EVERY_WRITE,
        (Edit("taskqueue/holding.py", "and task.attempt == lease.attempt", "", "held"),),
        (f"{LEASES}::test_the_new_secret_with_an_earlier_attempts_number_writes_nothing",),
        BOTH,
    ),
    Mutant(
        "anybodys-lease-is-a-lease",
        LEASE_FOR_EVERY_WRITE,
        (Edit("taskqueue/holding.py", "and task.lease_principal == caller.name", "", "held"),),
        (f"{LEASES}::test_the_right_lease_in_another_principals_hands_writes_nothing",),
        BOTH,
    ),
    Mutant(
        "settle-does-not-look-at-the-secret",
        LEASE_FOR_EVERY_WRITE,
        (Edit("store/tasks.py", "AND lease_hash = :lease_hash", "", "SETTLE"),),
        (f"{GUARDS}::test_a_statement_under_a_lease_changes_nothing_without_all_of_it",),
        BOTH,
    ),
    Mutant(
        "settle-does-not-look-at-the-attempt",
        LEASE_FOR_EVERY_WRITE,
        (Edit("store/tasks.py", "AND attempt = :attempt", "", "SETTLE"),),
        (f"{GUARDS}::test_a_statement_under_a_lease_changes_nothing_without_all_of_it",),
        BOTH,
    ),
    Mutant(
        "settle-does-not-look-at-the-principal",
        LEASE_FOR_EVERY_WRITE,
        (Edit("store/tasks.py", "AND lease_principal = :principal", "", "SETTLE"),),
        (f"{GUARDS}::test_a_statement_under_a_lease_changes_nothing_without_all_of_it",),
        BOTH,
    ),
    Mutant(
        "an-update-does-not-look-at-the-secret",
        LEASE_FOR_EVERY_WRITE,
        (Edit("store/tasks.py", "AND lease_hash = :lease_hash", "", "TOUCH"),),
        (f"{GUARDS}::test_a_statement_under_a_lease_changes_nothing_without_all_of_it",),
        BOTH,
    ),
    Mutant(
        "an-update-does-not-look-at-the-attempt",
        LEASE_FOR_EVERY_WRITE,
        (Edit("store/tasks.py", "AND attempt = :attempt", "", "TOUCH"),),
        (f"{GUARDS}::test_a_statement_under_a_lease_changes_nothing_without_all_of_it",),
    ),
    Mutant(
        "a-child-needs-no-lease-of-the-parent",
        LEASE_FOR_EVERY_WRITE,
        (
            Edit(
                "taskqueue/creating.py",
                "holding.held(transaction, caller, new.lease).task",
                "tasks.fetch(transaction, int(new.lease[2:].split('.')[0]))",
                "create",
            ),
        ),
        ("contract/test_creating.py::test_a_child_needs_a_lease_that_is_valid_and_ones_own",),
    ),
    Mutant(
        "a-cancelled-tasks-lease-stays-valid",
        "5: a stale lease changes nothing; all four layers that see to it are gone",
        (
            Edit("taskqueue/holding.py", "task.status is Status.IN_PROGRESS", "task.status", "held"),
            Edit("store/tasks.py", "AND status = 'in_progress'", "", "SETTLE"),
            Edit(
                "store/tasks.py",
                "worker = NULL, lease_principal = NULL, lease_hash = NULL, lease_expires_at = NULL, claim_id = NULL,",
                "claim_id = NULL,",
                "MOVE",
            ),
            Edit("store/migrations/0001_queue.sql", "CHECK ((status = 'in_progress') = (lease_hash IS NOT NULL)),", ""),
        ),
        (f"{LEASES}::test_a_lease_of_a_cancelled_task_writes_nothing_and_says_so",),
        BOTH,
    ),
    Mutant(
        "a-lease-is-stored-as-it-is",
        "leases are stored hashed",
        (Edit("leases.py", "return hashlib.sha256(text.encode()).hexdigest()", "return text", "digest"),),
        (f"{CLAIMING}::test_only_the_hash_of_a_lease_is_stored",),
    ),
    Mutant(
        "a-lease-can-be-guessed",
        "the secret of a lease is random",
        (Edit("leases.py", "secrets.token_bytes(SECRET_BYTES)", "bytes(SECRET_BYTES)", "new_secret"),),
        (f"{STORE}::test_a_lease_by_claim_id_is_the_same_again_and_without_one_never",),
    ),
    Mutant(
        "a-lease-by-claim-id-has-no-salt",
        "a claim id alone does not tell the lease",
        (Edit("leases.py", "salt.encode()", "b''", "new_secret"),),
        (f"{STORE}::test_a_lease_by_claim_id_is_the_same_again_and_without_one_never",),
    ),
    Mutant(
        "the-reaper-takes-live-leases-back",
        "4: a lease is valid until it ran out",
        (Edit("store/tasks.py", "AND lease_expires_at < {{now}}", "", "EXPIRED"),),
        (f"{LEASES}::test_only_leases_that_ran_out_are_taken_back",),
        BOTH,
    ),
    Mutant(
        "a-lease-ends-a-moment-early",
        "4: a lease is valid up to its very end",
        (
            Edit("store/tasks.py", "lease_expires_at < {{now}}", "lease_expires_at <= {{now}}", "EXPIRED"),
            Edit("taskqueue/promoting.py", "expires_at < transaction.now", "expires_at <= transaction.now", "promote"),
        ),
        (f"{LEASES}::test_a_lease_is_valid_up_to_its_very_end",),
        BOTH,
    ),
    Mutant(
        "nobody-takes-lost-leases-back",
        "2: an accepted task runs until it is final",
        (Edit("taskqueue/promoting.py", "moved += reap(transaction, rules)", "moved += 0", "promote"),),
        (f"{LEASES}::test_after_it_was_taken_back_a_late_holder_never_finishes",),
    ),
    Mutant(
        "a-late-holder-may-not-finish",
        SOFT_EXPIRY,
        (
            Edit(
                "taskqueue/holding.py",
                "task.status is Status.IN_PROGRESS",
                "task.status is Status.IN_PROGRESS and (task.lease_expires_at or 0) >= transaction.now",
                "held",
            ),
        ),
        (f"{LEASES}::test_a_late_holder_may_finish_until_the_task_was_taken_back",),
    ),
    Mutant(
        "an-update-does-not-renew-the-lease",
        "any update renews the lease",
        (
            Edit(
                "store/tasks.py", "{{greatest}}(lease_expires_at, {{now}} + :lease_micros)", "lease_expires_at", "TOUCH"
            ),
        ),
        ("contract/test_updating.py::test_an_update_renews_the_lease_from_now_on",),
    ),
    Mutant(
        "an-update-shortens-a-lease",
        "13: clock jumps never lose a task",
        (
            Edit(
                "store/tasks.py",
                "{{greatest}}(lease_expires_at, {{now}} + :lease_micros)",
                "{{now}} + :lease_micros",
                "TOUCH",
            ),
        ),
        (f"{LEASES}::test_an_update_never_shortens_a_lease",),
        BOTH,
    ),
    Mutant(
        "a-task-in-progress-is-handed-out-again",
        ONE_LEASE,
        (
            Edit("store/tasks.py", " AND status = 'ready'", "", "_TAKE"),
            Edit("store/tasks.py", "AND status = 'ready'", "", "TAKE_ONE"),
            Edit("store/dialect.py", "status = 'ready'", "status IN ('ready', 'in_progress')", "_is_ready_in_sqlite"),
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX attempts_one_open",
                "CREATE INDEX attempts_one_open",
            ),
        ),
        (f"{CLAIMING}::test_a_task_is_handed_out_once", f"{CLAIMING}::test_a_task_that_cannot_be_claimed_says_why"),
    ),
    Mutant(
        "the-attempts-number-stays",
        "4: attempt rises by exactly one a claim",
        (Edit("store/tasks.py", "attempt = attempt + 1", "attempt = attempt + (attempt = 0)", "_TAKE"),),
        ("contract/test_failing.py::test_a_released_task_is_ready_for_the_next_at_once",),
    ),
    Mutant(
        "a-claim-id-is-ignored",
        IDEMPOTENT_CLAIM,
        (
            Edit("taskqueue/claiming.py", "if request.claim_id is not None:", "if False:", "_again"),
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX tasks_one_per_claim",
                "CREATE INDEX tasks_one_per_claim",
            ),
        ),
        (f"{CLAIMING}::test_a_repeated_claim_id_returns_the_same_task_and_lease",),
    ),
    Mutant(
        "a-claim-id-is-everybodys",
        "5: a lease is bound to its principal",
        (Edit("store/tasks.py", " AND lease_principal = :principal", "", "BY_CLAIM"),),
        (f"{CLAIMING}::test_a_claim_id_is_its_principals_own",),
        BOTH,
    ),
    Mutant(
        "a-first-lease-by-claim-id-is-as-long-as-any",
        "8: its first lease is 60 s, until the first update",
        (Edit("taskqueue/claiming.py", "min(rules.first_lease_seconds, lease_seconds)", "lease_seconds", "_taking"),),
        (f"{CLAIMING}::test_a_first_lease_by_claim_id_is_a_minute_until_the_first_update",),
    ),
    Mutant(
        "a-redelivery-keeps-the-old-lease",
        ONE_LEASE,
        (Edit("store/tasks.py", "lease_hash = :lease_hash, ", "", "READDRESS"),),
        (f"{CLAIMING}::test_a_worker_that_claims_again_within_a_minute_gets_its_untouched_task_again",),
        BOTH,
    ),
    Mutant(
        "an-end-under-a-redelivered-lease-cannot-be-repeated",
        "9: the same lease and body again is fine",
        (Edit("taskqueue/claiming.py", "attempts.new_lease(", "(lambda *_: None)(", "_redeliver"),),
        (f"{CLAIMING}::test_an_end_under_a_redelivered_lease_may_be_repeated",),
    ),
    Mutant(
        "a-task-that-was-touched-is-redelivered",
        ONE_LEASE,
        (
            Edit("store/tasks.py", "AND confirmed = 0", "", "READDRESS"),
            Edit("store/tasks.py", "AND confirmed = 0", "", "UNTOUCHED"),
        ),
        (f"{CLAIMING}::test_a_task_that_was_touched_is_not_handed_out_again",),
    ),
    Mutant(
        "a-redelivery-never-stops",
        "8: within 60 s",
        (Edit("store/tasks.py", "AND claimed_at > {now} - :window", "", "UNTOUCHED"),),
        (f"{CLAIMING}::test_after_a_minute_it_gets_another_task",),
        BOTH,
    ),
    Mutant(
        "priority-is-ignored",
        "ready tasks are taken by their head start in time",
        (Edit("lifecycle.py", "return run_at - HEAD_START[priority]", "return run_at", "sort_at"),),
        (f"{CLAIMING}::test_priority_is_a_head_start_in_time",),
    ),
    Mutant(
        "the-newest-task-goes-first",
        "nothing starves",
        (Edit("store/dialect.py", "ORDER BY sort_at, id", "ORDER BY sort_at DESC, id DESC", "_next_in_sqlite"),),
        (f"{CLAIMING}::test_first_come_first_served",),
    ),
    Mutant(
        "a-paused-queue-hands-out",
        "a paused queue leaves the claim's lists",
        (Edit("store/dialect.py", "state <> 'paused'", "state <> 'closed'", "_is_ready_in_sqlite"),),
        ("contract/test_queues.py::test_a_paused_queue_hands_nothing_out_and_still_takes_work",),
    ),
    Mutant(
        "a-task-of-a-paused-queue-can-be-claimed-by-its-id",
        "a paused queue hands nothing out",
        (Edit("store/tasks.py", "state <> 'paused'", "state <> 'closed'", "TAKE_ONE"),),
        ("contract/test_queues.py::test_a_paused_queue_hands_nothing_out_and_still_takes_work",),
        BOTH,
    ),
    Mutant(
        "a-claim-of-a-queue-takes-from-any",
        "a claim takes what it asked for",
        (Edit("store/dialect.py", " AND {among:name:queues}", " AND :queues IS NOT NULL", "_is_ready_in_sqlite"),),
        (f"{CLAIMING}::test_a_claim_takes_what_it_asked_for_and_nothing_else",),
    ),
    Mutant(
        "a-claim-without-its-caller-keeps-the-task",
        "8: a claim whose request was cancelled before its answer went out is released at once",
        (
            Edit(
                "taskqueue/service.py",
                "if claim is not None and not claim.redelivered:",
                "if claim is False:",
                "TaskQueue._give_back",
            ),
        ),
        (f"{CLAIMING}::test_a_claim_that_is_cancelled_before_its_answer_hands_the_task_back_at_once",),
    ),
)
