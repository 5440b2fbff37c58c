"""`reports`: what tasks wrote is found and fetched, and what any of them did is told in a file."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING

import pytest
from pypdf import PdfReader

from taskqueue_mcp import sample
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Update
from tests.serving import serving
from tests.test_cli import WORKER, Cli, cli

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.app import App

__all__ = ["cli"]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def shop(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A queue of which a real worker has carried out a report in two formats; T-2 is a hostile task without files."""
    sample.build(tmp_path / "shop.db")
    cli.done("tasks", "create", "--sop", "reports/weekly_summary")
    out = tmp_path / "output"
    worked = cli.process("worker", "--once", "--source", f"inventory={tmp_path / 'shop.db'}", "--output", str(out))
    assert worked.returncode == 0, worked.stderr
    cli.done("tasks", "create", f"Health check {HOSTILE}", "--instructions", f"Look at {HOSTILE}", "--type", "note")
    monkeypatch.chdir(tmp_path)
    return cli


def test_tasks_with_files_are_listed_for_people_and_for_programs(shop: Cli) -> None:
    found = shop.json("reports", "list")
    table = shop.done("reports", "list")

    (report,) = found["reports"]
    assert (found["count"], report["task"], report["status"]) == (1, "T-1", "completed")
    assert [each["media_type"] for each in report["artifacts"]][1] == "text/html"
    assert table.splitlines()[1].split()[:2] == ["T-1", "completed"]
    assert shop.json("reports", "list", "--status", "failed") == {"reports": [], "count": 0}


def test_an_empty_list_says_what_there_is_instead(cli: Cli) -> None:
    result = cli("reports", "list")

    assert result.stderr.startswith("no task has written a file; any task has a report")


def test_a_file_of_a_task_is_fetched_as_it_was_written(shop: Cli, tmp_path: Path) -> None:
    (report,) = shop.json("reports", "list")["reports"]
    for number, artifact in enumerate(report["artifacts"], 1):
        name = shop.done("reports", "download", "T-1", "--artifact", str(number)).strip()
        data = (tmp_path / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact["size"], artifact["sha256"])


def test_a_file_that_was_changed_since_is_not_handed_out(shop: Cli, tmp_path: Path) -> None:
    (path,) = (tmp_path / "output").rglob("*.html")
    data = path.read_bytes()
    for changed, expected in (
        (b"something else", "is not the file any more that was kept"),
        (bytes(reversed(data)), "is not the file that the task wrote"),
    ):
        path.write_bytes(changed)
        code, line = shop.refused("reports", "download", "T-1", "--artifact", "2")
        assert code == 1
        assert expected in line


@pytest.mark.parametrize("option", ["--report-format", "--format"])
def test_a_report_of_what_a_task_did_comes_in_every_format(shop: Cli, tmp_path: Path, option: str) -> None:
    for file_format in ("html", "pdf", "json"):
        name = shop.done("reports", "download", "T-1", option, file_format).strip()
        assert name == f"T-1_report.{file_format}"
    page = (tmp_path / "T-1_report.html").read_text(encoding="utf-8")
    paper = PdfReader(io.BytesIO((tmp_path / "T-1_report.pdf").read_bytes())).pages
    told = json.loads((tmp_path / "T-1_report.json").read_text(encoding="utf-8"))

    for words in (
        "Weekly sales summary",
        "reports/weekly_summary.md",
        "Sales of the week in 10 categories",
        "ByDay: 7 rows",
    ):
        assert words in page
        assert words in " ".join(" ".join(each.extract_text() for each in paper).split())
    assert (told["task_id"], told["execution_id"], told["status"]) == ("T-1", "T-1:1", "completed")
    assert told["summary"]["total_attempts"] == 1
    assert told["summary"]["duration_ms"] > 0
    assert [each["event"] for each in told["events"]][-1] == "completed"
    assert len(told["artifacts"]) == 2
    assert told["task"]["result_data"]["rows"] == 10


