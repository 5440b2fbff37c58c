"""Arguments that would be options, files or commands to something that reads them."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.model import Completed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.conftest import MakeRun

ARGUMENTS = [
    "-", "--", "--help", "--version", "--dangerously-skip-permissions", "-rf", "@/etc/passwd", "$(id)", "`id`", "; id",
    "| id", "&& id", "> out", "%n%n", "*", "~", "{a,b}", "a\nb", "a\tb", "a b", "'", '"', "\\", "", " ", "!!", "#", "é",
    "\u202egnp.exe", "x" * 100_000,
]  # fmt: skip


async def test_a_command_gets_its_arguments_as_they_are_and_no_shell_reads_them(
    make_run: MakeRun, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.json"
    program = tmp_path / "program"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    program.chmod(0o700)
    shell = Shell(allow=[str(program)])
    for arguments in (ARGUMENTS, *([each] for each in ARGUMENTS)):
        params = validate_params(shell, {"argv": [str(program), *arguments]})
        outcome = await shell.run(params, make_run())
        assert isinstance(outcome, Completed), (arguments, outcome)
        assert json.loads(seen.read_text(encoding="utf-8")) == arguments
    for wrong in ("a\0b", "\ud800"):
        with pytest.raises(InvalidInput):
            validate_params(shell, {"argv": [str(program), wrong]})
    for command in ("sh", "/bin/sh", "../program", "program; id", "", str(program) + " "):
        with contextlib.suppress(InvalidInput):
            outcome = await shell.run(validate_params(shell, {"argv": [command, "-c", "id"]}), make_run())
            assert not isinstance(outcome, Completed), command
