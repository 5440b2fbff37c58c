"""What queries and calculations may do: read and nothing else, within their bounds, and what was recorded."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SOURCES = "executors/test_sources.py"
QUERY = "executors/test_query.py"
CALCULATION = "executors/test_calculation.py"
TOOLS = "executors/test_mcp_sources.py"
SETTINGS = "test_sources_settings.py"

ONLY_READ = "a source is read and nothing else"

MUTANTS = (
    Mutant(
        "a-transaction-on-postgres-may-write",
        ONLY_READ,
        (Edit("executors/sources/engines.py", ", READ ONLY", "", "Postgres.begin"),),
        (f"{SOURCES}::test_no_function_makes_a_postgres_transaction_writable",),
    ),
    Mutant(
        "duckdb-reads-other-files",
        ONLY_READ,
        (
            Edit(
                "executors/sources/engines.py",
                '"enable_external_access": "false"',
                '"enable_external_access": "true"',
                "DuckDb",
            ),
        ),
        (f"{SOURCES}::test_duckdb_reads_no_other_file",),
    ),
    Mutant(
        "a-tool-is-sent-anything",
        ONLY_READ,
        (Edit("executors/sources/mcp_tool.py", "must_read(sql)", "pass", "McpReader._filled"),),
        (f"{TOOLS}::test_what_does_not_begin_to_read_or_is_two_statements_never_reaches_the_tool",),
    ),
    Mutant(
        "the-queue-on-postgres-is-a-source",
        "the queue's own database is never a source",
        (Edit("app/sources.py", "_place(url) == _place(make_url(own))", "url == make_url(own)", "_database"),),
        (f"{SETTINGS}::test_the_queue_itself_is_no_source_however_it_is_written",),
    ),
    Mutant(
        "nobody-ends-a-query-at-the-server",
        "a query that has no time left, or that nobody wants any more, ends",
        (
            Edit(
                "executors/sources/databases.py",
                "self._engine.interrupt(self._raw, self._url)",
                "pass",
                "DatabaseReader._watch",
            ),
        ),
        (f"{SOURCES}::test_a_query_that_is_told_to_stop_ends_at_once_also_at_the_server",),
    ),
    Mutant(
        "rows-beyond-the-bound-are-left-out",
        "more rows than allowed are an error and not a shorter answer",
        (
            Edit(
                "executors/sources/reading.py",
                'raise ReadFailed(f"more than {self._most_rows:,} rows; narrow the query")',
                "return",
                "Reader._batches",
            ),
        ),
        (f"{SOURCES}::test_more_rows_than_allowed_are_an_error_and_not_a_shorter_answer",),
    ),
    Mutant(
        "a-result-may-be-of-any-size",
        "a file of a query has a bound",
        (Edit("executors/query.py", "if size > self.most_bytes:", "if size < 0:", "_Query._bounded"),),
        (f"{QUERY}::test_a_result_of_too_many_bytes_is_refused_and_leaves_nothing",),
    ),
    Mutant(
        "texts-are-plain-whatever-they-begin-with",
        "no text of a csv starts a formula",
        (
            Edit(
                "outputs/tables.py",
                "return FORMULA_STARTS_SET.isdisjoint(map(_first, filter(None, column)))",
                "return True",
                "_is_plain",
            ),
        ),
        (f"{QUERY}::test_the_query_of_the_first_plan_is_written_where_it_says",),
    ),
    Mutant(
        "a-password-is-shown",
        "nothing secret of a source is in a message",
        (
            Edit(
                "executors/sources/databases.py",
                'text = text.replace(str(self._url.password), "***")',
                "pass",
                "DatabaseReader._said",
            ),
        ),
        (f"{SOURCES}::test_a_message_that_holds_the_password_is_shown_without_it",),
    ),
    Mutant(
        "a-script-outside-of-the-folder-is-run",
        "only scripts of the owner's folder are run",
        (
            Edit(
                "executors/calculation.py",
                "if not path.is_relative_to(folder):",
                "if not folder:",
                "Calculation._found",
            ),
        ),
        (f"{CALCULATION}::test_only_a_script_of_the_folder_is_run",),
    ),
    Mutant(
        "another-script-runs-than-the-one-recorded",
        "the hash that is recorded is that of the bytes that ran",
        (
            Edit(
                "executors/calculation.py",
                "if hashlib.sha256(source).hexdigest() != wanted:",
                "if not wanted:",
                "PROGRAM",
            ),
        ),
        (f"{CALCULATION}::test_a_script_that_was_changed_after_its_hash_was_taken_does_not_run",),
    ),
    Mutant(
        "a-script-has-our-environment",
        "a script gets a clean environment",
        (
            Edit(
                "executors/calculation.py",
                'if name in wanted or name.startswith("LC_")',
                "if name",
                "Calculation._start",
            ),
        ),
        (f"{CALCULATION}::test_a_script_gets_a_clean_environment",),
    ),
    Mutant(
        "a-flood-is-read-to-its-end",
        "what a script prints has a bound",
        (
            Edit(
                "executors/calculation.py",
                "                stop.set()\n\n        async",
                "                pass\n\n        async",
                "Calculation._ended",
            ),
        ),
        (f"{CALCULATION}::test_each_way_to_go_wrong_has_one_reason",),
    ),
)
