"""The contract of the service, on every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.desk import Desk

if TYPE_CHECKING:
    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.clock import Clock


@pytest.fixture
async def desk(queue: TaskQueue, clock: Clock) -> Desk:
    return Desk(queue, clock)
