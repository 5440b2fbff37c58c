"""Reports: the SQL of a procedure, read from a configured source, written for programs and for people."""

from taskqueue_mcp.executors.report.executor import Report

__all__ = ["Report"]
