"""What people decide: nobody approves their own, what is final stays final, scopes are minded."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

DECIDING = "contract/test_deciding.py"

MUTANTS = (
    Mutant(
        "an-approval-is-not-waited-for",
        "a task that needs approval waits for a person",
        (Edit("lifecycle.py", "if needs_approval:", "if needs_approval is None:", "place"),),
        (f"{DECIDING}::test_a_task_that_needs_approval_waits_for_a_person",),
    ),
    Mutant(
        "an-agent-approves-what-it-created",
        "an agent never approves what it created",
        (Edit("taskqueue/approving.py", "made = task.created_by == caller.name", "made = False", "check_impartial"),),
        (f"{DECIDING}::test_an_agent_cannot_decide_about_what_it_created",),
    ),
    Mutant(
        "an-agent-answers-what-it-works-on",
        "an agent never approves what it worked on itself",
        (Edit("taskqueue/approving.py", "if made or worked or wrote:", "if made or wrote:", "check_impartial"),),
        (f"{DECIDING}::test_an_agent_cannot_answer_what_it_works_on",),
    ),
    Mutant(
        "a-final-task-can-be-cancelled",
        "3: a task becomes final at most once",
        (Edit("lifecycle.py", "if task.status in FINAL:", "if task.id < 0:", "cancel"),),
        (f"{DECIDING}::test_what_may_be_decided_depends_on_where_the_task_stands",),
    ),
    Mutant(
        "a-completed-task-can-be-retried",
        "only a failed or cancelled task is opened again",
        (
            Edit(
                "lifecycle.py",
                "{Status.FAILED, Status.CANCELLED}",
                "{Status.FAILED, Status.CANCELLED, Status.COMPLETED}",
                "reopen",
            ),
        ),
        (f"{DECIDING}::test_a_completed_task_is_never_opened_again",),
    ),
    Mutant(
        "a-retry-keeps-the-failures",
        "a retry starts with a fresh count",
        (Edit("lifecycle.py", "failures=0", "failures=task.failures", "reopen"),),
        (f"{DECIDING}::test_a_retry_is_a_new_attempt_with_a_fresh_count_of_failures",),
    ),
    Mutant(
        "running-now-jumps-the-dependencies",
        "a task waits for what it depends on",
        (
            Edit("lifecycle.py", "or task.reason in {Reason.DEPENDENCY, Reason.SERIAL}", "", "hasten"),
            Edit("taskqueue/moving.py", "if task.blockers:", "if task.blockers < 0:", "admit"),
        ),
        (f"{DECIDING}::test_running_now_does_not_jump_the_dependencies",),
    ),
    Mutant(
        "scopes-are-not-looked-at",
        "a token does what its scopes say",
        (Edit("taskqueue/service.py", "caller.may(scope) for scope in scopes", "scopes", "TaskQueue._needs"),),
        (
            f"{DECIDING}::test_deciding_needs_the_scope",
            f"{DECIDING}::test_cancelling_needs_the_scope",
            "contract/test_claiming.py::test_a_claim_needs_the_scope",
            "contract/test_creating.py::test_a_caller_without_the_scope_creates_nothing",
        ),
    ),
    Mutant(
        "finishing-needs-no-scope",
        "a token does what its scopes say",
        (Edit("model.py", "scope in self.scopes", "scope is Scope.WORK or scope in self.scopes", "Caller.may"),),
        ("contract/test_leases.py::test_a_caller_without_the_scope_writes_nothing_even_with_a_lease",),
    ),
)
