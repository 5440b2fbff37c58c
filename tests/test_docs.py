"""What the documents name exists, and what they tell is so."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psycopg
import pytest
from mcp import Client, StdioServerParameters
from pydantic import BaseModel

from taskqueue_mcp import errors
from taskqueue_mcp.cli import main
from taskqueue_mcp.model import Fate, Misfire, Overlap, Priority, Status
from taskqueue_mcp.settings import LimitSettings, Settings, load_settings
from taskqueue_mcp.store.postgres.address import OWN, read
from taskqueue_mcp.surfaces.mcp.tools import SCOPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 300
CLIENTS = ("Gemini CLI", "Claude Code")
OF_THE_MACHINE = {"database", "sops", "zone"}
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

Table = list[list[str]]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(path), re.MULTILINE | re.DOTALL)


def tables(path: Path) -> list[Table]:
    """The tables of a document, each with its header first."""
    found: list[Table] = []
    within = False
    for line in text(path).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            within = False
        elif not within:
            found.append([cells])
            within = True
        elif not set(line) <= set("|-: "):
            found[-1].append(cells)
    return found


def table(path: Path, *header: str) -> Table:
    """The rows of the one table with this header."""
    (found,) = [rows for first, *rows in tables(path) if first == list(header)]
    return found


def coded(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def section(path: Path, heading: str) -> str:
    """The text below a heading, up to the next of its level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text(path), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


# Commands.


