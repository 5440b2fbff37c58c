from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from taskqueue_mcp import __version__, app
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.cli import main
from taskqueue_mcp.settings import load_settings
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, Failure, Update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from click.testing import Result

    from taskqueue_mcp.app import App

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "taskqueue_mcp"]
WORKER = local_person("worker-1")


@dataclass(frozen=True)
class Cli:
    """The command line on a database of its own."""

    folder: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'queue.db'}"

    def __call__(self, *args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, args, input=stdin, env={"TASKQUEUE_DATABASE": self.url})

    def done(self, *args: str, stdin: bytes | None = None) -> str:
        result = self(*args, stdin=stdin)
        assert (result.exit_code, result.exception) == (0, None), result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        result = self(*args, "--format", "json")
        assert (result.exit_code, result.exception, result.stderr) == (0, None, ""), result.output
        assert result.stdout.endswith("\n")
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)

    def refused(self, *args: str, stdin: bytes | None = None) -> tuple[int, str]:
        """The exit code and the one line that says why."""
        result = self(*args, stdin=stdin)
        assert result.stdout == ""
        assert isinstance(result.exception, SystemExit), result.exception
        line, end = result.stderr[:-1], result.stderr[-1:]
        assert (end, "\n" in line, "Traceback" in line) == ("\n", False, False)
        return result.exit_code, line

    def beside(self, work: Callable[[App], Awaitable[Any]]) -> Any:
        """Do something to the same queue as a server would."""

        async def do() -> Any:
            async with self.opened() as opened:
                return await work(opened)

        return asyncio.run(do())

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        async with app.opened(load_settings(database=self.url)) as opened:
            yield opened

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
        paths = {"PYTHONPATH": str(ROOT / "src"), "TASKQUEUE_SOPS": str(ROOT / "sops")}
        return {**kept, **paths, "TASKQUEUE_DATABASE": self.url, "PYTHONUNBUFFERED": "1", **more}

    def process(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *args], env=self.environment(**more), capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in os.environ:
        if name.startswith("TASKQUEUE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TASKQUEUE_SOPS", str(ROOT / "sops"))
    return Cli(tmp_path)


async def complete(opened: App, summary: str = "done") -> None:
    claim = await opened.queue.claim(WORKER, ClaimRequest(worker="w"))
    assert claim is not None
    await opened.queue.complete(WORKER, Completion(claim.lease, summary, "Reports/a.xlsx"))


async def fail(opened: App) -> None:
    claim = await opened.queue.claim(WORKER, ClaimRequest(worker="w"))
    assert claim is not None
    await opened.queue.update(WORKER, Update(claim.lease, progress=50, message="half", log="line one\nline two"))
    await opened.queue.fail(WORKER, Failure(claim.lease, "no such table", "permanent"))


# --- tasks ---------------------------------------------------------------------------------------------------


def test_a_created_task_is_shown_whole(cli: Cli) -> None:
    made = cli.json(
        "tasks", "create", "Low stock", "--instructions", "Count.", "--type", "counting", "--param", "n=10",
        "--param", "who=Ann", "--param", 'list=["a"]', "--queue", "reports", "--priority", "high", "--tag", "a",
        "--tag", "b", "--option", "max_attempts=5", "--requested-by", "Ann", "--key", "k",
    )  # fmt: skip
    assert made["created"] is True
    task = cli.json("tasks", "show", made["task"]["id"])["task"]
    assert task["params"] == {"n": 10, "who": "Ann", "list": ["a"]}
    assert (task["instructions"], task["queue"], task["priority"]) == ("Count.", "reports", "high")
    assert (task["tags"], task["requested_by"], task["created_by"]) == (["a", "b"], "Ann", "owner")
    assert task["created_at"].endswith("Z")
    sheet = cli.done("tasks", "show", "1", "--events", "--log", "--attempts")
    assert "instructions: Count.\n" in sheet
    assert "created by owner" in sheet


def test_a_list_without_open_tasks_says_where_the_others_are(cli: Cli) -> None:
    cli.done("tasks", "create", "Once")
    cli.done("tasks", "cancel", "1")
    assert cli("tasks", "list").stderr == "no open tasks; --status all shows those that have ended too\n"
    assert "cancelled" in cli.done("tasks", "list", "--status", "all")


def test_the_same_key_makes_no_second_task(cli: Cli) -> None:
    cli.done("tasks", "create", "Once", "--key", "k")
    again = cli("tasks", "create", "Once", "--key", "k")
    assert (again.exit_code, again.stdout) == (0, "T-1 ready: Once\n")
    assert again.stderr == "the key was used before, for T-1; no second task was made\n"
    code, line = cli.refused("tasks", "create", "Twice", "--key", "k")
    assert (code, "other arguments" in line) == (1, True)


