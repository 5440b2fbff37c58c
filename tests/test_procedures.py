"""Procedures: what a file may say, and that nothing outside the folder is ever read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskqueue_mcp.errors import InvalidInput, NotFound
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.procedures.parsing import fill_params, parse
from taskqueue_mcp.procedures.references import LARGEST

FULL = """---
title: Low stock
task_type: report_generation
description: What is running out.
params:
  threshold: reorder_point
  categories: {default: [all], type: array, description: Which ones}
  supplier: {type: string, required: true, description: Who delivers}
  since: {type: date, default: 2026-11-20}
output: {format: XLSX, path: Reports/, filename_pattern: "Low_{date}.xlsx", summary: "{rows} low"}
outputs: [a spreadsheet]
tools: Read, Write
budget_usd: 1.5
timeout_seconds: 60
executor: report
source: shop
---
# Heading

```sql sheet=LowStock
SELECT 1
```

~~~python
print("```")
~~~

   ```SQL sheet="By day"
   SELECT 2
   ```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "sops"
    (folder / "inventory").mkdir(parents=True)
    (folder / "inventory" / "low.md").write_text(FULL, encoding="utf-8")
    (folder / "plain.md").write_text("# Plain words\n\nDo it.\n", encoding="utf-8")
    return folder


def test_a_procedure_carries_all_that_its_front_matter_says() -> None:
    procedure = parse("sops/inventory/low.md", FULL)

    assert (procedure.path, procedure.title, procedure.task_type) == (
        "inventory/low.md",
        "Low stock",
        "report_generation",
    )
    assert [param.name for param in procedure.params] == ["threshold", "categories", "supplier", "since"]
    assert procedure.params[2].required
    assert procedure.params[3].default == "2026-11-20"
    assert procedure.output is not None
    assert (procedure.output.format, procedure.output.filename_pattern) == ("xlsx", "Low_{date}.xlsx")
    assert (procedure.tools, procedure.outputs) == (("Read", "Write"), ("a spreadsheet",))
    assert (procedure.budget_usd, procedure.timeout_seconds) == (1.5, 60)
    assert (procedure.executor, procedure.source) == ("report", "shop")
    assert procedure.text == FULL
    assert procedure.body.startswith("# Heading")
    assert len(procedure.sha256) == 64


