"""The twelve tools as a model meets them, in both protocol eras and by the short way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from inline_snapshot import snapshot

from taskqueue_mcp.model import Scope

if TYPE_CHECKING:
    from tests.mcp_surface.conftest import Agent


MOST_CHARACTERS = 12_000
GEMINI_KEYWORDS = {"type", "description", "properties", "items", "enum", "required"}


async def listed(agent: Agent) -> list[dict[str, Any]]:
    found = await agent.client.list_tools()
    assert found.next_cursor is None
    return [tool.model_dump(by_alias=True, exclude_none=True) for tool in found.tools]


async def test_the_whole_tool_list_stays_within_its_budget_and_is_the_same_bytes_every_time(connect: Any) -> None:
    async with connect() as agent:
        first, second = await listed(agent), await listed(agent)
    assert json.dumps(first) == json.dumps(second)
    assert len(json.dumps({"tools": first})) <= MOST_CHARACTERS
    assert not any("outputSchema" in tool for tool in first)


async def test_the_tools_and_their_arguments_have_the_names_that_others_rely_on(connect: Any) -> None:
    async with connect() as agent:
        tools = await listed(agent)
    names = {tool["name"]: " ".join(tool["inputSchema"]["properties"]) for tool in tools}
    assert names == snapshot(
        {
            "create_task": (
                "title instructions task_type params sop template variables queue priority run_at depends_on tags "
                "idempotency_key requires_approval requested_by lease options"
            ),
            "schedule_task": (
                "name cron instructions task_type params sop template variables queue priority timezone misfire "
                "overlap enabled title options"
            ),
            "list_tasks": "status task_type queue tag search created_by limit cursor",
            "cancel_task": "task_id reason",
            "manage_schedule": "action name",
            "answer_task": "task_id action answer",
            "list_ready": "queue task_type limit cursor",
            "claim_task": "worker task_id queues task_types wait_seconds lease_seconds claim_id cursor",
            "update_task": "lease progress message log artifact question extend_seconds usage seq",
            "complete_task": "lease result_summary result_path result_data artifacts usage evidence",
            "fail_task": "lease error_log kind resume_at usage",
            "get_task": "task_id wait_seconds detail cursor",
        }
    )


async def test_every_input_is_flat_and_made_of_words_that_gemini_knows(connect: Any) -> None:
    async with connect() as agent:
        tools = await listed(agent)
    for tool in tools:
        assert set(tool["inputSchema"]) <= GEMINI_KEYWORDS, tool["name"]
        for name, field in tool["inputSchema"]["properties"].items():
            assert set(field) <= GEMINI_KEYWORDS, (tool["name"], name)
            assert field["type"] in {"string", "integer", "number", "boolean", "array"}, (tool["name"], name)
            assert field["type"] != "array" or field["items"] == {"type": "string"}


async def test_readers_are_marked_as_such_and_what_destroys_is_marked_too(connect: Any) -> None:
    async with connect() as agent:
        tools = {tool["name"]: tool["annotations"] for tool in await listed(agent)}
    assert {name for name, said in tools.items() if said.get("readOnlyHint")} == {
        "list_tasks",
        "list_ready",
        "get_task",
    }
    assert {name for name, said in tools.items() if said.get("destructiveHint")} == {"cancel_task", "manage_schedule"}
    assert all(said["openWorldHint"] is False for said in tools.values())


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (Scope.ENQUEUE, "create_task schedule_task list_tasks cancel_task manage_schedule get_task"),
        (Scope.WORK, "create_task list_ready claim_task update_task complete_task fail_task get_task"),
        (Scope.ANSWER, "list_tasks answer_task get_task"),
    ],
)
async def test_a_caller_sees_the_tools_of_its_scopes(connect: Any, scope: Scope, names: str) -> None:
    async with connect(scope) as agent:
        assert " ".join(tool["name"] for tool in await listed(agent)) == names


async def test_a_tool_that_is_not_shown_is_refused_when_called_all_the_same(connect: Any) -> None:
    async with connect(Scope.ENQUEUE) as agent:
        code, line = await agent.refused("claim_task")
    assert code == "forbidden"
    assert "scope work" in line


async def test_a_task_goes_from_one_model_to_the_other_and_its_result_comes_back(connect: Any) -> None:
    async with connect(Scope.ENQUEUE, name="gemini") as gemini, connect(Scope.WORK) as claude:
        made = await gemini.call("create_task", title="Count", params={"shelf": 3}, idempotency_key="k1")
        again = await gemini.call("create_task", title="Count", params={"shelf": 3}, idempotency_key="k1")
        assert (made["created"], again["created"]) == (True, False)
        assert made["task"]["id"] == again["task"]["id"]
        claim = await claude.call("claim_task", worker="c1", wait_seconds=1)
        assert next(iter(claim)) == "lease"
        assert set(claim) >= {"lease", "lease_expires_at", "task", "procedure", "earlier_attempts", "inputs"}
        assert claim["task"]["params"] == {"shelf": 3}
        assert (await claude.call("update_task", lease=claim["lease"], progress=40))["stop"] is False
        done = await claude.call("complete_task", lease=claim["lease"], result_data={"count": 7}, result_summary="7")
        assert done["task"]["status"] == "completed"
        seen = await gemini.call("get_task", task_id=made["task"]["id"], wait_seconds=5)
    assert seen["task"]["result_data"] == {"count": 7}
    fields = {
        "id",
        "title",
        "task_type",
        "status",
        "priority",
        "queue",
        "attempt",
        "created_by",
        "created_at",
        "run_at",
    }
    assert fields <= set(seen["task"])


async def test_an_empty_claim_gives_a_cursor_so_that_repeated_polls_differ(connect: Any) -> None:
    async with connect() as agent:
        first = await agent.call("claim_task", worker="w")
        second = await agent.call("claim_task", worker="w", cursor=first["cursor"])
    assert first["task"] is None
    assert first["cursor"] != second["cursor"]


async def test_what_clients_add_or_leave_empty_is_taken_as_it_was_meant(connect: Any) -> None:
    async with connect() as agent:
        made = await agent.call(
            "create_task",
            title="Sort",
            wait_for_previous=True,
            queue=None,
            tags="a, b",
            params='{"n": 1}',
            priority=None,
        )
        assert (await agent.call("get_task", task_id=made["task"]["id"].removeprefix("T-")))["task"]["tags"] == [
            "a",
            "b",
        ]
        assert (await agent.call("list_tasks", limit="5"))["count"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "says"),
    [
        ("create_task", {"title": "x", "prio": 3}, "invalid_input", "unknown argument 'prio'"),
        ("create_task", {}, "invalid_input", "title is missing"),
        ("create_task", {"title": "  "}, "invalid_input", "title: is empty"),
        ("create_task", {"title": "x", "params": "{no"}, "invalid_input", "params: is not JSON"),
        ("create_task", {"title": "x", "priority": "now"}, "invalid_input", "low, medium, high, urgent"),
        ("create_task", {"title": "x", "depends_on": ["T-999"]}, "invalid_input", "there is no task T-999"),
        ("create_task", {"title": "x", "sop": "../../etc/passwd"}, "invalid_input", ""),
        ("create_task", {"title": "x", "sop": "none.md"}, "not_found", "none.md"),
        ("create_task", {"title": "nul \0"}, "invalid_input", "NUL"),
        ("create_task", {"title": "x", "run_at": "soon"}, "invalid_input", "ISO 8601"),
        ("create_task", {"title": "x", "options": {"speed": 1}}, "invalid_input", "speed"),
        ("create_task", {"title": "x", "instructions": "a" * 300_000}, "limit_reached", "262,144"),
        ("get_task", {"task_id": "T-999"}, "not_found", "T-999"),
        ("get_task", {"task_id": "yes"}, "invalid_input", "T-142"),
        ("get_task", {"task_id": "T-1", "detail": "all"}, "invalid_input", "summary, full"),
        ("get_task", {"task_id": "T-1", "wait_seconds": "long"}, "invalid_input", "wait_seconds"),
        ("claim_task", {"task_id": "T-999"}, "not_found", "T-999"),
        ("complete_task", {"lease": "please"}, "invalid_input", "lease"),
        ("complete_task", {"lease": "T-1.1." + "a" * 26}, "not_found", "T-1"),
        ("schedule_task", {"name": "s", "cron": "61 * * * *"}, "invalid_input", "cron"),
        ("schedule_task", {"name": "s", "cron": "@daily", "timezone": "Mars/Base"}, "invalid_input", "Mars/Base"),
        ("manage_schedule", {"action": "pause"}, "invalid_input", "name"),
        ("manage_schedule", {"action": "explode"}, "invalid_input", "action"),
        ("list_tasks", {"cursor": "nonsense"}, "invalid_input", "cursor"),
        ("list_tasks", {"limit": 1000}, "invalid_input", "1 to 100"),
        ("answer_task", {"task_id": "T-999", "action": "approve"}, "not_found", "T-999"),
    ],
)
async def test_wrong_input_is_answered_in_a_line_with_a_code(
    connect: Any, tool: str, arguments: dict[str, Any], code: str, says: str
) -> None:
    async with connect() as agent:
        found, line = await agent.refused(tool, **arguments)
        assert (found, says in line) == (code, True), line
        assert (await agent.call("list_tasks"))["count"] == 0


async def test_text_of_any_script_and_a_quarter_of_a_megabyte_comes_back_as_it_went_in(connect: Any) -> None:
    text = ('🧮 naïve — Ελλάδα \u202e\u0007 \\ " {{not a variable}} \r\n' * 4_000)[:200_000]
    while len(text.encode()) > 262_000:
        text = text[:-1_000]
    async with connect() as agent:
        made = await agent.call("create_task", title="Keep", instructions=text)
        pages, cursor = "", None
        while True:
            page = await agent.call("get_task", task_id=made["task"]["id"], detail="instructions", cursor=cursor)
            pages, cursor = pages + page["text"], page["next_cursor"]
            if cursor is None:
                break
    assert pages == text


async def test_a_claim_too_large_for_a_model_is_cut_and_says_where_the_rest_is(connect: Any) -> None:
    async with connect() as agent:
        rows = [{"row": index, "name": "x" * 20} for index in range(2_000)]
        await agent.call("create_task", title="Big", instructions="y" * 50_000, params={"rows": rows})
        claim = await agent.call("claim_task", worker="w")
    assert claim["lease"].startswith("T-1.1.")
    assert "detail='instructions'" in claim["truncated"]["task.instructions"]
    assert "detail='params'" in claim["truncated"]["task.params"]


async def test_a_page_of_long_lines_ends_where_it_is_full_and_goes_on_at_the_cursor(connect: Any) -> None:
    async with connect() as agent:
        for index in range(60):
            await agent.call("create_task", title=f"{index} " + "t" * 290)
        for tool in ("list_tasks", "list_ready"):
            seen: list[str] = []
            cursor = None
            while True:
                page = await agent.call(tool, limit=100, cursor=cursor)
                assert page["count"] == len(page["tasks"])
                seen += [task["id"] for task in page["tasks"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert len(seen) == len(set(seen)) == 60


async def test_a_parked_claim_reports_progress_and_returns_the_task_that_arrives(connect: Any) -> None:
    beats: list[float] = []

    async def beat(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's signature
        beats.append(progress)

    async with connect() as worker, connect() as front, anyio.create_task_group() as group:
        claims: list[dict[str, Any]] = []

        async def park() -> None:
            result = await worker.client.call_tool(
                "claim_task", {"worker": "w", "wait_seconds": 20}, progress_callback=beat
            )
            claims.append(dict(result.structured_content or {}))

        group.start_soon(park)
        with anyio.fail_after(10):
            while not beats:
                await anyio.lowlevel.checkpoint()
            await front.call("create_task", title="Arrive")
            while not claims:
                await anyio.lowlevel.checkpoint()
    assert claims[0]["task"]["title"] == "Arrive"


async def test_a_claim_whose_caller_goes_away_while_parked_takes_nothing(connect: Any) -> None:
    async with connect() as worker, connect() as front:
        with anyio.move_on_after(0.3):
            await worker.client.call_tool("claim_task", {"worker": "w", "wait_seconds": 20})
        await front.call("create_task", title="Stay")
        with anyio.fail_after(5):
            while (await front.call("list_ready"))["count"] != 1:
                await anyio.lowlevel.checkpoint()
        task = (await front.call("get_task", task_id="T-1"))["task"]
    assert (task["status"], task["attempt"]) == ("ready", 0)


async def test_a_stopping_server_answers_parked_calls_with_call_again(connect: Any, task_queue: Any) -> None:
    async with connect() as worker, anyio.create_task_group() as group:
        answers: list[str] = []

        async def park() -> None:
            answers.append((await worker.refused("claim_task", worker="w", wait_seconds=30))[0])

        group.start_soon(park)
        with anyio.fail_after(5):
            while not task_queue.waiters._waiting:
                await anyio.lowlevel.checkpoint()
            task_queue.waiters.stop()
            while not answers:
                await anyio.lowlevel.checkpoint()
    assert answers == ["call_again"]


async def test_a_child_is_made_under_the_lease_and_a_cancelled_task_stops_its_worker(connect: Any) -> None:
    async with connect() as agent:
        await agent.call("create_task", title="Parent")
        lease = (await agent.call("claim_task", worker="w"))["lease"]
        child = (await agent.call("create_task", title="Child", lease=lease))["task"]
        assert (child["parent"], child["depth"]) == ("T-1", 1)
        await agent.call("cancel_task", task_id="T-1", reason="not needed")
        result = await agent.client.call_tool("update_task", {"lease": lease, "progress": 50})
    assert result.is_error
    assert result.structured_content is not None
    assert (result.structured_content["code"], result.structured_content["stop"]) == ("lease_lost", True)
    assert "not needed" in result.content[0].text


async def test_a_schedule_is_made_previewed_paused_run_and_deleted(connect: Any) -> None:
    async with connect() as agent:
        made = await agent.call(
            "schedule_task", name="morning", cron="0 7 * * *", timezone="Europe/Berlin", title="Report"
        )
        assert set(made) >= {"schedule", "next_runs"}
        assert made["next_runs"][0]["local"][11:16] == "07:00"
        assert (await agent.call("list_tasks", status="pending"))["tasks"][0]["reason"] == "scheduled"
        assert (await agent.call("manage_schedule", action="pause", name="morning"))["schedule"]["enabled"] is False
        assert (await agent.call("manage_schedule", action="resume", name="morning"))["next_runs"]
        run = (await agent.call("manage_schedule", action="run_now", name="morning"))["task"]
        assert run["status"] == "ready"
        assert (await agent.call("manage_schedule", action="list"))["count"] == 1
        assert (await agent.call("manage_schedule", action="history", name="morning"))["occurrences"] == []
        assert (await agent.call("manage_schedule", action="delete", name="morning"))["deleted"] is True
        assert (await agent.call("manage_schedule", action="list"))["count"] == 0


async def test_every_part_of_a_task_can_be_paged(connect: Any) -> None:
    async with connect() as agent:
        await agent.call("create_task", title="First", sop="inventory/low_stock_calculation.md")
        claim = await agent.call("claim_task", worker="w")
        assert claim["procedure"]["text"].startswith("---")
        await agent.call("update_task", lease=claim["lease"], log="line one\nline two")
        await agent.call("complete_task", lease=claim["lease"], result_data=[1, 2], result_summary="done")
        for part in ("params", "procedure", "inputs", "result", "attempts", "log"):
            assert (await agent.call("get_task", task_id="T-1", detail=part))["text"], part
        events = await agent.call("get_task", task_id="T-1", detail="events")
        assert [event["event"] for event in events["events"]] == ["created", "claimed", "completed"]
        log = await agent.call("get_task", task_id="T-1", detail="log")
        assert log["text"] == "line one\nline two\n"


async def test_a_task_that_changed_since_the_cursor_is_shown_at_once(connect: Any) -> None:
    async with connect() as agent:
        await agent.call("create_task", title="Watch")
        cursor = (await agent.call("get_task", task_id="T-1", detail="summary"))["cursor"]
        await agent.call("claim_task", worker="w")
        with anyio.fail_after(5):
            seen = await agent.call("get_task", task_id="T-1", wait_seconds=50, cursor=cursor)
    assert seen["task"]["status"] == "in_progress"


@pytest.mark.parametrize("way", ["auto", "legacy"])
async def test_an_agent_on_stdio_is_called_after_its_client(connect: Any) -> None:
    async with connect(name=None) as agent:
        made = await agent.call("create_task", title="Whose")
    assert made["task"]["created_by"] == "mcp"
