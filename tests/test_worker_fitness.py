"""A machine that lacks something claims nothing for it, says why in one line, and no task fails for that."""

from __future__ import annotations

import secrets
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.base import Registry
from taskqueue_mcp.outputs.folder import OutputFolder
from taskqueue_mcp.worker import Options, Worker, over_http, over_wire
from taskqueue_mcp.worker.fitness import unwritable
from tests.test_worker import TOKEN, Nap, Server, Workers, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from taskqueue_mcp.worker.connection import Caller, Result


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def queue() -> str:
    return f"q-{secrets.token_hex(4)}"


@pytest.fixture
def workers(tmp_path: Path, server: Server) -> Iterator[Workers]:
    workers = Workers(tmp_path, server)
    yield workers
    workers.kill()


@pytest.fixture
def reason(tmp_path: Path) -> Path:
    """The file that says why the fussy executor cannot work."""
    return tmp_path / "reason"


NAP: dict[str, Any] = {"seconds": [0]}


async def test_what_cannot_work_is_not_claimed_for_until_it_can_and_says_so_once(
    server: Server, workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("the CLI is missing:\ninstall it")
    worker = workers.start(queues=[queue], fussy=str(reason), only=["fussy", "nap"], concurrency=2)
    waiting = await server.create("fussy", NAP, queue=queue)
    other = await server.create("nap", NAP, queue=queue)

    assert (await server.ended(other))["status"] == "completed"
    found = await server.get(waiting)
    assert (found["status"], found["attempt"]) == ("ready", 0)
    with anyio.move_on_after(2.5):  # long enough for it to have been looked at again
        await eventually(lambda: worker.log.count("cannot work here") > 1)
    assert (
        worker.log.count("no task for fussy is claimed, as it cannot work here: 'the CLI is missing: install it'") == 1
    )

    reason.unlink()
    assert (await server.ended(waiting))["result_summary"] == "done by fussy"
    assert "fussy can work again" in worker.log


async def test_a_preflight_that_goes_wrong_is_a_reason_too(workers: Workers, queue: str, reason: Path) -> None:
    reason.write_text("raise")
    worker = workers.start(queues=[queue], fussy=str(reason), only=["fussy"])

    await worker.says("its pre-flight went wrong: ValueError: no such thing: \\u202e42")


async def test_with_once_a_worker_that_can_do_nothing_ends_with_the_reasons(
    workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("no credentials; run `claude setup-token`")
    worker = workers.start(queues=[queue], fussy=str(reason), only=["fussy"], once=True)

    assert await worker.ended() == 1
    assert "nothing can be done here: fussy: no credentials; run `claude setup-token`" in worker.log


async def test_with_once_a_worker_that_can_do_something_leaves_the_rest(
    server: Server, workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("not today")
    left = await server.create("fussy", NAP, queue=queue)
    done = await server.create("nap", NAP, queue=queue)
    worker = workers.start(queues=[queue], fussy=str(reason), only=["fussy", "nap"], once=True)

    assert await worker.ended() == 0
    assert [(await server.get(each))["status"] for each in (left, done)] == ["ready", "completed"]


async def test_an_executor_that_fails_is_looked_at_before_the_next_tasks_burn(
    server: Server, workers: Workers, queue: str, reason: Path, tmp_path: Path
) -> None:
    workers.start(queues=[queue], fussy=str(reason), only=["fussy"])
    barrier = tmp_path / "barrier"
    barrier.mkdir()
    options = {"max_attempts": 1}
    first = await server.create("fussy", {"seconds": [2], "barrier": str(barrier)}, queue=queue, options=options)
    await eventually(lambda: len(list(barrier.iterdir())) == 1)
    rest = [await server.create("fussy", NAP, queue=queue, options=options) for _ in range(5)]
    reason.write_text("gone")
    (barrier / "go").touch()

    assert (await server.ended(first))["status"] == "failed"
    burnt = [each for each in rest if (await server.get(each))["status"] == "failed"]
    assert len(burnt) <= 1
    reason.unlink()
    for each in set(rest) - set(burnt):
        assert (await server.ended(each))["status"] == "completed"


async def test_a_stand_in_takes_over_after_a_while_and_says_for_whom(
    server: Server, workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("out of order")
    workers.start(
        queues=[queue], fussy=str(reason), only=["fussy", "nap", "odd"], stand_ins={"fussy": "nap"}, patience=0.5
    )
    task = await server.create("fussy", {"seconds": [0.5]}, queue=queue)

    done = await server.ended(task)

    assert (done["status"], done["result_summary"]) == ("completed", "slept in attempt 1")
    log = (await server.ask("get_task", task_id=task, detail="log"))["text"]
    assert "nap stands in for fussy, which cannot work here: out of order" in log


async def test_a_task_that_the_stand_in_cannot_read_is_handed_back_at_no_cost(
    server: Server, workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("out of order")
    workers.start(queues=[queue], fussy=str(reason), only=["fussy", "odd"], stand_ins={"fussy": "odd"}, patience=0)
    task = await server.create("fussy", NAP, queue=queue)

    found = await server.until(task, lambda found: found["attempt"] == 1 and found["status"] == "pending")

    assert found["reason"] == "snooze"
    assert "failures" not in found or found["failures"] == 0


async def test_a_task_claimed_by_its_type_is_handed_back_where_its_executor_cannot_work(
    server: Server, workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("out of order")
    workers.start(queues=[queue], types=["chores"], fussy=str(reason), only=["fussy", "nap"])
    task = await server.create("fussy", NAP, queue=queue, task_type="chores")

    found = await server.until(task, lambda found: found["attempt"] == 1 and found["status"] == "pending")

    assert found["reason"] == "snooze"


async def test_no_more_tasks_of_an_executor_run_than_it_may_and_the_others_go_on(
    server: Server, workers: Workers, queue: str, reason: Path, tmp_path: Path
) -> None:
    workers.start(queues=[queue], fussy=str(reason), only=["fussy", "nap"], concurrency=4, concurrency_of={"fussy": 1})
    barrier = tmp_path / "barrier"
    barrier.mkdir()
    params = {"seconds": [9], "barrier": str(barrier)}
    bounded = [await server.create("fussy", params, queue=queue) for _ in range(3)]
    free = [await server.create("nap", {"seconds": [0.1]}, queue=queue) for _ in range(8)]

    for each in free:
        assert (await server.ended(each))["status"] == "completed"
    assert len(list(barrier.iterdir())) == 1

    for number in range(9):
        (barrier / f"go-{number}").touch()
    for each in bounded:
        assert (await server.ended(each))["status"] == "completed"


async def test_a_worker_that_is_stopped_while_nothing_can_be_done_ends(
    workers: Workers, queue: str, reason: Path
) -> None:
    reason.write_text("not today")
    worker = workers.start(queues=[queue], fussy=str(reason), only=["fussy"])
    await worker.says("cannot work here")

    worker.signal(signal.SIGTERM)

    assert await worker.ended(5) == 0


def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert unwritable(tmp_path) == unwritable(tmp_path / "to/be/made") == ""
    assert "is no folder" in unwritable(tmp_path / "file")
    assert "is no folder" in unwritable(tmp_path / "file/below")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"types": ("report",), "concurrency_of": {"nap": 1}}, "leave out one of them"),
        ({"stand_ins": {"nap": "nap"}}, "nap cannot stand in for itself"),
    ],
)
async def test_options_that_cannot_work_together_are_refused(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingsRefused, match=expected):
        Worker(
            over_http("http://127.0.0.1:1", ""),
            Registry([Nap()]),
            Options(name="w", outputs=OutputFolder(tmp_path), **options),
        )


class Faulty:
    """A client whose first claim meets a fault of our own."""

    def __init__(self, client: Caller, faults: list[str]) -> None:
        self._client = client
        self._faults = faults

    async def call_tool(self, name: str, arguments: dict[str, Any], *, read_timeout_seconds: float) -> Result:
        if name == "claim_task" and not self._faults:
            self._faults.append(name)
            raise RuntimeError("a fault of our own")
        return await self._client.call_tool(name, arguments, read_timeout_seconds=read_timeout_seconds)


async def test_a_slot_that_ends_by_a_fault_begins_again_and_the_worker_goes_on(
    server: Server, queue: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Faulty]:
        async with over_wire(server.url, TOKEN)() as client:
            yield Faulty(client, faults)

    worker = Worker(connect, Registry([Nap()]), Options(name="w", outputs=OutputFolder(tmp_path), queues=(queue,)))
    task = await server.create("nap", NAP, queue=queue)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        assert (await server.ended(task))["status"] == "completed"
        worker.stop()
    assert faults == ["claim_task"]
    assert "a slot came to an end by a fault and begins again in 1 s" in caplog.text