def test_instructions_are_read_from_a_file_or_from_stdin_as_they_are(cli: Cli) -> None:
    text = "Zeile 1\r\nZeile 2 🎉\n"
    (cli.folder / "do.md").write_bytes(text.encode())
    cli.done("tasks", "create", "File", "--instructions", f"@{cli.folder / 'do.md'}")
    cli.done("tasks", "create", "Pipe", "--instructions", "-", stdin=text.encode())
    cli.done("tasks", "create", "At", "--instructions", "@@home")
    assert [cli.json("tasks", "show", number)["task"]["instructions"] for number in "123"] == [text, text, "@home"]


def test_json_for_params_and_pairs_go_together_and_the_pair_wins(cli: Cli) -> None:
    cli.done("tasks", "create", "x", "--params", '{"a": 1, "b": 2}', "--param", "b=3")
    assert cli.json("tasks", "show", "1")["task"]["params"] == {"a": 1, "b": 3}


def test_the_list_shows_what_is_open_newest_first_unless_it_is_asked_for_more(cli: Cli) -> None:
    for title in ("First", "Second", "Third"):
        cli.done("tasks", "create", title, "--tag", title.lower())
    cli.done("tasks", "cancel", "2")
    assert [task["title"] for task in cli.json("tasks", "list")["tasks"]] == ["Third", "First"]
    assert cli.json("tasks", "list", "--status", "all", "--tag", "second")["count"] == 1
    page = cli.json("tasks", "list", "--status", "all", "--limit", "2")
    assert [task["id"] for task in page["tasks"]] == ["T-3", "T-2"]
    rest = cli.json("tasks", "list", "--status", "all", "--cursor", page["next_cursor"])
    assert [task["id"] for task in rest["tasks"]] == ["T-1"]
    assert rest["next_cursor"] is None


def test_a_list_longer_than_a_page_is_gathered_from_several(cli: Cli) -> None:
    async def fill(opened: App) -> None:
        from taskqueue_mcp.taskqueue import NewTask, Wanted  # noqa: PLC0415 - only here

        await asyncio.gather(*(opened.queue.create(WORKER, NewTask(Wanted(title=f"n{n}"))) for n in range(120)))

    cli.beside(fill)
    found = cli.json("tasks", "list", "--limit", "110")
    assert (found["count"], len({task["id"] for task in found["tasks"]})) == (110, 110)
    assert cli.json("tasks", "list", "--limit", "500")["next_cursor"] is None


def test_search_finds_words_of_title_instructions_and_result_in_any_status(cli: Cli) -> None:
    cli.done("tasks", "create", "Stock report")
    cli.done("tasks", "create", "Other", "--instructions", "count the stock")
    cli.beside(lambda opened: complete(opened, "seven pallets"))
    assert [task["id"] for task in cli.json("tasks", "search", "stock")["tasks"]] == ["T-2", "T-1"]
    assert [task["id"] for task in cli.json("tasks", "search", "seven", "pallets")["tasks"]] == ["T-1"]
    assert [task["id"] for task in cli.json("tasks", "ready")["tasks"]] == ["T-2"]


def test_what_waits_for_a_person_says_how_to_decide_and_is_decided(cli: Cli) -> None:
    made = cli("tasks", "create", "Pay", "--requires-approval")
    assert made.stdout == "T-1 waiting (approval): Pay\n"
    assert "taskqueue-mcp tasks answer T-1 approve" in made.stderr
    assert cli.done("tasks", "answer", "1", "approve", "--database", cli.url) == "T-1 ready: Pay\n"
    cli.done("tasks", "create", "Pay more", "--requires-approval")
    assert cli.json("tasks", "answer", "T-2", "reject", "too dear")["task"]["error"] == "rejected: too dear"


def test_a_question_is_answered_and_the_answer_is_shown(cli: Cli) -> None:
    async def ask(opened: App) -> None:
        claim = await opened.queue.claim(WORKER, ClaimRequest(worker="w"))
        assert claim is not None
        await opened.queue.update(WORKER, Update(claim.lease, question="Which year?"))

    cli.done("tasks", "create", "Count")
    cli.beside(ask)
    assert re.search(r"question: +Which year\?", cli.done("tasks", "show", "1"))
    assert cli.done("tasks", "answer", "1", "answer", "2026") == "T-1 ready: Count\n"
    assert "owner answered 'Which year?': 2026" in cli.done("tasks", "show", "1")


def test_a_failed_task_shows_its_attempt_log_and_events_and_is_retried(cli: Cli) -> None:
    cli.done("tasks", "create", "Count")
    cli.beside(fail)
    found = cli.json("tasks", "show", "1", "--events", "--log")
    assert found["log"] == "line one\nline two\n"
    assert [event["event"] for event in found["events"]] == ["created", "claimed", "progress", "failed"]
    assert found["task"]["attempts"][0]["outcome"] == "permanent"
    sheet = cli.done("tasks", "show", "1", "--events", "--log", "--attempts")
    assert "progress by worker-1 (attempt 1): progress 50" in sheet
    assert "no such table" in sheet
    assert sheet.endswith("line one\nline two\n")
    assert cli.done("tasks", "retry", "1") == "T-1 ready: Count\n"


