"""The worker, what a model reads, and housekeeping: nothing is lost on the way, cut unsaid or kept for ever."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

WORKER = "test_worker.py"
ATTACK = "test_worker_under_attack.py"
FITNESS = "test_worker_fitness.py"
ONLY_IF = "test_worker_only_if.py"
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
    Mutant(
        "what-left-its-group-outlives-its-attempt",
        "cancel and lease loss kill the whole process tree, whatever it did",
        (Edit("worker/attempt.py", "not self._means.marks.has_strays(self._mark)", "True", "Attempt._end_strays"),),
        (f"{ATTACK}::test_what_left_the_group_of_a_command_ends_with_the_attempt",),
        is_slow=True,
    ),
    Mutant(
        "what-a-dead-worker-left-runs-on",
        "orphans of a dead worker are found and ended at start",
        (Edit("worker/loop.py", "orphans := marks.end_orphans()", "orphans := []", "run_worker"),),
        (f"{ATTACK}::test_what_a_killed_worker_left_behind_is_ended_when_the_next_one_starts",),
        is_slow=True,
    ),
    Mutant(
        "a-reused-number-protects-orphans",
        "orphans of a dead worker are found and ended at start",
        (
            Edit(
                "executors/trees.py",
                "_started(mark.pid) != mark.started",
                "_started(mark.pid) is None",
                "Marks.end_orphans",
            ),
        ),
        ("executors/test_trees.py::test_the_number_of_a_dead_worker_used_by_another_process_protects_nobody",),
    ),
    Mutant(
        "executors-run-in-the-loop-of-the-leases",
        "an executor that blocks costs nobody a lease",
        (
            Edit(
                "worker/bench.py",
                "return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))",
                "return asyncio.ensure_future(work)",
                "Place.start",
            ),
        ),
        (f"{ATTACK}::test_an_executor_that_blocks_the_loop_loses_no_lease",),
        is_slow=True,
    ),
    Mutant(
        "an-executor-that-cannot-work-is-claimed-for",
        "tasks are never failed because this machine lacks something",
        (Edit("worker/fitness.py", "if not state.reason:", "if state.looked:", "Fitness.carries_out"),),
        (f"{FITNESS}::test_what_cannot_work_is_not_claimed_for_until_it_can_and_says_so_once",),
        is_slow=True,
    ),
    Mutant(
        "every-slot-claims-for-every-executor",
        "no more tasks of an executor run than it may",
        (Edit("worker/room.py", "executor not in self._most or ", "True or ", "Room._reserve"),),
        ("test_worker_room.py::test_no_more_slots_ask_for_an_executor_than_it_has_places",),
    ),
    Mutant(
        "limits-are-not-set",
        "a command runs within its limits",
        (Edit("executors/limits.py", "return [SHELL,", "return list(argv) or [SHELL,", "Limits.around"),),
        ("executors/test_limits.py::test_a_program_and_what_it_starts_have_every_limit_and_nothing_else_is_changed",),
    ),
    Mutant(
        "a-look-is-not-taken",
        "a cheap look may end a task before any model is paid",
        (Edit("executors/condition.py", "if found.data:", "if found:", "Conditional.run"),),
        (f"{ONLY_IF}::test_a_task_runs_only_if_the_look_says_so",),
        is_slow=True,
    ),
)
