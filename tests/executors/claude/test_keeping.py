"""What is kept of a session until it goes on, and what is copied out of it when it is done."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.claude import keeping
from taskqueue_mcp.executors.claude.delivering import hand_over, ordered
from taskqueue_mcp.executors.claude.folders import alone_in
from taskqueue_mcp.executors.claude.keeping import Kept
from taskqueue_mcp.executors.claude.params import ClaudeParams
from taskqueue_mcp.executors.claude.receiving import take_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.conftest import MakeRun

SESSION = "2ac0e620-17f6-4507-b7ae-c6a000b0a0ec"


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "home", tmp_path / "config", days=7)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "session"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a.txt").write_text("a")
    (folder / "link").symlink_to("/etc/passwd")
    return folder


def test_a_session_comes_back_with_its_files_and_its_plan(kept: Kept, work: Path, tmp_path: Path) -> None:
    kept.keep(SESSION, work, "the plan")

    assert kept.restore(SESSION, tmp_path / "again") == "the plan"
    assert (tmp_path / "again/deep/a.txt").read_text() == "a"
    assert os.readlink(tmp_path / "again/link") == "/etc/passwd"  # noqa: PTH115 - a link is not followed
    kept.drop(SESSION)
    assert kept.restore(SESSION, tmp_path / "later") is None
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("session", ["../../etc", "", SESSION.upper(), f"{SESSION}/..", "*", None, 7, "-" * 36])
def test_what_is_no_session_names_no_folder(kept: Kept, work: Path, tmp_path: Path, session: Any) -> None:
    assert kept.can_go_on(session) is False
    assert kept.keep(session, work, None) is None
    assert not (tmp_path / "home").exists()


def test_a_session_goes_on_only_where_its_record_is(kept: Kept, tmp_path: Path) -> None:
    assert not kept.can_go_on(SESSION)
    record = tmp_path / f"config/projects/-tmp/{SESSION}.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert kept.can_go_on(SESSION)


def test_too_much_is_not_kept_and_says_so(
    kept: Kept, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_FILES", 1)

    assert "too many to keep" in str(kept.keep(SESSION, work, None))
    assert not list(tmp_path.glob("home/kept/*"))


def test_what_nobody_came_back_for_is_forgotten(kept: Kept, work: Path, tmp_path: Path) -> None:
    other = SESSION.replace("2", "3")
    kept.keep(SESSION, work, None)
    kept.keep(other, work, None)
    week_ago = time.time() - 7 * 86_400 - 1
    os.utime(tmp_path / "home/kept" / SESSION, (week_ago, week_ago))

    kept.sweep()

    assert [each.name for each in (tmp_path / "home/kept").iterdir()] == [other]


async def test_one_attempt_at_a_time_has_a_folder(tmp_path: Path) -> None:
    async with alone_in(tmp_path, tmp_path / "home") as first:
        async with alone_in(tmp_path, tmp_path / "home", patience=0.3) as second:
            assert (first, second) == (True, False)
        async with alone_in(tmp_path / "other", tmp_path / "home", patience=0.3) as elsewhere:
            assert elsewhere
    async with alone_in(tmp_path, tmp_path / "home", patience=0.3) as after:
        assert after


async def test_who_waits_for_a_folder_gets_it_when_it_is_free(tmp_path: Path) -> None:
    got: list[bool] = []

    async def wait() -> None:
        async with alone_in(tmp_path, tmp_path / "home", patience=20) as is_alone:
            got.append(is_alone)

    async with anyio.create_task_group() as group, alone_in(tmp_path, tmp_path / "home"):
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert got == []
    assert got == [True]


@pytest.mark.parametrize(
    ("output", "path"),
    [
        (None, None),
        ({"path": "reports"}, None),
        ({"format": "md"}, "claude/T-142_2026-11-20.md"),
        ({"format": "xlsx", "path": "reports", "filename_pattern": "Low_{date}"}, "reports/Low_2026-11-20.xlsx"),
        ({"filename_pattern": "{shop}_{task_id}.json"}, "claude/Berlin_142.json"),
        ('{"filename_pattern": "a.md"}', "claude/a.md"),
    ],
)
def test_the_file_that_a_task_asks_for_has_a_clean_path(make_run: MakeRun, output: Any, path: str | None) -> None:
    order = ordered(make_run(task={"output": output}), ClaudeParams.model_validate({"shop": "Berlin"}))

    assert (order.path if order else None) == path


@pytest.mark.parametrize("pattern", ["../x.md", "a.exe", "{nothing}.md", "/etc/x.md"])
def test_a_file_name_that_leads_astray_is_refused(make_run: MakeRun, pattern: str) -> None:
    with pytest.raises(InvalidInput):
        ordered(make_run(task={"output": {"filename_pattern": pattern}}), ClaudeParams())


def test_only_plain_files_of_the_folder_are_copied_out_of_it(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(task={"output": {"filename_pattern": "a.csv"}})
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    work = run.directory / "work"
    work.mkdir()
    order = ordered(run, ClaudeParams())
    for make in ((work / "a.csv").symlink_to, lambda _: os.mkfifo(work / "a.csv"), lambda _: (work / "a.csv").mkdir()):
        make(secret)
        with pytest.raises(InvalidInput, match="is no plain file"):
            hand_over(run, ClaudeParams(), order, "done", work=work, cwd=work)
        (work / "a.csv").rmdir() if (work / "a.csv").is_dir() else (work / "a.csv").unlink()
    assert not list((tmp_path / "out").rglob("*.csv"))


def test_a_folder_behind_a_link_is_not_the_sessions(make_run: MakeRun, tmp_path: Path, log: list[str]) -> None:
    run = make_run()
    work = run.directory / "work"
    work.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/s.csv").write_text("secret")
    (work / "in").symlink_to(tmp_path / "outside")

    handed = hand_over(run, ClaudeParams(files=["in/*.csv", "/etc/*", "../*", "~/*"]), None, "x", work=work, cwd=work)

    assert handed.files == ()
    assert "'in/s.csv' stays behind" in "".join(log)


def test_globs_name_further_files_and_a_wrong_extension_stays_behind(
    make_run: MakeRun, tmp_path: Path, log: list[str]
) -> None:
    run = make_run(task={"output": {"path": "r", "filename_pattern": "a.md"}})
    work = run.directory / "work"
    (work / "deep").mkdir(parents=True)
    for name in ("a.md", "b.csv", "deep/c d.csv", "e.sh"):
        (work / name).write_text(name)

    handed = hand_over(
        run, ClaudeParams(files=["**/*.csv", "*.md", "*.sh"]), ordered(run, ClaudeParams()), "x", work=work, cwd=work
    )

    assert [file.path for file in handed.files] == ["r/a.md", "r/b.csv", "r/deep/c_d.csv"]
    assert "'e.sh' stays behind" in "".join(log)
    assert (tmp_path / "out/r/deep/c_d.csv").read_text() == "deep/c d.csv"


def test_a_text_that_was_not_written_is_the_last_message_and_a_table_is_not(make_run: MakeRun, tmp_path: Path) -> None:
    work = tmp_path / "empty"
    work.mkdir()
    for pattern, is_there in (("a.md", True), ("a.txt", True), ("a.csv", False), ("a.xlsx", False)):
        run = make_run(task={"output": {"filename_pattern": pattern}})
        order = ordered(run, ClaudeParams())
        if is_there:
            handed = hand_over(run, ClaudeParams(), order, "the answer", work=work, cwd=work)
            assert handed.main is not None
            assert (tmp_path / "out" / handed.main.path).read_text() == "the answer\n"
        else:
            with pytest.raises(InvalidInput, match=f"Claude did not write {pattern}.*it said: the answer"):
                hand_over(run, ClaudeParams(), order, "the answer", work=work, cwd=work)


def test_the_files_of_the_tasks_before_are_copied_to_where_the_session_can_read_them(
    make_run: MakeRun, tmp_path: Path, log: list[str]
) -> None:
    inputs = [
        {"task": "T-7", "result_path": "r/stock.csv"},
        {"task": "T-8", "result_path": "gone.csv"},
        {"task": "T-9", "result_path": "../secret"},
        {"task": "../T-10", "result_path": "r/stock.csv"},
        {"task": "T-11", "result_path": None},
    ]
    run = make_run(inputs=inputs)
    run.outputs.write("r/stock.csv", lambda file: file.write(b"sku\n"))
    work = run.directory / "work"
    work.mkdir()

    names = take_in(run, work, work)

    assert names == {"T-7": "inputs/T-7/stock.csv", "../T-10": "inputs/_T-10/stock.csv"}
    assert (work / names["T-7"]).read_text() == "sku\n"
    assert "the file of T-8 is not there for Claude: 'gone.csv' is not in the output folder\n" in log
    assert any(line.startswith("the file of T-9 is not there") for line in log)
    assert take_in(run, work, tmp_path)["T-7"] == str(work / "inputs/T-7/stock.csv")
