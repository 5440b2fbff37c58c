"""From options to what a task asks for: texts from files, `name=value` pairs, JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskqueue_mcp.model import Priority
from taskqueue_mcp.taskqueue import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

C = TypeVar("C", bound="Callable[..., Any]")

PAIR = "NAME=VALUE"
ASKED = (
    click.option("--instructions", metavar="TEXT|@FILE|-", help="What to do, from a file, or from stdin (-)."),
    click.option("--type", "task_type", help="What the work is, such as report_generation or shell."),
    click.option("--param", multiple=True, metavar=PAIR, help="A parameter; JSON if it reads as such, else text."),
    click.option("--params", metavar="JSON", help="Parameters as one JSON object."),
    click.option("--sop", metavar="PATH", help="Procedure to follow."),
    click.option("--queue", help="Named line to wait in."),
    click.option("--priority", type=click.Choice([priority.value for priority in Priority])),
    click.option("--tag", multiple=True, help="May be given more than once."),
    click.option("--option", multiple=True, metavar=PAIR, help="What is rare: executor, max_attempts, serial_key, …"),
    click.option("--options", metavar="JSON", help="The same as one JSON object."),
)
FROM_TEMPLATE = (
    click.option("--template", metavar="NAME", help="Template to fill."),
    click.option("--var", multiple=True, metavar=PAIR, help="A value for {{NAME}}."),
    click.option("--variables", metavar="JSON", help="The same as one JSON object."),
)


def asking(command: C) -> C:
    """Add the options that say what a task asks for."""
    for option in reversed(ASKED):
        command = option(command)
    return command


def from_template(command: C) -> C:
    """Add the options that fill a template."""
    for option in reversed(FROM_TEMPLATE):
        command = option(command)
    return command


def wanted(title: str | None, asked: dict[str, Any]) -> Wanted:
    """Return what the options ask for.

    Raises:
        click.BadParameter: one of them cannot be read.
    """
    return Wanted(
        title=title,
        instructions=None if asked["instructions"] is None else text("--instructions", asked["instructions"]),
        task_type=asked["task_type"],
        params=document("--param", asked["param"], "--params", asked["params"]),
        sop=asked["sop"],
        template=asked.get("template"),
        variables=document("--var", asked.get("var", ()), "--variables", asked.get("variables")),
        queue=asked["queue"],
        priority=asked["priority"],
        tags=asked["tag"] or None,
        options=document("--option", asked["option"], "--options", asked["options"]),
    )


def text(option: str, given: str) -> str:
    """Return a text, read from where `given` says: `-` is stdin, `@FILE` a file, `@@…` a text that starts with @.

    Raises:
        click.BadParameter: it cannot be read, or is not UTF-8.
    """
    if given.startswith("@@"):
        return given[1:]
    if given != "-" and not given.startswith("@"):
        return given
    name = "stdin" if given == "-" else given[1:]
    try:
        data = sys.stdin.buffer.read() if given == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        hint = "; write @@ for a text that starts with @"
        raise click.BadParameter(f"cannot read {name}: {error.strerror}{hint}", param_hint=option) from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{name} is not UTF-8 (byte {error.start:,})", param_hint=option) from error


def document(pair_option: str, given: Sequence[str], option: str, whole: str | None) -> Any:
    """Return one JSON object of both forms, its text as it came where there are no pairs; None where nothing was given.

    Raises:
        click.BadParameter: it is no JSON object, or a pair has no name.
    """
    if whole is None:
        return pairs(pair_option, given) or None
    try:
        parsed = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is not JSON ({error})", param_hint=option) from error
    if not isinstance(parsed, dict):
        raise click.BadParameter('must be a JSON object such as {"threshold": 10}', param_hint=option)
    return {**parsed, **pairs(pair_option, given)} if given else whole


def pairs(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Return `name=value` pairs; a value that reads as JSON is that, any other is text.

    Raises:
        click.BadParameter: a pair has no name.
    """
    found = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not name or not sign:
            raise click.BadParameter(f"{pair!r} is not {PAIR}", param_hint=option)
        found[name] = _value(value)
    return found


def _value(value: str) -> Any:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
