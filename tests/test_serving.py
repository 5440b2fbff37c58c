"""`serve` and `stdio` as processes: who gets in, what they share, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from tests.serving import PATIENCE, Served, call, over_http, over_stdio, serving

if TYPE_CHECKING:
    from pathlib import Path

    from mcp import Client


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'queue.db'}"


async def test_the_first_start_makes_the_owners_token_and_says_where_it_is(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, database) as served:
        assert served.url.startswith("http://127.0.0.1:")
        file = tmp_path / "queue.db-token"
        assert str(file) in served.said
        token = file.read_text(encoding="utf-8").strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert token not in served.said
        async with over_http(served.url, token) as client:
            assert len((await client.list_tools()).tools) == 12
    assert token.encode() not in (tmp_path / "queue.db").read_bytes()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - refused is what is tested
def test_an_address_that_others_reach_is_refused_before_there_is_a_token(
    tmp_path: Path, database: str, host: str
) -> None:
    with serving(tmp_path, database, "--host", host) as served:
        assert served.process.wait(PATIENCE) == 1
    assert len(served.said.splitlines()) == 1
    assert "tokens create" in served.said


async def test_the_token_of_the_environment_opens_everything_to_containers(tmp_path: Path, database: str) -> None:
    token = "a-long-enough-secret"  # noqa: S105 - of a server that lives for this test
    with serving(tmp_path, database, TASKQUEUE_TOKEN=token) as served:
        async with over_http(served.url, token) as client:
            assert len((await client.list_tools()).tools) == 12
    assert not (tmp_path / "queue.db-token").exists()


def test_a_token_too_short_to_be_a_secret_is_refused(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, database, TASKQUEUE_TOKEN="short") as served:  # noqa: S106 - refused is what is tested
        assert served.process.wait(PATIENCE) == 1
    assert "at least 16" in served.said


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_two_stdio_servers_and_one_over_http_share_a_file_and_wake_each_other(
    tmp_path: Path, database: str, mode: str
) -> None:
    with serving(tmp_path, database) as served:
        url, token = served.url, (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with (
            over_http(url, token, mode) as front,
            over_stdio(database, "--as", "one", mode=mode) as one,
            over_stdio(database, "--as", "two", mode=mode) as two,
        ):
            await call(front, "list_ready")
            for worker in (one, two):
                claims: list[dict[str, Any]] = []
                async with anyio.create_task_group() as group:

                    async def park(client: Client = worker, into: list[dict[str, Any]] = claims) -> None:
                        into.append(await call(client, "claim_task", worker="w", wait_seconds=30))

                    group.start_soon(park)
                    with anyio.fail_after(PATIENCE):
                        await call(front, "create_task", title="Anyone")
                assert claims[0]["task"]["title"] == "Anyone"
                await call(worker, "complete_task", lease=claims[0]["lease"])


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_a_stopping_server_answers_what_is_parked_and_is_gone_within_a_second(
    tmp_path: Path, database: str, transport: str
) -> None:
    async with contextlib.AsyncExitStack() as open_:
        served: Served | None = None
        if transport == "http":
            served = open_.enter_context(serving(tmp_path, database))
            token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
            client = await open_.enter_async_context(over_http(served.url, token))
            process = served.process.pid
        else:
            client = await open_.enter_async_context(over_stdio(database, "--as", "parked"))
            process = _stdio_process(database)
        await call(client, "list_ready")
        answers: list[Any] = []

        async def park() -> None:
            answers.append(await client.call_tool("claim_task", {"worker": "w", "wait_seconds": 40}))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(park)
                await anyio.sleep(0.3)
                begun = time.monotonic()
                os.kill(process, signal.SIGTERM)
        assert time.monotonic() - begun < 5
        assert answers[0].structured_content["code"] == "call_again"
        if served is not None:
            assert served.process.wait(PATIENCE) == 0


def _stdio_process(database: str) -> int:
    found = subprocess.run(["pgrep", "-f", f"stdio --database {database}"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


async def test_what_was_accepted_is_there_after_the_server_was_killed(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, database) as served:
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            await call(client, "create_task", title="Survive")
            served.process.kill()
            served.process.wait(PATIENCE)
    with serving(tmp_path, database) as served:
        async with over_http(served.url, token) as client:
            assert (await call(client, "get_task", task_id="T-1"))["task"]["title"] == "Survive"


async def test_ready_and_healthy_are_said_without_a_token(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, database) as served:
        base = served.url.removesuffix("/mcp")
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{base}/healthz")).json() == {"status": "ok"}
            assert (await http.get(f"{base}/readyz")).text == "ready"
            assert (await http.post(f"{base}/mcp", json={})).status_code == 401


async def test_a_server_with_a_worker_hands_its_task_back_at_no_cost_before_it_goes(
    tmp_path: Path, database: str
) -> None:
    with serving(tmp_path, database, "--with-worker", TASKQUEUE_WORKER__SHELL_ALLOW="sleep") as served:
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        async with over_http(served.url, token) as client:
            await call(client, "create_task", title="Long", task_type="shell", params={"argv": ["sleep", "600"]})
            with anyio.fail_after(PATIENCE):
                cursor = None
                while True:
                    seen = await call(client, "get_task", task_id="T-1", wait_seconds=5, cursor=cursor)
                    cursor = seen["cursor"]
                    if seen["task"]["status"] == "in_progress" and seen["task"]["attempts"][0]["by"]:
                        break
        served.wait_for("claimed")
        served.process.terminate()
        assert served.process.wait(PATIENCE) == 0
    async with over_stdio(database, "--as", "reader") as client:
        left = (await call(client, "get_task", task_id="T-1"))["task"]
    assert (left["status"], left["attempts"][0]["outcome"]) == ("ready", "released")
    assert "failures" not in left


VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


async def test_every_handshake_revision_is_spoken_over_http(tmp_path: Path, database: str) -> None:
    with serving(tmp_path, database) as served:
        token = served.url and (tmp_path / "queue.db-token").read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(headers=headers) as http:
            for version in VERSIONS:
                answer = await http.post(served.url, json=_initialize(version))
                assert answer.status_code == 200
                assert _result(answer.text)["protocolVersion"] == version
                listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
                tools = await http.post(served.url, json=listed, headers={"mcp-protocol-version": version})
                assert len(_result(tools.text)["tools"]) == 12


@pytest.mark.parametrize("version", VERSIONS)
def test_every_handshake_revision_is_spoken_over_stdio_and_nothing_else_is_on_stdout(
    database: str, version: str
) -> None:
    lines = [
        _initialize(version),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_ready", "arguments": {}}},
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "taskqueue_mcp", "stdio", "--database", database],
        input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True, timeout=PATIENCE,
        check=True,
    )  # fmt: skip
    answers = {answer["id"]: answer["result"] for answer in map(json.loads, ended.stdout.splitlines())}
    assert answers[1]["protocolVersion"] == version
    assert answers[2]["structuredContent"]["count"] == 0


def _initialize(version: str) -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def _result(text: str) -> dict[str, Any]:
    data = next((line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")), text)
    return dict(json.loads(data)["result"])
