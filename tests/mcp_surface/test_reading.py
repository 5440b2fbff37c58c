"""Resources, prompts, completions and updates, in both protocol eras."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from taskqueue_mcp.model import Scope
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.surfaces.mcp import server as mcp_server
from taskqueue_mcp.surfaces.mcp.instructions import INSTRUCTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.taskqueue import TaskQueue


async def read(agent: Any, uri: str) -> str:
    return str((await agent.client.read_resource(uri)).contents[0].text)


async def test_tasks_procedures_queues_and_schedules_are_resources(connect: Any) -> None:
    async with connect() as agent:
        await agent.call("create_task", title="Read me", instructions="all of it")
        await agent.call("schedule_task", name="weekly", cron="@weekly")
        assert json.loads(await read(agent, "task://T-1"))["instructions"] == "all of it"
        assert json.loads(await read(agent, "queue://default"))["counts"]["ready"] == 1
        assert len(json.loads(await read(agent, "schedule://weekly"))["next_runs"]) == 10
        assert (await read(agent, "sop://inventory/low_stock_calculation.md")).startswith("---")
        shell = json.loads(await read(agent, "executor://shell"))
        assert (shell["scope"], shell["params"]["required"]) == ("exec:shell", ["argv"])
        every = {each["name"]: each["scope"] for each in json.loads(await read(agent, "executors://all"))["executors"]}
        assert (every["claude"], every["mail"]) == (None, "exec:mail")
        assert [each.uri for each in (await agent.client.list_resources()).resources] == ["executors://all"]
        templates = (await agent.client.list_resource_templates()).resource_templates
    assert {each.uri_template for each in templates} == {
        "task://{task_id}", "sop://{+path}", "queue://{name}", "schedule://{name}", "executor://{name}",
    }  # fmt: skip


@pytest.mark.parametrize(
    "uri", ["task://T-999", "sop://../../../etc/passwd", "sop://none.md", "queue://none", "executor://none"]
)
async def test_what_is_not_there_is_an_error_and_not_a_file_of_ours(connect: Any, uri: str) -> None:
    async with connect() as agent:
        with pytest.raises(MCPError) as refused:
            await read(agent, uri)
    assert "root:" not in str(refused.value)


async def test_there_is_a_prompt_for_each_common_job_and_each_procedure(connect: Any) -> None:
    async with connect() as agent:
        prompts = {prompt.name for prompt in (await agent.client.list_prompts()).prompts}
        plan = await agent.client.get_prompt("plan_request", {"request": "low stock each morning"})
        follow = await agent.client.get_prompt("sop_inventory_low_stock_calculation", {})
    assert {"work_the_queue", "plan_request", "triage_failures", "sop_reports_weekly_summary"} <= prompts
    assert "low stock each morning" in plan.messages[0].content.text
    assert "inventory/low_stock_calculation.md" in follow.messages[0].content.text


async def test_a_procedure_that_is_added_is_a_prompt_at_once(task_queue: TaskQueue, tmp_path: Path) -> None:
    folder = tmp_path / "sops"
    folder.mkdir()
    task_queue.rules = replace(task_queue.rules, procedures=ProcedureFolder(folder))
    built = mcp_server.build(task_queue, mcp_server.stdio_caller("claude", frozenset(Scope)))
    async with Client(built.server) as client:
        before = [prompt.name for prompt in (await client.list_prompts()).prompts]
        (folder / "count.md").write_text("# Count the shelves\n\n1. Count.\n", encoding="utf-8")
        after = [prompt.name for prompt in (await client.list_prompts()).prompts]
        follow = await client.get_prompt("sop_count", {"details": "only the upper ones"})
        (folder / "count.md").unlink()
        with pytest.raises(MCPError):
            await client.get_prompt("sop_count", {})
    assert after == [*before, "sop_count"]
    assert "only the upper ones" in follow.messages[0].content.text  # type: ignore[union-attr]  # ours are text


async def test_names_are_completed(connect: Any) -> None:
    async with connect() as agent:
        for _ in range(12):
            await agent.call("create_task", title="One of many")

        async def completed(ref: Any, name: str, value: str) -> list[str]:
            found = await agent.client.complete(ref, {"name": name, "value": value})
            return list(found.completion.values)

        task = ResourceTemplateReference(uri="task://{task_id}")
        assert await completed(task, "task_id", "T-1") == ["T-12", "T-11", "T-10", "T-1"]
        assert await completed(task, "task_id", "12") == ["T-12"]
        assert await completed(task, "task_id", "x") == []
        procedure = ResourceTemplateReference(uri="sop://{+path}")
        assert "inventory/reorder_rules.md" in await completed(procedure, "path", "inv")
        executor = ResourceTemplateReference(uri="executor://{name}")
        assert await completed(executor, "name", "sh") == ["shell"]
        assert await completed(PromptReference(name="work_the_queue"), "queue_name", "d") == ["default"]


async def test_instructions_carry_both_loops_in_under_two_kilobytes(connect: Any) -> None:
    assert len(INSTRUCTIONS.encode()) < 2_048
    async with connect() as agent:
        assert agent.client.instructions == INSTRUCTIONS