def command_lines(path: Path) -> list[str]:
    """What follows `taskqueue-mcp` in code, fenced or not, without comments."""
    fenced = [line.split("  #")[0] for block in blocks(path, "sh") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text(path), flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", prose)
    found = [re.search(r"(?:^|[\s(])taskqueue-mcp ([^)]+)", line) for line in [*fenced, *inline]]
    return [match[1] for match in found if match is not None]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words lead to, and the words left over."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        following = command.get_command(click.Context(command), words[0])
        assert following is not None, f"there is no command {words[0]} in {command.name}"
        command, words = following, words[1:]
    return command, words


@each_document
def test_every_command_line_of_a_document_can_be_called_like_that(path: Path) -> None:
    for line in command_lines(path):
        if line.startswith("COMMAND"):
            continue
        command, rest = resolve([word for word in shlex.split(line) if word != "--"])
        if rest:  # without, it is only named
            command.make_context(command.name, rest)


def test_the_readme_lists_every_command_and_no_other() -> None:
    rows = table(README, "command", "for")
    told: dict[str, set[str]] = {}
    for cell, _ in rows:
        names = [name.split()[0] for name in coded(cell)]
        group = main.get_command(click.Context(main), names[0])
        if isinstance(group, click.Group):
            told[names[0]] = set(names[1:])
        else:
            told |= {name: set() for name in names}
    there: dict[str, set[str]] = {}
    for name in main.list_commands(click.Context(main)):
        found = main.get_command(click.Context(main), name)
        there[name] = set(found.commands) if isinstance(found, click.Group) else set()
    assert told == there


# Settings.


def settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its default; None where that is nothing, or depends on the machine."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        elif name in OF_THE_MACHINE:
            yield prefix + name, None
        else:
            yield prefix + name, field.get_default(call_default_factory=True)


def variables() -> set[str]:
    """What there is in an environment: settings, where the file is, what the examples read, and what commands get."""
    ours = {"TASKQUEUE_" + name.upper().replace(".", "__") for name, _ in settings()}
    theirs = re.findall(r"TASKQUEUE_\w+", "".join(text(path) for path in (ROOT / "examples").glob("*.py")))
    return ours | {"TASKQUEUE_CONFIG", "TASKQUEUE_ATTEMPT"} | set(theirs)


@each_document
def test_every_variable_that_a_document_names_is_read(path: Path) -> None:
    assert set(re.findall(r"TASKQUEUE_[A-Z][A-Z_]*[A-Z]", text(path))) <= variables()


def test_the_document_on_settings_lists_each_with_its_default() -> None:
    rows = table(ROOT / "docs" / "settings.md", "setting", "default", "what it is")
    assert [coded(row[0])[0] for row in rows] == [name for name, _ in settings()]
    for (_, default), (name, told, _) in zip(settings(), rows, strict=True):
        if default is not None:
            written = coded(told)[0]
            assert (written if isinstance(default, str) else json.loads(written)) == default, name


@each_document
def test_every_settings_file_in_a_document_is_accepted(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, block in enumerate(blocks(path, "toml")):
        if "mcp_servers" not in tomllib.loads(block):
            file = tmp_path / f"{number}.toml"
            file.write_text(block, encoding="utf-8")
            monkeypatch.setenv("TASKQUEUE_CONFIG", str(file))
            load_settings()


# Tools.


@pytest.fixture(scope="module")
def program() -> StdioServerParameters:
    """The program of the example configuration, which stands beside the interpreter of the tests."""
    (server,) = json.loads(text(ROOT / "claude_desktop_config.example.json"))["mcpServers"].values()
    assert server["command"] == "taskqueue-mcp"
    environment = {**os.environ, **server["env"]}
    return StdioServerParameters(command=sys.executable, args=["-m", "taskqueue_mcp", *server["args"]], env=environment)


@pytest.fixture
async def everything(program: StdioServerParameters, tmp_path: Path) -> AsyncIterator[Client]:
    database = f"sqlite:///{tmp_path / 'queue.db'}"
    more = ["--scope", "admin", "--database", database]
    async with Client(program.model_copy(update={"args": [*program.args, *more]})) as client:
        yield client


async def test_the_example_configuration_starts_a_server_that_answers(
    program: StdioServerParameters, tmp_path: Path
) -> None:
    own = {"TASKQUEUE_DATABASE": f"sqlite:///{tmp_path / 'queue.db'}"}
    for mode in ("legacy", "auto"):
        async with Client(program.model_copy(update={"env": {**(program.env or {}), **own}}), mode=mode) as client:
            assert client.server_info is not None
            assert client.server_info.name == "taskqueue"
            assert len((await client.list_tools()).tools) > 0


def test_the_readme_shows_the_example_configuration_as_it_is() -> None:
    shown = [json.loads(block) for block in blocks(README, "json")]
    assert json.loads(text(ROOT / "claude_desktop_config.example.json")) in shown


async def test_the_readme_lists_the_tools_with_their_scopes(everything: Client) -> None:
    rows = table(README, "tool", "scope", "what it does")
    listed = (await everything.list_tools()).tools
    assert sorted(coded(row[0])[0] for row in rows) == sorted(tool.name for tool in listed)
    for name, told, _ in rows:
        scopes = {"enqueue", "work", "answer"} if told == "all" else set(told.split(", "))
        assert scopes == SCOPES[coded(name)[0]], name


async def test_the_document_on_tools_tells_every_argument_of_every_tool(everything: Client) -> None:
    path = ROOT / "docs" / "tools.md"
    listed = (await everything.list_tools()).tools
    headings = re.findall(r"^## (\w+_\w+)$", text(path), re.MULTILINE)
    assert headings == [tool.name for tool in listed]
    for tool in listed:
        told = section(path, tool.name)
        rows = re.findall(r"^\| (`.+?) \|", told, re.MULTILINE)
        named = [name for row in rows for name in coded(row)]
        required = [coded(row)[0] for row in rows if row.endswith("(required)")]
        assert sorted(named) == sorted(tool.input_schema["properties"]), tool.name
        assert sorted(required) == sorted(tool.input_schema.get("required", [])), tool.name
        (scopes,) = re.findall(r"Scopes?: ([^.]+)\.", told)
        assert set(coded(scopes)) == SCOPES[tool.name], tool.name


async def test_the_call_that_the_document_on_tools_shows_is_accepted(everything: Client) -> None:
    (call,) = blocks(ROOT / "docs" / "tools.md", "json")
    result = await everything.call_tool("create_task", json.loads(call))
    assert not result.is_error, result.content


def test_the_document_on_tools_explains_every_code_that_a_tool_can_answer_with() -> None:
    rows = table(ROOT / "docs" / "tools.md", "code", "what it means", "what to do")
    kinds = [found for found in vars(errors).values() if isinstance(found, type)]
    codes = {found.code for found in kinds if issubclass(found, errors.TaskQueueError)}
    assert {coded(row[0])[0] for row in rows} == codes - {"error", "database_refused", "settings_refused"}


# What else is told.


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(text(README).splitlines()) <= LONGEST_README


@each_document
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text(path)):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text(there), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_every_json_snippet_is_json() -> None:
    for path in DOCUMENTS:
        for block in blocks(path, "json"):
            json.loads(block)


def test_every_message_that_the_readme_explains_is_one_of_ours() -> None:
    sources = [text(path) for path in (ROOT / "src").rglob("*.py")]
    ours = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))  # messages that go over several lines
    for cell, *_ in table(README, "you see", "it means", "do this"):
        if not cell.startswith((*CLIENTS, "a task stays")):
            for message in coded(cell):
                assert message in ours, message


