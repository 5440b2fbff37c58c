"""Commands: only those allowed, their arguments untouched, their processes gone when they are over."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.captured import Captured
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun

PYTHON = sys.executable


async def shell(run: Run, argv: list[str], *, executor: Shell | None = None, **params: Any) -> Outcome:
    executor = executor or Shell(allow=["sh", "cat", "sleep", "env", PYTHON])
    with anyio.fail_after(30):
        return await executor.run(validate_params(executor, {"argv": argv, **params}), run)


async def completed(run: Run, argv: list[str], **given: Any) -> Completed:
    outcome = await shell(run, argv, **given)
    assert isinstance(outcome, Completed), outcome
    return outcome


async def failed(run: Run, argv: list[str], **given: Any) -> Failed:
    outcome = await shell(run, argv, **given)
    assert isinstance(outcome, Failed), outcome
    return outcome


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def dies(pid: int) -> None:
    await eventually(lambda: not is_alive(pid))


async def pid_in(path: Path) -> int:
    """The number that a process has written to a file, once its line is whole."""

    def written() -> str:
        return path.read_text() if path.exists() else ""

    await eventually(lambda: written().endswith("\n"))
    return int(written())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_command_completes_with_its_last_line_and_its_output(make_run: MakeRun, log: list[str]) -> None:
    outcome = await completed(make_run(), ["sh", "-c", "echo one; echo two; echo; echo note >&2"])

    assert outcome.summary == "two"
    assert outcome.data["exit_code"] == 0
    assert outcome.data["stdout"] == "one\ntwo\n\n"
    assert outcome.data["stderr"] == "note\n"
    assert 0 < outcome.data["duration_seconds"] < 10
    assert sorted("".join(log[1:]).split()) == ["note", "one", "two"]


async def test_a_silent_command_completes_with_its_exit_code(make_run: MakeRun) -> None:
    assert (await completed(make_run(), ["sh", "-c", "true"])).summary == "exit 0"


async def test_a_failure_has_the_exit_code_and_the_last_lines_of_its_errors(make_run: MakeRun) -> None:
    outcome = await failed(make_run(), ["sh", "-c", "seq 1 9 >&2; echo out; exit 3"])

    assert outcome.error == "exit 3\n5\n6\n7\n8\n9"
    assert not outcome.permanent


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM"])
async def test_a_command_that_a_signal_ends_says_which(make_run: MakeRun, name: str) -> None:
    assert (await failed(make_run(), ["sh", "-c", f"kill -{name} $$"])).error == f"killed by SIG{name}"


HOSTILE = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "| cat",
    "&& true",
    "> /tmp/evil",
    "-rf",
    "--help",
    "--",
    "@file",
    "",
    " ",
    "*",
    "~",
    "$HOME",
    "${IFS}",
    "line\nbreak",
    "tab\there",
    "quote'\"",
    "back\\slash",
    "ünï",
    "\u202e",
    "%s%n",
    "x" * 100_000,
]


async def test_arguments_arrive_untouched(make_run: MakeRun, tmp_path: Path) -> None:
    code = "import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))"
    seen = tmp_path / "seen.json"

    await completed(make_run(), [PYTHON, "-c", code, str(seen), *HOSTILE])

    assert json.loads(seen.read_text()) == [str(seen), *HOSTILE]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"argv": []}, "argv"),
        ({}, "argv is missing"),
        ({"argv": "ls -l"}, "argv: input should be a valid list"),
        ({"argv": ["ls", "a\0b"]}, "argv.1: holds a NUL character"),
        ({"argv": ["ls", "a\ud800"]}, "argv.1: holds half a surrogate pair"),
        ({"argv": ["ls"], "shell": True}, "shell is unknown; it takes argv, stdin, env, cwd"),
    ],
)
def test_what_is_no_argument_vector_is_refused(raw: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_params(Shell(), raw)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "command",
    ["ls", "/bin/ls", "./sh", "../bin/sh", "SH", "sh ", "", "sh -c", "/usr/bin/../bin/sh", "/proc/self/exe"],
)
async def test_a_command_that_is_not_allowed_is_refused_for_good(make_run: MakeRun, command: str) -> None:
    outcome = await failed(make_run(), [command], executor=Shell(allow=["sh", "cat"]))

    assert outcome == Failed(f"the command {command!a} is not allowed; allowed are sh, cat", permanent=True)


async def test_without_a_list_no_command_is_allowed(make_run: MakeRun) -> None:
    outcome = await failed(make_run(), ["true"], executor=Shell())

    assert outcome.error.endswith("allowed are none; the owner lists them in the settings")
    assert outcome.permanent


async def test_a_bare_name_means_the_file_that_it_meant_at_the_start(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("path", "work"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cat").write_text("#!/bin/sh\necho evil\n")
        (tmp_path / folder / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:.")
    monkeypatch.chdir(tmp_path / "work")

    assert (await completed(make_run(), ["cat"], stdin="good", executor=Shell(allow=["cat"]))).summary == "good"


def test_a_list_that_cannot_work_stops_the_program_with_all_its_faults() -> None:
    with pytest.raises(SettingsRefused) as refused:
        Shell(allow=["sh", "no-such-command", "./x", "/no/such", "/etc/passwd", ""])

    for entry in ("'no-such-command'", "'./x'", "'/no/such'", "'/etc/passwd'", "''"):
        assert entry in str(refused.value)
    assert "'sh'" not in str(refused.value)


async def test_the_environment_is_clean(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "canary")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("TZ", "UTC")
    executor = Shell(allow=["env"], env_names=["REPORT"])

    outcome = await completed(make_run(), ["env"], env={"REPORT": "weekly"}, executor=executor)

    seen = dict(line.split("=", 1) for line in outcome.data["stdout"].splitlines())
    assert set(seen) <= {
        "PATH",
        "HOME",
        "LANG",
        "LC_TIME",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "REPORT",
        "TASKQUEUE_ATTEMPT",
    }
    assert seen["TASKQUEUE_ATTEMPT"] == "T-142:1"
    assert (seen["REPORT"], seen["LC_TIME"], seen["PATH"]) == ("weekly", "C", "/usr/local/bin:/usr/bin:/bin")


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "report", "A=B", ""])
async def test_a_variable_that_is_not_allowed_is_refused_for_good(make_run: MakeRun, name: str) -> None:
    executor = Shell(allow=["env"], env_names=["REPORT"])

    outcome = await failed(make_run(), ["env"], env={name: "x"}, executor=executor)

    assert outcome == Failed(f"the variable {name!a} may not be set; allowed are REPORT", permanent=True)


async def test_a_command_works_in_a_private_directory_or_inside_the_allowed_folder(
    make_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "repo/src").mkdir(parents=True)
    run = make_run()
    executor = Shell(allow=["sh"], folder=tmp_path / "repo")

    places = [
        (await completed(run, ["sh", "-c", "pwd -P"], executor=executor, **where)).summary
        for where in ({}, {"cwd": "."}, {"cwd": "src"})
    ]

    assert places == [str(run.directory), str(tmp_path / "repo"), str(tmp_path / "repo/src")]


@pytest.mark.parametrize("cwd", ["..", "../repo-evil", "/", "/etc", "src/../..", "out", "none", "a\0b", "file"])
async def test_no_working_folder_lies_outside_the_allowed_one(make_run: MakeRun, tmp_path: Path, cwd: str) -> None:
    (tmp_path / "repo/src").mkdir(parents=True)
    (tmp_path / "repo-evil").mkdir()
    (tmp_path / "repo/out").symlink_to(tmp_path)
    (tmp_path / "repo/file").write_text("")

    outcome = await failed(make_run(), ["sh"], cwd=cwd, executor=Shell(allow=["sh"], folder=tmp_path / "repo"))

    assert outcome.permanent
    assert outcome.error.startswith("cwd ")
    assert str(tmp_path) not in outcome.error


async def test_a_working_folder_needs_the_owners_leave(make_run: MakeRun) -> None:
    assert "the owner has set no folder" in (await failed(make_run(), ["sh"], cwd=".")).error


async def test_text_is_read_from_stdin_and_there_is_none_by_default(make_run: MakeRun) -> None:
    text = "äöü\n" * 300_000

    assert (await completed(make_run(), ["cat"])).data["stdout"] == ""
    counted = await completed(make_run(), [PYTHON, "-c", "import sys; print(len(sys.stdin.buffer.read()))"], stdin=text)
    unread = await completed(make_run(), ["sh", "-c", "echo done"], stdin=text)
    assert counted.summary == str(len(text.encode()))
    assert unread.summary == "done"


async def test_a_command_that_cannot_be_started_fails_for_good(make_run: MakeRun, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter line")
    script.chmod(0o755)
    executor = Shell(allow=[str(script), "sh"])

    broken = await failed(make_run(), [str(script)], executor=executor)
    too_much = await failed(make_run(), ["sh", "x" * 5_000_000], executor=executor)

    assert "could not be started: exec format error" in broken.error
    assert "could not be started: argument list too long" in too_much.error
    assert broken.permanent
    assert too_much.permanent


async def test_a_flood_is_bounded_with_head_and_tail_kept(make_run: MakeRun, log: list[str]) -> None:
    code = "import sys\nprint('HEAD')\nfor _ in range(2000): sys.stdout.write('x' * 50_000)\nprint('\\nTAIL')"
    executor = Shell(allow=[PYTHON], max_output_bytes=20_000)

    outcome = await completed(make_run(), [PYTHON, "-c", code], executor=executor)

    assert outcome.summary == "TAIL"
    assert outcome.data["stdout"].startswith("HEAD\n")
    assert outcome.data["stdout"].endswith("TAIL\n")
    assert "bytes left out …" in outcome.data["stdout"]
    assert len(outcome.data["stdout"]) < 8_192 + 100
    assert sum(map(len, log)) < 20_000 + 100
    assert log[-1] == "\n… more output is not logged …\n"


async def test_output_is_logged_while_the_command_runs(make_run: MakeRun, log: list[str], tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = make_run()
    async with anyio.create_task_group() as group:
        group.start_soon(
            completed, run, ["sh", "-c", f"echo early; while [ ! -e {go} ]; do sleep 0.01; done; echo late"]
        )
        await eventually(lambda: "early\n" in log)
        assert "late\n" not in log
        go.write_text("")
    assert log[-1] == "late\n"


async def test_a_command_that_takes_too_long_is_ended_and_may_be_tried_again(make_run: MakeRun) -> None:
    started = time.monotonic()
    outcome = await failed(make_run(timeout_seconds=1), ["sh", "-c", "echo waiting >&2; sleep 60"])

    assert outcome.error == "timed out after 1 s; give it longer with timeout_seconds\nwaiting"
    assert not outcome.permanent
    assert time.monotonic() - started < 3


async def test_a_command_that_ignores_the_signal_to_end_is_killed_two_seconds_later(
    make_run: MakeRun, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()) + '\\n')\ntime.sleep(60)"
    )
    started = time.monotonic()
    outcome = await failed(make_run(timeout_seconds=1), [PYTHON, "-c", code])

    assert outcome.error.startswith("timed out")
    assert 3 <= time.monotonic() - started < 5
    assert not is_alive(await pid_in(pid_file))


async def test_a_command_may_tidy_up_when_it_is_told_to_end(make_run: MakeRun, log: list[str]) -> None:
    run = make_run(timeout_seconds=1)
    await failed(run, ["sh", "-c", "trap 'echo tidied; exit' TERM; echo on; sleep 60 & wait"])

    assert "tidied\n" in log


async def test_being_told_to_stop_ends_the_command_at_once_and_costs_no_failure(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    outcomes: list[Outcome] = []

    async def carry_out() -> None:
        outcomes.append(await shell(run, ["sh", "-c", f"echo $$ > {tmp_path / 'pid'}; sleep 60 & wait"]))

    async with anyio.create_task_group() as group:
        group.start_soon(carry_out)
        pid = await pid_in(tmp_path / "pid")
        told = time.monotonic()
        run.stop.set()
    assert time.monotonic() - told < 1
    assert outcomes == [Returned(None, "stopped before the command was over")]
    assert not is_alive(pid)


async def test_children_of_a_command_end_with_it(make_run: MakeRun, tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path / 'pid'}; echo done"

    outcome = await completed(make_run(), ["sh", "-c", script])

    assert outcome.summary == "done"
    await dies(await pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("deaf", [False, True])
async def test_grandchildren_end_when_the_time_is_over(make_run: MakeRun, tmp_path: Path, deaf: bool) -> None:
    trap = "trap '' TERM; " if deaf else ""
    script = f"sh -c \"{trap}sh -c '{trap}echo \\$\\$ > {tmp_path / 'pid'}; sleep 60; true'; true\"; true"

    await failed(make_run(timeout_seconds=1), ["sh", "-c", script])

    await dies(await pid_in(tmp_path / "pid"))


async def test_a_grandchild_that_left_the_group_holds_nobody_up(make_run: MakeRun, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        f"    open({str(pid_file)!r}, 'w').write(str(os.getpid()) + '\\n')\n    time.sleep(60)\n"
        f"while not os.path.exists({str(pid_file)!r}): time.sleep(0.01)\nprint('left')"
    )
    started = time.monotonic()
    outcome = await completed(make_run(), [PYTHON, "-c", code])
    pid = await pid_in(pid_file)
    try:
        assert outcome.summary == "left"
        assert time.monotonic() - started < 5
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_cancelling_the_attempt_kills_its_processes(make_run: MakeRun, tmp_path: Path) -> None:
    with anyio.move_on_after(10) as scope:
        async with anyio.create_task_group() as group:
            script = f"echo $$ > {tmp_path / 'pid'}; sleep 60; true"
            group.start_soon(shell, make_run(), ["sh", "-c", script])
            pid = await pid_in(tmp_path / "pid")
            scope.cancel()
    assert scope.cancelled_caught
    assert not is_alive(pid)


async def test_no_descriptor_of_ours_reaches_a_command_and_none_is_left_behind(
    make_run: MakeRun, tmp_path: Path
) -> None:
    secret, inheritable = (tmp_path / "secret").open("w"), True
    os.set_inheritable(secret.fileno(), inheritable)
    with secret:
        before = descriptors()
        outcome = await completed(
            make_run(), [PYTHON, "-c", "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])"]
        )
        assert outcome.summary == "['0', '1', '2']"
        assert descriptors() == before


async def test_many_commands_run_at_once(make_run: MakeRun) -> None:
    run = make_run()
    started = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(completed, run, ["sleep", "1"])
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_commands_run_on_uvloop_too(make_run: MakeRun) -> None:
    assert (await completed(make_run(), ["sh", "-c", "echo hello"])).summary == "hello"
    assert (await failed(make_run(timeout_seconds=1), ["sh", "-c", "sleep 60"])).error.startswith("timed out")


# What is kept.


def test_bytes_are_decoded_across_chunks_and_lines_passed_on_whole() -> None:
    said: list[str] = []
    captured = Captured(1_000, said.append)

    for byte in "äö\nü€".encode() + b"\xff":
        captured.feed(bytes([byte]))
    captured.close()

    assert said == ["äö\n", "ü€\ufffd\n"]
    assert captured.text() == "äö\nü€\ufffd"


def test_a_line_without_end_is_passed_on_in_pieces() -> None:
    said: list[str] = []
    captured = Captured(100_000, said.append)
    for _ in range(10):
        captured.feed(b"x" * 5_000)

    assert 4 <= len(said) <= 6


def test_what_is_kept_never_grows_beyond_its_bound() -> None:
    captured = Captured(1_000, lambda _: None)
    for number in range(10_000):
        captured.feed(f"{number:09}\n".encode())

    text = captured.text()
    assert text.startswith("000000000\n000000001\n")
    assert text.endswith("000009999\n")
    assert "… 99,000 bytes left out …" in text
    assert len(text) < 1_100
    assert captured.text(100).count("\n") < 16
    assert captured.last_lines(2) == ["000009998", "000009999"]


def test_what_fits_is_kept_whole() -> None:
    captured = Captured(10, lambda _: None)
    captured.feed(b"0123456789")

    assert captured.text() == captured.text(100) == "0123456789"
    assert captured.text(4) == "01\n… 6 bytes left out …\n89"
