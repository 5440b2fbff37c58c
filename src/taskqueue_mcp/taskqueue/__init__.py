"""The service: what every edge calls."""

from taskqueue_mcp.taskqueue.claiming import Claim, ClaimRequest
from taskqueue_mcp.taskqueue.creating import Created, NewTask
from taskqueue_mcp.taskqueue.limits import Limits
from taskqueue_mcp.taskqueue.merging import Wanted
from taskqueue_mcp.taskqueue.querying import Detail, Page
from taskqueue_mcp.taskqueue.rules import Rules
from taskqueue_mcp.taskqueue.scheduling import NewSchedule, Planned
from taskqueue_mcp.taskqueue.service import TaskQueue
from taskqueue_mcp.taskqueue.settling import Completion, Failure, Settled, Update
from taskqueue_mcp.taskqueue.templating import NewTemplate

__all__ = [
    "Claim",
    "ClaimRequest",
    "Completion",
    "Created",
    "Detail",
    "Failure",
    "Limits",
    "NewSchedule",
    "NewTask",
    "NewTemplate",
    "Page",
    "Planned",
    "Rules",
    "Settled",
    "TaskQueue",
    "Update",
    "Wanted",
]
