"""The mutation gate itself: every mutant fits the product of today, and those of this run are killed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mutants import breakages
from tests.mutants.mutant import PACKAGE, Edit, Mutant, Stale
from tests.mutants.runner import RedAlready, Runner, trials
from tests.mutants.verdicts import Fate, all_killed

if TYPE_CHECKING:
    from tests.mutants.runner import Trial
    from tests.mutants.verdicts import Verdict

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", breakages.ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_product_of_today(mutant: Mutant) -> None:
    assert mutant.edits
    for edit in mutant.edits:
        path = ROOT / PACKAGE / edit.file
        text = path.read_text(encoding="utf-8")
        broken = edit.edited(text)
        assert broken != text
        if path.suffix == ".py":
            compile(broken, edit.file, "exec")


def test_every_test_that_a_mutant_names_exists() -> None:
    defined: dict[str, set[str]] = {}
    for name in sorted({name for mutant in breakages.ALL for name in mutant.tests}):
        file, _, test = name.partition("::")
        if file not in defined:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
            defined[file] = {function.name for function in functions}
        assert test in defined[file], name


def test_mutants_are_told_apart_by_their_names() -> None:
    names = [mutant.name for mutant in breakages.ALL]
    assert len(names) == len(set(names))
    assert len(names) >= 25


@pytest.fixture(scope="session")
def verdicts(chosen: list[Trial], seed: int) -> dict[str, Verdict]:
    """What came of the mutants of this run."""
    return {verdict.name: verdict for verdict in Runner(ROOT, seed=seed).run(chosen)}


def test_a_broken_product_turns_a_test_red(verdicts: dict[str, Verdict], tried: str) -> None:
    verdict = verdicts[tried]
    assert verdict.fate is Fate.KILLED, str(verdict)


# --- the runner, on a product of three lines

PRODUCT = """
LIMIT = 3
def room(count):
    return count < LIMIT
"""
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--seed")
"""
TESTS = """
import subprocess, sys
import pytest
import taskqueue_mcp

def test_there_is_room_below_the_limit():
    assert taskqueue_mcp.room(0)

def test_there_is_none_at_it():
    assert not taskqueue_mcp.room(3)

def test_another_process_has_the_same_product():
    command = [sys.executable, "-c", "import taskqueue_mcp as t; print(t.room(3))"]
    assert subprocess.check_output(command, env={}, text=True).strip() == "False"

def test_that_nobody_mended():
    assert False

@pytest.mark.skip(reason="later")
def test_that_nobody_runs():
    assert False

@pytest.fixture
def table():
    return {taskqueue_mcp.room(3): 1}[False]

def test_with_a_table(table):
    assert table
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of a very small product."""
    root = tmp_path / "checkout"
    files = {f"{PACKAGE}/__init__.py": PRODUCT, "tests/__init__.py": "", "tests/conftest.py": CONFTEST,
             "tests/test_room.py": TESTS, "tests/mutants/__init__.py": "",
             "tests/mutants/witness.py": (ROOT / "tests/mutants/witness.py").read_text(encoding="utf-8")}  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def mutant(name: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, "room", (Edit("__init__.py", old, new),), tuple(f"test_room.py::{test}" for test in tests))


BELOW, AT_IT = "test_there_is_room_below_the_limit", "test_there_is_none_at_it"


def test_the_runner_tells_killed_from_survived_stale_and_broken(project: Path) -> None:
    tried = [
        mutant("killed", "<", "<=", BELOW, AT_IT),
        mutant("killed in another process", "<", "<=", "test_another_process_has_the_same_product"),
        mutant("survived", "<", "<=", BELOW),
        mutant("stale", ">", ">=", AT_IT),
        mutant("stale by two", "LIMIT", "LEAST", AT_IT),
        mutant("no syntax", "<", "<<<", AT_IT),
        mutant("no program", "LIMIT\n", "MOST\n", AT_IT),
        mutant("nothing to prepare with", "<", "<=", "test_with_a_table"),
    ]
    before = (project / PACKAGE / "__init__.py").read_bytes()
    found = {verdict.name: verdict for verdict in Runner(project, seed=1).run(trials(tried))}
    assert {name: verdict.fate for name, verdict in found.items()} == {
        "killed": Fate.KILLED,
        "killed in another process": Fate.KILLED,
        "survived": Fate.SURVIVED,
        "stale": Fate.STALE,
        "stale by two": Fate.STALE,
        "no syntax": Fate.BROKEN,
        "no program": Fate.BROKEN,
        "nothing to prepare with": Fate.BROKEN,
    }
    assert not all_killed(list(found.values()))
    assert all_killed([found["killed"], found["killed in another process"]])
    assert not all_killed([])
    assert found["killed"].by.startswith(f"test_room.py::{AT_IT}: assert")
    assert (project / PACKAGE / "__init__.py").read_bytes() == before


@pytest.mark.parametrize("test", ["test_that_nobody_mended", "test_that_nobody_runs", "test_that_is_not_there"])
def test_a_test_that_does_not_pass_anyway_kills_nothing(project: Path, test: str) -> None:
    with pytest.raises(RedAlready, match=test):
        Runner(project, seed=1).run(trials([mutant("killed", "<", "<=", test, AT_IT)]))


def test_the_list_names_every_mutant_and_an_unknown_name_is_refused() -> None:
    command = [sys.executable, "-m", "tests.mutants"]
    told = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert {line.split("  ")[0] for line in told.splitlines()[:-1]} == {each.name for each in trials(breakages.ALL)}
    refused = subprocess.run([*command, "no-such-mutant"], cwd=ROOT, capture_output=True, check=False, text=True)
    assert (refused.returncode, refused.stdout.count("\n")) == (2, 1)
    assert "no-such-mutant" in refused.stdout


def test_an_edit_is_made_within_what_it_names_and_nowhere_else() -> None:
    text = "A = 1\nclass C:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 1\n"
    assert Edit("x.py", "1", "2", "C.g").edited(text) == text.replace("1\n", "2\n").replace("2", "1", 2)
    assert Edit("x.py", "1", "2", "A").edited(text) == text.replace("1", "2", 1)
    for within in (None, "C", "C.h", "h"):
        with pytest.raises(Stale):
            Edit("x.py", "1", "2", within).edited(text)
