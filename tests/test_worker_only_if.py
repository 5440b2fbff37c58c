"""A cheap look first: where there is nothing to do, a task is done before anything dear begins."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp import sample
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.executors.base import validated
from taskqueue_mcp.executors.condition import OnlyIf
from tests.test_worker import TOKEN, Server, WorkerProcess, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUEUE = "looking"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def hand(server: Server) -> Iterator[WorkerProcess]:
    sample.build(server.folder / "shop.db")
    sources = {"shop": str(server.folder / "shop.db")}
    hand = WorkerProcess(server.folder, url=server.url, token=TOKEN, queues=[QUEUE], sources=sources)
    yield hand
    hand.kill()


async def ended(server: Server, only_if: dict[str, Any], **options: Any) -> dict[str, Any]:
    options = {"only_if": only_if, "max_attempts": 1, **options}
    return await server.ended(await server.create("nap", {"seconds": [0]}, queue=QUEUE, options=options))


@pytest.mark.parametrize(
    ("only_if", "is_done", "seen"),
    [
        ({"source": "shop", "sql": "SELECT name FROM products WHERE quantity < 10"}, True, "shop has rows for it"),
        ({"source": "shop", "sql": "SELECT name FROM products WHERE quantity < -1"}, False, "shop has no rows for it"),
        ({"sql": "SELECT count(*) FROM products"}, True, "shop says "),
        (
            {"sql": "SELECT count(*) FROM products WHERE quantity < :least", "params": {"least": -1}},
            False,
            "shop says 0",
        ),
        ({"sql": "SELECT max(quantity) FROM products WHERE 0"}, False, "shop says None"),
        ({"command": ["sh", "-c", "exit 0"]}, True, "sh said yes"),
        ({"command": ["sh", "-c", "exit 1"]}, False, "sh said no"),
    ],
)
@pytest.mark.usefixtures("hand")
async def test_a_task_runs_only_if_the_look_says_so(
    server: Server, only_if: dict[str, Any], is_done: bool, seen: str
) -> None:
    done = await ended(server, only_if)

    assert done["status"] == "completed", done
    if is_done:
        assert done["result_summary"] == "slept in attempt 1"
    else:
        assert done["result_summary"].startswith(f"nothing to do: {seen}")
        assert done["result_data"]["skipped"] is True
    log = (await server.ask("get_task", task_id=done["id"], detail="log"))["text"]
    assert f"only_if: {seen}" in log


@pytest.mark.parametrize(
    ("only_if", "error"),
    [
        ({"command": ["rm", "-rf", "/"]}, "only_if: the command 'rm' is not allowed"),
        ({"command": ["sh", "-c", "echo broken >&2; exit 3"]}, "only_if: exit 3\nbroken"),
        ({"command": ["sh", "-c", "kill -9 $$"]}, "only_if: killed by SIGKILL"),
        ({"source": "shop", "sql": "DELETE FROM products"}, "only_if: source shop: "),
        ({"source": "shop", "sql": "SELECT 1 FROM nowhere"}, "only_if: source shop: no such table: nowhere"),
        ({"source": "bank", "sql": "SELECT 1"}, "only_if: "),
    ],
)
@pytest.mark.usefixtures("hand")
async def test_a_look_that_goes_wrong_fails_the_attempt_in_words(
    server: Server, only_if: dict[str, Any], error: str
) -> None:
    done = await ended(server, only_if)

    assert done["status"] == "failed", done
    assert done["error"].startswith(error)


@pytest.mark.usefixtures("hand")
async def test_a_look_that_does_not_end_is_timed_out(server: Server) -> None:
    done = await ended(server, {"command": ["sh", "-c", "sleep 97"]}, timeout_seconds=1)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    other = await ended(server, {"source": "shop", "sql": endless}, timeout_seconds=1)

    assert done["error"].startswith("only_if: timed out after 1 s")
    assert "timed out after 1 s" in other["error"]


@pytest.mark.usefixtures("hand")
async def test_where_there_is_nothing_to_do_nothing_has_to_be_there_in_the_end(server: Server) -> None:
    outputs = [{"path": "Never/*.xlsx"}]
    skipped = await ended(server, {"command": ["sh", "-c", "exit 1"]}, outputs=outputs)
    done = await ended(server, {"command": ["sh", "-c", "exit 0"]}, outputs=outputs)

    assert (skipped["status"], done["status"]) == ("completed", "failed")


async def test_a_worker_that_cannot_look_hands_the_task_back(server: Server, tmp_path: Path) -> None:
    workers = Workers(tmp_path, server)
    queue = f"q-{secrets.token_hex(4)}"
    workers.start(queues=[queue], only=["nap"])
    try:
        options = {"only_if": {"command": ["true"]}}
        task = await server.create("nap", {"seconds": [0]}, queue=queue, options=options)
        found = await server.until(task, lambda found: found["attempt"] == 1 and found["status"] == "pending")
        assert found["reason"] == "snooze"
    finally:
        workers.kill()


WRONG: list[Any] = [
    {},
    [],
    "true",
    {"command": []},
    {"command": "true"},
    {"command": [1]},
    {"command": ["true"], "sql": "SELECT 1"},
    {"command": ["true"], "source": "shop"},
    {"sql": 1},
    {"sql": "SELECT 1", "params": []},
    {"shell": "true"},
]


@pytest.mark.parametrize("only_if", WRONG)
async def test_what_is_no_look_is_refused_when_the_task_is_created(server: Server, only_if: Any) -> None:
    with pytest.raises(AssertionError, match="only_if"):
        await server.create("nap", {}, options={"only_if": only_if})


@pytest.mark.parametrize("given", [each for each in WRONG if isinstance(each, dict)])
def test_a_worker_does_not_rely_on_that(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        validated(OnlyIf, given, what="only_if")
