"""Whose tasks an executor does: a scope for each that is not open to all, and nothing lends more than it has."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Forbidden, InvalidInput
from taskqueue_mcp.model import Caller, Kind, Scope, Status
from taskqueue_mcp.procedures.folder import ProcedureFolder
from taskqueue_mcp.settings import Settings
from taskqueue_mcp.taskqueue import Rules
from tests.contract.desk import CLAUDE, GEMINI, OWNER, Desk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clock import Clock
    from tests.conftest import OpenQueue

OPERATOR = replace(GEMINI, name="operator", executors=frozenset({"shell"}))
FOREMAN = Caller("foreman", Kind.AGENT, frozenset({Scope.WORK}), frozenset({"shell"}))
HELPER = Caller("helper", Kind.AGENT, frozenset({Scope.ENQUEUE, Scope.ANSWER}))
ARGV = {"argv": ["make", "test"]}
DAILY = "0 7 * * *"


async def test_an_executor_that_is_not_open_needs_its_scope(desk: Desk) -> None:
    for asked in ({"task_type": "shell"}, {"task_type": "cli"}, {"options": {"executor": "shell"}}):
        before = await desk.snapshot()
        with pytest.raises(
            Forbidden, match=r"gemini lacks the scope exec:shell.*tokens create .*exec:shell"
        ) as refused:
            await desk.create(**asked)
        assert refused.value.facts == {"scope": "exec:shell"}
        assert await desk.snapshot() == before
        assert (await desk.create(by=OPERATOR, **asked)).status is Status.READY


async def test_a_first_look_needs_the_right_of_the_executor_whose_list_it_goes_by(desk: Desk) -> None:
    by_command: dict[str, Any] = {"options": {"only_if": {"command": ["git", "fetch"]}}}
    by_statement: dict[str, Any] = {"options": {"only_if": {"source": "shop", "sql": "SELECT 1"}}}
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.create(**by_command)
    assert (await desk.create(by=OPERATOR, **by_command)).status is Status.READY
    assert (await desk.create(**by_statement)).status is Status.READY


async def test_the_open_ones_need_none_and_those_that_nobody_knows_do(desk: Desk) -> None:
    for executor in ("calculation", "claude", "query", "report"):
        assert (await desk.create(options={"executor": executor})).executor == executor
    for executor in ("mail", "shell", "deploy"):
        with pytest.raises(Forbidden, match=f"exec:{executor}"):
            await desk.create(options={"executor": executor})
        assert (await desk.create(options={"executor": executor}, by=OWNER)).executor == executor


async def test_what_is_open_is_the_owners_to_say(open_queue: OpenQueue, clock: Clock) -> None:
    desk = Desk(open_queue(open_executors=frozenset({"deploy"})), clock)
    assert (await desk.create(options={"executor": "deploy"})).executor == "deploy"
    with pytest.raises(Forbidden, match="exec:claude"):
        await desk.create()
    assert (await desk.create(by=replace(GEMINI, executors=frozenset({"claude"})))).executor == "claude"


def test_the_settings_and_the_rules_begin_with_the_same() -> None:
    settings, rules = Settings(), Rules()
    assert frozenset(settings.open_executors) == rules.open_executors
    assert frozenset(settings.approvals.always) == rules.sensitive
    assert frozenset(settings.approvals.from_strangers) == rules.sensitive_from_strangers


# --- children


async def test_a_child_needs_the_right_of_its_caller_and_of_the_one_who_asked_for_its_parent(desk: Desk) -> None:
    asked: dict[str, Any] = {"task_type": "shell", "params": ARGV}
    of_gemini = await desk.start(by=FOREMAN)
    with pytest.raises(Forbidden, match="came from gemini, who had no right to the executor shell"):
        await desk.create(lease=of_gemini.lease, by=FOREMAN, **asked)
    await desk.create("Write it up", lease=of_gemini.lease, by=FOREMAN)
    parent = await desk.create("From the operator", by=OPERATOR)
    of_operator = await desk.take(task_id=parent.id, by=CLAUDE)
    with pytest.raises(Forbidden, match="claude lacks the scope exec:shell"):
        await desk.create(lease=of_operator.lease, by=CLAUDE, **asked)
    await desk.fail(of_operator, kind="release", by=CLAUDE)
    again = await desk.take(task_id=parent.id, by=FOREMAN)
    child = await desk.create(lease=again.lease, by=FOREMAN, **asked)
    assert (child.executor, child.parent_id) == ("shell", parent.id)


async def test_rights_do_not_grow_on_the_way_down(desk: Desk) -> None:
    parent = await desk.start(by=FOREMAN)  # gemini's
    chief = replace(FOREMAN, name="chief", scopes=frozenset(Scope))
    child = await desk.create("Between", lease=parent.lease, by=FOREMAN)
    held = await desk.take(task_id=child.id, by=chief)
    with pytest.raises(Forbidden, match="no right to the executor shell"):
        await desk.create(lease=held.lease, by=chief, task_type="shell", params=ARGV)
    assert (await desk.detail(child)).body.rights is None


# --- schedules


async def test_a_schedule_of_an_executor_needs_its_scope_to_be_made_edited_and_run(desk: Desk) -> None:
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.plan("build", DAILY, task_type="shell", params=ARGV)
    await desk.plan("build", DAILY, task_type="shell", params=ARGV, by=OWNER)
    before = await desk.snapshot()
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.plan("build", "* * * * *")
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.queue.run_schedule_now(GEMINI, "build")
    assert await desk.snapshot() == before
    await desk.plan("harmless", DAILY, title="Count")
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.plan("harmless", DAILY, task_type="shell", params=ARGV)
    assert (await desk.queue.run_schedule_now(OPERATOR, "build")).executor == "shell"


async def test_a_run_has_the_rights_of_who_wrote_its_schedule(desk: Desk) -> None:
    await desk.plan("build", DAILY, title="Build", by=OPERATOR)
    await desk.pass_time(86_400)
    (run, *_) = [task for task in (await desk.page()).tasks if task.status is Status.READY]
    body = (await desk.detail(run)).body
    assert (body.rights, body.trust) == ("shell", "agent")
    await desk.plan("build", DAILY, title="Build", by=GEMINI)
    await desk.pass_time(86_400)
    newest = max(task.id for task in (await desk.page()).tasks if task.attempt == 0 and task.due_at)
    assert (await desk.detail(newest)).body.rights is None


async def test_a_procedure_that_changes_its_executor_later_gives_nobody_a_right(
    open_queue: OpenQueue, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "sops" / "count.md"
    file.parent.mkdir()
    file.write_text("---\ntitle: Count\nexecutor: claude\n---\nCount it.\n", encoding="utf-8")
    desk = Desk(open_queue(procedures=ProcedureFolder(file.parent)), clock)
    await desk.plan("count", DAILY, sop="count.md")
    file.write_text("---\ntitle: Count\nexecutor: shell\n---\nCount it.\n", encoding="utf-8")
    await desk.pass_time(86_400)
    assert {task.executor for task in (await desk.page()).tasks} == {"claude"}
    stale = await desk.rows("SELECT data FROM events WHERE kind = 'stale_body'")
    assert "no right to the executor shell" in json.loads(stale[0][0])["why"]


# --- templates


async def test_an_owners_template_lends_its_right_to_those_who_fill_in_values(desk: Desk) -> None:
    await desk.template("build", title="Build {{target}}", task_type="shell", params={"argv": ["make", "{{target}}"]})
    task = await desk.create(None, template="build", variables={"target": "test"})
    assert task.executor == "shell"
    assert json.loads((await desk.detail(task)).body.params or "") == {"argv": ["make", "test"]}
    assert (await desk.detail(task)).body.rights is None


@pytest.mark.parametrize(
    "more",
    [
        {"params": {"argv": ["rm", "-rf", "/"]}},
        {"options": {"executor": "shell"}},
        {"task_type": "cli"},
        {"instructions": "and then delete all"},
    ],
)
async def test_a_call_that_says_more_than_values_has_no_right_from_a_template(desk: Desk, more: dict[str, Any]) -> None:
    await desk.template("build", title="Build", task_type="shell", params={"argv": ["make", "{{target}}"]})
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.create(None, template="build", variables={"target": "test"}, **more)


@pytest.mark.parametrize("value", ["--eval=$(shell id)", "-f/tmp/evil", "a\nb", "a\x00b", ["a", "b"], {"a": 1}, None])
async def test_a_value_that_could_be_more_than_one_is_refused_where_a_template_lends_its_right(
    desk: Desk, value: Any
) -> None:
    await desk.template("build", title="Build", task_type="shell", params={"argv": ["make", "{{target}}"]})
    with pytest.raises(InvalidInput):
        await desk.create(None, template="build", variables=json.dumps({"target": value}))


async def test_a_template_whose_executor_is_filled_in_lends_nothing(desk: Desk) -> None:
    await desk.template("any", title="Any", task_type="{{kind}}", params=ARGV)
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.create(None, template="any", variables={"kind": "shell"})
    assert (await desk.create(None, template="any", variables={"kind": "essay"})).executor == "claude"


# --- deciding


async def test_who_could_not_have_created_a_task_cannot_open_it_again(desk: Desk) -> None:
    task = await desk.create(task_type="shell", params=ARGV, by=OWNER)
    await desk.cancel(task, by=OWNER)
    with pytest.raises(Forbidden, match="helper lacks the scope exec:shell"):
        await desk.decide(task, "retry", by=HELPER)
    allowed = replace(HELPER, executors=frozenset({"shell"}))
    assert (await desk.decide(task, "retry", by=allowed)).status is Status.READY


async def test_a_first_look_by_a_command_is_minded_too_when_a_task_is_opened_again(desk: Desk) -> None:
    options = {"only_if": {"command": ["test", "-s", "news"]}}
    with pytest.raises(Forbidden, match="exec:shell"):
        await desk.create(options=options)
    task = await desk.create(options=options, by=OWNER)
    await desk.cancel(task, by=OWNER)
    with pytest.raises(Forbidden, match="helper lacks the scope exec:shell"):
        await desk.decide(task, "retry", by=HELPER)
    assert (await desk.decide(task, "retry", by=OWNER)).status is Status.READY


async def test_an_agent_approves_nothing_that_it_could_not_have_asked_for(desk: Desk) -> None:
    task = await desk.create(task_type="shell", params=ARGV, requires_approval=True, by=OWNER)
    with pytest.raises(Forbidden, match="helper lacks the scope exec:shell"):
        await desk.decide(task, "approve", by=HELPER)
    clerk = Caller("clerk", Kind.PERSON, frozenset({Scope.ANSWER}))
    assert (await desk.decide(task, "approve", by=clerk)).status is Status.READY


async def test_who_wrote_a_schedule_does_not_approve_its_runs(desk: Desk) -> None:
    await desk.plan("pay", DAILY, title="Pay", task_type="payment", by=OWNER)
    await desk.plan("pay", DAILY, instructions="Pay Eve.", by=HELPER)
    await desk.pass_time(86_400)
    (run,) = [task for task in (await desk.page()).tasks if task.status is Status.WAITING]
    with pytest.raises(Forbidden, match="helper wrote the schedule of"):
        await desk.decide(run, "approve", by=HELPER)
    assert (await desk.decide(run, "approve")).status is Status.READY


# --- provenance


async def test_everybody_who_reads_a_task_sees_whose_text_it_is(desk: Desk) -> None:
    async def trust(task: Any) -> str | None:
        return (await desk.detail(task)).body.trust

    owners = await desk.create(by=OWNER)
    assert await trust(owners) == "owner"
    assert await trust(await desk.create(by=GEMINI)) == "agent"
    strangers = await desk.create(by=GEMINI, requested_by="Eve on the telephone")
    assert await trust(strangers) == "external"
    assert await trust(await desk.create(by=OWNER, depends_on=(owners.id, strangers.id))) == "external"
    held = await desk.take(task_id=strangers.id, by=CLAUDE)
    child = await desk.create(by=CLAUDE, lease=held.lease)
    assert await trust(child) == "external"
    await desk.complete(held, by=CLAUDE)
    grandchild = await desk.create(by=CLAUDE, lease=(await desk.take(task_id=child.id)).lease)
    assert await trust(grandchild) == "external"
