"""PDF files: laid out by the real WeasyPrint, read back with another library, and looked at."""

from __future__ import annotations

import http.server
import io
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from pypdf import PdfReader

from taskqueue_mcp.outputs.documents import printing, rendering
from taskqueue_mcp.outputs.documents.pdf import PdfFailed, PdfTimedOut, pdf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskqueue_mcp.outputs.documents.document import Document

SECONDS = 90


def text_of(data: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages).split())


@pytest.fixture
def made(document: Document) -> bytes:
    return pdf(rendering.html(document, paper=True), seconds=SECONDS)


def test_a_report_on_paper_has_its_text_its_numbers_and_its_pages(made: bytes) -> None:
    pages = PdfReader(io.BytesIO(made)).pages

    assert 1 <= len(pages) <= 3
    for words in (
        "Week ending 2026-11-15",
        "€ 5,123.40",
        "Total",
        "1,520",
        "<script>alert(1)</script>",
        f"1 / {len(pages)}",
    ):
        assert words in text_of(made), words
    assert [round(float(side)) for side in pages[0].mediabox[2:]] == [595, 842]


def test_a_page_larger_than_a_pipe_is_laid_out_whole() -> None:
    rows = "".join(f"<tr><td>row {number}</td><td>{'x' * 60}</td></tr>" for number in range(1_200))

    data = pdf(f"<table>{rows}</table>", seconds=SECONDS)

    assert "row 1199" in text_of(data)
    assert len(PdfReader(io.BytesIO(data)).pages) > 10


def test_a_page_of_it_is_not_blank_and_uses_its_width(made: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(made)
    program = shutil.which("pdftoppm")
    assert program, "pdftoppm is missing: apt-get install poppler-utils"
    subprocess.run([program, "-r", "40", "-gray", "-f", "1", "-l", "1", "x.pdf", "x"], cwd=tmp_path, check=True)
    (picture,) = tmp_path.glob("x-*.pgm")
    _, size, _, pixels = picture.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())

    dark = [at for at in range(width * height) if pixels[at] < 128]
    assert 0.005 < len(dark) / (width * height) < 0.5
    columns = {at % width for at in dark}
    assert min(columns) < 0.15 * width
    assert max(columns) > 0.85 * width


def test_a_wide_report_lies_on_its_side(document: Document) -> None:
    from dataclasses import replace  # noqa: PLC0415 - beside its only use

    wide = pdf(rendering.html(replace(document, landscape=True), paper=True), seconds=SECONDS)

    box = PdfReader(io.BytesIO(wide)).pages[0].mediabox
    assert box.width > box.height


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"canary")

        def log_message(self, *_: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", asked
    listening.shutdown()
    listening.server_close()


def test_no_address_is_asked_and_no_file_is_opened_for_a_page(server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = server
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    page = f"""<html><head>
    <link rel=stylesheet href="{address}/style.css"><link rel=attachment href="{secret.as_uri()}">
    <style>@import url("{address}/import.css"); body {{ background: url("{address}/b.png") }}
    @font-face {{ font-family: x; src: url("{address}/font.woff") }} p {{ font-family: x }}</style></head>
    <body><p>Words</p><img src="{address}/a.png" alt="missing"><img src="{secret.as_uri()}">
    <object data="{address}/o.svg"></object><iframe src="{address}/i"></iframe>
    <svg width="9" height="9"><image href="{address}/s.png" width="9" height="9"/>
    <use href="{secret.as_uri()}#x"/></svg>
    <img src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'%3E%3Cimage
     href='{address}/n.png'/%3E%3C/svg%3E"></body></html>"""

    data = pdf(page, seconds=SECONDS)

    assert "Words" in text_of(data)
    assert asked == []
    assert b"canary" not in data
    assert not PdfReader(io.BytesIO(data)).attachments


def test_a_page_takes_no_more_time_than_it_was_given_and_leaves_no_process() -> None:
    rows = "<tr><td>cell</td><td>cell</td></tr>" * 60_000
    before = time.monotonic()

    with pytest.raises(PdfTimedOut, match="the PDF file took longer than 1 s"):
        pdf(f"<table>{rows}</table>", seconds=1)

    assert time.monotonic() - before < 5
    assert children() == []


def test_a_page_that_nobody_wants_any_more_ends_at_once() -> None:
    class Enough(Exception):
        pass

    def wanted() -> None:
        raise Enough

    before = time.monotonic()
    with pytest.raises(Enough):
        pdf("<table>" + "<tr><td>cell</td></tr>" * 200_000, seconds=SECONDS, wanted=wanted)

    assert time.monotonic() - before < 8  # laying it out takes far longer
    assert children() == []


def children() -> list[str]:
    found = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    return [" ".join(line) for line in found if printing.__name__ in line]


def test_without_pango_the_reason_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("libpango-1.0.so.0", "libpango-1.0.so", "libpango-1.0-0"):
        (tmp_path / name).write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    with pytest.raises(PdfFailed, match=r"Pango.*is missing or broken.*apt-get install libpango-1\.0-0") as failed:
        pdf("<p>Words</p>", seconds=SECONDS)
    assert "\n" not in str(failed.value)


def test_without_the_extra_the_reason_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weasyprint.py").write_text("raise ModuleNotFoundError('No module named weasyprint')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(PdfFailed, match=r"pip install 'taskqueue-mcp\[pdf\]'"):
        pdf("<p>Words</p>", seconds=SECONDS)


def test_nothing_of_our_environment_reaches_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weasyprint.py").write_text("import os; raise ImportError(' '.join(sorted(os.environ)))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TASKQUEUE_TOKEN", "canary-canary-canary")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")

    with pytest.raises(PdfFailed) as failed:
        pdf("<p>Words</p>", seconds=SECONDS)
    assert "PATH" in str(failed.value)
    assert "TASKQUEUE_TOKEN" not in str(failed.value)
    assert "ANTHROPIC" not in str(failed.value)