def test_a_task_that_waits_for_a_time_runs_now_when_it_is_told_to(cli: Cli) -> None:
    assert cli.done("tasks", "create", "Later", "--run-at", "2h") == "T-1 pending (scheduled): Later\n"
    assert cli.done("tasks", "run-now", "1") == "T-1 ready: Later\n"


def test_watching_a_finished_task_tells_its_story_and_exits_by_its_end(cli: Cli) -> None:
    cli.done("tasks", "create", "Good")
    cli.beside(complete)
    cli.done("tasks", "create", "Bad")
    cli.beside(fail)
    good, bad = cli("tasks", "watch", "1"), cli("tasks", "watch", "2")
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert good.stdout.endswith("T-1 completed: Good\ndone\nReports/a.xlsx\n")
    assert "half" in bad.stdout
    lines = [json.loads(line) for line in cli("tasks", "watch", "1", "--format", "json").stdout.splitlines()]
    assert [line.get("event") for line in lines] == ["created", "claimed", "completed", None]
    assert lines[-1]["task"]["status"] == "completed"


def test_waiting_for_a_new_task_ends_when_the_time_is_over_or_a_person_is_needed(cli: Cli) -> None:
    late = cli("tasks", "create", "Slow", "--wait", "0")
    assert (late.exit_code, late.stdout.startswith("T-1 ready: Slow\n")) == (1, True)
    assert "taskqueue-mcp tasks watch T-1" in late.stderr
    asked = cli("tasks", "create", "Pay", "--wait", "30", "--requires-approval", "--format", "json")
    assert (asked.exit_code, json.loads(asked.stdout)["task"]["status"]) == (1, "waiting")


# --- schedules, templates ------------------------------------------------------------------------------------


def test_a_schedule_is_created_previewed_paused_resumed_run_and_deleted(cli: Cli) -> None:
    made = cli.json("schedules", "create", "nightly", "30 2 * * *", "--title", "Night", "--timezone", "Europe/Berlin",
                    "--overlap", "allow", "--grace", "60")  # fmt: skip
    assert (made["created"], len(made["next_runs"]), made["schedule"]["grace_seconds"]) == (True, 5, 60)
    assert len(cli.json("schedules", "preview", "nightly", "--count", "7")["next_runs"]) == 7
    assert "02:30:00+0" in cli.done("schedules", "preview", "nightly")
    assert cli.json("schedules", "pause", "nightly")["schedule"]["enabled"] is False
    assert "paused" in cli.done("schedules", "list")
    assert cli.json("schedules", "resume", "nightly")["schedule"]["enabled"] is True
    assert cli.json("schedules", "run", "nightly")["task"]["title"] == "Night"
    assert cli.json("schedules", "history", "nightly") == {"occurrences": [], "count": 0}
    edited = cli.json("schedules", "create", "nightly", "@daily", "--disabled")
    assert (edited["created"], edited["schedule"]["enabled"], edited["schedule"]["overlap"]) == (False, False, "allow")
    assert cli.done("schedules", "delete", "nightly") == "nightly deleted\n"
    assert cli.json("schedules", "list") == {"schedules": [], "count": 0}


def test_a_template_is_filled_shown_with_its_use_and_deleted(cli: Cli) -> None:
    cli.done("templates", "create", "low", "--title", "Low {{what}}", "--instructions", "Below {{n}}", "--default",
             "n=10", "--description", "Stock")  # fmt: skip
    cli.done("tasks", "create", "--template", "low", "--var", "what=screws")
    assert cli.json("tasks", "show", "1")["task"]["instructions"] == "Below 10"
    shown = cli.json("templates", "show", "low")
    assert (sorted(shown["variables"]), shown["counts"]) == (["n", "what"], {"ready": 1})
    assert "used:         1 ready" in cli.done("templates", "show", "low")
    assert "low" in cli.done("templates", "list")
    cli.done("templates", "delete", "low")
    assert cli.json("templates", "list")["count"] == 0


# --- the owner's -----------------------------------------------------------------------------------------------


def test_a_new_token_is_printed_alone_and_opens_what_its_scopes_say(cli: Cli) -> None:
    printed = cli.done("tokens", "create", "--name", "gemini", "--scope", "enqueue,answer", "--scope", "work",
                       "--database", cli.url)  # fmt: skip
    secret = printed.removesuffix("\n")
    assert secret.startswith("tq_")
    assert secret.split() == [secret]
    caller = cli.beside(lambda opened: opened.auth.authenticate(secret))
    assert (caller.name, sorted(caller.scopes)) == ("gemini", ["answer", "enqueue", "work"])
    assert secret not in cli.done("tokens", "list")
    cli.done("tokens", "revoke", "gemini")
    assert cli.beside(lambda opened: opened.auth.authenticate(secret)) is None
    assert "revoked" in cli.done("tokens", "list")


