"""What is said to be done is looked at by somebody else: each guard on the way from a file to a verdict."""

from __future__ import annotations

from tests.mutants.mutant import BOTH, Edit, Mutant

EVIDENCE = "contract/test_evidence.py"
UPLOADS = "contract/test_uploads.py"

BELIEVED = "a result that does not hold is not done"
ONE_REPAIR = "a rejected result gets one repair attempt, then the task fails"
BYTES = "a file is what was said of it"
UNDER_A_LEASE = "5: a lease is needed for every write of an attempt"
NOBODY_VOUCHES = "an agent cannot vouch for itself"

MUTANTS = (
    Mutant(
        "a-verdict-is-ignored",
        BELIEVED,
        (
            Edit(
                "taskqueue/settling.py",
                "self.weighed is None or self.weighed.standing is not Standing.REJECTED",
                "True",
                "_Ending.became",
            ),
        ),
        (f"{EVIDENCE}::test_a_file_that_is_not_what_was_declared_rejects_the_result",),
        BOTH,
    ),
    Mutant(
        "what-is-declared-is-not-looked-for",
        BELIEVED,
        (Edit("taskqueue/settling.py", "held.task.expects or ", "", "complete"),),
        (f"{EVIDENCE}::test_a_rejected_result_gets_one_repair_attempt_that_reads_why_and_then_the_task_fails",),
    ),
    Mutant(
        "what-nobody-has-seen-counts-as-there",
        BELIEVED,
        (
            Edit(
                "taskqueue/evidence.py",
                "if key in found.met or key in found.faults or key in vouched or is_the_workers:",
                "if True:",
                "weigh",
            ),
        ),
        (f"{EVIDENCE}::test_a_file_that_is_not_what_was_declared_rejects_the_result",),
    ),
    Mutant(
        "a-hash-is-not-compared",
        BYTES,
        (
            Edit(
                "outputs/checking.py",
                "if named.sha256 is not None and named.sha256.lower() != written.sha256:",
                "if False:",
                "_differences",
            ),
        ),
        (f"{EVIDENCE}::test_a_file_that_is_another_than_was_said_rejects_the_result",),
    ),
    Mutant(
        "a-size-is-not-compared",
        BYTES,
        (
            Edit(
                "outputs/checking.py",
                "if named.size is not None and named.size != written.size:",
                "if False:",
                "_differences",
            ),
        ),
        (f"{EVIDENCE}::test_a_file_that_is_another_than_was_said_rejects_the_result",),
    ),
    Mutant(
        "a-second-repair-is-allowed",
        ONE_REPAIR,
        (Edit("lifecycle.py", "permanent=had_its_repair", "permanent=False", "settle"),),
        (f"{EVIDENCE}::test_a_rejected_result_gets_one_repair_attempt_that_reads_why_and_then_the_task_fails",),
    ),
    Mutant(
        "a-retried-task-has-had-its-repair",
        "a task that a person retries gets its repair attempt again",
        (Edit("store/tasks.py", "THEN NULL ELSE verdict END", "THEN verdict ELSE verdict END", "MOVE"),),
        (f"{EVIDENCE}::test_a_task_that_a_person_retries_gets_its_repair_again",),
        BOTH,
    ),
    Mutant(
        "an-agent-vouches-for-itself",
        NOBODY_VOUCHES,
        (Edit("taskqueue/evidence.py", "caller.kind is not Kind.AGENT", "True", "weigh"),),
        (f"{EVIDENCE}::test_a_worker_may_vouch_for_what_the_server_cannot_see_and_an_agent_may_not",),
    ),
    Mutant(
        "what-a-worker-found-wrong-is-dropped",
        BELIEVED,
        (Edit("taskqueue/evidence.py", "[*by_worker.faults, *found.reasons()]", "[*found.reasons()]", "weigh"),),
        (f"{EVIDENCE}::test_what_a_worker_found_wrong_is_believed",),
    ),
    Mutant(
        "an-old-file-counts-as-made",
        "a file that is not named counts when it was written since the task began",
        (Edit("outputs/checking.py", "status.st_mtime >= since - SLACK_SECONDS", "True", "_is_new"),),
        (f"{EVIDENCE}::test_a_file_from_before_the_task_counts_only_when_it_is_named",),
    ),
    Mutant(
        "an-upload-without-a-valid-lease-is-begun",
        UNDER_A_LEASE,
        (
            Edit(
                "taskqueue/uploading.py",
                "held = settling.update(transaction, rules, caller, Update(upload.lease))",
                "return None",
                "_check",
            ),
        ),
        (f"{UPLOADS}::test_a_lease_that_is_not_valid_is_refused_before_the_first_byte",),
        BOTH,
    ),
    Mutant(
        "an-upload-whose-lease-was-lost-counts",
        UNDER_A_LEASE,
        (
            Edit(
                "taskqueue/uploading.py",
                "task = holding.held(transaction, caller, upload.lease).task",
                "task = moving.fetch(transaction, leases.parse(upload.lease).task_id)",
                "_keep",
            ),
            Edit(
                "taskqueue/uploading.py",
                "from taskqueue_mcp.errors",
                "from taskqueue_mcp import leases\nfrom taskqueue_mcp.errors",
            ),
        ),
        (f"{UPLOADS}::test_a_lease_that_is_lost_while_the_bytes_come_keeps_nothing",),
    ),
    Mutant(
        "what-was-announced-is-not-compared",
        BYTES,
        (Edit("taskqueue/uploading.py", "upload.sha256 is not None and digest != upload.sha256", "False", "_write"),),
        (f"{UPLOADS}::test_an_upload_that_is_broken_off_or_wrong_leaves_nothing",),
    ),
    Mutant(
        "a-file-that-nothing-refers-to-stays",
        "an upload is kept whole or not at all",
        (Edit("taskqueue/uploading.py", "if is_ours:", "if False:", "_take_back"),),
        (f"{UPLOADS}::test_a_lease_that_is_lost_while_the_bytes_come_keeps_nothing",),
    ),
    Mutant(
        "a-file-of-somebody-else-is-taken-back",
        "never over another file",
        (Edit("taskqueue/uploading.py", "if is_ours:", "if True:", "_take_back"),),
        (f"{UPLOADS}::test_a_file_that_lay_there_before_stays_when_the_lease_is_lost",),
    ),
    Mutant(
        "any-file-of-the-folder-is-handed-out",
        "only files that were kept for the task are handed out",
        (
            Edit(
                "taskqueue/uploading.py",
                "each.stored is not None",
                "True",
                "_find",
            ),
        ),
        (f"{UPLOADS}::test_only_files_that_were_kept_for_the_task_are_handed_out",),
    ),
)
