"""What reports show, and what they must never do: be more than text, fetch, reach out, or be half there."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

PAGES = "documents/test_pages.py"
PDF = "documents/test_pdf.py"
CHARTS = "documents/test_charts.py"
EXECUTION = "documents/test_execution.py"
DOCUMENTS = "executors/test_report_documents.py"
CHECKING = "executors/test_report_checking.py"
OUTPUTS = "test_outputs.py"
COMMAND = "test_cli_reports.py"

MUTANTS = (
    Mutant(
        "a-page-takes-text-for-markup",
        "nothing in a report is ever more than text",
        (Edit("outputs/documents/rendering.py", "autoescape=True", "autoescape=False", "_environment"),),
        (
            f"{PAGES}::test_nothing_in_a_report_is_ever_more_than_text",
            f"{EXECUTION}::test_nothing_of_it_is_ever_more_than_text",
        ),
    ),
    Mutant(
        "a-chart-takes-text-for-markup",
        "nothing in a report is ever more than text",
        (Edit("outputs/documents/charts.py", "escape(_shortened(text))", "_shortened(text)", "_Canvas.text"),),
        (f"{PAGES}::test_nothing_in_a_report_is_ever_more_than_text",),
    ),
    Mutant(
        "a-cell-is-markdown",
        "nothing in a report is ever more than text",
        (Edit("outputs/documents/markdown.py", 'SPECIAL.sub(r"\\\\\\1", ', "str(", "escaped"),),
        (f"{PAGES}::test_no_cell_means_anything_in_markdown",),
    ),
    Mutant(
        "a-template-is-not-in-a-sandbox",
        "a template reaches nothing but the report",
        (
            Edit(
                "outputs/documents/rendering.py",
                "from jinja2.sandbox import ImmutableSandboxedEnvironment",
                "from jinja2 import Environment as ImmutableSandboxedEnvironment",
            ),
        ),
        (f"{PAGES}::test_a_template_reaches_nothing_but_the_report",),
    ),
    Mutant(
        "a-template-may-run-for-ever",
        "a template ends when nobody wants it any more",
        (Edit("outputs/documents/rendering.py", "                wanted()\n", "                pass\n", "_rendered"),),
        (f"{PAGES}::test_a_template_that_never_ends_is_ended_when_nobody_wants_it",),
    ),
    Mutant(
        "a-pdf-fetches",
        "no address is asked and no file is opened for a page",
        (
            Edit(
                "outputs/documents/printing.py",
                'if not url.lower().startswith("data:"):',
                "if url is None:",
                "_fetcher",
            ),
            Edit("outputs/documents/printing.py", 'allowed_protocols=("data",), ', "", "_fetcher"),
        ),
        (f"{PDF}::test_no_address_is_asked_and_no_file_is_opened_for_a_page",),
    ),
    Mutant(
        "the-process-of-a-pdf-is-left-behind",
        "a page that nobody wants any more leaves no process",
        (Edit("outputs/documents/pdf.py", "            process.kill()\n", "            pass\n", "pdf"),),
        (f"{PDF}::test_a_page_that_nobody_wants_any_more_ends_at_once",),
    ),
    Mutant(
        "the-process-of-a-pdf-gets-the-secrets",
        "nothing of the environment reaches the process",
        (
            Edit(
                "outputs/documents/pdf.py",
                "for name in PASSED_ON if name in os.environ",
                "for name in os.environ",
                "pdf",
            ),
        ),
        (f"{PDF}::test_nothing_of_our_environment_reaches_the_process",),
    ),
    Mutant(
        "totals-are-of-the-rows-that-are-shown",
        "totals and figures are of all rows, however few are shown",
        (
            Edit(
                "executors/report/gathering.py",
                "            for place, each in at:\n",
                "            for place, each in at if self.count <= keep else ():\n",
                "Gathered.passing",
            ),
        ),
        (f"{DOCUMENTS}::test_totals_are_of_rows_that_were_never_kept_too",),
    ),
    Mutant(
        "a-file-appears-before-the-last-one-is-filled",
        "several files appear together or not at all",
        (
            Edit(
                "outputs/folder.py",
                "                size, sha256 = _fill(folder, part, writer)\n",
                "                size, sha256 = _fill(folder, part, writer)\n"
                "                folder.link(part, f'early-{name}')\n",
                "OutputFolder.write_all",
            ),
        ),
        (
            f"{OUTPUTS}::test_several_files_appear_together_or_not_at_all",
            f"{DOCUMENTS}::test_a_template_that_is_wrong_fails_for_good_and_leaves_no_file_of_any_format",
        ),
    ),
    Mutant(
        "a-check-does-not-ask-the-source",
        "a fault in SQL is found before a task follows it",
        (Edit("executors/report/checking.py", "            reader.check(block.sql, known)\n", "", "_columns"),),
        (f"{CHECKING}::test_a_fault_is_a_line_with_its_place",),
    ),
    Mutant(
        "a-changed-file-is-handed-out",
        "a file that was changed since is not handed out",
        (Edit("cli/reports.py", "if expected and hashlib", "if not expected and hashlib", "_artifact"),),
        (f"{COMMAND}::test_a_file_that_was_changed_since_is_not_handed_out",),
    ),
)