def test_a_token_names_the_executors_whose_tasks_it_may_create(cli: Cli) -> None:
    made = cli.json("tokens", "create", "--name", "operator", "--scope", "enqueue,exec:shell", "--scope", "exec:mail")
    assert made["scopes"] == ["enqueue", "exec:mail", "exec:shell"]
    caller = cli.beside(lambda opened: opened.auth.authenticate(made["token"]))
    assert (caller.scopes, caller.executors) == ({"enqueue"}, {"shell", "mail"})
    assert "enqueue,exec:mail,exec:shell" in cli.done("tokens", "list")
    mistyped = cli("tokens", "create", "--name", "o2", "--scope", "enqueue,exec:shel")
    assert (mistyped.exit_code, "no executor shel is known here" in mistyped.stderr) == (0, True)
    code, line = cli.refused("tokens", "create", "--name", "o3", "--scope", "exec:shell")
    assert (code, "give it with enqueue or work" in line) == (1, True)


def test_a_token_can_expire_and_speak_for_another_principal(cli: Cli) -> None:
    made = cli.json("tokens", "create", "--name", "ci-2", "--scope", "work", "--principal", "ci", "--kind", "service",
                    "--expires", "30d")  # fmt: skip
    assert (made["principal"], made["scopes"]) == ("ci", ["work"])
    assert made["expires_at"] > made["created_at"]
    code, line = cli.refused("tokens", "create", "--name", "old", "--scope", "work", "--expires", "2020-01-01")
    assert (code, "in the past" in line) == (1, True)


def test_a_paused_queue_hands_nothing_out_and_a_draining_one_takes_nothing_in(cli: Cli) -> None:
    cli.done("tasks", "create", "x")
    assert cli.done("queues", "pause", "default") == "default is paused\n"
    assert cli.json("tasks", "ready")["count"] == 0
    assert cli.json("queues", "drain", "default") == {"queue": "default", "state": "draining"}
    code, line = cli.refused("tasks", "create", "y")
    assert (code, "draining" in line) == (1, True)
    cli.done("queues", "resume", "default")
    (queue,) = cli.json("queues", "list")["queues"]
    assert (queue["state"], queue["counts"]) == ("open", {"ready": 1})
    assert "default" in cli.done("queues", "list")


def test_a_backup_is_restored_beside_the_database_and_never_over_it(cli: Cli) -> None:
    cli.done("tasks", "create", "Kept")
    copy, other = cli.folder / "copy.db", f"sqlite:///{cli.folder / 'new' / 'other.db'}"
    assert cli.json("backup", str(copy))["bytes"] == copy.stat().st_size
    code, line = cli.refused("backup", str(copy))
    assert (code, "not overwritten" in line) == (1, True)
    code, line = cli.refused("restore", str(copy))
    assert (code, "move it away" in line) == (1, True)
    cli.done("restore", str(copy), "--database", other)
    assert [task["title"] for task in cli.json("tasks", "list", "--database", other)["tasks"]] == ["Kept"]


def test_a_journal_that_was_left_behind_keeps_a_restore_from_mixing_two_databases(cli: Cli) -> None:
    cli.done("tasks", "create", "Kept")
    copy = cli.folder / "copy.db"
    cli.done("backup", str(copy))
    (cli.folder / "other.db-wal").write_bytes(b"left behind")
    code, line = cli.refused("restore", str(copy), "--database", f"sqlite:///{cli.folder / 'other.db'}")
    assert (code, "other.db-wal" in line) == (1, True)


# --- procedures, doctor ----------------------------------------------------------------------------------------


def test_procedures_are_listed_shown_and_checked(cli: Cli) -> None:
    paths = [each["path"] for each in cli.json("sops", "list")["procedures"]]
    assert "inventory/low_stock_calculation.md" in paths
    text = (ROOT / "sops" / paths[0]).read_text(encoding="utf-8")
    assert cli.done("sops", "show", f"sops/{paths[0]}") == text
    assert cli.json("sops", "show", paths[0])["text"] == text
    assert cli.done("sops", "check") == "no faults\n"
    assert cli.json("sops", "check", paths[0])["faults"] == []


def test_checking_procedures_says_every_fault_on_a_line_and_exits_with_1(cli: Cli) -> None:
    sops = cli.folder / "mine"
    sops.mkdir()
    (sops / "a.md").write_text("---\ntitel: A\n---\n# A\n", encoding="utf-8")
    (sops / "b.md").write_bytes(b"\xff")
    (sops / "c.md").write_text("# C\n\nFine.\n", encoding="utf-8")
    result = cli("sops", "check", str(sops))
    assert (result.exit_code, result.stderr) == (1, "")
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["a.md", "b.md"]
    gone = cli("sops", "check", "inventory/none")
    assert (gone.exit_code, gone.stdout.startswith("inventory/none.md: ")) == (1, True)


def test_the_doctor_finds_a_sound_queue_sound(cli: Cli) -> None:
    cli.done("tasks", "create", "x")
    found = cli.json("doctor")
    assert found["ok"] is True
    states = {check["check"]: check for check in found["checks"]}
    assert "journal wal, synchronous full" in states["durability"]["text"]
    assert {"python", "sqlite", "settings", "schema", "disk", "rights", "tokens", "sops", "worker"} <= set(states)
    assert cli.done("doctor").startswith("STATE  CHECK")