def test_the_command_line_of_the_third_plan_works(shop: Cli, tmp_path: Path) -> None:
    shop.done("reports", "download", "T-1:1", "--format", "html", "--output", "report.html")

    assert "Weekly sales summary" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_name_of_the_output_says_the_format_and_a_dash_is_stdout(shop: Cli, tmp_path: Path) -> None:
    shop.done("reports", "download", "T-1", "-o", "x.json")
    printed = shop.done("reports", "download", "T-1", "--format", "json", "-o", "-")

    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert {**json.loads(printed), "made_at": ""} == {**written, "made_at": ""}


def test_nothing_is_replaced_unless_it_is_named(shop: Cli, tmp_path: Path) -> None:
    names = [shop.done("reports", "download", "T-1").strip() for _ in range(2)]
    (tmp_path / "mine.html").write_text("old")
    shop.done("reports", "download", "T-1", "-o", "mine.html")

    assert names == ["T-1_report.html", "T-1_report-2.html"]
    assert (tmp_path / "mine.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.glob(".*.part")] == []


def test_a_hostile_task_is_text_in_its_report(shop: Cli, tmp_path: Path) -> None:
    async def work(opened: App) -> None:
        claim = await opened.queue.claim(WORKER, ClaimRequest(worker="w"))
        assert claim is not None
        await opened.queue.update(WORKER, Update(claim.lease, message=HOSTILE, log=f"{HOSTILE}\n"))
        await opened.queue.complete(WORKER, Completion(claim.lease, HOSTILE, None, {"found": HOSTILE}))

    shop.beside(work)
    shop.done("reports", "download", "T-2")

    page = (tmp_path / "T-2_report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (("T-99",), 1, "no task T-99"),
        (("T-2", "--artifact", "1"), 1, "T-2 has no file 1; it has none"),
        (("T-1", "--artifact", "3"), 1, "T-1 has no file 3; it has 2"),
        (("T-1", "--artifact", "1", "--format", "pdf"), 2, "give --artifact for a file of the task, or"),
        (("T-1", "--format", "docx"), 2, "'docx' is not one of"),
        (("T-1", "-o", "nowhere/x.html"), 1, "there is no folder nowhere; make it first"),
    ],
)
def test_what_cannot_be_downloaded_is_said_in_a_line(
    shop: Cli, args: tuple[str, ...], code: int, expected: str
) -> None:
    refused = shop.refused("reports", "download", *args)

    assert refused[0] == code
    assert expected in refused[1]


def test_a_file_of_a_worker_elsewhere_is_said_to_be_there(
    shop: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQUEUE_WORKER__OUTPUT", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()

    code, line = shop.refused("reports", "download", "T-1", "--artifact", "1")
    assert code == 1
    assert "is not in the output folder; if it lies on this machine, name its folder with TASKQUEUE_OUTPUT" in line


def test_a_server_hands_out_reports_and_files_of_the_tasks_it_keeps(
    shop: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-more-than-sixteen"  # noqa: S105 - of this test
    with serving(tmp_path, shop.url, TASKQUEUE_TOKEN=token, TASKQUEUE_OUTPUT=str(tmp_path / "output")) as server:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        there = ["--server", server.url.removesuffix("/mcp"), "--token", token]
        (report,) = json.loads(shop.done("reports", "list", "--format", "json", *there))["reports"]
        name = shop.done("reports", "download", "T-1", "--artifact", "2", *there).strip()
        told = json.loads(shop.done("reports", "download", "T-1", "--format", "json", "-o", "-", *there))
        gone = next((tmp_path / "output").rglob("*.xlsx"))
        gone.unlink()
        code, line = shop.refused("reports", "download", "T-1", "--artifact", "1", *there)

    data = (elsewhere / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == report["artifacts"][1]["sha256"]
    assert (told["execution_id"], len(told["artifacts"])) == ("T-1:1", 2)
    assert (code, "not in the output folder" in line) == (1, True)
