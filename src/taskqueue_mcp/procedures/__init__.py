"""Procedures (SOPs): Markdown files with front matter, read from one folder and from nowhere else."""

from taskqueue_mcp.procedures.folder import Fault, ProcedureFolder
from taskqueue_mcp.procedures.parsing import LARGEST, Output, Param, Procedure, SqlBlock, fill_params, parse, tidy

__all__ = [
    "LARGEST",
    "Fault",
    "Output",
    "Param",
    "Procedure",
    "ProcedureFolder",
    "SqlBlock",
    "fill_params",
    "parse",
    "tidy",
]