def test_sql_blocks_come_in_order_with_their_sheets_and_the_lines_they_start_on() -> None:
    blocks = parse("x.md", FULL).sql_blocks

    assert [(block.sql, block.sheet) for block in blocks] == [
        ("SELECT 1", "LowStock"),
        ("SELECT 2", "By day"),
    ]
    assert [FULL.splitlines()[block.line - 1].strip()[:6].lower() for block in blocks] == ["```sql", "```sql"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(root: Path, newline: str) -> None:
    (root / "windows.md").write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", newline).encode())

    procedure = ProcedureFolder(root).load("windows")

    assert procedure.title == "Low stock"
    assert [block.sql for block in procedure.sql_blocks] == ["SELECT 1", "SELECT 2"]


def test_without_front_matter_the_first_heading_is_the_title() -> None:
    assert parse("plain.md", "# Plain words #\n\nDo it.").title == "Plain words"


@pytest.mark.parametrize("reference", ["inventory/low.md", "inventory/low", "sops/inventory/low.md"])
def test_a_procedure_is_found_with_and_without_its_folder_and_ending(root: Path, reference: str) -> None:
    assert ProcedureFolder(root).load(reference).path == "inventory/low.md"


def test_a_claimed_text_parses_to_the_same_procedure_as_its_file(root: Path) -> None:
    loaded = ProcedureFolder(root).load("inventory/low")

    assert parse(loaded.path, loaded.text) == loaded


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("titel: x", "unknown key titel; allowed are title, task_type"),
        (
            "output: {colour: red}",
            "unknown key output.colour; allowed are format, path, filename_pattern, summary",
        ),
        ("params: {a: {defualt: 1}}", "unknown key params.a.defualt; allowed are default, description"),
        ("params: {a: {type: colour}}", "params.a.type: input should be 'string', 'integer'"),
        ("params: {a: {type: integer, default: many}}", "params.a: the default must be a whole number"),
        ("params: {a: {required: true, default: 1}}", "params.a: is required and yet has a default"),
        ("params: {'a b': 1}", "params.a b"),
        ("params: {a: {type: date, default: soon}}", "must be a date such as 2026-11-20"),
        ("budget_usd: -1", "budget_usd: input should be greater than or equal to 0"),
        ("budget_usd: .inf", "a number must be finite"),
        ("timeout_seconds: 0", "timeout_seconds:"),
        ("executor: no", "executor: input should be a valid string"),
        ("title: [", "the front matter is not YAML"),
        ("title: a\ntitle: b", "line 3: the front matter is not YAML: the key 'title' stands twice"),
        ("a: &x [1]\nb: *x", "aliases (*name) are not read"),
        ("- one\n- two", "must be `key: value` lines"),
        (f"params: {'[' * 60}{']' * 60}", "nested deeper than 32"),
        ("title: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("since: 2026-13-45", "is not YAML"),
        (f"description: {'x' * 40_000}", "the front matter is over 32,768 characters"),
        ("? |\n  two\n  lines\n: 1", r"unknown key 'two\nlines\n'"),
    ],
)
def test_a_fault_in_the_front_matter_is_one_line_that_names_it(front: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("a/b.md", f"---\n{front}\n---\n# Title\n")

    message = str(refused.value)
    assert message.startswith("a/b.md: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\ntitle: x\n", "has no end"),
        ("Just words.", "has no title"),
        ("# T\n```sql\nSELECT 1", "line 2: the block opened with ``` is never closed"),
        ("# T\n```sql\n```\n", "line 2: the SQL block is empty"),
        ("# T\n```sql sheet=A\nSELECT 1\n```\n```sql sheet=a\nSELECT 1\n```", "two SQL blocks are called a"),
        ("# T\0", "NUL"),
        ("# T\ud800", "surrogate"),
        ("# T\n" + "x" * LARGEST, "262,144 are allowed"),
    ],
)
def test_a_fault_in_the_text_is_one_line_that_names_it(text: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=r"^x\.md: ") as refused:
        parse("x.md", text)
    assert expected in str(refused.value)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("x.md", "---\nbudget_usd: many\ncolour: red\n---\n```sql\n```\n")

    for fault in ("the SQL block is empty", "has no title", "budget_usd", "unknown key colour"):
        assert fault in str(refused.value)