def test_the_doctor_makes_no_database_where_there_is_none(cli: Cli) -> None:
    (check,) = [check for check in cli.json("doctor")["checks"] if check["check"] == "database"]
    assert (check["state"], "does not exist yet" in check["text"]) == ("warn", True)
    assert list(cli.folder.glob("queue.db*")) == []


def test_the_doctor_knows_settings_of_every_depth(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "TASKQUEUE_WORKER__MAIL__PASSWORD": "secret-value",
        "TASKQUEUE_WORKER__MAIL__DESTINATIONS__BOSS": '["carla@example.com"]',
        "TASKQUEUE_APPROVALS__ALWAYS": '["payment"]',
        "TASKQUEUE_EXECUTOR_OF_TYPE__BUILD": "shell",
    }
    for name, value in {**known, "TASKQUEUE_WORKER__MAIL__PASWORD": "secret-value"}.items():
        monkeypatch.setenv(name, value)
    result = cli("doctor", "--format", "json")
    assert "secret-value" not in result.output
    monkeypatch.delenv("TASKQUEUE_WORKER__MAIL__PASWORD")
    checks = cli.json("doctor")["checks"]
    assert [check for check in checks if check["check"] == "environment"] == []
    (approvals,) = [check for check in checks if check["check"] == "approvals"]
    assert approvals["text"] == "payment waits for a person; open to all: calculation, claude, query, report"
    monkeypatch.setenv("TASKQUEUE_OPEN_EXECUTORS", "claude,shell")
    (approvals,) = [check for check in cli.json("doctor")["checks"] if check["check"] == "approvals"]
    assert (approvals["state"], "create those of shell" in approvals["text"]) == ("warn", True)


def test_the_doctor_points_from_names_of_other_programs_to_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DATABASE_URL", "REDIS_URL", "CLAUDE_CLI_PATH", "MAX_CONCURRENT_TASKS", "TASK_TIMEOUT", "TASKQUEUE_PROT")
    for name in names:
        monkeypatch.setenv(name, "secret-value")
    checks = [check for check in cli.json("doctor")["checks"] if check["check"] == "environment"]
    assert [check["text"].split()[0] for check in checks] == list(names)
    assert all(check["state"] == "warn" and check["do"] for check in checks)
    assert "TASKQUEUE_DATABASE" in checks[0]["do"]
    assert "secret-value" not in str(checks)


@pytest.mark.parametrize(
    ("name", "value", "check", "said"),
    [
        ("TASKQUEUE_PORT", "many", "settings", "port"),
        ("TASKQUEUE_ZONE", "Europe/Berln", "settings", "IANA"),
        ("TASKQUEUE_TOKEN", "short", "settings", "TASKQUEUE_TOKEN"),
        ("TASKQUEUE_WORKER__EXECUTORS", '["magic"]', "worker", "magic"),
        ("TASKQUEUE_WORKER__SHELL_ALLOW", '["no-such-command"]', "worker", "no-such-command"),
        ("TASKQUEUE_WORKER__SOURCES", '{"shop": "/no/such.db"}', "worker", "shop"),
        ("TASKQUEUE_WORKER__OUTPUT", "/dev/null/out", "worker", "/dev/null/out"),
    ],
)
def test_the_doctor_fails_on_settings_that_cannot_work(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, check: str, said: str
) -> None:
    cli.done("tasks", "create", "x")
    monkeypatch.setenv(name, value)
    result = cli("doctor", "--format", "json")
    failed = [found for found in json.loads(result.stdout)["checks"] if found["state"] == "fail"]
    assert (result.exit_code, [found["check"] for found in failed]) == (1, [check])
    assert said in failed[0]["text"]


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
def test_the_doctor_fails_on_a_database_that_others_can_read(cli: Cli) -> None:
    cli.done("tasks", "create", "x")
    (cli.folder / "queue.db").chmod(0o644)
    result = cli("doctor")
    assert result.exit_code == 1
    assert "chmod 600" in result.stdout


# --- what is wrong gets one line ---------------------------------------------------------------------------------

WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("tasks", "show", "99"), 1, "no task T-99"),
    (("tasks", "watch", "99"), 1, "no task T-99"),
    (("tasks", "show", "bla"), 1, "looks like T-142"),
    (("tasks", "create"), 1, "title: is empty"),
    (("tasks", "create", "  "), 1, "title: is empty"),
    (("tasks", "create", "x", "--params", '{"a'), 2, "is not JSON"),
    (("tasks", "create", "x", "--params", "[1]"), 2, "must be a JSON object"),
    (("tasks", "create", "x", "--param", "a"), 2, "is not NAME=VALUE"),
    (("tasks", "create", "x", "--option", "colour=red"), 1, "unknown colour"),
    (("tasks", "create", "x", "--priority", "huge"), 2, "huge"),
    (("tasks", "create", "x", "--run-at", "soon"), 1, "is not a time"),
    (("tasks", "create", "x", "--depends-on", "99"), 1, "no task T-99"),
    (("tasks", "create", "x", "--template", "none"), 1, "no template"),
    (("tasks", "create", "x", "--sop", "../../etc/passwd"), 1, "leaves the folder"),
    (("tasks", "create", "x", "--instructions", "@no/such/file"), 2, "cannot read no/such/file"),
    (("tasks", "create", "x", "--bogus"), 2, "--bogus"),
    (("tasks", "create", "x", "y"), 2, "unexpected extra argument"),
    (("tasks", "list", "--status", "bogus"), 1, "not one of"),
    (("tasks", "list", "--limit", "0"), 2, "--limit"),
    (("tasks", "list", "--cursor", "bogus"), 1, "cursor"),
    (("tasks", "answer", "1", "approve"), 1, "does not wait for approval"),
    (("tasks", "answer", "1", "answer", "yes"), 1, "does not wait for an answer"),
    (("tasks", "answer", "1", "perhaps"), 2, "perhaps"),
    (("tasks", "retry", "1"), 1, "only a failed or cancelled task"),
    (("tasks", "run-now", "1"), 1, "run_now is for tasks that wait"),
    (("tasks", "cancel"), 2, "Missing argument 'ID'"),
    (("schedules", "create", "s", "61 * * * *"), 1, "cron '61 * * * *'"),
    (("schedules", "create", "s", "* * * *"), 1, "has 4 fields"),
    (("schedules", "create", "s", "@daily", "--timezone", "Europe/Berln"), 1, "did you mean 'Europe/Berlin'"),
    (("schedules", "create", "s", "@daily", "--misfire", "explode"), 2, "explode"),
    (("schedules", "pause", "none"), 1, "no schedule 'none'"),
    (("schedules", "create", "bad name", "@daily"), 1, "is not a name"),
    (("templates", "create", "t"), 1, "needs a title"),
    (("templates", "show", "none"), 1, "no template"),
    (("queues", "pause", "bad name"), 1, "is not a name"),
    (("tokens", "create", "--name", "n"), 2, "--scope"),
    (("tokens", "create", "--name", "n", "--scope", "god"), 1, "not one of enqueue, work, answer, admin"),
    (("tokens", "revoke", "none"), 1, "no live token"),
    (("sops", "show", "../../etc/passwd"), 1, "leaves the folder"),
    (("sops", "show", "/etc/passwd"), 1, "not a path inside the folder"),
    (("sops", "show", "inventory/none"), 1, "no procedure"),
    (("backup", "/no/such/folder/copy.db"), 1, "choose a writable folder"),
    (("restore", "no-such.db", "--database", "sqlite:///none.db"), 1, "no backup at"),
    (("stdio", "--scope", "god"), 1, "not one of enqueue, work, answer, admin"),
    (("serve", "--port", "99999"), 2, "--port"),
    (("worker", "--source", "shop"), 2, "is not NAME=PATH"),
    (("bogus",), 2, "No such command"),
    (("tasks", "list", "--database", "bogus"), 1, "is not understood"),
    (("tasks", "list", "--database", "sqlite:///a", "--server", "http://b"), 2, "not both"),
    (("tasks", "list", "--token", "abc"), 2, "--token goes with --server"),
    (("tasks", "list", "--server", "ftp://b", "--token", "abc"), 2, "is no URL"),
    (("tasks", "list", "--server", "http://127.0.0.1:9"), 2, "wants a token"),
    (("tasks", "list", "--server", "http://127.0.0.1:9", "--token", "abc"), 1, "is it running"),
    (("tokens", "list", "--server", "http://127.0.0.1:9", "--token", "abc"), 2, "--database"),
    (("queues", "pause", "q", "--server", "http://127.0.0.1:9"), 2, "--database"),
    (("templates", "list", "--server", "http://127.0.0.1:9"), 2, "--database"),
    (("sops", "list", "--server", "http://127.0.0.1:9"), 2, "--database"),
    (("backup", "x.db", "--server", "http://127.0.0.1:9"), 2, "--database"),
    (("doctor", "--server", "http://127.0.0.1:9"), 2, "--database"),
]


