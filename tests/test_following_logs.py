"""`tasks logs --follow`: what a worker says is on the screen while it says it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.app import opened
from taskqueue_mcp.auth import local_person
from taskqueue_mcp.model import Scope
from taskqueue_mcp.settings import Settings
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Update, Wanted
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

PERSON = local_person()


@pytest.mark.parametrize("door", ["database", "server"])
async def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_task(door: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'queue.db'}"
    with ExitStack() as stack:
        async with opened(Settings(database=database)) as app:
            made = await app.auth.create(PERSON, "reader", frozenset({Scope.ENQUEUE}))
            task = (await app.queue.create(PERSON, NewTask(Wanted(title="Talk")))).task
            claim = await app.queue.claim(PERSON, ClaimRequest())
            assert claim is not None
            await app.queue.update(PERSON, Update(claim.lease, log="before\n"))
            where = ["--database", database]
            if door == "server":
                served = stack.enter_context(serving(tmp_path, database))
                where = ["--server", served.url.removesuffix("/mcp"), "--token", made.secret]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "taskqueue_mcp", "tasks", "logs", f"T-{task.id}", "--follow", *where,
                stdout=asyncio.subprocess.PIPE, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
            )  # fmt: skip
            assert process.stdout is not None
            try:
                async with asyncio.timeout(60):
                    assert await process.stdout.readline() == b"before\n"
                    for number in range(3):
                        await app.queue.update(PERSON, Update(claim.lease, log=f"line {number}"))
                        assert await process.stdout.readline() == f"line {number}\n".encode()
                    await app.queue.update(PERSON, Update(claim.lease, log="the last"))
                    await app.queue.complete(PERSON, Completion(claim.lease, "Done."))
                    assert await process.stdout.read() == b"the last\n"
                    assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
