"""The worker: claims tasks over MCP like any other client, has an executor carry them out, and settles them."""

from taskqueue_mcp.worker.connection import Connect, Connection, over_http, over_stdio, over_wire
from taskqueue_mcp.worker.loop import Worker, run_worker
from taskqueue_mcp.worker.options import Options
from taskqueue_mcp.worker.uploading import Uploads

__all__ = [
    "Connect",
    "Connection",
    "Options",
    "Uploads",
    "Worker",
    "over_http",
    "over_stdio",
    "over_wire",
    "run_worker",
]
