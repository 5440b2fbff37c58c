"""The durable store: one SQL text, one connection seam, an engine a file."""

from taskqueue_mcp.store.database import Database, Signal, Transaction, Work
from taskqueue_mcp.store.opening import open_database

__all__ = ["Database", "Signal", "Transaction", "Work", "open_database"]
