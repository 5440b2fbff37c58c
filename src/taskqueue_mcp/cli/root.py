"""The root of the command line: sub-commands by name, and every error as one line with its exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from taskqueue_mcp.cli.output import one_line
from taskqueue_mcp.errors import TaskQueueError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REFUSED = 1
INTERRUPTED = 130


class Place(NamedTuple):
    """Where a command is defined, and its line in the help."""

    module: str
    name: str
    short_help: str


class Commands(click.Group):
    """Sub-commands that are imported when they are called."""

    def __init__(self, places: Mapping[str, Place], **settings: Any) -> None:
        super().__init__(**settings)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the help."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        found = getattr(import_module(f"{__package__}.{place.module}"), place.name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in self._places.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - click's signature
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code: 0 done, 1 refused or failed, 2 asked for wrongly, 130 interrupted."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # text of a task may be any Unicode; the terminal's encoding may not
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(
                args, prog_name or self.name, complete_var, standalone_mode=False,
                windows_expand_args=windows_expand_args, **extra,
            )  # fmt: skip
        except click.Abort:
            code = INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            _say(error.format_message(), getattr(error, "ctx", None))
            code = error.exit_code
        except TaskQueueError as error:
            _say(str(error))
            code = REFUSED
        except OSError as error:
            _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
            code = REFUSED
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, ctx: click.Context | None = None) -> None:
    """Write one line on what was wrong; for a command that was asked for wrongly, where its help is."""
    if ctx is None:
        click.echo(f"taskqueue-mcp: {one_line(message)}", err=True)
    else:
        click.echo(f"{ctx.command_path}: {one_line(message)} (see {ctx.command_path} --help)", err=True)
