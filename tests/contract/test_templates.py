"""Named tasks with variables, and the order in which a task's arguments are laid over one another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput, LimitReached, NotFound, TaskQueueError
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.taskqueue import Limits
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clock import Clock
    from tests.conftest import OpenQueue

PROCEDURE = """---
title: The procedure's title
task_type: report_generation
executor: report
timeout_seconds: 300
budget_usd: 1.5
params:
  threshold: {default: 10}
  shop: {required: true}
  source: {default: "the procedure"}
output:
  format: xlsx
  path: Reports/
---
# Count

Count it.
"""


@pytest.fixture
def sops(folder: Path) -> Path:
    made = folder / "sops"
    made.mkdir()
    (made / "count.md").write_text(PROCEDURE, encoding="utf-8")
    return made


@pytest.fixture
async def shop(open_queue: OpenQueue, clock: Clock, sops: Path) -> Desk:
    """A desk with a folder of procedures."""
    return Desk(open_queue(procedures=ProcedureFolder(sops)), clock)


async def test_variables_are_filled_in_everywhere(desk: Desk) -> None:
    await desk.template(
        "report",
        title="Report for {{ customer }}",
        instructions="{{customer}} wants {{count}} rows, {{count}}!",
        params={"limit": "{{count}}", "deep": [{"who": "{{customer}}"}]},
        queue="{{queue}}",
        tags=("{{customer}}",),
        options={"metadata": {"all": "{{columns}}", "text": "columns: {{columns}}"}},
    )
    variables = {"customer": "Ann", "count": 5, "queue": "night", "columns": ["a", "b"]}
    task = await desk.create(None, template="report", variables=json.dumps(variables))
    body = (await desk.detail(task)).body
    assert (task.title, task.queue, body.instructions) == ("Report for Ann", "night", "Ann wants 5 rows, 5!")
    assert json.loads(body.params or "") == {"limit": 5, "deep": [{"who": "Ann"}]}
    assert json.loads(body.metadata or "") == {"all": ["a", "b"], "text": 'columns: ["a", "b"]'}
    assert (body.tags, body.template) == (("Ann",), "report")
    assert json.loads(body.variables or "") == variables


async def test_a_default_stands_in_for_a_variable(desk: Desk) -> None:
    await desk.template("report", title="{{who}} and {{what}}", defaults={"who": "Ann", "what": "stock"})
    assert (await desk.create(None, template="report")).title == "Ann and stock"
    assert (await desk.create(None, template="report", variables={"what": "sales"})).title == "Ann and sales"


async def test_a_missing_variable_is_named(desk: Desk) -> None:
    await desk.template("report", title="{{who}}", instructions="{{ what_else }}", defaults={"who": "Ann"})
    before = await desk.snapshot()
    with pytest.raises(InvalidInput, match="'report' needs 'what_else' and it has no default; given: who"):
        await desk.create(None, template="report")
    assert await desk.snapshot() == before


async def test_variables_are_filled_without_a_template_too(desk: Desk) -> None:
    task = await desk.create("Report for {{who}}", variables={"who": "Ann"})
    assert task.title == "Report for Ann"
    with pytest.raises(InvalidInput, match="needs 'what'"):
        await desk.create("Report for {{what}}", variables={"who": "Ann"})
    assert (await desk.create("Literally {{what}}")).title == "Literally {{what}}"


async def test_a_value_is_not_looked_into_for_further_variables(desk: Desk) -> None:
    await desk.template("report", title="{{who}}")
    task = await desk.create(None, template="report", variables={"who": "{{ secret }}", "secret": "x"})
    assert task.title == "{{ secret }}"


async def test_the_call_lies_over_the_template(desk: Desk) -> None:
    await desk.template(
        "report", title="Template", instructions="Template.", priority="low", queue="night", tags=("a", "b"),
        params={"x": 1, "y": 1}, options={"max_attempts": 5, "timeout_seconds": 60},
    )  # fmt: skip
    task = await desk.create(
        "Call",
        template="report",
        priority="high",
        params={"y": 2, "z": 2},
        options={"max_attempts": 7},
        tags=("b", "c"),
    )
    body = (await desk.detail(task)).body
    assert (task.title, task.priority, task.queue, task.max_attempts) == ("Call", "high", "night", 7)
    assert (body.instructions, body.timeout_seconds, body.tags) == ("Template.", 60, ("a", "b", "c"))
    assert json.loads(body.params or "") == {"x": 1, "y": 2, "z": 2}


async def test_the_procedure_lies_under_all_else(shop: Desk) -> None:
    task = await shop.create(None, sop="count", params={"shop": "Bonn"})
    body = (await shop.detail(task)).body
    assert (task.title, task.task_type, task.executor) == ("The procedure's title", "report_generation", "report")
    assert (body.sop, body.timeout_seconds, body.budget_usd) == ("count.md", 300, 1.5)
    assert json.loads(body.params or "") == {"threshold": 10, "source": "the procedure", "shop": "Bonn"}
    assert json.loads(body.output or "") == {"format": "xlsx", "path": "Reports/"}


async def test_procedure_template_schedule_and_call_lie_over_one_another_in_this_order(shop: Desk) -> None:
    await shop.template(
        "weekly", sop="count", title="Template", params={"source": "the template", "a": "template", "b": "template"},
        options={"timeout_seconds": 60},
    )  # fmt: skip
    planned = await shop.plan(
        "weekly", "0 9 * * MON", template="weekly", params={"shop": "Bonn", "a": "schedule"}, title="Schedule"
    )
    standing = planned.schedule.standing_task_id or 0
    for task in (await shop.task(standing), await shop.queue.run_schedule_now(GEMINI, "weekly")):
        body = (await shop.detail(task)).body
        assert (task.title, task.executor, body.timeout_seconds, body.sop) == ("Schedule", "report", 60, "count.md")
        assert json.loads(body.params or "") == {
            "threshold": 10, "source": "the template", "a": "schedule", "b": "template", "shop": "Bonn",
        }  # fmt: skip
    task = await shop.create("Call", template="weekly", params={"shop": "Ulm", "b": "call"})
    assert json.loads((await shop.detail(task)).body.params or "") == {
        "threshold": 10, "source": "the template", "a": "template", "b": "call", "shop": "Ulm",
    }  # fmt: skip


async def test_a_parameter_that_a_procedure_needs_is_named(shop: Desk) -> None:
    with pytest.raises(InvalidInput, match=r"count\.md needs shop"):
        await shop.create(None, sop="sops/count.md")


@pytest.mark.parametrize("sop", ["../secret.md", "/etc/passwd", "nothing.md", "a\0b", ""])
async def test_a_procedure_outside_the_folder_is_refused(shop: Desk, sop: str) -> None:
    before = await shop.snapshot()
    with pytest.raises(TaskQueueError):
        await shop.create(None, sop=sop)
    assert await shop.snapshot() == before


async def test_the_procedure_is_pinned_with_the_claim(shop: Desk, sops: Path) -> None:
    await shop.create(None, sop="count", params={"shop": "Bonn"})
    claim = await shop.take(worker="w1")
    assert claim.procedure is not None
    assert (claim.procedure.path, claim.procedure.text) == ("count.md", PROCEDURE)
    (sops / "count.md").write_text(PROCEDURE + "\nTwice.\n", encoding="utf-8")
    again = await shop.take(worker="w1")
    assert again.redelivered
    assert again.procedure == claim.procedure
    await shop.fail(again, kind="release")
    after = await shop.take()
    assert after.procedure is not None
    assert (after.procedure.text or "").endswith("Twice.\n")
    hashes = [attempt.procedure_hash for attempt in (await shop.detail(claim)).attempts]
    assert hashes == [claim.procedure.sha256, after.procedure.sha256]


async def test_a_procedure_that_went_missing_is_said_with_the_claim(shop: Desk, sops: Path) -> None:
    await shop.create(None, sop="count", params={"shop": "Bonn"})
    (sops / "count.md").unlink()
    claim = await shop.take()
    assert claim.procedure is not None
    assert claim.procedure.text is None
    assert "no procedure count.md" in (claim.procedure.fault or "")


async def test_a_template_is_replaced_by_its_name_and_made_tasks_stay(desk: Desk) -> None:
    await desk.template("report", title="Old")
    task = await desk.create(None, template="report")
    stored = await desk.template("report", title="New")
    assert stored.seq == 2
    assert (await desk.create(None, template="report")).title == "New"
    assert (await desk.task(task)).title == "Old"


async def test_a_template_shows_its_variables_and_its_use(desk: Desk) -> None:
    await desk.template("report", title="{{who}}", instructions="{{what}} {{who}}", defaults={"who": "Ann"})
    await desk.finish(await desk.create(None, template="report", variables={"what": "x"}))
    await desk.create(None, template="report", variables={"what": "x"})
    shown = await desk.queue.show_template(OWNER, "report")
    assert shown.variables == ("who", "what")
    assert shown.counts == {"completed": 1, "ready": 1}
    assert [template.name for template in await desk.queue.list_templates(CLAUDE)] == ["report"]


async def test_a_deleted_template_is_gone_and_its_tasks_stay(desk: Desk) -> None:
    await desk.template("report", title="Report")
    task = await desk.create(None, template="report")
    await desk.queue.delete_template(OWNER, "report")
    with pytest.raises(NotFound):
        await desk.create(None, template="report")
    with pytest.raises(NotFound):
        await desk.queue.delete_template(OWNER, "report")
    with pytest.raises(NotFound):
        await desk.queue.show_template(OWNER, "report")
    await desk.finish(task)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({}, "title"),
        ({"title": "x", "template": "other"}, "template"),
        ({"title": "x", "variables": {"a": 1}}, "template"),
        ({"title": "a\0b"}, "template"),
        ({"title": "x", "defaults": "[1]"}, "defaults"),
    ],
)
async def test_what_cannot_be_a_template_is_refused(desk: Desk, wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{named}: "):
        await desk.template("report", **wanted)


async def test_a_template_has_a_plain_name_and_a_bounded_size(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(limits=Limits(body_bytes=1_024)), clock)
    with pytest.raises(InvalidInput, match=r"^name: "):
        await desk.template("two words", title="x")
    with pytest.raises(LimitReached):
        await desk.template("large", title="x", instructions="x" * 2_000)


async def test_only_the_owner_keeps_templates(desk: Desk) -> None:
    with pytest.raises(Forbidden, match="admin"):
        await desk.template("report", by=GEMINI, title="x")
    with pytest.raises(Forbidden):
        await desk.queue.delete_template(GEMINI, "report")


async def test_a_value_of_the_wrong_kind_is_refused_and_not_an_accident(shop: Desk) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"sop": "{{x}}", "variables": {"x": 5}},
        {"options": {"on_dependency_failure": []}},
        {"options": {"plan": {}}},
        {"options": {"serial_key": ["a"]}},
        {"options": {"budget_usd": []}},
        {"options": {"max_attempts": {}}},
        {"priority": "{{x}}", "variables": {"x": ["high"]}},
        {"template": "a\ud800"},
    )
    for asked in wrong:
        with pytest.raises(TaskQueueError):
            await shop.create("title", **asked)
    task = await shop.create("{{x}}", variables={"x": 5})
    assert task.title == "5"
