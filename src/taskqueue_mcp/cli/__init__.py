"""The command line. A command's own module is imported when it is called, so that help and stdio start at once."""

from __future__ import annotations

import click

from taskqueue_mcp import __version__
from taskqueue_mcp.cli.reaching import reaching
from taskqueue_mcp.cli.root import Commands, Place

PLACES = {
    "serve": Place("running", "serve", "Serve the queue over HTTP, with the scheduler."),
    "stdio": Place("running", "stdio", "Serve the queue to one MCP client over stdin and stdout."),
    "worker": Place("running", "worker", "Claim tasks and carry them out."),
    "demo": Place("running", "demo", "Show the whole loop on sample data."),
    "tasks": Place("tasks", "tasks", "Create tasks, look at them, decide about them."),
    "schedules": Place("schedules", "schedules", "Run tasks again and again by a cron expression."),
    "templates": Place("templates", "templates", "Named tasks with {{variables}}."),
    "reports": Place("reports", "reports", "What tasks have written, and reports of what they did."),
    "sops": Place("sops", "sops", "Look at the procedures and check them."),
    "executors": Place("executors", "executors", "What carries out tasks, and what its params look like."),
    "queues": Place("queues", "queues", "Count, pause, resume and drain queues."),
    "gates": Place("gates", "gates", "See which accounts wait for a usage limit, and let them go on."),
    "budgets": Place("budgets", "budgets", "See what was spent today, and allow more."),
    "tokens": Place("tokens", "tokens", "Make, list and revoke the tokens that open the server."),
    "doctor": Place("doctor", "doctor", "Check this machine, its settings and its database."),
    "backup": Place("backups", "backup", "Copy the database while it is in use."),
    "restore": Place("backups", "restore", "Put a backup in the place of a database."),
    "migrate": Place("moving", "migrate", "Move everything to another database, of either engine."),
}


@click.group(
    cls=Commands, places=PLACES, name="taskqueue-mcp", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="taskqueue-mcp", message="%(prog)s %(version)s")
@reaching
def main() -> None:
    """A durable task queue that language models share over MCP.

    Commands work on the database (--database, also while a server runs on it) or on a server (--server with
    --token). They exit with 0 when it is done, 1 when it was refused or did not work, 2 when it was asked for wrongly.
    """
