"""What a session may do and what is left of it: the guards between a task's text and the owner's machine."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

HERE = "executors/claude"
COMMAND = "executors/claude/test_command.py"
LEAVE = "executors/claude/test_leave.py"
KEEPING = "executors/claude/test_keeping.py"

NO_WORD = "no word of a task is on the command line, and none is read as a command"
UNTRUSTED = "nothing of the folder that a session works in is trusted"
LEFT = "a task gets no more than the owner leaves to it"
TO_NOBODY_ELSE = "credentials reach who they are for and nobody else"
INSIDE = "what a session names leaves its folder only as a plain file of it"
GONE = "of a session that is over nothing is left running"
WAITS = "a usage limit is over when its event says so"
COUNTED = "a session that goes on counts only what is new"

MUTANTS = (
    Mutant(
        "settings-of-the-folder-are-loaded",
        UNTRUSTED,
        (Edit(f"{HERE}/command.py", '"--setting-sources=", ', "", "argv"),),
        ("executors/claude/test_hostile_folders.py::test_nothing_that_was_planted_in_a_folder_or_above_it_runs",),
    ),
    Mutant(
        "servers-of-the-folder-are-started",
        UNTRUSTED,
        (Edit(f"{HERE}/command.py", '"--strict-mcp-config",', "", "argv"),),
        (f"{COMMAND}::test_no_word_of_a_task_is_on_the_command_line",),
    ),
    Mutant(
        "a-prompt-is-read-for-commands",
        NO_WORD,
        (Edit(f"{HERE}/session.py", "ClaudeAgentOptions(verbatim_prompts=True)", "ClaudeAgentOptions()", "_talk"),),
        (f"{COMMAND}::test_no_word_of_a_task_is_on_the_command_line",),
    ),
    Mutant(
        "a-rule-brings-others-along",
        NO_WORD,
        (Edit(f"{HERE}/params.py", "TOOL.fullmatch(text)", "TOOL.match(text)", "_rule"),),
        (f"{LEAVE}::test_what_is_no_parameter_is_refused_in_a_line",),
    ),
    Mutant(
        "a-schema-is-fetched-from-elsewhere",
        NO_WORD,
        (Edit(f"{HERE}/params.py", 'if not reference.startswith("#"):', "if False:", "_schema"),),
        (f"{LEAVE}::test_what_is_no_parameter_is_refused_in_a_line",),
    ),
    Mutant(
        "any-tool-is-left-to-tasks",
        LEFT,
        (
            Edit(
                f"{HERE}/leave.py",
                'rule not in granted and rule.partition("(")[0] not in granted',
                "False",
                "_tools",
            ),
        ),
        (f"{LEAVE}::test_what_is_not_left_to_tasks_is_refused_in_a_line",),
    ),
    Mutant(
        "a-file-tool-is-let-out-of-the-folder",
        LEFT,
        (Edit(f"{HERE}/leave.py", 'rule.partition("(")[0] in FILE_TOOLS', "False", "_tools"),),
        (f"{LEAVE}::test_what_is_not_left_to_tasks_is_refused_in_a_line",),
    ),
    Mutant(
        "a-mode-has-no-bound",
        LEFT,
        (
            Edit(
                f"{HERE}/leave.py",
                "PERMISSIVE.index(mode) > PERMISSIVE.index(leave.most_permissive_mode)",
                "False",
                "_mode",
            ),
        ),
        (f"{LEAVE}::test_what_is_not_left_to_tasks_is_refused_in_a_line",),
    ),
    Mutant(
        "a-link-leads-out-of-the-owners-folder",
        LEFT,
        (Edit(f"{HERE}/leave.py", "folder.is_relative_to(root)", "True", "_folder"),),
        (f"{LEAVE}::test_what_is_not_left_to_tasks_is_refused_in_a_line",),
    ),
    Mutant(
        "the-whole-environment-is-handed-down",
        TO_NOBODY_ELSE,
        (Edit(f"{HERE}/command.py", 'name in names or name.startswith("LC_")', "True", "environment"),),
        (f"{COMMAND}::test_the_environment_is_a_list",),
    ),
    Mutant(
        "everybody-can-read-the-servers-credentials",
        TO_NOBODY_ELSE,
        (Edit(f"{HERE}/command.py", "0o600", "0o644", "_servers_file"),),
        (f"{COMMAND}::test_credentials_of_a_server_are_in_a_file_of_ours_and_nowhere_else",),
    ),
    Mutant(
        "a-folder-behind-a-link-is-copied-out",
        INSIDE,
        (Edit(f"{HERE}/delivering.py", "not path.resolve().is_relative_to(folder)", "False", "_plain"),),
        (f"{KEEPING}::test_a_folder_behind_a_link_is_not_the_sessions",),
    ),
    Mutant(
        "a-link-is-copied-out",
        INSIDE,
        (
            Edit(f"{HERE}/delivering.py", 'getattr(os, "O_NOFOLLOW", 0)', "0", "_plain"),
            Edit(f"{HERE}/delivering.py", "not path.resolve().is_relative_to(folder)", "False", "_plain"),
        ),
        (f"{KEEPING}::test_only_plain_files_of_the_folder_are_copied_out_of_it",),
    ),
    Mutant(
        "any-text-names-a-session",
        INSIDE,
        (Edit(f"{HERE}/keeping.py", "SESSION.fullmatch(text) is not None", "True", "is_session"),),
        (f"{KEEPING}::test_what_is_no_session_names_no_folder",),
    ),
    Mutant(
        "two-attempts-work-in-one-folder",
        "one attempt at a time works in a folder of the owner's",
        (Edit(f"{HERE}/folders.py", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "_taken"),),
        (f"{KEEPING}::test_one_attempt_at_a_time_has_a_folder",),
    ),
    Mutant(
        "shells-of-a-session-outlive-it",
        GONE,
        (
            Edit(f"{HERE}/session.py", "kin.end(self._call.mark, process.pid)", "process.kill()", "Session._cut"),
            Edit(f"{HERE}/session.py", "kin.end(self._call.mark)", "pass", "Session.converse"),
        ),
        ("executors/claude/test_going_wrong.py::test_a_stop_kills_the_session_and_all_that_it_started_at_once",),
    ),
    Mutant(
        "the-words-win-over-the-event",
        WAITS,
        (
            Edit(
                f"{HERE}/resets.py",
                '_epoch((limit or {}).get("resetsAt")) or in_words(text, now)',
                'in_words(text, now) or _epoch((limit or {}).get("resetsAt"))',
                "resume_at",
            ),
        ),
        ("executors/claude/test_judging.py::test_the_structured_event_says_when_a_limit_ends_whatever_the_words_say",),
    ),
    Mutant(
        "a-spending-limit-is-waited-out",
        "what waiting does not mend is asked a person",
        (Edit(f"{HERE}/judging.py", 'heard.fault == "billing_error" or _SPENT.search(text)', "False", "_of_error"),),
        ("executors/claude/test_judging.py::test_every_end_of_a_session_has_one_readable_reason",),
    ),
    Mutant(
        "a-session-that-goes-on-is-paid-twice",
        COUNTED,
        (Edit(f"{HERE}/usage.py", "total - self._known.get(session, 0.0)", "total", "Usage._cost"),),
        ("executors/claude/test_usage.py::test_the_total_of_a_session_that_goes_on_is_counted_from_where_it_was",),
    ),
    Mutant(
        "a-criterion-that-does-not-hold-is-passed-over",
        "what is said to be done holds",
        (Edit(f"{HERE}/result.py", "if open_ else None", "if False else None", "_answered"),),
        ("executors/claude/test_results.py::test_a_criterion_that_does_not_hold_fails_the_attempt",),
    ),
)
