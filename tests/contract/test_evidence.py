"""What is said to be done is looked at by somebody else, and what does not hold is not done."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.errors import Conflict, InvalidInput, LeaseLost, LimitReached
from taskqueue_mcp.model import Caller, Kind, Scope, Status
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.taskqueue import Completion, Settled
from tests.contract.desk import CLAUDE, Desk, text

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.taskqueue import Claim
    from tests.clock import Clock
    from tests.conftest import OpenQueue

STOCK = {"path": "reports/stock.csv", "min_rows": 1, "columns": ["sku", "stock"]}
WORKER = Caller("stockroom", Kind.SERVICE, frozenset({Scope.WORK}))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The output folder of the server."""
    (tmp_path / "reports").mkdir()
    return tmp_path


@pytest.fixture
async def desk(open_queue: OpenQueue, clock: Clock, files: Path) -> Desk:
    return Desk(open_queue(outputs=OutputFolder(files), checks={"tidy": ("grep", "-q", "sku", "{file}")}), clock)


async def finish(desk: Desk, claim: Claim, *, by: Caller = CLAUDE, **result: Any) -> Settled:
    return await desk.queue.complete(by, Completion(text(claim), **{"result_summary": "Done.", **result}))


def verdict(settled: Settled) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(settled.verdict or "null")
    return found


async def test_a_file_that_is_what_was_declared_is_verified_by_the_server(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    (files / "reports/stock.csv").write_text("sku,stock\nA,1\nB,2\n")
    settled = await finish(desk, claim, result_path="reports/stock.csv")
    assert (settled.task.status, settled.task.verdict) == (Status.COMPLETED, "verified")
    told = verdict(settled)
    assert (told["status"], told["checked_by"]) == ("verified", ["server"])
    assert [(file["path"], file["rows"]) for file in told["files"]] == [("reports/stock.csv", 2)]
    detail = await desk.detail(claim)
    assert detail.attempts[0].verdict == settled.verdict
    assert [(file.path, file.size, file.stored) for file in detail.artifacts] == [
        ("reports/stock.csv", 18, "reports/stock.csv")
    ]
    assert json.loads((await desk.events(claim))[-1].data or "")["verdict"] == "verified"


async def test_a_file_that_was_not_named_counts_when_it_was_written_since_the_task_began(
    desk: Desk, files: Path
) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    (files / "reports/stock.csv").write_text("sku,stock\nA,1\n")
    assert (await finish(desk, claim)).task.verdict == "verified"


async def test_nothing_declared_and_nothing_named_is_unverified_and_looks_at_no_file(desk: Desk) -> None:
    claim = await desk.start()
    settled = await finish(desk, claim)
    assert (settled.task.status, settled.task.verdict, settled.verdict) == (Status.COMPLETED, "unverified", None)


async def test_a_named_file_that_the_server_sees_is_verified_by_its_bytes(desk: Desk, files: Path) -> None:
    (files / "notes.md").write_text("All there.\n")
    claim = await desk.start()
    settled = await finish(desk, claim, artifacts=("notes.md",))
    assert settled.task.verdict == "verified"
    (file,) = (await desk.detail(claim)).artifacts
    assert (file.size, file.media_type, len(file.sha256 or "")) == (11, "text/markdown", 64)


async def test_a_named_file_that_only_the_agent_has_seen_is_unverified_and_says_so(desk: Desk) -> None:
    settled = await finish(desk, await desk.start(), result_path="/home/agent/notes.md")
    assert (settled.task.status, settled.task.verdict) == (Status.COMPLETED, "unverified")
    assert "nobody but the agent has seen it" in verdict(settled)["notes"][0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no such file from this task"),
        ("", "is empty (0 bytes)"),
        ("sku,stock\n", "has 0 rows; at least 1 are expected"),
        ("sku,amount\nA,1\n", "has no column 'stock'; it has 'sku', 'amount'"),
        ("sku,stock\nA\n", "line 2 has 1 cells, the header 2"),
        ("sku,stock\n\xff", "has 1 cells"),
    ],
)
async def test_a_file_that_is_not_what_was_declared_rejects_the_result(
    desk: Desk, files: Path, content: str | None, why: str
) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    if content is not None:
        (files / "reports/stock.csv").write_text(content)
    settled = await finish(desk, claim, result_path="reports/stock.csv" if content is not None else None)
    assert (settled.task.status, settled.task.verdict) == (Status.READY, "rejected")
    (reason,) = verdict(settled)["reasons"]
    assert why in reason
    assert why in (settled.task.error or "")


