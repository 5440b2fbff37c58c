"""Files and rows as strangers hand them over: each is what it was said to be, or there is a reason in a line."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import xlsxwriter
from pyarrow import parquet

from taskqueue_mcp.outputs import checking, expectations, inspecting, rows, running
from taskqueue_mcp.outputs.checking import Claimed, Named, Place
from taskqueue_mcp.outputs.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOCK = [("sku", "stock"), ("A", 1), ("B", 2)]


def found(form: str, data: bytes, **expected: Any) -> dict[str, Any]:
    """What a look into `data` finds, in this process."""
    (wanted,) = expectations.read([{"path": f"a.{form}", **expected}])
    asked = wanted.model_dump(mode="json", exclude_defaults=True)
    return inspecting.look(io.BytesIO(data), {**asked, "format": form})


def workbook(*lines: tuple[Any, ...], sheet: str = "Stock") -> bytes:
    held = io.BytesIO()
    with xlsxwriter.Workbook(held) as book:
        page = book.add_worksheet(sheet)
        for at, line in enumerate(lines):
            page.write_row(at, 0, line)
    return held.getvalue()


def columnar() -> bytes:
    held = io.BytesIO()
    parquet.write_table(pa.table({"sku": ["A", "B"], "stock": [1, 2]}), held)
    return held.getvalue()


SAME: dict[str, bytes] = {
    "csv": b"sku,stock\r\nA,1\r\nB,2\r\n",
    "xlsx": workbook(*STOCK),
    "json": b'[{"sku": "A", "stock": 1}, {"sku": "B", "stock": 2}]',
    "parquet": columnar(),
}


@pytest.mark.parametrize("form", SAME)
def test_rows_are_the_same_whatever_they_are_written_in(form: str) -> None:
    sound = {
        "min_rows": 2,
        "columns": ["stock", "sku"],
        "no_empty_cells": True,
        "sql": "SELECT sum(stock) = 3 FROM rows",
    }
    assert found(form, SAME[form], **sound) == {"rows": 2, "reasons": []}
    broken = found(form, SAME[form], min_rows=3, columns=["price"], sql=["SELECT min(stock) > 1 FROM rows"])
    assert broken["reasons"] == [
        "has no column 'price'; it has 'sku', 'stock'",
        "has 2 rows; at least 3 are expected",
        "does not fulfil SELECT min(stock) > 1 FROM rows (it gave 0)",
    ]


@pytest.mark.parametrize("form", [form for form in SAME if form != "json"])
def test_a_schema_is_of_each_row_of_a_table(form: str) -> None:
    schema = {"properties": {"stock": {"type": "integer", "minimum": 2}}}
    assert found(form, SAME[form], json_schema=schema)["reasons"] == ["row 1: stock: 1 is less than the minimum of 2"]


def test_a_schema_is_of_a_json_document_as_a_whole() -> None:
    assert found("json", b'{"a": [1, "x"]}', json_schema={"properties": {"a": {"items": {"type": "integer"}}}}) == {
        "rows": None,
        "reasons": ["a[1]: 'x' is not of type 'integer'"],
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no header line"),
        (b"\n\n", "has no header line"),
        (b"sku,stock\nA\n", "is broken: line 2 has 1 cells, the header 2"),
        (b'sku,stock\n"A,1\n', "is not CSV"),
        (b"sku,stock\nA,\xe4\n", "is not UTF-8"),
        (b"sku\n" + b"x" * (rows.LONGEST_CELL + 1), "is not CSV"),
    ],
)
def test_a_csv_that_is_none_has_a_reason(data: bytes, reason: str) -> None:
    assert reason in found("csv", data, min_rows=0)["reasons"][0]


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfsku;stock\nA;1\n", b"sku\tstock\nA\t1\n", b"sku,stock\r\n\r\nA,1\r\n\r\n"]
)
def test_a_csv_as_programs_write_it_is_read(data: bytes) -> None:
    assert found("csv", data, columns=["sku", "stock"], min_rows=1) == {"rows": 1, "reasons": []}


def test_empty_cells_are_named_by_row_and_column() -> None:
    reasons = found("csv", b"sku,stock,note\nA,,\n ,2,\n", no_empty_cells=["sku", "stock"])["reasons"]
    assert reasons == ["row 1 is empty in 'stock'", "row 2 is empty in 'sku'"]


def test_the_header_of_a_workbook_may_stand_below_a_title() -> None:
    data = workbook(("Low stock",), (), ("sku", "stock"), ("A", 1))
    assert found("xlsx", data, columns=["sku", "stock"], min_rows=1) == {"rows": 1, "reasons": []}


def test_a_sheet_that_is_not_there_is_said_with_those_that_are() -> None:
    assert found("xlsx", workbook(*STOCK), sheet="Orders")["reasons"] == ["has no sheet 'Orders'; it has Stock"]


def packed(**parts: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name.replace("__", "/"), data)
    return held.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"nothing of the kind", "is not a workbook"),
        (workbook(*STOCK)[:-40], "is not a workbook"),
        (packed(hello=b"x"), "is an archive and no workbook"),
        (packed(**{"[Content_Types].xml": b"<Types/>"}), "is not a workbook"),
    ],
)
def test_a_workbook_that_is_none_has_a_reason(data: bytes, reason: str) -> None:
    assert reason in found("xlsx", data)["reasons"][0]


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LARGEST_UNPACKED", 1_000_000)
    bomb = packed(**{"[Content_Types].xml": b"<Types/>", "xl__sheet.xml": b"\0" * 2_000_000})
    assert len(bomb) < 10_000
    assert "more than is looked through" in found("xlsx", bomb)["reasons"][0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[NaN]", "NaN is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b'{"a": 1}', "has no rows"),
        (b"[1, 2]", "has no rows"),
    ],
)
def test_json_that_is_none_or_has_no_rows_has_a_reason(data: bytes, reason: str) -> None:
    assert reason in found("json", data, min_rows=1)["reasons"][0]


@pytest.mark.parametrize(
    ("form", "data", "reason"),
    [
        ("pdf", b"%PDF-1.7\n%%EOF\n", None),
        ("pdf", b"%PDF-1.7\n" + b"x" * 5_000, "is not a whole PDF"),
        ("pdf", b"<html>", "is not a whole PDF"),
        ("html", b"<!doctype html><p>Hi", None),
        ("html", b"Hi", "is not HTML"),
        ("md", b"# Hi\n", None),
        ("md", b" \n\t\n", "holds nothing but blanks"),
        ("txt", b"\xff\xfe", "is not UTF-8 text"),
        ("svg", b"none", "is not SVG"),
        ("parquet", b"PAR1 and no more", "is not Parquet"),
    ],
)
def test_a_document_is_what_its_name_says(form: str, data: bytes, reason: str | None) -> None:
    reasons = found(form, data)["reasons"]
    assert reasons == [] if reason is None else reason in reasons[0]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT load_extension('x') FROM rows",
        "SELECT count(*) FROM pragma_database_list",
        "WITH gone AS (SELECT 1) DELETE FROM rows",
        "SELECT 1; DROP TABLE rows",
        "SELECT zeroblob(1000000000) IS NOT NULL",
        "SELECT readfile('/etc/passwd') FROM rows",
        "SELECT price > 0 FROM rows",
    ],
)
def test_an_assertion_reads_the_rows_and_nothing_else(statement: str) -> None:
    (reason,) = found("csv", SAME["csv"], sql=statement)["reasons"]
    assert reason.startswith("cannot be held against ")


def test_an_assertion_that_does_not_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "SQL_SECONDS", 0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    (reason,) = found("csv", SAME["csv"], sql=endless)["reasons"]
    assert "takes longer than 0 s" in reason


def looked(folder: Path, *wanted: dict[str, Any], named: tuple[str, ...] = (), **place: Any) -> checking.Look:
    """What the whole look finds, in processes of its own."""
    claimed = Claimed(wanted=expectations.read(list(wanted)), named=tuple(map(Named, named)), now=time.time())
    return checking.look(claimed, Place(outputs=OutputFolder(folder), **place))


def test_a_pattern_that_never_comes_to_an_end_costs_its_own_look_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "INSPECTION_SECONDS", 2.0)
    (tmp_path / "a.json").write_text(json.dumps("a" * 60 + "!"))
    begun = time.monotonic()
    look = looked(tmp_path, {"path": "a.json", "json_schema": {"pattern": "^(a+)+$"}})
    assert look.reasons() == ["a.json takes longer than 2 s to look into"]
    assert time.monotonic() - begun < 10


def test_a_document_that_does_not_fit_into_the_memory_costs_its_own_look(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_text("[" + "{}," * 40_000_000 + "{}]")
    (reason,) = looked(tmp_path, {"path": "a.json", "json_schema": {"type": "array"}}).reasons()
    assert "memory" in reason or "could not be looked into" in reason


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "folder", "link"],
)
def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "a.csv")
    look = looked(tmp_path, {"path": "a.csv"}, named=("a.csv",))
    assert (look.met, look.faults) == ([], {})
    assert set(look.unseen) == {"outputs[0]", "file a.csv"}


def test_a_check_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    script = f"(while true; do echo x >> {beat}; sleep 0.05; done) & sleep 60"
    begun = time.monotonic()
    ran = running.run(["sh", "-c", script], seconds=0.5)
    assert (ran.code, time.monotonic() - begun < 10) == (None, True)
    size = beat.stat().st_size
    time.sleep(0.3)  # what is to be seen is that nothing happens any more
    assert beat.stat().st_size == size


def test_a_check_is_broken_off_when_the_process_goes(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    look = looked(tmp_path, {"check": "slow"}, checks={"slow": ["sleep", "60"]}, stop=stop)
    assert time.monotonic() - begun < 10
    assert "did not end" in look.reasons()[0]


def test_what_a_check_says_is_kept_in_part(tmp_path: Path) -> None:
    flood = [sys.executable, "-c", "print('x' * 50_000_000); print('the end'); raise SystemExit(3)"]
    (reason,) = looked(tmp_path, {"check": "flood"}, checks={"flood": flood}).reasons()
    assert reason.startswith("the check 'flood' ended with code 3")
    assert len(reason) <= checking.LONGEST_REASON


def test_a_check_gets_no_secret_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_TOKEN", "secret-of-the-worker")
    (reason,) = looked(tmp_path, {"check": "env"}, checks={"env": ["sh", "-c", "env >&2; exit 1"]}).reasons()
    assert "secret-of-the-worker" not in reason


def test_a_check_that_is_not_there_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    (reason,) = looked(tmp_path, {"check": "gone"}, checks={"gone": ["/no/such/program"]}).reasons()
    assert reason == "the check 'gone' cannot be run (No such file or directory)"


@pytest.mark.parametrize("form", SAME)
def test_each_format_is_looked_into_within_the_bounds_of_a_process_of_its_own(tmp_path: Path, form: str) -> None:
    (tmp_path / f"a.{form}").write_bytes(SAME[form])
    look = looked(tmp_path, {"path": f"a.{form}", "min_rows": 2, "columns": ["sku"]}, named=(f"a.{form}",))
    assert (look.reasons(), look.files[f"a.{form}"].rows) == ([], 2)
