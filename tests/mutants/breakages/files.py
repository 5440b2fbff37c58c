"""What executors read, run and write: never outside of their folder, never more than the owner allowed."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

OUTPUTS = "test_outputs.py"
PROCEDURES = "test_procedures.py"
SHELL = "executors/test_shell.py"
REPORT = "executors/test_report.py"

INSIDE = "a file lies inside the output folder"

MUTANTS = (
    Mutant(
        "a-path-may-climb-out-of-the-output-folder",
        "a file lies inside the output folder; all three layers that see to it are gone",
        (
            Edit(
                "outputs/paths.py",
                'if any(set(part.strip()) == {"."} for part in parts):',
                "if parts is None:",
                "_components",
            ),
            Edit("outputs/paths.py", '.lstrip(".-").rstrip(".")', "", "clean"),
            Edit("outputs/paths.py", 'if not name.strip("._-"):', "if not name:", "clean"),
        ),
        (f"{OUTPUTS}::test_a_path_that_leaves_the_folder_is_refused_in_one_line",),
    ),
    Mutant(
        "an-absolute-path-is-taken",
        INSIDE,
        (Edit("outputs/paths.py", ' or path.startswith(("/", "~"))', "", "_components"),),
        (f"{OUTPUTS}::test_a_path_that_leaves_the_folder_is_refused_in_one_line",),
    ),
    Mutant(
        "the-folder-trusts-its-callers",
        INSIDE,
        (Edit("outputs/paths.py", "parts != [clean(part) for part in parts] or ", "", "check"),),
        (f"{OUTPUTS}::test_the_folder_takes_clean_paths_only_whoever_calls",),
    ),
    Mutant(
        "a-folder-that-is-a-link-is-followed",
        INSIDE,
        (
            Edit(
                "outputs/folder.py",
                "os.O_RDONLY | os.O_DIRECTORY | _FLAGS",
                "os.O_RDONLY | os.O_DIRECTORY",
                "_Folder.__init__",
            ),
        ),
        (f"{OUTPUTS}::test_a_folder_that_is_a_link_is_refused",),
    ),
    Mutant(
        "an-existing-file-is-overwritten",
        "an existing file is never overwritten",
        (Edit("outputs/folder.py", "folder.link(part, candidate)", "folder.replace(part, candidate)", "_publish"),),
        (f"{OUTPUTS}::test_an_existing_file_is_never_overwritten",),
    ),
    Mutant(
        "a-program-may-be-written",
        "only files that no double click starts are written",
        (Edit("outputs/paths.py", "if media_type(relative) is None:", "if relative is None:", "check"),),
        (f"{OUTPUTS}::test_a_file_that_a_double_click_would_start_has_no_place",),
    ),
    Mutant(
        "a-placeholder-is-evaluated",
        "a placeholder is looked up and never evaluated",
        (Edit("outputs/paths.py", "return _PLACEHOLDER.sub(value_of, text)", "return text.format(**values)", "fill"),),
        (
            f"{OUTPUTS}::test_a_placeholder_is_looked_up_and_never_evaluated",
            f"{OUTPUTS}::test_a_hostile_value_becomes_a_plain_name",
        ),
    ),
    Mutant(
        "a-cell-starts-a-formula",
        "no text of a csv starts a formula",
        (Edit("outputs/tables.py", "_disarmed(simple(cell))", "simple(cell)", "_for_csv"),),
        (f"{OUTPUTS}::test_no_text_of_a_csv_starts_a_formula",),
    ),
    Mutant(
        "a-procedure-behind-a-link-is-read",
        "no reference leaves the folder of procedures",
        (Edit("procedures/folder.py", 'getattr(os, "O_NOFOLLOW", 0)', "0", "_open"),),
        (f"{PROCEDURES}::test_links_lead_nowhere",),
    ),
    Mutant(
        "a-command-that-is-not-allowed-runs",
        "a command of the owner's list, never more than was allowed",
        (
            Edit(
                "executors/shell.py",
                "self._commands.get(params.argv[0])",
                "shutil.which(params.argv[0])",
                "Shell._start",
            ),
        ),
        (
            f"{SHELL}::test_a_command_that_is_not_allowed_is_refused_for_good",
            f"{SHELL}::test_without_a_list_no_command_is_allowed",
        ),
    ),
    Mutant(
        "a-command-sees-our-environment",
        "the environment of a command is clean",
        (
            Edit(
                "executors/shell.py", 'if name in INHERITED or name.startswith("LC_")', "if name", "Shell._environment"
            ),
        ),
        (f"{SHELL}::test_the_environment_is_clean",),
    ),
    Mutant(
        "a-command-may-set-any-variable",
        "a command of the owner's list, never more than was allowed",
        (
            Edit(
                "executors/shell.py",
                "if refused := sorted(set(asked) - self._env_names):",
                "if refused := sorted(set(asked) - set(asked)):",
                "Shell._environment",
            ),
        ),
        (f"{SHELL}::test_a_variable_that_is_not_allowed_is_refused_for_good",),
    ),
    Mutant(
        "a-command-works-anywhere",
        "a command works inside the allowed folder",
        (Edit("executors/shell.py", "if not wanted.is_relative_to(folder):", "if not folder:", "Shell._directory"),),
        (f"{SHELL}::test_no_working_folder_lies_outside_the_allowed_one",),
    ),
    Mutant(
        "children-of-a-command-outlive-it",
        "a command's process group ends with it",
        (Edit("executors/processes.py", "os.killpg(process.pid", "os.kill(process.pid", "_signal"),),
        (f"{SHELL}::test_children_of_a_command_end_with_it",),
    ),
    Mutant(
        "sql-of-a-task-may-do-anything",
        "a source is read and nothing else",
        (Edit("executors/sources/sqlite.py", "sqlite.SQLITE_DENY", "sqlite.SQLITE_OK", "_may"),),
        (f"{REPORT}::test_sql_that_does_anything_but_read_fails_for_good_and_changes_nothing",),
    ),
    Mutant(
        "behind-the-authorizer-a-source-can-be-written",
        "a source is read and nothing else",
        (Edit("executors/sources/sqlite.py", "?mode=ro", "?mode=rw", "SqliteReader.opened"),),
        (f"{REPORT}::test_behind_the_authorizer_nothing_can_be_written_either",),
    ),
)
