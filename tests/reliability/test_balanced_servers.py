"""Three servers on one PostgreSQL behind a balancer that knows nothing of the queue: one queue, whoever is asked."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.reliability.fleet import TOKEN, Fleet
from tests.reliability.racers import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import Size
    from tests.reliability.conftest import Tell

pytestmark = pytest.mark.engines("postgres")

NAMES = [f"server-{number}" for number in range(3)]
SLOWEST_MEDIAN = 0.25
"""Seconds from an answered create to the claim that it woke on another server; a busy machine needs some."""
EVERY_SECOND = "* * * * * *"


class Balancer:
    """Gives each new connection to the next server that accepts one."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = cycle(ports)
        self._several = len(ports)
        self.given: Counter[int] = Counter()
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Balancer]:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            async with server:
                yield self
        finally:
            left = list(connections)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            for _ in range(self._several):
                port = next(self._ports)
                with contextlib.suppress(OSError):
                    theirs, ours = await asyncio.open_connection("127.0.0.1", port)
                    break
            else:
                return
            self.given[port] += 1
            with contextlib.closing(ours), contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, ours))
                    group.create_task(_copy(theirs, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65_536):
            target.write(chunk)
            await target.drain()
        target.write_eof()


@contextlib.asynccontextmanager
async def three_servers(folder: Path, url: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(folder, url, servers=NAMES)
    try:
        for name in NAMES:
            fleet.start(name)
            await fleet.serves(name)
        yield fleet
    except BaseException as error:
        error.add_note(fleet.said())
        raise
    finally:
        fleet.kill_all()


@contextlib.asynccontextmanager
async def client_of(base: str) -> AsyncIterator[Client]:
    """A client that opens a connection for each call, so that a balancer chooses anew."""
    async with (
        httpx2.AsyncClient(
            headers={"authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        ) as http,
        Client(streamable_http_client(f"{base}/mcp", http_client=http), mode="auto") as client,
    ):  # fmt: skip
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


@pytest.mark.parametrize("hint", ["off", "on"])
async def test_a_claim_that_is_parked_at_one_server_wakes_by_a_create_at_another(
    folder: Path, database_url: str, size: Size, tell: Tell, hint: str
) -> None:
    took: list[float] = []
    url = f"{database_url}{'&' if '?' in database_url else '?'}hint={hint}"
    with anyio.fail_after(size(90, 600)):
        async with (
            three_servers(folder, url) as fleet,
            client_of(fleet.base(NAMES[0])) as waiting,
            client_of(fleet.base(NAMES[1])) as creating,
        ):
            for number in range(size(15, 200)):
                parked = asyncio.create_task(call(waiting, "claim_task", worker="w", wait_seconds=40))
                await asyncio.sleep(0.1 + number % 5 * 0.03)  # parked, and somewhere between two looks
                assert not parked.done()
                made = await call(creating, "create_task", title=f"number {number}")
                begun = time.monotonic()
                claim = await parked
                took.append(time.monotonic() - begun)
                assert claim["task"]["id"] == made["task"]["id"]
                await call(waiting, "complete_task", lease=claim["lease"])
    tell(wakes=len(took), ms_median=round(1_000 * statistics.median(took)), ms_longest=round(1_000 * max(took)))
    assert statistics.median(took) < SLOWEST_MEDIAN


async def test_behind_a_balancer_it_is_one_queue_and_a_server_may_die(
    folder: Path, database_url: str, size: Size, tell: Tell
) -> None:
    async with three_servers(folder, database_url) as fleet:
        balancer = Balancer([fleet.port(name) for name in NAMES])
        with anyio.fail_after(size(90, 600)):
            async with balancer.listening(), client_of(f"http://127.0.0.1:{balancer.port}") as client:
                made = await call(
                    client, "schedule_task", name="every-second", cron=EVERY_SECOND, timezone="UTC", overlap="allow",
                    title="Tick", task_type="tick",
                )  # fmt: skip
                assert made["schedule"]["name"] == "every-second"
                for number in range(size(12, 200)):
                    if number == 6:
                        fleet.kill(NAMES[1])
                    keyed = {"title": f"number {number}", "idempotency_key": f"number-{number}", "queue": "own"}
                    task = (await call(client, "create_task", **keyed))["task"]["id"]
                    assert (await call(client, "create_task", **keyed))["task"]["id"] == task
                    claim = await call(client, "claim_task", queues=["own"], wait_seconds=20, claim_id=f"c-{number}")
                    assert claim["task"]["id"] == task
                    await call(client, "update_task", lease=claim["lease"], progress=50)
                    done = await call(client, "complete_task", lease=claim["lease"], result_summary="Done.")
                    assert done["task"]["status"] == "completed"
                while (
                    len((await call(client, "manage_schedule", name="every-second", action="history"))["occurrences"])
                    < 3
                ):
                    await anyio.sleep(0.1)
                await call(client, "manage_schedule", name="every-second", action="pause")
        assert len(balancer.given) == 3
        assert min(balancer.given.values()) > 5
    async with opened(database_url) as queue:
        fired = await queue.database.read(
            lambda t: t.all("SELECT due_at FROM tasks WHERE task_type = 'tick' AND status = 'ready' ORDER BY due_at")
        )
        ledger = await queue.database.read(lambda t: t.all("SELECT due_at FROM occurrences ORDER BY due_at"))
    tell(connections=sum(balancer.given.values()), due_times=len(ledger), kills=1)
    assert len(fired) == len(set(fired))
    seconds = [due // 1_000_000 for (due,) in ledger]
    assert seconds == list(range(seconds[0], seconds[-1] + 1))
