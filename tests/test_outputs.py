"""Files that attempts make: hostile names, whole files, cells that stay data."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import threading
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound
from taskqueue_mcp.outputs import folder as folder_module
from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile
from taskqueue_mcp.outputs.paths import LONGEST_NAME, check, clean, resolve
from taskqueue_mcp.outputs.tables import Table, sheet_name, unique, write_csv, write_json, write_xlsx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "canary"  # noqa: S105 - what `str.format` would give away


def path_of(folder: str, pattern: str, **params: object) -> str:
    return resolve(
        folder,
        pattern,
        due_date=date(2026, 11, 20),
        now=datetime(2026, 11, 20, 7, 5, 9, tzinfo=UTC),
        task_id=142,
        params=params,
    )


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


# Names.


@pytest.mark.parametrize(
    ("folder", "pattern", "expected"),
    [
        ("Reports/LowStock/", "LowStock_{date}.xlsx", "Reports/LowStock/LowStock_2026-11-20.xlsx"),
        ("Reports", "Query_{timestamp}.csv", "Reports/Query_20261120_070509.csv"),
        ("./Reports//Custom/.", "T-{task_id}.json", "Reports/Custom/T-142.json"),
        ("", "a/b/x.md", "a/b/x.md"),
        ("{region}", "{region} {year}.csv", "Süd-West/Süd-West_2026.csv"),
        ("Отчёты", "東京.pdf", "Отчёты/東京.pdf"),
        ("", "Cafe\u0301.md", "Café.md"),
    ],
)
def test_a_folder_and_a_pattern_become_a_path(folder: str, pattern: str, expected: str) -> None:
    assert path_of(folder, pattern, region="Süd-West", year=2026) == expected


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("..", "x.md"),
        ("../out-evil", "x.md"),
        ("a/../../b", "x.md"),
        ("a", "../x.md"),
        ("...", "x.md"),
        ("/etc", "x.md"),
        ("", "/etc/x.md"),
        ("~", "x.md"),
        ("C:/Windows", "x.md"),
        ("C:", "x.md"),
        ("\\\\server\\share", "x.md"),
        ("//server/share", "x.md"),
        ("a\\..\\b", "x.md"),
        ("", "..\\..\\evil.md"),
        ("", "report.md:evil"),
        ("", "report.md::$DATA"),
        ("", "x\0.md"),
        ("", ""),
        ("", "."),
        ("", "...md"),
        ("", "\u202e.md/"),
        ("/".join("abcdefghijklmnop"), "x.md"),
    ],
)
def test_a_path_that_leaves_the_folder_is_refused_in_one_line(folder: str, pattern: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        path_of(folder, pattern)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "x.exe",
        "x.lnk",
        "x.url",
        "x.bat",
        "x.ps1",
        "x.command",
        "x.desktop",
        "x.sh",
        "x",
        "x.md.exe",
        "x.xlsm",
    ],
)
def test_a_file_that_a_double_click_would_start_has_no_place(name: str) -> None:
    with pytest.raises(InvalidInput, match="no extension that may be written"):
        path_of("", name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("../../etc/passwd", "_.._etc_passwd.md"),
        ("/abs", "_abs.md"),
        ("C:\\x", "C__x.md"),
        ("a:evil", "a_evil.md"),
        ("CON", "_CON.md"),
        ("nul", "_nul.md"),
        ("com1", "_com1.md"),
        ("Lpt9.tar", "_Lpt9.tar.md"),
        ("COM¹", "_COM¹.md"),
        (".hidden", "hidden.md"),
        ("-rf", "rf.md"),
        ("a\nb\tc", "abc.md"),
        ("gpj\u202egnp", "gpjgnp.md"),
        ("zero\u200bwidth\ufeff", "zerowidth.md"),
        ("half\ud800", "half.md"),
        ("a／b＼c", "a_b_c.md"),  # noqa: RUF001 - full-width separators
        ("{task_id}", "_task_id_.md"),
        ("{date.__class__}", "_date.__class__.md"),
        (["a", "b/c"], "a-b_c.md"),
        (True, "True.md"),
        (1.5, "1.5.md"),
    ],
)
def test_a_hostile_value_becomes_a_plain_name(value: object, expected: str) -> None:
    assert path_of("", "{value}.md", value=value) == expected.replace("__class__.md", "__class___.md")


@pytest.mark.parametrize("value", ["", "..", "...", "///", "\u202e", " ", None, "-", "._"])
def test_a_value_that_leaves_nothing_of_a_folder_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"comes to nothing"):
        path_of("{value}", "x.md", value=value)


def test_what_is_wrong_with_a_path_is_said() -> None:
    with pytest.raises(InvalidInput, match=r"path 'a/\.\./b' climbs out of the output folder"):
        path_of("a/../b", "x.md")
    with pytest.raises(InvalidInput, match=r"filename_pattern '/x\.md' must be relative"):
        path_of("", "/x.md")


def test_a_value_cannot_be_a_mapping() -> None:
    with pytest.raises(InvalidInput, match=r"placeholder \{value\}"):
        path_of("", "{value}.md", value={"a": 1})


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{oops}.md", "unknown placeholder {oops}; known are customer, date, task_id, timestamp"),
        ("{}.md", "unknown placeholder '{}'"),
        ("{0}.md", "unknown placeholder '{0}'"),
        (
            "{customer.__init__.__globals__[SECRET]}.md",
            "unknown placeholder '{customer.__init__.__globals__[SECRET]}'",
        ),
        ("{customer!r}.md", "unknown placeholder '{customer!r}'"),
        ("{date!s:>99999999}.md", "must be relative"),
        ("{date:%Y}.md", "must be relative"),
        ("{{date}}.md", "a brace stands alone"),
        ("{date.md", "a brace stands alone"),
        ("date}.md", "a brace stands alone"),
        ("{da{date}te}.md", "a brace stands alone"),
    ],
)
def test_a_placeholder_is_looked_up_and_never_evaluated(pattern: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        path_of("", pattern, customer=path_of)
    assert expected in str(refused.value)
    assert SECRET not in str(refused.value)


def test_the_names_of_the_queue_hide_parameters_of_the_same_name() -> None:
    assert path_of("", "{date}.md", date="tomorrow") == "2026-11-20.md"


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    for letter in ("x", "é", "語", "\U0001d538"):
        name = path_of("", f"{letter * 300}.xlsx")
        assert len(name.encode()) <= LONGEST_NAME
        assert name.endswith(".xlsx")


@given(st.text(max_size=200))
def test_whatever_comes_in_a_clean_name_is_clean(text: str) -> None:
    try:
        name = clean(text)
    except InvalidInput:
        return
    assert clean(name) == name
    assert len(name.encode()) <= LONGEST_NAME
    assert not re.search(r'[\x00-\x1f<>:"/\\|?* ]', name)
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", " "))


# Files.


@pytest.fixture(params=[True, False], ids=["folders held open", "folders by path"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> OutputFolder:
    return OutputFolder(tmp_path / "out", holds_folders=request.param)


def writes(data: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(data)


def test_a_written_file_is_there_whole_and_described(folder: OutputFolder, tmp_path: Path) -> None:
    written = folder.write("a/b/x.csv", writes(b"1,2\n"))

    assert written == WrittenFile("a/b/x.csv", 4, hashlib.sha256(b"1,2\n").hexdigest(), "text/csv")
    assert (tmp_path / "out/a/b/x.csv").read_bytes() == b"1,2\n"
    assert names_in(tmp_path / "out/a/b") == ["x.csv"]
    assert folder.find("a/b/x.csv") == written


def test_an_existing_file_is_never_overwritten(folder: OutputFolder, tmp_path: Path) -> None:
    paths = [folder.write("x.tar.md", writes(str(number).encode())).path for number in range(3)]

    assert paths == ["x.tar.md", "x.tar-2.md", "x.tar-3.md"]
    assert [(tmp_path / "out" / path).read_text() for path in paths] == ["0", "1", "2"]


def test_a_link_that_has_the_name_is_left_alone(folder: OutputFolder, tmp_path: Path) -> None:
    victim = tmp_path / "victim.md"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x.md").symlink_to(victim)
    (tmp_path / "out/x-2.md").symlink_to("/nowhere/at/all")

    assert folder.write("x.md", writes(b"new")).path == "x-3.md"
    assert not victim.exists()


def test_a_writer_that_fails_leaves_nothing(folder: OutputFolder, tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        folder.write("a/x.md", fail)
    assert names_in(tmp_path / "out/a") == []


def test_several_files_appear_together_or_not_at_all(folder: OutputFolder, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(file: BinaryIO) -> None:
        seen.append([name for name in names_in(tmp_path / "out/a") if not name.endswith(".part")])
        file.write(b"last")

    def fail(_: BinaryIO) -> None:
        raise OSError(errno.EIO, "Input/output error")

    written = folder.write_all([("a/x.md", writes(b"one")), ("a/x.md", writes(b"two")), ("a/y.md", look)])
    with pytest.raises(OSError, match="Input/output"):
        folder.write_all([("a/z.md", writes(b"three")), ("b/z.md", fail)])

    assert seen == [[]]
    assert [(each.path, each.size) for each in written] == [("a/x.md", 3), ("a/x-2.md", 3), ("a/y.md", 4)]
    assert names_in(tmp_path / "out/a") == ["x-2.md", "x.md", "y.md"]
    assert names_in(tmp_path / "out/b") == []


def test_a_folder_that_is_a_link_is_refused(folder: OutputFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Reports").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InvalidInput, match="'Reports': is a link or a file"):
        folder.write("Reports/x.md", writes(b"x"))
    with pytest.raises(InvalidInput, match="'Reports': is a link or a file"):
        folder.write("Reports/deep/x.md", writes(b"x"))
    assert names_in(tmp_path / "elsewhere") == []


def test_a_file_where_a_folder_must_be_is_refused(folder: OutputFolder) -> None:
    folder.write("Reports.md", writes(b"x"))

    with pytest.raises(InvalidInput, match="is a link or a file"):
        folder.write("Reports.md/x.md", writes(b"x"))


@pytest.mark.parametrize(
    "relative", ["../x.md", "/x.md", "a//x.md", "a/../x.md", ".x.md", "x .md", "CON.md", "x.exe", ""]
)
def test_the_folder_takes_clean_paths_only_whoever_calls(folder: OutputFolder, relative: str) -> None:
    with pytest.raises(InvalidInput):
        folder.write(relative, writes(b"x"))


def test_a_folder_swapped_for_a_link_never_lets_a_file_out(tmp_path: Path) -> None:
    root, outside, real, link = (tmp_path / name for name in ("out", "outside", "real", "link"))
    for made in (root, outside, real):
        made.mkdir()
    link.symlink_to(outside)
    stop = threading.Event()
    target = root / "Reports"

    def swap() -> None:
        number = 0
        while not stop.is_set():
            for source in (real, link):
                try:
                    source.rename(target)
                except OSError:  # the writer has made the folder meanwhile
                    number += 1
                    target.rename(tmp_path / f"made-{number}")
                else:
                    target.rename(source)

    swapper = threading.Thread(target=swap)
    swapper.start()
    written = refused = 0
    try:
        for number in range(20_000):
            try:
                OutputFolder(root).write(f"Reports/{number}.md", writes(b"x"))
                written += 1
            except (InvalidInput, FileNotFoundError):
                refused += 1
            if number >= 1_000 and written and refused:
                break
    finally:
        stop.set()
        swapper.join()
    assert written
    assert refused
    assert names_in(outside) == []


def write_fifty(root: str, found: Any) -> None:
    folder = OutputFolder(Path(root))
    found.put([folder.write("same.md", writes(os.urandom(8))).path for _ in range(50)])


def test_four_processes_that_write_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    processes = [context.Process(target=write_fifty, args=(str(tmp_path), found)) for _ in range(4)]
    for process in processes:
        process.start()
    names = [name for _ in processes for name in found.get(timeout=30)]
    for process in processes:
        process.join(timeout=30)

    assert len(set(names)) == len(names) == 200
    assert names_in(tmp_path) == sorted(names)


def test_without_hard_links_a_name_is_still_taken_once(
    folder: OutputFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)

    assert [folder.write("x.md", writes(each)).path for each in (b"1", b"2")] == ["x.md", "x-2.md"]
    assert (tmp_path / "out/x.md").read_bytes() == b"1"
    assert names_in(tmp_path / "out") == ["x-2.md", "x.md"]


def test_a_name_that_is_taken_too_often_says_what_to_do(folder: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MOST_OF_ONE_NAME", 2)
    folder.write("x.md", writes(b"1"))
    folder.write("x.md", writes(b"2"))

    with pytest.raises(LimitReached, match=r"use \{timestamp\} or \{task_id\} in its pattern"):
        folder.write("x.md", writes(b"3"))


def test_what_others_wrote_is_described_and_links_are_not(folder: OutputFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Report (1).docx").write_bytes(b"x")
    (tmp_path / "out/link.md").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "out/pipe.md")

    assert folder.find("Report (1).docx").size == 1
    for relative in ("link.md", "pipe.md", "..", "../out/x.md", "/etc/passwd", "a\\b.md", "C:x.md", "", "."):
        with pytest.raises(InvalidInput):
            folder.find(relative)
    with pytest.raises(NotFound, match=r"'none\.md' is not in the output folder"):
        folder.find("none.md")


# Cells.

FORMULAS = [
    '=HYPERLINK("http://evil.example","x")',
    "=1+1",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "＝1+1",  # noqa: RUF001 - the full-width forms
    "＋1",  # noqa: RUF001
    "－1",  # noqa: RUF001
    "＠x",  # noqa: RUF001
]


def table(*rows: tuple[object, ...], columns: tuple[str, ...] = ("a",)) -> Table:
    return Table("Sheet", columns, iter(rows))


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_text_of_a_csv_starts_a_formula(formula: str) -> None:
    file = io.BytesIO()
    write_csv(file, table((formula,), columns=(formula,)))

    for row in csv.reader(io.StringIO(file.getvalue().decode(), newline="")):
        assert row == [f"'{formula}"]


def test_numbers_of_a_csv_stay_numbers() -> None:
    file = io.BytesIO()
    count = write_csv(file, table((-5, -1.5, None, True, b"\x01", "plain", Decimal("-2.50")), columns=tuple("abcdefg")))

    assert file.getvalue() == b"a,b,c,d,e,f,g\r\n-5,-1.5,,True,01,plain,-2.50\r\n"
    assert count == 1


def test_json_is_a_list_of_objects_in_the_order_of_the_columns() -> None:
    file = io.BytesIO()
    count = write_json(file, table((1, "ä", None), (float("inf"), "=1", date(2026, 1, 2)), columns=("z", "a", "a")))

    assert json.loads(file.getvalue()) == [
        {"z": 1, "a": "ä", "a_2": None},
        {"z": None, "a": "=1", "a_2": "2026-01-02"},
    ]
    assert list(json.loads(file.getvalue())[0]) == ["z", "a", "a_2"]
    assert "ä".encode() in file.getvalue()
    assert count == 2


def test_an_empty_table_is_an_empty_list_and_a_header_line() -> None:
    as_json, as_csv = io.BytesIO(), io.BytesIO()
    write_json(as_json, table())
    write_csv(as_csv, table())

    assert json.loads(as_json.getvalue()) == []
    assert as_csv.getvalue() == b"a\r\n"


NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def xlsx(*tables: Table) -> zipfile.ZipFile:
    file = io.BytesIO()
    write_xlsx(file, tables)
    return zipfile.ZipFile(file)


def cells(book: zipfile.ZipFile, sheet: int = 1) -> Iterator[tuple[str, str | None, str]]:
    """Reference, type and text of every cell."""
    root = ElementTree.fromstring(book.read(f"xl/worksheets/sheet{sheet}.xml"))  # noqa: S314 - ours
    for cell in root.iter(f"{NS}c"):
        assert cell.find(f"{NS}f") is None, "a formula"
        yield cell.get("r", ""), cell.get("t"), "".join(cell.itertext())


@pytest.mark.parametrize("text", [*FORMULAS, "http://evil.example", "mailto:a@b", "internal:Sheet1!A1", "00123", "1e5"])
def test_no_text_of_an_xlsx_is_a_formula_a_link_or_a_number(text: str) -> None:
    book = xlsx(table((text,)))

    (_, kind, shown) = list(cells(book))[1]
    assert (kind, shown.replace("_x000D_", "\r")) == ("inlineStr", text)
    assert "hyperlink" not in book.read("xl/worksheets/sheet1.xml").decode()


def test_an_xlsx_keeps_the_types_of_its_cells() -> None:
    book = xlsx(
        table(
            (
                -5,
                1.25,
                True,
                None,
                date(2026, 11, 20),
                4_006_381_333_931_000_000,
                datetime(2026, 1, 1, tzinfo=UTC),
            ),
            columns=tuple("abcdefg"),
        )
    )

    found = {reference: (kind, text) for reference, kind, text in cells(book) if reference.endswith("2")}
    assert found["A2"] == (None, "-5")
    assert found["B2"] == (None, "1.25")
    assert found["C2"] == ("b", "1")
    assert "D2" not in found
    assert found["E2"] == (None, "46346")
    assert found["F2"] == ("inlineStr", "4006381333931000000")
    assert found["G2"] == ("inlineStr", "2026-01-01T00:00:00+00:00")
    assert 'formatCode="#,##0.00##"' in book.read("xl/styles.xml").decode()


def test_an_xlsx_has_a_bold_filtered_frozen_header_and_columns_as_wide_as_their_text() -> None:
    book = xlsx(table(("x" * 30, 1), ("y" * 500, 2), columns=("name", "n")))
    sheet = book.read("xl/worksheets/sheet1.xml").decode()

    assert '<autoFilter ref="A1:B3"/>' in sheet
    assert 'ySplit="1"' in sheet
    assert 'state="frozen"' in sheet
    widths = [float(width) for width in re.findall(r'<col [^>]*width="([\d.]+)"', sheet)]
    assert widths[0] > 55
    assert 7 < widths[1] < 12
    assert "<b/>" in book.read("xl/styles.xml").decode()


def test_an_xlsx_has_a_sheet_for_each_table_under_a_name_that_excel_takes() -> None:
    book = xlsx(
        Table("Low/Stock: [now]?", ["a"], [(1,)]),
        Table("x" * 40, ["a"], []),
        Table("X" * 40, ["a"], []),
        Table("history", ["a"], []),
        Table("'", ["a"], []),
    )

    names = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
    assert names == ["Low Stock   now", "x" * 31, "X" * 27 + " 2", "history_", "Sheet"]


def test_control_characters_and_long_text_do_not_break_an_xlsx() -> None:
    book = xlsx(table(("a\0b\x1b\ufffe",), ("_x0041_",), ("z" * 40_000,), ("half\ud800",)))

    shown = [text for _, _, text in cells(book)][1:]
    assert shown[:2] == ["a\ufffdb\ufffd\ufffd", "_x005F_x0041_"]
    assert len(shown[2]) == 32_767
    assert shown[2].endswith("… [cut, 40,000 characters]")
    assert shown[3] == "half\ufffd"


def test_rows_that_fail_half_way_leave_no_scratch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write_xlsx(io.BytesIO(), [Table("x", ["a"], rows())])
    assert names_in(tmp_path) == []


def test_more_rows_than_a_sheet_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskqueue_mcp.outputs.tables.MOST_ROWS_XLSX", 2)

    with pytest.raises(InvalidInput, match="write csv instead"):
        xlsx(table((1,), (2,), (3,)))


def test_names_that_stand_twice_are_told_apart() -> None:
    assert unique(["a", "a", "a_2", "a"]) == ["a", "a_2", "a_2_2", "a_3"]
    assert sheet_name("A", {"a", "a 2"}) == "A 3"


def test_check_names_what_may_be_written() -> None:
    with pytest.raises(InvalidInput, match=r"use one of .csv .xlsx .json .jsonl .md .html .pdf .txt .svg .parquet"):
        check("x.exe")
