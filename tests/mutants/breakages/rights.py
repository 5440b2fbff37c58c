"""Who may have what done, what a yes stands for, and whom a message reaches."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

RIGHTS = "contract/test_rights.py"
APPROVALS = "contract/test_approvals.py"
MAIL = "executors/test_mail.py"

SCOPE = "creating a task of an executor needs its scope"
CHILD = "a task's children never have more rights than it"
BOUND = "an approval is bound to what will run"

MUTANTS = (
    Mutant(
        "anybody-has-commands-run",
        SCOPE,
        (Edit("taskqueue/rights.py", "if each not in rules.open_executors]", "if not each]", "_needed"),),
        (f"{RIGHTS}::test_an_executor_that_is_not_open_needs_its_scope",),
    ),
    Mutant(
        "anybody-has-commands-run-before-a-task",
        "creating an executing kind needs its scope, and a first look is one",
        (Edit("taskqueue/rights.py", "(merged.executor, *looking(merged.body))", "(merged.executor,)", "_needed"),),
        (f"{RIGHTS}::test_a_first_look_needs_the_right_of_the_executor_whose_list_it_goes_by",),
    ),
    Mutant(
        "a-child-has-its-callers-rights",
        CHILD,
        (Edit("taskqueue/rights.py", "if parent is not None and not", "if parent is None and not", "_check"),),
        (f"{RIGHTS}::test_a_child_needs_the_right_of_its_caller_and_of_the_one_who_asked_for_its_parent",),
    ),
    Mutant(
        "rights-grow-on-the-way-down",
        CHILD,
        (Edit("taskqueue/rights.py", "held = held.within(read(body.rights))", "pass", "origin"),),
        (f"{RIGHTS}::test_rights_do_not_grow_on_the_way_down",),
    ),
    Mutant(
        "a-strangers-text-becomes-an-agents",
        "whose text a task is is seen by everybody who reads it",
        (Edit("taskqueue/rights.py", "trusts.append(body.trust)", "pass", "origin"),),
        (f"{RIGHTS}::test_everybody_who_reads_a_task_sees_whose_text_it_is",),
    ),
    Mutant(
        "a-retry-needs-no-right",
        "who could not have created a task cannot open it again",
        (
            Edit(
                "taskqueue/rights.py",
                "not of(caller).include(executor)",
                "not caller.name",
                "check_retry",
            ),
        ),
        (f"{RIGHTS}::test_who_could_not_have_created_a_task_cannot_open_it_again",),
    ),
    Mutant(
        "a-changed-procedure-gives-a-schedule-rights",
        "a run has the rights of who wrote its schedule",
        (Edit("taskqueue/firing.py", "rights.check_run(", "(lambda *_: None)(", "_merged"),),
        (f"{RIGHTS}::test_a_procedure_that_changes_its_executor_later_gives_nobody_a_right",),
    ),
    Mutant(
        "a-template-lends-its-right-to-any-call",
        "an owner's template lends its right to those who fill in values",
        (
            Edit(
                "taskqueue/rights.py",
                "wanted.template is None or any(getattr(wanted, name) is not None for name in OVERRIDING)",
                "wanted.template is None",
                "lent",
            ),
        ),
        (f"{RIGHTS}::test_a_call_that_says_more_than_values_has_no_right_from_a_template",),
    ),
    Mutant(
        "a-yes-stands-for-anything",
        BOUND,
        (Edit("taskqueue/approving.py", "if approval == asked.digest:", "if approval:", "pending"),),
        (
            f"{APPROVALS}::test_a_procedure_that_changes_after_the_approval_is_not_followed",
            f"{APPROVALS}::test_a_body_that_was_changed_behind_the_queues_back_is_not_run",
        ),
    ),
    Mutant(
        "a-yes-stands-for-what-was-not-asked",
        BOUND,
        (Edit("taskqueue/answering.py", "if changed is not None:", "if changed is None:", "_approve"),),
        (f"{APPROVALS}::test_a_yes_to_what_has_changed_since_it_was_asked_is_asked_again",),
    ),
    Mutant(
        "a-retry-gets-round-a-rejection",
        "a task that needs approval waits for a person",
        (Edit("taskqueue/answering.py", "approving.hold(transaction, rules, after) or after", "after", "_retry"),),
        (f"{APPROVALS}::test_a_retry_does_not_get_round_a_rejection",),
    ),
    Mutant(
        "a-sensitive-schedule-runs-unasked",
        "a sensitive kind waits for a person",
        (
            Edit("taskqueue/firing.py", "if approving.hold(transaction, rules, task) is None:", "if task:", "_start"),
            Edit("taskqueue/claiming.py", "if asked is not None:", "if asked is None and body is None:", "_take"),
        ),
        (f"{APPROVALS}::test_the_runs_of_a_schedule_wait_until_one_of_them_was_approved_as_it_is",),
    ),
    Mutant(
        "who-wrote-a-schedule-approves-its-runs",
        "nobody approves their own request",
        (
            Edit(
                "taskqueue/approving.py",
                "wrote = task.schedule_id is not None and",
                "wrote = task.schedule_id is None and",
                "check_impartial",
            ),
        ),
        (f"{RIGHTS}::test_who_wrote_a_schedule_does_not_approve_its_runs",),
    ),
    Mutant(
        "a-message-reaches-any-address",
        "nothing but a named destination can be addressed",
        (
            Edit(
                "executors/mail.py",
                "found = self._destinations.get(name)",
                "found = self._destinations.get(name) or (name,)",
                "Mail._recipients",
            ),
        ),
        (f"{MAIL}::test_nothing_but_a_named_destination_can_be_addressed",),
    ),
    Mutant(
        "a-message-goes-to-a-server-that-nobody-vouches-for",
        "a message goes over TLS to a server that is trusted",
        (
            Edit(
                "executors/mail.py",
                'if server.tls == "starttls":',
                'if server.tls == "never":',
                "_Delivery.send",
            ),
        ),
        (f"{MAIL}::test_a_server_without_tls_gets_nothing_where_tls_is_wanted",),
    ),
)
