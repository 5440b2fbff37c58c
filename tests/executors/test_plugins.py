"""An executor of one's own, from a package that is really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.app.catalogue import CLASSES, Catalogue
from taskqueue_mcp.app.executors import BUILT_IN
from taskqueue_mcp.errors import InvalidInput, NotFound
from taskqueue_mcp.executors.base import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "examples" / "executor"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it, as pip does that."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for file in EXAMPLE.glob("*.*"):
        (source / file.name).write_bytes(file.read_bytes())
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-input", "-qq")
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(source)]
    subprocess.run(pip, check=True, timeout=100)
    return folder


@pytest.fixture
def command(site: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    own = {
        "PYTHONPATH": str(site),
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
        "TASKQUEUE_DATABASE": f"sqlite:///{tmp_path / 'queue.db'}",
    }

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "taskqueue_mcp", *arguments, "--format", "json"]
            if arguments[0] != "worker"
            else [sys.executable, "-m", "taskqueue_mcp", *arguments],
            env={**os.environ, **own, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def work(command: Callable[..., subprocess.CompletedProcess[str]], out: Path) -> subprocess.CompletedProcess[str]:
    return command("worker", "--once", "--executor", "shout", "--output", str(out))


def test_a_package_brings_an_executor_that_is_listed_checked_and_carries_out_tasks(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    listed = {each["name"]: each for each in json.loads(command("executors", "list").stdout)["executors"]}
    assert listed["shout"] == {
        "name": "shout", "description": "Writes a text in capitals into a file", "scope": "exec:shout", "worker": False,
    }  # fmt: skip
    schema = json.loads(command("executors", "schema", "shout").stdout)
    assert schema["required"] == ["text"]
    doubted = command("tasks", "create", "Shout", "--option", "executor=shout", "--param", "tetx=hello")
    assert doubted.returncode == 0
    assert "will fail as it stands: params of shout: text is missing; tetx is unknown" in doubted.stderr
    assert command("tasks", "cancel", "1").returncode == 0
    made = command("tasks", "create", "Shout", "--option", "executor=shout", "--param", "text=hello")
    assert made.returncode == 0, made.stderr
    worked = work(command, tmp_path / "out")
    assert worked.returncode == 0, worked.stderr
    task: dict[str, Any] = json.loads(command("tasks", "show", "2").stdout)["task"]
    assert (task["status"], task["result_summary"], task["result_path"]) == ("completed", "HELLO", "Shouts/2.txt")
    assert (tmp_path / "out" / "Shouts" / "2.txt").read_text(encoding="utf-8") == "HELLO"
    assert "shouting 5 characters" in command("tasks", "logs", "2").stdout


def test_what_an_installed_executor_asks_and_what_it_refuses_goes_its_way(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for text in ("my password", "123"):
        command("tasks", "create", "Shout", "--option", "executor=shout", "--param", f'text="{text}"')
    work(command, tmp_path / "out")
    asked, refused = (json.loads(command("tasks", "show", number).stdout)["task"] for number in "12")
    assert (asked["status"], asked["question"]) == ("waiting", "The text has a password in it. Shall I shout it?")
    assert (refused["status"], refused["error"]) == ("failed", "there is nothing to shout in that; send letters")
    assert command("tasks", "answer", "1", "answer", "Yes.").returncode == 0
    work(command, tmp_path / "out")
    assert json.loads(command("tasks", "show", "1").stdout)["task"]["result_summary"] == "MY PASSWORD"


def test_a_package_that_does_not_load_keeps_nobody_from_creating_its_tasks(
    command: Callable[..., subprocess.CompletedProcess[str]], site: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (broken / "bad-1.0.dist-info").mkdir(parents=True)
    (broken / "bad-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (broken / "bad-1.0.dist-info" / "entry_points.txt").write_text(
        "[taskqueue_mcp.executors]\nbad = bad_module:Bad\n", encoding="utf-8"
    )
    (broken / "bad_module.py").write_text("raise RuntimeError('no such device')\n", encoding="utf-8")
    path = {"PYTHONPATH": f"{broken}{os.pathsep}{site}"}
    listed = command("executors", "list", **path)
    assert "could not be loaded" in listed.stdout
    made = command("tasks", "create", "Bad", "--option", "executor=bad", "--param", "any=thing", **path)
    assert made.returncode == 0, made.stderr
    worked = command("worker", "--once", "--executor", "bad", **path)
    assert worked.returncode == 1
    assert "the executor bad of bad_module:Bad cannot be loaded" in worked.stderr


# --- the catalogue


def test_every_built_in_executor_is_in_the_catalogue_with_words_and_a_schema() -> None:
    catalogue = Catalogue()
    assert set(CLASSES) == set(BUILT_IN)
    for name in BUILT_IN:
        found = catalogue.load(name)
        assert found is not None
        assert issubclass(found, Executor)
        described = catalogue.describe(name)
        assert described["description"]
        assert described["params"]["type"] == "object"
        assert found.name == name


def test_a_server_starts_without_what_its_executors_need() -> None:
    told = "import sys, taskqueue_mcp.app, taskqueue_mcp.surfaces.mcp.stdio as s; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name for name in done.stdout.split() if name.startswith("taskqueue_mcp.executors")}
    assert loaded == set()


def test_what_is_not_known_is_let_through_and_is_not_described() -> None:
    catalogue = Catalogue()
    catalogue.check("deploy", {"any": "thing"})
    with pytest.raises(NotFound, match=r"there is no executor 'deploy'; there are .*shell"):
        catalogue.describe("deploy")


def test_params_are_checked_as_the_worker_would() -> None:
    catalogue = Catalogue()
    catalogue.check("shell", {"argv": ["make"]})
    commands: list[dict[str, Any]] = [
        {}, {"argv": []}, {"argv": "make"}, {"argv": ["make"], "shell": True}, {"argv": ["a\x00b"]},
    ]  # fmt: skip
    for wrong in commands:
        with pytest.raises(InvalidInput, match="params of shell: "):
            catalogue.check("shell", wrong)
