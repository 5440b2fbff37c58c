from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from taskqueue_mcp.cli.demo import workbook
from taskqueue_mcp.cli.demo.processes import DemoFailed, running, server_url
from taskqueue_mcp.outputs.tables import Table, write_xlsx

DEMO = [sys.executable, "-m", "taskqueue_mcp", "demo"]


def answers(url: str) -> bool:
    """Whether anybody listens there."""
    port = int(url.rpartition(":")[2])
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_the_demo_goes_from_requests_to_files_and_leaves_nothing_running(tmp_path: Path) -> None:
    demo = subprocess.run(
        [*DEMO, "--output", tmp_path / "out"], capture_output=True, text=True, check=False, timeout=100
    )
    assert (demo.returncode, demo.stderr) == (0, "")
    (report,) = (tmp_path / "out" / "Reports" / "LowStock").glob("LowStock_????-??-??.xlsx")
    assert zipfile.ZipFile(report).testzip() is None
    page = report.with_suffix(".html")
    assert "<svg" in page.read_text(encoding="utf-8")
    assert all(f"{path}  {path.stat().st_size:,} bytes" in demo.stdout for path in (report, page))
    header, *rows = workbook.rows(report)
    assert header[:2] == ["sku", "product"]
    assert f"{len(rows)} products are low" in demo.stdout
    assert f"… {len(rows)} rows of {len(header)} columns in all" in demo.stdout
    assert rows[0][1] in demo.stdout
    assert re.search(r"T-1 is ready, created by front-end", demo.stdout)
    assert re.search(r"T-1 again", demo.stdout)
    assert len(re.findall(r"\d{4}-\d\d-\d\d 07:00", demo.stdout)) == 3
    assert re.search(r"completed by stockroom-1, attempt 1, .*; its files are verified", demo.stdout)
    assert re.findall(r"^[1-9] +[\d.]+ m?s +(\w+) +(\S+)", demo.stdout, re.MULTILINE)[:2] == [
        ("created", "front-end"),
        ("claimed", "stockroom"),
    ]
    (query,) = (tmp_path / "out" / "Reports" / "Custom").glob("Query_*.csv")
    skus = [line.partition(",")[0] for line in query.read_text(encoding="utf-8").splitlines()[1:]]
    (note,) = (tmp_path / "out" / "Notes").glob("OrderNote_????-??-??.md")
    written = note.read_text(encoding="utf-8")
    assert len(skus) == 5
    assert all(f"| {sku} |" in written for sku in skus)
    assert all(line in demo.stdout for line in written.splitlines())
    assert re.search(r"completed by stockroom-1: Claude Code, 2 turns", demo.stdout)
    (cost,) = re.findall(r"All of it costs ([\d,.]+)\.", written)
    assert f"“The note is written: 5 orders, {cost} in all.”" in demo.stdout
    assert "\x1b" not in demo.stdout
    (url,) = set(re.findall(r"--server (http://127\.0\.0\.1:\d+)", demo.stdout))
    assert not answers(url)


def test_a_demo_that_is_kept_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*DEMO, "--keep", "--output", tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as demo:
        assert demo.stdout is not None
        told = b""
        while b"README.md" not in told:
            assert select.select([demo.stdout], [], [], 60)[0], told
            news = os.read(demo.stdout.fileno(), 65_536)
            assert news, told
            told += news
        (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", told.decode()))
        (token_file,) = re.findall(r"TOKEN=\$\(cat (\S+)\)", told.decode())
        assert answers(url)
        assert Path(token_file).read_text(encoding="utf-8").startswith("tq_")
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(20) == 130
    assert not answers(url)
    assert not Path(token_file).exists()


def test_an_output_that_is_no_folder_is_refused_in_one_line_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    demo = subprocess.run(
        [*DEMO, "--output", tmp_path / "taken" / "below"], capture_output=True, text=True, check=False, timeout=60
    )
    assert demo.returncode == 1
    assert demo.stdout == ""
    assert re.fullmatch(r"taskqueue-mcp: .*taken.*\n", demo.stderr)


async def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    database = tmp_path / "queue.db"
    database.write_bytes(b"no database" * 100)
    database.chmod(0o600)
    async with running("the server", tmp_path, "serve", "--port", "0", "--database", f"sqlite:///{database}") as server:
        with pytest.raises(DemoFailed, match=r"the server ended unexpectedly; its last words: .* is not a database"):
            await server_url(server)


async def test_the_settings_of_the_person_who_runs_the_demo_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQUEUE_ALLOWED_HOSTS", "not a host")
    (tmp_path / "mine.toml").write_text("nonsense = true")
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(tmp_path / "mine.toml"))
    serve = ("serve", "--port", "0", "--database", f"sqlite:///{tmp_path / 'queue.db'}")
    async with running("the server", tmp_path, *serve) as server:
        assert answers(await server_url(server))


def test_a_workbook_is_read_back_with_its_empty_cells_in_their_places(tmp_path: Path) -> None:
    columns = [f"c{number}" for number in range(30)]
    sparse = [None, "a & b", None, 2.5] + [None] * 25 + ["last"]
    with (tmp_path / "book.xlsx").open("wb") as file:
        write_xlsx(file, [Table("Sheet", columns, [sparse, [1, *[None] * 29]])])
    header, first, second = workbook.rows(tmp_path / "book.xlsx")
    assert header == columns
    assert first == ["", "a & b", "", "2.5", *[""] * 25, "last"]
    assert second == ["1", *[""] * 29]