@pytest.mark.parametrize(
    ("args", "code", "said"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_what_is_wrong_gets_one_line_and_its_exit_code(cli: Cli, args: tuple[str, ...], code: int, said: str) -> None:
    cli.done("tasks", "create", "Ready")
    found, line = cli.refused(*args)
    assert (found, line) == (code, line)
    assert said in line
    assert cli.json("tasks", "list", "--status", "all")["count"] == 1


def test_a_folder_that_cannot_hold_a_database_is_refused_in_one_line(cli: Cli) -> None:
    (cli.folder / "file").write_text("", encoding="utf-8")
    code, line = cli.refused("tasks", "list", "--database", f"sqlite:///{cli.folder / 'file' / 'queue.db'}")
    assert (code, "choose" in line) == (1, True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that not even root may write to")
def test_a_folder_without_rights_is_refused_in_one_line(cli: Cli) -> None:
    locked = cli.folder / "locked"
    locked.mkdir(mode=0o500)
    for place in ("/proc/taskqueue", *([] if os.geteuid() == 0 else [str(locked)])):
        code, line = cli.refused("tasks", "list", "--database", f"sqlite:///{place}/queue.db")
        assert (code, "choose a writable folder" in line) == (1, True)


def test_instructions_that_are_not_utf_8_are_refused_in_one_line(cli: Cli) -> None:
    code, line = cli.refused("tasks", "create", "x", "--instructions", "-", stdin=b"good \xff bad")
    assert (code, "stdin is not UTF-8 (byte 5)" in line) == (2, True)


# --- what comes out ------------------------------------------------------------------------------------------------


def test_control_characters_of_a_task_reach_no_terminal(cli: Cli) -> None:
    cli.done("tasks", "create", "a\x1b[31mred\nsecond \u202eline", "--instructions", "x\x1b]0;y\x07")
    for args in (["tasks", "list"], ["tasks", "show", "1"]):
        assert "\x1b" not in cli.done(*args)
    assert "a\\x1b[31mred second \\u202eline" in cli.done("tasks", "list")
    assert cli.json("tasks", "show", "1")["task"]["title"] == "a\x1b[31mred\nsecond \u202eline"


def test_a_pipe_gets_whole_ids_and_names_and_no_colours(cli: Cli) -> None:
    cli.done("tasks", "create", "long " * 60, "--queue", "q" * 100, "--type", "t" * 100)
    listed = cli.process("tasks", "list", FORCE_COLOR="1", COLUMNS="20").stdout
    (row,) = listed.splitlines()[1:]
    assert "\x1b" not in listed
    assert row.split()[:5] == ["T-1", "ready", "medium", "q" * 100, "t" * 100]


def test_people_read_times_in_the_zone_of_the_settings_and_programs_in_utc(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKQUEUE_ZONE", "Asia/Tokyo")
    cli.done("tasks", "create", "x", "--run-at", "2031-05-01T08:00")
    assert "2031-05-01 08:00:00" in cli.done("tasks", "list")
    assert cli.json("tasks", "list")["tasks"][0]["run_at"] == "2031-04-30T23:00:00.000Z"


def test_the_options_may_stand_before_the_command_and_the_nearest_one_wins(cli: Cli) -> None:
    other = f"sqlite:///{cli.folder / 'other.db'}"
    cli.done("--database", other, "tasks", "create", "there")
    found = cli.done("--format", "json", "tasks", "--database", cli.url, "list", "--database", other)
    assert [task["title"] for task in json.loads(found)["tasks"]] == ["there"]
    assert cli.json("tasks", "list")["count"] == 0


def test_help_is_there_for_every_command(cli: Cli) -> None:
    def walk(*path: str) -> Iterator[tuple[str, ...]]:
        yield path
        text = cli.done(*path, "--help")
        _, _, listed = text.partition("\nCommands:\n")
        for line in listed.splitlines():
            if line.startswith("  ") and line[2] != " ":
                yield from walk(*path, line.split()[0])

    found = {" ".join(path) for path in walk()}
    assert {"serve", "stdio", "worker", "demo", "doctor", "backup", "restore", "tasks search", "schedules history",
            "templates show", "sops check", "tokens revoke", "queues drain"} <= found  # fmt: skip
    assert cli.done("--version") == f"taskqueue-mcp {__version__}\n"


def test_the_command_line_starts_without_the_packages_it_may_not_need(cli: Cli) -> None:
    code = "import sys, taskqueue_mcp.cli.running; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"mcp", "starlette", "uvicorn", "rich", "pydantic", "sqlite_utils"}.isdisjoint(loaded)


# --- real processes ------------------------------------------------------------------------------------------------


def test_a_process_answers_on_stdout_says_why_not_on_stderr_and_exits_with_a_code(cli: Cli) -> None:
    done = cli.process("tasks", "create", "Grüße 🎉", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["task"]["title"], done.stderr) == (0, "Grüße 🎉", "")
    refused = cli.process("tasks", "cancel", "99", "--format", "json")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    misused = cli.process("tasks", "cancel")
    assert (misused.returncode, misused.stdout, misused.stderr.count("\n")) == (2, "", 1)


async def test_a_command_works_on_the_database_of_a_running_server_and_wakes_it(cli: Cli) -> None:
    async with cli.opened() as opened:
        parked = asyncio.create_task(opened.queue.claim_when_ready(WORKER, ClaimRequest(worker="w"), 50))
        async with process(cli, "tasks", "create", "From outside", "--wait", "50") as waiting:
            claim = await parked
            assert claim is not None
            assert claim.task.title == "From outside"
            await opened.queue.complete(WORKER, Completion(claim.lease, "finished beside it"))
            out, err = await waiting.communicate()
    assert (waiting.returncode, err) == (0, b"")
    assert out.decode() == "T-1 ready: From outside\nT-1 completed: From outside\nfinished beside it\n"


async def test_watching_prints_progress_as_it_comes_and_ends_with_the_task(cli: Cli) -> None:
    cli.process("tasks", "create", "Long")
    async with cli.opened() as opened, process(cli, "tasks", "watch", "1") as watching:
        assert watching.stdout is not None
        assert b"created by owner" in await watching.stdout.readline()
        claim = await opened.queue.claim(WORKER, ClaimRequest(worker="w"))
        assert claim is not None
        assert b"claimed by worker-1 (attempt 1)" in await watching.stdout.readline()
        await opened.queue.update(WORKER, Update(claim.lease, progress=50, message="half way"))
        assert b"progress 50, message half way" in await watching.stdout.readline()
        await opened.queue.fail(WORKER, Failure(claim.lease, "broke", "permanent"))
        out, _ = await watching.communicate()
    assert out.decode().splitlines()[-2:] == ["T-1 failed: Long", "broke"]
    assert watching.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for children")
async def test_watching_is_interrupted_cleanly(cli: Cli) -> None:
    cli.process("tasks", "create", "Long")
    async with process(cli, "tasks", "watch", "1") as watching:
        assert watching.stdout is not None
        await watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        out, err = await watching.communicate()
    assert (watching.returncode, out, err.strip()) == (130, b"", b"")


async def test_every_command_for_tasks_and_schedules_works_against_a_server(cli: Cli) -> None:
    async with process(cli, "serve", "--port", "0") as server:
        assert server.stderr is not None
        serving = (await server.stderr.readline()).decode()
        url = serving.split(" serves ")[1].split()[0]
        token = (cli.folder / "queue.db-token").read_text(encoding="utf-8").strip()
        await asyncio.to_thread(against_server, cli, ["--server", url.removesuffix("/mcp"), "--token", token])
        server.terminate()
        await server.communicate()


def against_server(cli: Cli, there: list[str]) -> None:
    made = cli.json("tasks", "create", "Afar", "--param", "n=1", "--tag", "a", "--requires-approval", *there)
    assert made["task"]["status"] == "waiting"
    assert cli.json("tasks", "answer", "1", "approve", *there)["task"]["status"] == "ready"
    assert cli.json("tasks", "show", "1", *there)["task"]["params"] == {"n": 1}
    assert [task["id"] for task in cli.json("tasks", "list", "--tag", "a", *there)["tasks"]] == ["T-1"]
    assert cli.json("tasks", "search", "afar", *there)["count"] == 1
    assert cli.json("tasks", "ready", *there)["count"] == 1
    cli.beside(fail)
    found = cli.json("tasks", "show", "1", "--events", "--log", *there)
    assert found["log"] == "line one\nline two\n"
    assert [event["event"] for event in found["events"]][-1] == "failed"
    watched = cli("tasks", "watch", "1", *there)
    assert (watched.exit_code, watched.stdout.splitlines()[-2:]) == (1, ["T-1 failed: Afar", "no such table"])
    assert cli.json("tasks", "retry", "1", *there)["task"]["status"] == "ready"
    assert cli.json("tasks", "cancel", "1", *there)["task"]["status"] == "cancelled"
    assert cli("tasks", "create", "Slow", "--wait", "0.1", *there).exit_code == 1
    planned = cli.json("schedules", "create", "s", "@daily", "--timezone", "Asia/Tokyo", *there)
    assert (planned["created"], len(planned["next_runs"])) == (True, 5)
    assert cli.json("schedules", "preview", "s", "--count", "2", *there)["next_runs"] == planned["next_runs"][:2]
    assert cli.json("schedules", "pause", "s", *there)["schedule"]["enabled"] is False
    assert cli.json("schedules", "resume", "s", *there)["schedule"]["enabled"] is True
    assert cli.json("schedules", "run", "s", *there)["task"]["title"] == "s"
    assert cli.json("schedules", "history", "s", *there)["count"] == 0
    assert cli.json("schedules", "list", *there)["count"] == 1
    assert cli.json("schedules", "delete", "s", *there)["deleted"] is True
    for args, code, said in [
        (("tasks", "show", "99"), 1, "no task T-99"),
        (("schedules", "create", "s", "bogus"), 1, "cron"),
        (("schedules", "create", "s", "@daily", "--grace", "5"), 2, "--grace"),
        (("schedules", "preview", "none", "--count", "6"), 2, "--database"),
    ]:
        found_code, line = cli.refused(*args, *there)
        assert (found_code, said in line) == (code, True), line
    code, line = cli.refused("tasks", "list", *there, "--token", "tq_another-one-that-is-wrong")
    assert (code, "tokens create" in line) == (1, True)


@contextlib.asynccontextmanager
async def process(cli: Cli, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command in a process of its own, which is gone at the end."""
    started = await asyncio.create_subprocess_exec(
        *COMMAND, *args, env=cli.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
