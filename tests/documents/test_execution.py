"""The report of an execution: everything that was told of it, and of a session every message and tool call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskqueue_mcp.outputs.documents import execution, transcript
from tests.documents.conftest import HOSTILE

TASK: dict[str, Any] = {
    "id": "T-142",
    "title": f"Health {HOSTILE}",
    "task_type": "monitoring",
    "status": "completed",
    "verdict": "verified",
    "attempt": 2,
    "created_by": "gemini",
    "requested_by": "ann",
    "created_at": "2026-11-20T07:00:00.000Z",
    "finished_at": "2026-11-20T07:10:00.000Z",
    "instructions": f"Check nginx {HOSTILE}",
    "params": {"service": HOSTILE},
    "result_summary": "All healthy",
    "result_data": {"uptime": 99.9},
    "attempts": [
        {
            "attempt": 1,
            "by": "w",
            "claimed_at": "2026-11-20T07:01:00.000Z",
            "outcome": "failed",
            "seconds": 60.5,
            "error": HOSTILE,
            "usage": {"cost_usd": 0.01, "tokens": 100, "turns": 2, "session_id": "s-1"},
        },
        {
            "attempt": 2,
            "by": "w",
            "claimed_at": "2026-11-20T07:05:00.000Z",
            "outcome": "completed",
            "seconds": 1.5,
            "usage": {"cost_usd": 0.0025, "tokens": 50, "turns": 1, "session_id": "s-2"},
            "verdict": {"status": "rejected", "reasons": [f"no rows {HOSTILE}"]},
        },
    ],
    "questions": [{"kind": "question", "question": HOSTILE, "asked_at": "2026-11-20T07:06:00.000Z"}],
    "artifacts": [{"path": f"Reports/{HOSTILE}.html", "attempt": 2, "size": 2048, "sha256": "ab" * 32}],
}
RESULT = {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": [{"type": "text", "text": HOSTILE}]}
LINES = [
    json.dumps({"type": "system", "subtype": "init"}),
    json.dumps({"type": "user", "message": {"content": "Check it"}}),
    json.dumps({
        "type": "assistant",
        "message": {
            "content": [
                {"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "a", "name": "Bash", "input": {"command": f"echo {HOSTILE}"}},
            ]
        },
    }),
    json.dumps({"type": "user", "message": {"content": [RESULT]}}),
]  # fmt: skip


EVENT = {"seq": 1, "at": "2026-11-20T07:00:00.000Z", "event": "created", "by": "gemini", "data": {"x": HOSTILE}}


def told(**more: Any) -> dict[str, Any]:
    return execution.content(
        TASK | more,
        events=[EVENT],
        log=f"line {HOSTILE}",
        transcripts={2: LINES},
        made_at="2026-11-20T08:00:00+00:00",
    )


def test_the_report_as_json_has_the_record_that_programs_ask_for() -> None:
    found = json.loads(execution.written(told(), "json"))

    assert (found["task_id"], found["execution_id"], found["session_id"]) == ("T-142", "T-142:2", "s-2")
    assert found["summary"] == {
        "total_attempts": 2,
        "total_messages": 2,
        "total_tool_calls": 1,
        "duration_ms": 62_000,
        "cost_usd": 0.0125,
        "tokens": 150,
        "turns": 3,
    }
    assert [each["execution_id"] for each in found["executions"]] == ["T-142:1", "T-142:2"]
    assert [(each["who"], each["text"]) for each in found["messages"]] == [
        ("user", "Check it"),
        ("agent", "I will look."),
    ]
    (call,) = found["tool_calls"]
    assert (call["tool"], call["attempt"], call["is_error"], call["result"]) == ("Bash", 2, True, HOSTILE)
    assert found["log"] == f"line {HOSTILE}"


def test_a_page_of_it_tells_what_was_asked_done_said_spent_and_found() -> None:
    page = execution.written(told(), "html", zone="Europe/Berlin").decode()

    for words in (
        "Report of T-142",
        "gemini for ann",
        "2026-11-20 08:00:00",  # created, by the clock of Berlin
        "$ 0.0125",
        "1 min 2 s",
        "All healthy",
        "99.9",
        "verified",
        "rejected",
        "• no rows",
        "2.0 KiB",
        "I will look.",
        "<b>Bash</b>",
        "tool call",
    ):
        assert words in page, words


def test_nothing_of_it_is_ever_more_than_text() -> None:
    page = execution.written(told(), "html").decode()

    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10
    assert "default-src 'none'" in page


def test_the_rows_of_a_result_are_a_table_and_the_rest_of_it_is_short() -> None:
    data = {
        "rows": 2,
        "columns": ["sku", "units"],
        "preview": [{"sku": HOSTILE, "units": 3}, {"sku": "B", "units": None}],
        "figures": {"Units sold": "3"},
        "artifacts": [{"path": "not-twice.csv"}],
        "sheets": [{"name": "S", "columns": ["sku", "units"]}],
    }

    page = execution.written(told(result_data=data), "html").decode()

    assert "<th>sku</th><th>units</th>" in page
    assert '<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td class="number">3</td>' in page
    assert "<dt>Units sold</dt><dd>3</dd>" in page
    assert "not-twice.csv" not in page
    assert (
        "{&#34;sheets&#34;: [{&#34;name&#34;: &#34;S&#34;, &#34;columns&#34;: [&#34;sku&#34;, &#34;units&#34;]}]}"
        in page
    )


@pytest.mark.parametrize("data", ["text", 5, [1, 2], {"preview": "no"}, {"preview": [1]}, {"preview": []}, {}, None])
def test_a_result_of_any_form_is_told(data: Any) -> None:
    assert "What came of it" in execution.written(told(result_data=data), "html").decode()


@pytest.mark.parametrize("status", ["pending", "ready", "in_progress", "waiting", "failed", "cancelled"])
def test_a_task_of_any_status_has_a_report(status: str) -> None:
    bare = {"id": "T-1", "title": "T", "task_type": "note", "status": status, "attempt": 0}

    page = execution.written(execution.content(bare), "html").decode()

    assert "Nothing yet." in page
    assert "Nobody has claimed it yet." in page


def test_a_log_without_end_is_cut_on_the_page_and_whole_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "LONGEST_LOG", 4)

    assert (
        f"{len(f'line {HOSTILE}') - 4} more characters are in the report as json."
        in execution.written(told(), "html").decode()
    )
    assert json.loads(execution.written(told(), "json"))["log"] == f"line {HOSTILE}"


@pytest.mark.parametrize(
    "line",
    ["", "rubbish", "[]", "1", '{"type": "assistant"}', '{"type": "assistant", "message": 5}', "[" * 100_000,
     '{"type": "user", "message": {"content": [5, {"type": "tool_result", "tool_use_id": "none"}]}}'],
)  # fmt: skip
def test_a_line_that_is_no_message_is_passed_over(line: str) -> None:
    messages, calls = transcript.read([line, *LINES])

    assert (len(messages), len(calls)) == (2, 1)
