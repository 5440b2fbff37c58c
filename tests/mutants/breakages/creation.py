"""New tasks: stored once a key, after what they depend on, one at a time in their line, within the limits."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, Edit, Mutant

IDEMPOTENCY = "contract/test_idempotency.py"
LIMITS = "contract/test_limits.py"
DEPENDENCIES = "contract/test_dependencies.py"
LINES = "contract/test_serial_lines.py"

IDEMPOTENT_CREATE = "7: the same principal and key give the same task; with a different body, an error"
BOUNDED = "12: damage is bounded"
AFTER_ITS_DEPENDENCIES = "a task waits for what it depends on"
ONE_AT_A_TIME = "only the head of a serial key becomes ready"

MUTANTS = (
    Mutant(
        "an-idempotency-key-is-ignored",
        IDEMPOTENT_CREATE,
        (
            Edit("taskqueue/creating.py", "if new.idempotency_key is None:", "if new is not None:", "made_before"),
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX tasks_one_per_key",
                "CREATE INDEX tasks_one_per_key",
            ),
        ),
        (f"{IDEMPOTENCY}::test_a_repeated_create_returns_the_first_task",),
        BOTH,
    ),
    Mutant(
        "an-idempotency-key-is-everybodys",
        IDEMPOTENT_CREATE,
        (Edit("store/tasks.py", "created_by = :principal AND ", "", "BY_KEY"),),
        (f"{IDEMPOTENCY}::test_the_same_key_of_another_principal_is_another_task",),
        BOTH,
    ),
    Mutant(
        "the-same-key-with-another-body-is-accepted",
        IDEMPOTENT_CREATE,
        (Edit("taskqueue/creating.py", "if request_hash != new.digest():", "if request_hash is None:", "_again"),),
        (f"{IDEMPOTENCY}::test_the_same_key_with_another_body_is_a_conflict",),
    ),
    Mutant(
        "what-depends-on-others-is-ready-at-once",
        AFTER_ITS_DEPENDENCIES,
        (Edit("lifecycle.py", "if blockers:", "if blockers < 0:", "place"),),
        (f"{DEPENDENCIES}::test_a_task_waits_for_what_it_depends_on",),
    ),
    Mutant(
        "a-task-is-released-one-dependency-early",
        AFTER_ITS_DEPENDENCIES,
        (
            Edit(
                "taskqueue/moving.py",
                "left = tasks.open_dependencies(transaction, task.id)",
                "left = max(0, tasks.open_dependencies(transaction, task.id) - 1)",
                "_unblock",
            ),
        ),
        (f"{DEPENDENCIES}::test_it_waits_for_all_of_them",),
        BOTH,
    ),
    Mutant(
        "a-time-that-comes-forgets-the-dependencies",
        AFTER_ITS_DEPENDENCIES,
        (
            Edit("lifecycle.py", "if blockers:", "if blockers and run_at <= now:", "place"),
            Edit("taskqueue/moving.py", "if task.blockers:", "if task.blockers < 0:", "admit"),
        ),
        (f"{DEPENDENCIES}::test_its_time_alone_does_not_make_it_ready",),
    ),
    Mutant(
        "a-failure-releases-what-depends-on-it",
        "a failure ends those that cannot do without it",
        (Edit("taskqueue/moving.py", 'or on_failure == "run"', "or on_failure", "_release_dependants"),),
        (f"{DEPENDENCIES}::test_a_failure_fails_what_depends_on_it_down_the_whole_chain",),
    ),
    Mutant(
        "a-failure-stops-at-the-next-link-of-the-chain",
        "2: an accepted task runs until it is final",
        (Edit("taskqueue/moving.py", "work.append(failed)", "pass", "_release_dependants"),),
        (f"{DEPENDENCIES}::test_a_failure_fails_what_depends_on_it_down_the_whole_chain",),
    ),
    Mutant(
        "two-of-one-line-are-ready",
        ONE_AT_A_TIME,
        (
            Edit(
                "store/tasks.py",
                'return transaction.first(LINE_IS_BUSY, {"serial_key": serial_key}) is not None',
                "return False",
                "line_is_busy",
            ),
            Edit(
                "store/migrations/0001_queue.sql",
                "CREATE UNIQUE INDEX tasks_one_in_line",
                "CREATE INDEX tasks_one_in_line",
            ),
        ),
        (
            f"{LINES}::test_only_the_head_of_a_line_is_ready",
            f"{LINES}::test_tasks_of_one_key_that_become_due_together_form_a_line",
        ),
        BOTH,
    ),
    Mutant(
        "nobody-lets-the-next-of-a-line-go",
        "2: an accepted task runs until it is final",
        (Edit("taskqueue/moving.py", "if head is not None:", "if head is False:", "follow"),),
        (f"{LINES}::test_every_way_out_lets_the_next_one_go",),
    ),
    Mutant(
        "a-queue-holds-one-too-many",
        BOUNDED,
        (Edit("store/queues.py", "open_tasks >= limit", "open_tasks > limit", "enter"),),
        (f"{LIMITS}::test_a_queue_holds_at_most_so_many_open_tasks",),
        BOTH,
    ),
    Mutant(
        "what-has-ended-counts-as-open-for-ever",
        "12: open tasks a queue are counted",
        (Edit("store/queues.py", "added=count.added - 1", "added=count.added", "leave"),),
        (f"{LIMITS}::test_a_queue_holds_at_most_so_many_open_tasks",),
    ),
    Mutant(
        "a-draining-queue-takes-new-work",
        "a queue that drains takes nothing new",
        (Edit("store/queues.py", 'count.state == "draining"', 'count.state == "closed"', "enter"),),
        ("contract/test_queues.py::test_a_draining_queue_takes_nothing_new_and_empties",),
    ),
    Mutant(
        "one-child-too-many",
        BOUNDED,
        (Edit("store/tasks.py", "children < :limit", "children <= :limit", "ONE_MORE_CHILD"),),
        (f"{LIMITS}::test_a_task_has_at_most_so_many_children",),
        BOTH,
    ),
    Mutant(
        "one-level-too-deep",
        BOUNDED,
        (Edit("taskqueue/creating.py", "depth > limits.depth", "depth > limits.depth + 1", "_ancestry"),),
        (f"{LIMITS}::test_a_family_is_at_most_so_deep",),
    ),
    Mutant(
        "one-task-below-a-root-too-many",
        BOUNDED,
        (Edit("store/tasks.py", "descendants < :limit", "descendants <= :limit", "ONE_MORE_DESCENDANT"),),
        (f"{LIMITS}::test_a_root_has_at_most_so_many_tasks_below_it",),
    ),
    Mutant(
        "one-byte-of-a-body-too-few",
        BOUNDED,
        (Edit("taskqueue/merging.py", "size > limits.body_bytes", "size >= limits.body_bytes", "_checked"),),
        (f"{LIMITS}::test_a_body_holds_so_many_bytes_and_not_one_more",),
    ),
    Mutant(
        "a-body-has-no-bound",
        BOUNDED,
        (Edit("taskqueue/merging.py", "size > limits.body_bytes", "size < 0", "_checked"),),
        (f"{LIMITS}::test_a_body_holds_so_many_bytes_and_not_one_more",),
    ),
    Mutant(
        "json-nests-without-end",
        BOUNDED,
        (Edit("checks.py", "if depth > deepest:", "if depth < 0:", "_strings"),),
        (f"{LIMITS}::test_json_is_nested_so_deep_and_not_one_level_more",),
    ),
    Mutant(
        "json-nests-one-level-too-deep",
        BOUNDED,
        (Edit("checks.py", "if depth > deepest:", "if depth > deepest + 1:", "_strings"),),
        (f"{LIMITS}::test_json_is_nested_so_deep_and_not_one_level_more",),
    ),
    Mutant(
        "nobodys-rate-is-limited",
        BOUNDED,
        (Edit("taskqueue/limits.py", "if level < 1:", "if level < -1e9:", "Rates.spend"),),
        (f"{LIMITS}::test_a_principal_creates_at_most_so_many_tasks_a_minute",),
    ),
    Mutant(
        "all-principals-share-one-rate",
        "12: the rate is each principal's own",
        (
            Edit("taskqueue/limits.py", "self._buckets.get(principal,", "self._buckets.get('all',", "Rates.spend"),
            Edit("taskqueue/limits.py", "self._buckets[principal]", "self._buckets['all']", "Rates.spend"),
        ),
        (f"{LIMITS}::test_a_principal_creates_at_most_so_many_tasks_a_minute",),
    ),
    Mutant(
        "a-full-disk-takes-new-work",
        "12: new work is refused first",
        (Edit("taskqueue/service.py", "if not self._room:", "if self is None:", "TaskQueue._has_room"),),
        (f"{LIMITS}::test_a_full_disk_is_noticed_and_takes_no_new_work_but_lets_the_old_end",),
    ),
)
