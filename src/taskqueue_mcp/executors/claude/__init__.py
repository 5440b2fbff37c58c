"""Headless Claude Code as an executor: what a task may ask of it, how it is run, and what its session came to."""

from taskqueue_mcp.executors.claude.executor import Claude
from taskqueue_mcp.executors.claude.leave import Leave, Server

__all__ = ["Claude", "Leave", "Server"]