def test_defaults_are_filled_in_and_what_is_given_wins() -> None:
    procedure = parse("x.md", FULL)

    filled = fill_params(procedure, {"supplier": "Acme", "threshold": 5, "extra": 1, "since": None})

    assert filled == {
        "threshold": 5,
        "categories": ["all"],
        "supplier": "Acme",
        "since": "2026-11-20",
        "extra": 1,
    }
    filled["categories"].append("more")
    assert fill_params(procedure, {"supplier": "Acme"})["categories"] == ["all"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "needs the parameter supplier (Who delivers)"),
        ({"supplier": None}, "needs the parameter supplier"),
        ({"supplier": 5}, "the parameter supplier must be text"),
        ({"supplier": "A", "categories": "Tea"}, "the parameter categories must be a list"),
        ({"supplier": "A", "since": "yesterday"}, "must be a date"),
    ],
)
def test_a_parameter_that_is_missing_or_of_the_wrong_type_is_named(given: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fill_params(parse("x.md", FULL), given)
    assert expected in str(refused.value)


def test_unknown_parameters_are_refused_only_where_the_procedure_says_so() -> None:
    strict = parse("x.md", "---\nparams_strict: true\nparams: {a: 1}\n---\n# T")

    with pytest.raises(InvalidInput, match="has no parameter 'b'; it takes a"):
        fill_params(strict, {"b": 1})


def test_the_list_holds_the_good_ones_and_the_check_the_bad_ones(root: Path) -> None:
    (root / "README.md").write_text("about the folder")
    (root / "readme.txt").write_text("not Markdown")
    (root / ".git").mkdir()
    (root / ".git" / "hidden.md").write_text("no")
    (root / "broken.md").write_text("---\ncolour: red\n---\n# T")
    (root / "latin.md").write_bytes(b"# caf\xe9")
    (root / "zz.md").symlink_to(root / "plain.md")
    (root / "linked").symlink_to(root / "inventory")
    folder = ProcedureFolder(root)

    assert [procedure.path for procedure in folder.list()] == ["inventory/low.md", "plain.md"]
    faults = {fault.path: str(fault) for fault in folder.check()}
    assert list(faults) == ["broken.md", "latin.md", "linked", "zz.md"]
    assert faults["broken.md"].startswith("broken.md: unknown key colour; allowed are title")
    assert faults["latin.md"] == "latin.md: byte 5 is not UTF-8; save the file as UTF-8"
    assert "link" in faults["zz.md"]
    assert all("\n" not in line and str(root) not in line for line in faults.values())


def test_a_folder_that_does_not_exist_is_a_fault_and_an_empty_list(tmp_path: Path) -> None:
    folder = ProcedureFolder(tmp_path / "none")

    assert folder.list() == []
    assert "does not exist" in str(folder.check()[0])
    with pytest.raises(NotFound, match="the folder has none yet"):
        folder.load("x")


@pytest.mark.parametrize(
    "reference",
    [
        "",
        " ",
        "../secret",
        "../sops-evil/secret",
        "inventory/../../secret",
        "sops/../secret",
        "/etc/passwd",
        "//server/share/x",
        "~/x",
        "\\\\server\\share\\x",
        "inventory\\low",
        "C:/x",
        "C:x",
        "low.md:evil",
        "inventory//low",
        "./../secret",
        "inventory/./low",
        ".git/config",
        "low\0.md",
        "low\n.md",
        "low\u202e.md",
        "inventory/ low",
        "x" * 400,
        "{folder.__init__}",
    ],
)
def test_no_reference_leaves_the_folder(root: Path, reference: str) -> None:
    for name in ("secret.md", "sops-evil/secret.md"):
        (root.parent / name).parent.mkdir(exist_ok=True)
        (root.parent / name).write_text("# Secret canary")

    with pytest.raises((InvalidInput, NotFound)) as refused:
        ProcedureFolder(root).load(reference)

    assert "\n" not in str(refused.value)
    assert str(root.parent) not in str(refused.value)
    assert "canary" not in str(refused.value)


def test_an_absolute_reference_is_told_how_to_be_written(root: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'/etc/passwd' is not a path inside the folder of procedures"):
        ProcedureFolder(root).load("/etc/passwd")


def test_a_missing_procedure_names_the_nearest(root: Path) -> None:
    with pytest.raises(NotFound, match=r"no procedure inventory/lwo.md; there is inventory/low.md"):
        ProcedureFolder(root).load("inventory/lwo")


def test_the_readme_is_not_a_procedure(root: Path) -> None:
    (root / "README.md").write_text("# About")

    with pytest.raises(NotFound, match="describes the folder"):
        ProcedureFolder(root).load("README.md")


@pytest.mark.parametrize("holds_folders", [True, False])
def test_links_lead_nowhere(root: Path, monkeypatch: pytest.MonkeyPatch, holds_folders: bool) -> None:
    monkeypatch.setattr("taskqueue_mcp.procedures.folder.HOLDS_FOLDERS", holds_folders)
    secret = root.parent / "secret.md"
    secret.write_text("# Secret canary")
    (root / "file.md").symlink_to(secret)
    (root / "folder").symlink_to(root.parent)
    folder = ProcedureFolder(root)

    for reference in ("file", "folder/secret"):
        with pytest.raises(InvalidInput, match="link"):
            folder.load(reference)
    assert folder.load("inventory/low").title == "Low stock"


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)

    assert ProcedureFolder(tmp_path / "link").load("plain").title == "Plain words"


def test_a_named_pipe_or_a_folder_called_like_a_procedure_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    (root / "dir.md").mkdir()

    for reference in ("pipe", "dir"):
        with pytest.raises(InvalidInput, match="not a regular file"):
            ProcedureFolder(root).load(reference)


def test_a_file_above_the_limit_is_refused_without_being_read_whole(root: Path) -> None:
    with (root / "large.md").open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(InvalidInput, match="is over 262,144 bytes"):
        ProcedureFolder(root).load("large")


def test_the_hash_changes_with_the_text(root: Path) -> None:
    folder = ProcedureFolder(root)
    before = folder.load("plain").sha256
    (root / "plain.md").write_text("# Plain words\n\nDo it otherwise.\n")

    assert folder.load("plain").sha256 != before


def test_the_shipped_procedures_have_no_faults() -> None:
    folder = ProcedureFolder(Path(__file__).parent.parent / "sops")

    assert folder.check() == []
    assert {
        "inventory/low_stock_calculation.md",
        "inventory/reorder_rules.md",
        "reports/weekly_summary.md",
    } <= {procedure.path for procedure in folder.list()}


REPORT = """---
title: Week
output: {format: [html, xlsx], path: Reports/}
report:
  subtitle: "Week ending {week}"
  figures:
    - {title: Revenue, sheet: Days, column: revenue, format: "€ #,##0.00", compare: before}
    - {title: Days}
  charts:
    - {type: line, sheet: days, x: day, y: [revenue, before]}
  sheets:
    Days:
      columns: {revenue: Revenue of the day, before: {title: Before, format: "0.0 %", hide: true}}
      totals: [revenue]
      group_by: weekday
---
```sql sheet=Days
SELECT 1
```
```jinja
<h1>{{ title }}</h1>
```
```jinja md
# {{ title }}
```
"""


def test_the_looks_of_a_report_stand_in_the_front_matter_and_its_templates_in_the_body() -> None:
    procedure = parse("x.md", REPORT)

    assert procedure.output is not None
    assert (procedure.output.format, procedure.output.formats) == ("html", ("html", "xlsx"))
    report = procedure.report
    assert report is not None
    assert (report.figures[0].of, report.figures[0].compare, report.figures[1].column) == ("sum", "before", None)
    assert report.charts[0].y == ["revenue", "before"]
    assert report.sheets["Days"].totals == {"revenue": "sum"}
    assert report.sheets["Days"].columns["revenue"].title == "Revenue of the day"
    assert report.sheets["Days"].columns["before"].hide
    assert [(block.kind, block.text) for block in procedure.templates] == [
        ("html", "<h1>{{ title }}</h1>"),
        ("md", "# {{ title }}"),
    ]
    assert [REPORT.splitlines()[block.line - 1] for block in procedure.templates] == ["```jinja", "```jinja md"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: line", "type: pie", "report.charts.0.type: input should be 'bar', 'column' or 'line'"),
        ("x: day", "z: day", "unknown key report.charts.0.z; allowed are type, title, sheet, x, y, format, most"),
        ("sheet: days", "sheet: nights", "report.charts.0: no SQL block is called 'nights'; there is Days"),
        ("    Days:", "    Nights:", "report.sheets: no SQL block is called 'Nights'; there is Days"),
        ('"0.0 %"', '"[Red]0;@"', "report.sheets.Days.columns.before.format: write plain, 0, 0.00 or #,##0.00"),
        ("totals: [revenue]", "totals: {revenue: median}", "report.sheets.Days.totals.revenue: input should be 'sum'"),
        ("subtitle", "sub_title", "unknown key report.sub_title; allowed are subtitle, landscape, figures"),
        ("```jinja md", "```jinja", "a second html template"),
        ("[html, xlsx]", "['../x']", "output.format"),
        ("y: [revenue, before]", "y: []", "report.charts.0.y: value should have at least 1 item"),
    ],
)
def test_a_fault_in_the_looks_of_a_report_names_its_place(old: str, new: str, expected: str) -> None:
    assert old in REPORT
    with pytest.raises(InvalidInput) as refused:
        parse("x.md", REPORT.replace(old, new, 1))
    assert expected in str(refused.value)


def test_html_is_a_template_where_it_stands_alone_beside_sql() -> None:
    sql, html = "```sql\nSELECT 1\n```\n", "```html\n<p>\n```\n"

    assert [block.kind for block in parse("x.md", f"# T\n{sql}{html}").templates] == ["html"]
    assert parse("x.md", f"# T\n{sql}{html}{html}").templates == ()
    assert parse("x.md", f"# T\n{html}").templates == ()