@pytest.mark.parametrize("said", [{"size": 5}, {"sha256": "0" * 64}], ids=["size", "hash"])
async def test_a_file_that_is_another_than_was_said_rejects_the_result(
    desk: Desk, files: Path, said: dict[str, Any]
) -> None:
    (files / "notes.md").write_text("All there.\n")
    settled = await finish(desk, await desk.start(), artifacts=({"path": "notes.md", **said},))
    assert settled.task.verdict == "rejected"


async def test_a_rejected_result_gets_one_repair_attempt_that_reads_why_and_then_the_task_fails(
    desk: Desk,
) -> None:
    claim = await desk.start(options={"outputs": [STOCK], "max_attempts": 9})
    first = await finish(desk, claim, result_summary="All done!")
    assert (first.task.status, first.task.failures, first.task.result_summary) == (Status.READY, 1, None)
    again = await desk.take(task_id=claim.task.id)
    (earlier,) = again.earlier
    assert (earlier.outcome, earlier.result_summary) == ("failed", "All done!")
    assert json.loads(earlier.verdict or "")["status"] == "rejected"
    second = await finish(desk, again, result_summary="Really!")
    assert (second.task.status, second.task.failures) == (Status.FAILED, 2)
    assert "no such file" in (second.task.error or "")
    assert await desk.kinds(claim) == ["created", "claimed", "rejected", "ready", "claimed", "failed"]
    assert await desk.claim() is None


