"""`doctor`: what is right on this machine, what is not, and what to do about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from taskqueue_mcp.cli import checkup, checkup_money
from taskqueue_mcp.cli.finding import Finding
from taskqueue_mcp.cli.output import Out
from taskqueue_mcp.cli.reaching import here, reaching
from taskqueue_mcp.errors import TaskQueueError
from taskqueue_mcp.settings import machine_zone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskqueue_mcp.cli.reaching import Reach


@click.command()
@reaching
def doctor() -> int:
    """Check the settings, the database and what the worker needs; exits 1 when something would not work."""
    reach = here()
    findings = _examine(reach)
    out = Out(reach.format, machine_zone())
    sound = not any(finding.state == "fail" for finding in findings)
    told = {
        "ok": sound,
        "checks": [
            {"check": finding.check, "state": finding.state, "text": finding.text, "do": finding.do}
            for finding in findings
        ],
    }
    out.show(told, lambda: _print(out, findings))
    return 0 if sound else 1


def _examine(reach: Reach) -> list[Finding]:
    findings = [checkup.python(), checkup.sqlite()]
    try:
        settings = reach.settings()
    except TaskQueueError as error:
        return [*findings, Finding("settings", "fail", str(error), "correct them"), *checkup.environment()]
    read = checkup.settings(settings)
    findings += [read, *checkup.environment()]
    if read.state != "fail":
        findings += asyncio.run(checkup.database(settings))
    findings.append(checkup.approvals(settings))
    findings += checkup_money.budgets(settings)
    findings += checkup.procedures(settings)
    findings += checkup.executors(settings)
    return findings


def _print(out: Out, findings: Sequence[Finding]) -> None:
    rows = [
        (finding.state, finding.check, f"{finding.text}; {finding.do}" if finding.do else finding.text)
        for finding in findings
    ]
    out.table(("state", "check", "what was found"), rows, flexible="what was found")