def test_the_readme_and_the_documents_use_the_words_of_the_model() -> None:
    assert all(f"{status}" in section(README, "The life of a task") for status in Status)
    assert all(f"`{priority}`" in section(README, "The life of a task") for priority in Priority)
    schedules = ROOT / "docs" / "schedules.md"
    for header, words in (("`misfire`", Misfire), ("`overlap`", Overlap)):
        (rows,) = [rows for first, *rows in tables(schedules) if first[0] == header]
        assert [coded(row[0])[0] for row in rows] == list(words)
    assert all(f"`{fate}`" in section(schedules, "The history") for fate in Fate)


def test_the_readme_tells_the_limits_as_they_are() -> None:
    limits = LimitSettings()
    told = " ".join(section(README, "What you can rely on").split())
    assert (
        f"{limits.max_attempts} attempts, {limits.depth} levels of tasks that make tasks, {limits.children} children, "
        f"{limits.tasks_per_root} tasks below one root, {limits.open_tasks_per_queue:,} open tasks in a queue, "
        f"{limits.body_bytes // 1024} KiB a task"
    ) in told


@each_document
def test_every_procedure_that_a_document_names_is_shipped(path: Path) -> None:
    for name in re.findall(r"\b(?:inventory|reports)/\w+\.md\b", text(path)):
        assert (ROOT / "sops" / name).is_file(), name


def test_the_readme_keeps_the_promises_in_their_number() -> None:
    numbers = re.findall(r"^(\d+)\. ", section(README, "What you can rely on"), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 14))


# Security.


def test_every_control_of_the_document_on_security_has_tests_that_exist() -> None:
    rows = table(ROOT / "docs" / "security.md", "control", "tests")
    assert len(rows) > 20
    for control, tests in rows:
        named = coded(tests)
        assert named, control
        for each in named:
            file, _, test = each.partition("::")
            assert re.search(rf"^(async )?def {test}\(", text(ROOT / file), re.MULTILINE), each


# Scaling.


@pytest.mark.engines("postgres")
def test_every_query_of_the_document_on_scaling_runs(database_url: str) -> None:
    with closing(psycopg.connect(database_url, autocommit=True, prepare_threshold=None)) as wire:
        found = [query for block in blocks(ROOT / "docs" / "scaling.md", "sql") for query in block.split(";\n")]
        for query in found:
            if query.strip():
                wire.execute(query.encode()).fetchall()
    assert len(found) > 5


def test_the_document_on_scaling_lists_the_options_of_the_url() -> None:
    rows = table(ROOT / "docs" / "scaling.md", "option", "default", "what it is")
    told = {coded(option)[0].strip("?="): coded(default) for option, default, _ in rows if coded(option)}
    defaults = {"pool": ["8"], "schema": ["taskqueue"], "hint": ["auto"], "prepare": ["auto"]}
    assert {name: told[name] for name in OWN} == defaults
    address = read("postgresql://host/queue")
    assert (address.pool, address.schema, address.hint, address.prepare) == (8, "taskqueue", None, None)
