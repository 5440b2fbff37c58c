"""What becomes of an attempt: finished once, retried with a wait, handed back at no cost, each with its event."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, Edit, Mutant

COMPLETING = "contract/test_completing.py"
FAILING = "contract/test_failing.py"
UPDATING = "contract/test_updating.py"
EVENTS = "contract/test_events.py"

FINAL_ONCE = "3: a task becomes final at most once"
EVERY_TRANSITION = "3: every transition is one event, in a gapless sequence"
IDEMPOTENT_FINISH = "9: another body is an error and the first one stands"
REPEATABLE = "10: after a lost answer, repeating the call is always safe"
ATTEMPTS = "12: attempts are bounded"
COUNTERS = "quota, snooze, release and a claim that was never confirmed cost no failure"

MUTANTS = (
    Mutant(
        "a-second-completion-with-another-body-is-accepted",
        IDEMPOTENT_FINISH,
        (Edit("taskqueue/settling.py", "if proof.settle_hash == ending.digest():", "if proof.settle_hash:", "_again"),),
        (f"{COMPLETING}::test_another_result_under_the_same_lease_is_a_conflict_and_the_first_stands",),
    ),
    Mutant(
        "a-repeated-completion-is-refused",
        "9: the same lease and body again is fine",
        (Edit("taskqueue/settling.py", "if proof is None:", "if proof is not False:", "_held"),),
        (f"{COMPLETING}::test_the_same_completion_again_is_fine",),
    ),
    Mutant(
        "the-result-data-is-no-part-of-the-body",
        IDEMPOTENT_FINISH,
        (Edit("taskqueue/settling.py", "self.result_data, list", "list", "_Ending.digest"),),
        (f"{COMPLETING}::test_another_result_under_the_same_lease_is_a_conflict_and_the_first_stands",),
    ),
    Mutant(
        "anybody-may-repeat-an-end",
        "5: a lease is bound to its principal",
        (Edit("taskqueue/holding.py", "or proof.principal != caller.name", "", "ended_under"),),
        (f"{COMPLETING}::test_only_the_principal_that_ended_it_may_repeat_the_end",),
    ),
    Mutant(
        "any-secret-repeats-an-end",
        "5: a foreign lease changes nothing and says so",
        (Edit("taskqueue/holding.py", "or not hmac.compare_digest(proof.lease_hash, lease.hash)", "", "ended_under"),),
        (f"{COMPLETING}::test_a_forged_lease_of_an_ended_attempt_repeats_nothing",),
    ),
    Mutant(
        "a-numbered-update-counts-again",
        REPEATABLE,
        (Edit("taskqueue/settling.py", "proof.update_seq >= seq", "proof.update_seq > seq", "_is_repeated"),),
        (f"{UPDATING}::test_a_numbered_update_counts_once",),
        BOTH,
    ),
    Mutant(
        "a-repeated-question-is-refused",
        REPEATABLE,
        (Edit("taskqueue/settling.py", 'proof.outcome != "question"', "proof.outcome", "_same_question"),),
        (f"{UPDATING}::test_a_repeated_question_is_fine_and_another_one_is_too_late",),
    ),
    Mutant(
        "a-question-does-not-end-the-attempt",
        "a question ends the attempt",
        (
            Edit(
                "lifecycle.py",
                "_change(task, Status.WAITING, reason, question=question)",
                "_change(task, Status.PENDING, Reason.SNOOZE, question=question)",
                "ask",
            ),
        ),
        (f"{UPDATING}::test_a_question_ends_the_attempt_and_asks_a_person",),
    ),
    Mutant(
        "a-retry-does-not-wait",
        "a failure is tried again after a while",
        (Edit("lifecycle.py", "now + retry_delay", "now", "_failed"),),
        (f"{FAILING}::test_a_failure_is_tried_again_after_a_while",),
    ),
    Mutant(
        "the-wait-never-grows",
        "each failure doubles the wait",
        (Edit("retries.py", "2.0 **", "1.0 **", "Backoff.delay"),),
        ("test_retries.py::test_the_wait_doubles_up_to_its_longest",),
    ),
    Mutant(
        "the-wait-grows-without-end",
        "the wait is bounded",
        (Edit("retries.py", ", self.longest_seconds)", ", 1e9)", "Backoff.delay"),),
        ("test_retries.py::test_the_wait_doubles_up_to_its_longest",),
    ),
    Mutant(
        "one-attempt-too-many",
        ATTEMPTS,
        (Edit("lifecycle.py", "failures >= task.max_attempts", "failures > task.max_attempts", "_failed"),),
        (f"{FAILING}::test_a_task_fails_when_its_attempts_are_used_up",),
    ),
    Mutant(
        "one-attempt-too-few",
        ATTEMPTS,
        (Edit("lifecycle.py", "failures >= task.max_attempts", "failures >= task.max_attempts - 1", "_failed"),),
        (f"{FAILING}::test_a_task_fails_when_its_attempts_are_used_up",),
    ),
    Mutant(
        "a-permanent-failure-is-tried-again",
        "a permanent failure is final",
        (Edit("lifecycle.py", "if permanent or ", "if ", "_failed"),),
        (f"{FAILING}::test_a_permanent_failure_is_not_tried_again",),
    ),
    Mutant(
        "a-hand-back-costs-a-failure",
        COUNTERS,
        (
            Edit(
                "lifecycle.py",
                "reason or Reason.SNOOZE, run_at, task.failures",
                "reason or Reason.SNOOZE, run_at, task.failures + 1",
                "_hand_back",
            ),
        ),
        (f"{FAILING}::test_quota_and_snooze_wait_without_costing_a_failure",),
    ),
    Mutant(
        "a-claim-that-was-never-confirmed-costs-a-failure",
        COUNTERS,
        (Edit("lifecycle.py", "if not task.confirmed:", "if task.id < 0:", "lose"),),
        (f"{FAILING}::test_a_lease_that_was_never_confirmed_costs_none_and_goes_on_at_once",),
    ),
    Mutant(
        "a-confirmed-lease-that-ran-out-is-free",
        "a confirmed lease that ran out costs one failure",
        (Edit("lifecycle.py", "if not task.confirmed:", "if task.id > 0:", "lose"),),
        (f"{FAILING}::test_a_confirmed_lease_that_ran_out_costs_one_failure",),
    ),
    Mutant(
        "hand-backs-never-end",
        "at most 20 hand backs, then a person is asked",
        (Edit("lifecycle.py", "handbacks > MOST_HANDBACKS", "handbacks < 0", "_hand_back"),),
        (f"{FAILING}::test_after_twenty_hand_backs_a_person_is_asked",),
    ),
    Mutant(
        "hand-backs-end-one-too-early",
        "at most 20 hand backs, then a person is asked",
        (Edit("lifecycle.py", "handbacks > MOST_HANDBACKS", "handbacks >= MOST_HANDBACKS", "_hand_back"),),
        (f"{FAILING}::test_after_twenty_hand_backs_a_person_is_asked",),
    ),
    Mutant(
        "quota-and-snooze-do-not-wait",
        "a task that was handed back goes on when it was asked to",
        (Edit("lifecycle.py", "max(resume_at or now, now)", "now", "settle"),),
        (f"{FAILING}::test_a_task_that_was_handed_back_goes_on_when_it_was_asked_to",),
    ),
    Mutant(
        "a-claim-leaves-no-event",
        EVERY_TRANSITION,
        (Edit("taskqueue/claiming.py", "events.record(", "(lambda *_: None)(", "_take"),),
        (f"{EVENTS}::test_an_event_says_who_and_which_attempt",),
    ),
    Mutant(
        "a-task-that-becomes-ready-leaves-no-event",
        EVERY_TRANSITION,
        (Edit("taskqueue/moving.py", "events.record(", "(lambda *_: None)(", "_place"),),
        (f"{EVENTS}::test_every_event_of_a_long_life_has_its_number",),
    ),
    Mutant(
        "the-numbers-of-events-have-gaps",
        EVERY_TRANSITION,
        (Edit("store/tasks.py", "seq = seq + 1", "seq = seq + 2", "MOVE"),),
        (f"{EVENTS}::test_every_event_of_a_long_life_has_its_number",),
        BOTH,
    ),
    Mutant(
        "a-transition-does-not-look-at-the-status",
        FINAL_ONCE,
        (Edit("store/tasks.py", "AND status = :was ", "", "MOVE"),),
        ("contract/test_guards.py::test_a_move_changes_nothing_of_a_task_that_has_moved",),
        BOTH,
    ),
    Mutant(
        "a-transition-does-not-look-at-the-number",
        FINAL_ONCE,
        (Edit("store/tasks.py", " AND seq = :seq", "", "MOVE"),),
        ("contract/test_guards.py::test_a_move_changes_nothing_of_a_task_that_has_moved",),
        BOTH,
    ),
)
