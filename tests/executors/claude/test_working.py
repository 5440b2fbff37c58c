"""A session from its prompt to its result, by the real Claude Code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from taskqueue_mcp.model import Completed
from taskqueue_mcp.sample.scripted_model import Call, Say

if TYPE_CHECKING:
    from pathlib import Path

    from tests.executors.claude.conftest import Play
    from tests.executors.conftest import MakeRun


async def test_claude_writes_a_file_with_its_own_tools_and_it_is_delivered(
    make_run: MakeRun, play: Play, log: list[str], tmp_path: Path
) -> None:
    run = make_run(
        title="Write the report",
        instructions="Two lines.",
        task={"output": {"path": "reports", "filename_pattern": "Weekly_{date}.md"}},
    )
    outcome = await play(
        run,
        Call(
            "Write",
            {
                "file_path": str(run.directory / "work" / "Weekly_2026-11-20.md"),
                "content": "# Weekly\n\nAll is well.\n",
            },
        ),
        Say("The report is written."),
    )

    assert isinstance(outcome, Completed), outcome
    assert outcome.summary == "The report is written."
    assert outcome.path == "reports/Weekly_2026-11-20.md"
    assert (tmp_path / "out/reports/Weekly_2026-11-20.md").read_text() == "# Weekly\n\nAll is well.\n"
    assert outcome.usage["turns"] == 2
    assert "The report is written.\n" in "".join(log)
    (transcript,) = (tmp_path / "out").rglob("transcript-1.jsonl")
    first, *_, last = (json.loads(line) for line in transcript.read_text().splitlines())
    assert "Two lines." in first["message"]["content"][0]["text"]
    assert (last["type"], last["result"]) == ("result", "The report is written.")
