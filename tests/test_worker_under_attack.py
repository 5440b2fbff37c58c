"""What a task does to the machine and to the worker's own loop: nothing outlives it, and no lease feels it."""

from __future__ import annotations

import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.executors.test_trees import ESCAPE, exists, runs
from tests.test_worker import Server, Workers, eventually, pids_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def escape(pids: Path, then: str) -> dict[str, Any]:
    """Return a command that starts four processes which leave its group, and then does what `then` says."""
    pids.touch()
    script = f'"$0" -I -S -c "$1" "$2"; {then}'
    return {"argv": ["sh", "-c", script, sys.executable, ESCAPE, str(pids)]}


async def test_what_left_the_group_of_a_command_ends_with_the_attempt(
    server: Server, workers: Workers, queue: str, tmp_path: Path
) -> None:
    worker = workers.start(queues=[queue])
    task = await server.create("shell", escape(tmp_path / "pids", "echo over"), queue=queue)

    assert (await server.ended(task))["result_summary"] == "over"

    assert len(await pids_in(tmp_path / "pids", 4)) == 4
    assert not any(map(exists, await pids_in(tmp_path / "pids", 4)))
    assert "left 4 processes behind; they are ended" in worker.log


async def test_a_cancel_ends_at_once_what_left_the_group_of_a_command(
    server: Server, workers: Workers, queue: str, tmp_path: Path
) -> None:
    workers.start(queues=[queue])
    task = await server.create("shell", escape(tmp_path / "pids", "sleep 97"), queue=queue)
    pids = await pids_in(tmp_path / "pids", 4)

    await server.ask("cancel_task", task_id=task, reason="not needed any more")

    await eventually(lambda: not any(map(exists, pids)), 3)


async def test_what_a_killed_worker_left_behind_is_ended_when_the_next_one_starts(
    server: Server, workers: Workers, queue: str, tmp_path: Path
) -> None:
    worker = workers.start(queues=[queue])
    await server.create("shell", escape(tmp_path / "pids", "sleep 97"), queue=queue)
    pids = await pids_in(tmp_path / "pids", 4)
    worker.kill()
    assert all(map(runs, pids))

    other = workers.start(queues=["another"])

    await eventually(lambda: not any(map(runs, pids)))
    await other.says("that a dead worker had left behind are ended")


async def test_an_executor_that_blocks_the_loop_loses_no_lease(server: Server, workers: Workers, queue: str) -> None:
    worker = workers.start(queues=[queue], concurrency=2, lease_seconds=2)
    blocking = await server.create("nap", {"seconds": [6], "blocks": True}, queue=queue)
    await worker.says("claimed")
    beside = await server.create("nap", {"seconds": [1]}, queue=queue)

    for task in (blocking, beside):
        done = await server.ended(task)
        assert (done["status"], done["result_summary"]) == ("completed", "slept in attempt 1"), done
        assert [each["outcome"] for each in done["attempts"]] == ["completed"]


async def test_an_executor_that_blocks_the_loop_and_is_told_to_stop_holds_up_no_new_work(
    server: Server, workers: Workers, queue: str
) -> None:
    worker = workers.start(queues=[queue])
    blocking = await server.create("nap", {"seconds": [60], "blocks": True}, queue=queue)
    await worker.says("claimed")

    await server.ask("cancel_task", task_id=blocking)
    quick = await server.create("nap", {"seconds": [0]}, queue=queue)

    assert (await server.ended(quick))["status"] == "completed"
    assert "an executor blocks the loop" in worker.log
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_an_executor_that_blocks_the_loop_is_timed_out(server: Server, workers: Workers, queue: str) -> None:
    workers.start(queues=[queue])
    options = {"timeout_seconds": 1, "max_attempts": 1}
    task = await server.create("nap", {"seconds": [60], "blocks": True}, queue=queue, options=options)

    assert (await server.ended(task))["error"] == "timed out after 1 s; give it longer with timeout_seconds"