async def test_a_repaired_result_is_done(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    await finish(desk, claim)
    again = await desk.take(task_id=claim.task.id)
    (files / "reports/stock.csv").write_text("sku,stock\nA,1\n")
    settled = await finish(desk, again)
    assert (settled.task.status, settled.task.verdict, settled.task.error) == (Status.COMPLETED, "verified", None)


async def test_an_attempt_that_fails_otherwise_leaves_no_second_repair(desk: Desk) -> None:
    claim = await desk.start(options={"outputs": [STOCK], "max_attempts": 9})
    await finish(desk, claim)
    await desk.fail(await desk.take(task_id=claim.task.id))
    await desk.pass_time(3_600)
    settled = await finish(desk, await desk.take(task_id=claim.task.id))
    assert settled.task.status is Status.FAILED


async def test_a_task_that_a_person_retries_gets_its_repair_again(desk: Desk) -> None:
    claim = await desk.start(options={"outputs": [STOCK], "max_attempts": 2})
    for _ in range(2):
        await finish(desk, claim)
        found = await desk.claim(task_id=claim.task.id) if (await desk.task(claim)).status is Status.READY else None
        claim = found or claim
    reopened = await desk.decide(claim, "retry")
    assert (reopened.status, reopened.verdict) == (Status.READY, None)
    assert (await finish(desk, await desk.take(task_id=claim.task.id))).task.status is Status.READY


async def test_attempts_bound_repairs_too(desk: Desk) -> None:
    claim = await desk.start(options={"outputs": [STOCK], "max_attempts": 1})
    assert (await finish(desk, claim)).task.status is Status.FAILED


@pytest.mark.parametrize("holds", [True, False])
async def test_the_same_completion_again_is_answered_as_before_without_another_look(
    desk: Desk, files: Path, holds: bool
) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    path = files / "reports/stock.csv"
    if holds:
        path.write_text("sku,stock\nA,1\n")
    first = await finish(desk, claim)
    path.write_text("sku,stock\nA,1\n") if not holds else path.unlink()
    before = await desk.snapshot()
    again = await finish(desk, claim)
    assert (again.task, again.verdict, again.repeated) == (first.task, first.verdict, True)
    with pytest.raises(Conflict):
        await finish(desk, claim, result_summary="Something else.")
    assert await desk.snapshot() == before


async def test_a_lease_that_is_lost_while_files_are_looked_at_ends_nothing(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    content = {"path": "reports/new.csv", "content": "sku,stock\nA,1\n"}
    await desk.cancel(claim)
    with pytest.raises(LeaseLost):
        await finish(desk, claim, artifacts=(content,))
    assert list((files / "reports").iterdir()) == []


async def test_text_that_comes_within_the_call_is_written_and_verified(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    (files / "reports/stock.csv").write_text("somebody else's\n")
    content = {"path": "reports/stock.csv", "content": "sku,stock\nA,1\n"}
    settled = await finish(desk, claim, artifacts=(content,))
    assert settled.task.verdict == "verified"
    assert (files / "reports/stock.csv").read_text() == "somebody else's\n"
    assert (files / "reports/stock-2.csv").read_text() == "sku,stock\nA,1\n"
    (file,) = (await desk.detail(claim)).artifacts
    assert (file.path, file.stored) == ("reports/stock.csv", "reports/stock-2.csv")


@pytest.mark.parametrize(
    ("path", "content", "refused"),
    [
        ("../escape.md", "x", InvalidInput),
        ("/etc/cron.d/x.md", "x", InvalidInput),
        ("a\\b.md", "x", InvalidInput),
        (".hidden.md", "x", InvalidInput),
        ("run.sh", "x", InvalidInput),
        ("big.md", "x" * 65_537, LimitReached),
        ("number.md", 7, InvalidInput),
    ],
)
async def test_text_that_may_not_be_kept_is_refused_and_leaves_nothing(
    desk: Desk, files: Path, path: str, content: Any, refused: type[Exception]
) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    with pytest.raises(refused):
        await finish(desk, claim, artifacts=({"path": path, "content": content},))
    assert await desk.snapshot() == before
    assert [each.name for each in files.rglob("*")] == ["reports"]


async def test_a_link_is_not_followed_to_bytes_outside_the_folder(desk: Desk, files: Path) -> None:
    (files / "reports/stock.csv").symlink_to("/etc/passwd")
    claim = await desk.start(options={"outputs": [{"path": "reports/stock.csv"}]})
    settled = await finish(desk, claim, result_path="reports/stock.csv")
    assert settled.task.verdict == "rejected"
    assert "root" not in (settled.verdict or "")


async def test_a_path_is_filled_from_the_date_the_task_and_its_parameters_and_these_are_no_patterns(
    desk: Desk, files: Path
) -> None:
    wanted = {"path": "reports/{site}_{date}_{task_id}.csv"}
    claim = await desk.start(params={"site": "Kiel*"}, options={"outputs": [wanted]})
    day = datetime.fromtimestamp(claim.task.run_at / 1_000_000, UTC).date()
    (files / f"reports/Kiel*_{day}_{claim.task.id}.csv").write_text("a\n1\n")
    assert (await finish(desk, claim)).task.verdict == "verified"


async def test_data_is_held_against_its_schema(desk: Desk) -> None:
    wanted = {"json_schema": {"type": "object", "required": ["total"]}}
    bad, good = [await desk.start(options={"outputs": [wanted]}) for _ in range(2)]
    assert "'total' is a required property" in verdict(await finish(desk, bad, result_data={"sum": 3}))["reasons"][0]
    assert (await finish(desk, good, result_data={"total": 3})).task.verdict == "verified"
    missing = await finish(desk, await desk.take(task_id=bad.task.id))
    assert verdict(missing)["reasons"] == ["result_data is missing; pass it to complete_task"]


async def test_files_that_were_to_change_are_held_against_what_they_were_at_the_claim(desk: Desk, files: Path) -> None:
    (files / "reports/log.md").write_text("old\n")
    wanted = {"outputs": [{"changed": ["reports/log.md", "reports/new.md"]}]}
    lazy, busy = [await desk.start(options=wanted) for _ in range(2)]
    reasons = verdict(await finish(desk, lazy))["reasons"]
    assert reasons == [
        "reports/log.md is what it was before; it was expected to change",
        "reports/new.md does not exist and was expected to change",
    ]
    (files / "reports/log.md").write_text("newer\n")
    (files / "reports/new.md").write_text("new\n")
    assert (await finish(desk, busy)).task.verdict == "verified"


@pytest.mark.parametrize(("content", "expected"), [("sku\nA\n", "verified"), ("other\nA\n", "rejected")])
async def test_a_check_is_a_command_of_the_owner_that_a_task_names(
    desk: Desk, files: Path, content: str, expected: str
) -> None:
    claim = await desk.start(options={"outputs": [{"path": "reports/*.csv", "check": "tidy"}]})
    (files / "reports/a.csv").write_text(content)
    assert (await finish(desk, claim)).task.verdict == expected


async def test_a_check_that_nobody_has_configured_rejects_the_result(desk: Desk, files: Path) -> None:
    claim = await desk.start(options={"outputs": [{"path": "reports/*.csv", "check": "rm"}]})
    (files / "reports/a.csv").write_text("a\n")
    (reason,) = verdict(await finish(desk, claim))["reasons"]
    assert "'rm' is not among" in reason


async def test_a_worker_may_vouch_for_what_the_server_cannot_see_and_an_agent_may_not(desk: Desk) -> None:
    options = {"outputs": [{"changed": "src/*.py"}]}
    evidence = {"met": ["outputs[0].changed"], "faults": []}
    task, other = [await desk.create(options=options) for _ in range(2)]
    by_worker = await finish(desk, await desk.take(by=WORKER, task_id=task.id), by=WORKER, evidence=evidence)
    assert by_worker.task.verdict == "verified"
    assert verdict(by_worker)["by_worker_alone"] == ["outputs[0].changed"]
    by_agent = await finish(desk, await desk.take(task_id=other.id), evidence=evidence)
    assert by_agent.task.verdict == "rejected"


async def test_what_a_worker_found_wrong_is_believed(desk: Desk) -> None:
    claim = await desk.start()
    settled = await finish(desk, claim, evidence={"met": [], "faults": ["the tests fail"]}, result_path="x.md")
    assert (settled.task.verdict, verdict(settled)["reasons"]) == ("rejected", ["the tests fail"])


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ("reports/a.csv", "must be an object"),
        (["reports/a.csv"], "must be an object"),
        ([{"path": "../a.csv"}], "relative to the folder"),
        ([{"path": "/a.csv"}], "relative to the folder"),
        ([{"changed": "../../etc/passwd"}], "relative to the folder"),
        ([{"paths": "a.csv"}], "paths is unknown"),
        ([{"path": "a.csv", "format": "doc"}], "format: input should be"),
        ([{"path": "a.csv", "min_rows": -1}], "min_rows: input should be greater"),
        ([{"path": "a.csv", "sql": "DROP TABLE rows"}], "must be a SELECT"),
        ([{"path": "a.csv", "json_schema": {"type": "objekt"}}], "is no JSON schema"),
        ([{"path": "a.json", "json_schema": {"$ref": "https://example.com/s.json"}}], "is fetched from nowhere"),
        ([{"check": "rm -rf /"}], "check: string should match"),
        ([{}], "says nothing"),
        ([{"path": f"{number}.csv"} for number in range(21)], "at most 20"),
    ],
)
async def test_what_cannot_be_checked_is_refused_when_the_task_is_created(desk: Desk, outputs: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=r"options\.outputs") as refused:
        await desk.create(options={"outputs": outputs})
    assert why in str(refused.value)


async def test_evidence_that_is_none_is_refused(desk: Desk) -> None:
    claim = await desk.start(options={"outputs": [STOCK]})
    with pytest.raises(InvalidInput, match=r"^evidence: "):
        await finish(desk, claim, evidence={"verdict": "verified"})


async def test_a_file_from_before_the_task_counts_only_when_it_is_named(desk: Desk, files: Path) -> None:
    path = files / "reports/stock.csv"
    path.write_text("sku,stock\nA,1\n")
    quiet, naming = [await desk.start(options={"outputs": [STOCK]}) for _ in range(2)]
    before = quiet.task.created_at / 1_000_000 - 60
    os.utime(path, (before, before))
    assert (await finish(desk, quiet)).task.verdict == "rejected"
    assert (await finish(desk, naming, result_path="reports/stock.csv")).task.verdict == "verified"


async def test_a_file_may_be_asked_to_be_fresh(desk: Desk, files: Path, clock: Clock) -> None:
    path = files / "reports/stock.csv"
    path.write_text("sku,stock\nA,1\n")
    claims = [await desk.start(options={"outputs": [{**STOCK, "max_age": "1h"}]}) for _ in range(2)]
    for claim, age, expected in zip(claims, (3_590, 3_700), ("verified", "rejected"), strict=True):
        at = clock.micros / 1_000_000 - age
        os.utime(path, (at, at))
        assert (await finish(desk, claim, result_path="reports/stock.csv")).task.verdict == expected


async def test_where_the_look_before_found_nothing_to_do_nothing_has_to_be_there(desk: Desk) -> None:
    only_if = {"source": "stock", "sql": "SELECT 1 FROM products WHERE stock < 5"}
    evidence = {"met": [], "faults": [], "skipped": True}
    tried: list[tuple[Caller, dict[str, Any], str]] = [
        (WORKER, {"only_if": only_if}, "unverified"),
        (CLAUDE, {"only_if": only_if}, "rejected"),
        (WORKER, {}, "rejected"),
    ]
    for by, asked, expected in tried:
        task = await desk.create(options={"outputs": [STOCK], **asked})
        settled = await finish(desk, await desk.take(by=by, task_id=task.id), by=by, evidence=evidence)
        assert settled.task.verdict == expected
