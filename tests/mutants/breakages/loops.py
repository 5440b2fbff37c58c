"""The worker, what a model reads, and housekeeping: nothing is lost on the way, cut unsaid or kept for ever."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

WORKER = "test_worker.py"
TOOLS = "mcp_surface/test_tools.py"
KEEPING = "contract/test_keeping.py"
STDIO = "test_stdio_transport.py"

MUTANTS = (
    Mutant(
        "a-worker-sends-no-heartbeat",
        "a lease lasts through a task that is longer",
        (Edit("worker/reporting.py", "with anyio.move_on_after(self._beat_seconds):", "if True:", "Reporter.run"),),
        (f"{WORKER}::test_a_lease_of_two_seconds_lasts_through_a_task_of_five",),
        is_slow=True,
    ),
    Mutant(
        "a-worker-that-lost-its-task-goes-on",
        "5: a stale lease says so, and its holder stops",
        (Edit("worker/attempt.py", "self._stop.set()", "pass", "Attempt.lose"),),
        (f"{WORKER}::test_a_cancel_kills_the_whole_process_tree_within_a_second",),
        is_slow=True,
    ),
    Mutant(
        "a-stopped-worker-costs-a-failure",
        "a shutdown costs no failure",
        (
            Edit(
                "worker/attempt.py",
                "if self._shutting_down and",
                "if self._shutting_down is None and",
                "Attempt._judged",
            ),
        ),
        (f"{WORKER}::test_however_an_executor_takes_the_stop_it_costs_no_failure",),
        is_slow=True,
    ),
    Mutant(
        "a-worker-gives-up-when-the-queue-is-away",
        "10: repeating a call after a lost answer is always safe, and the worker does it",
        (
            Edit(
                "worker/connection.py",
                "self._lose(client, error)\n                continue",
                "raise errors.Busy(str(error)) from error",
                "Connection.call",
            ),
        ),
        (f"{WORKER}::test_lost_answers_cost_neither_a_task_nor_an_attempt_nor_a_line",),
        is_slow=True,
    ),
    Mutant(
        "an-update-that-is-repeated-has-no-number",
        "10: seq makes an update safe to repeat",
        (Edit("worker/reporting.py", 'news["seq"] = self._number', "pass", "Reporter._send"),),
        (f"{WORKER}::test_lost_answers_cost_neither_a_task_nor_an_attempt_nor_a_line",),
        is_slow=True,
    ),
    Mutant(
        "a-claim-that-is-repeated-has-another-id",
        "8: a lost answer costs neither the task nor a failure",
        (
            Edit(
                "worker/connection.py",
                "self._lose(client, error)\n                continue",
                "self._lose(client, error)\n"
                '                if "claim_id" in arguments:\n'
                '                    arguments = {**arguments, "claim_id": os.urandom(8).hex()}\n'
                "                continue",
                "Connection.call",
            ),
        ),
        (f"{WORKER}::test_lost_answers_cost_neither_a_task_nor_an_attempt_nor_a_line",),
        is_slow=True,
    ),
    Mutant(
        "slots-of-a-worker-have-no-claim-ids",
        "4: at most one lease of a task is valid at any time",
        (Edit("worker/slots.py", '"claim_id": secrets.token_hex(16)', '"cursor": None', "Slots._claim"),),
        (f"{WORKER}::test_slots_that_claim_at_once_never_meet_at_one_task",),
        is_slow=True,
    ),
    Mutant(
        "everybody-sees-every-tool",
        "a token sees the tools of its scopes",
        (Edit("surfaces/mcp/server.py", "if Scope.ADMIN in caller.scopes or", "if caller or", "ByScope.__call__"),),
        (f"{TOOLS}::test_a_caller_sees_the_tools_of_its_scopes",),
    ),
    Mutant(
        "a-claim-has-any-length",
        "a claim has at most 10,000 characters",
        (Edit("surfaces/mcp/fitting.py", "if len(text) <= longest:", "if text:", "fit"),),
        (f"{TOOLS}::test_a_claim_too_large_for_a_model_is_cut_and_says_where_the_rest_is",),
    ),
    Mutant(
        "what-is-cut-is-not-told",
        "what was cut says where the rest is",
        (Edit("surfaces/mcp/fitting.py", "cut[path] = _how(path, task_id)", "pass", "fit"),),
        (f"{TOOLS}::test_a_claim_too_large_for_a_model_is_cut_and_says_where_the_rest_is",),
    ),
    Mutant(
        "what-clients-add-is-refused",
        "arguments that clients add by themselves are taken out",
        (Edit("surfaces/mcp/arguments.py", " and key not in ADDED_BY_CLIENTS", "", "read"),),
        (f"{TOOLS}::test_what_clients_add_or_leave_empty_is_taken_as_it_was_meant",),
    ),
    Mutant(
        "an-open-task-is-deleted",
        "2: an accepted task runs until it is final",
        (
            Edit(
                "store/keeping.py",
                "finished_at IS NOT NULL AND finished_at < {now} - :age\n   AND",
                "created_at < {now} - :age\n   AND",
                "OLD_TASKS",
            ),
        ),
        (f"{KEEPING}::test_an_open_task_is_kept_for_ever",),
    ),
    Mutant(
        "what-an-open-task-waits-for-is-deleted",
        "the results are handed to the task that waited",
        (Edit("store/keeping.py", "waiting.finished_at IS NULL", "waiting.id < 0", "OLD_TASKS"),),
        (f"{KEEPING}::test_what_an_open_task_waits_for_is_kept",),
    ),
    Mutant(
        "nothing-is-ever-deleted",
        "a finished task is kept for thirty days",
        (Edit("store/keeping.py", 'transaction.run(DELETE_TASK, {"id": task_id})', "pass", "delete_finished"),),
        (f"{KEEPING}::test_a_finished_task_is_kept_for_thirty_days_and_its_events_for_longer",),
    ),
    Mutant(
        "a-page-forgets-its-last-task",
        "tasks are listed in pages without gaps",
        (Edit("store/lists.py", "id < :before", "id < :before - 1", "TASKS"),),
        ("contract/test_looking.py::test_tasks_are_listed_newest_first_in_pages_without_gaps",),
    ),
)
