"""The contract of the service, on every engine."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.contract.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store import Database
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.clock import Clock
    from tests.conftest import OpenQueue


@pytest.fixture
async def desk(queue: TaskQueue, clock: Clock) -> Desk:
    return Desk(queue, clock)


@pytest.fixture
def wire(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another program's connection to the same database, which is PostgreSQL's."""
    with closing(psycopg.connect(database_url, autocommit=True)) as connection:
        yield connection


@pytest.fixture
async def rival(open_queue: OpenQueue) -> Database:
    """The database of another server."""
    return open_queue().database
