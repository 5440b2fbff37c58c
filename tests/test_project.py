from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import taskqueue_mcp

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# Joined here, because this file is committed too.
REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("deb", "debian", "org"),
    ]
]
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:root|work)/\w")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def committed() -> list[Path]:
    """Every file that is committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return [path for name in sorted(listed.stdout.split("\0")) if name and (path := ROOT / name).is_file()]


def committed_text() -> dict[str, str]:
    """The text of each such file, by name; pictures and the like left out."""
    contents = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in committed()}
    return {name: content.decode() for name, content in contents.items() if b"\0" not in content}


def make_help() -> str:
    return subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True, text=True).stdout


def test_no_committed_file_names_the_host_of_a_package_registry() -> None:
    texts = committed_text().items()
    assert [(name, host) for name, text in texts for host in REGISTRY_HOSTS if host in text] == []


def test_no_committed_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = [
        (name, hit)
        for name, text in committed_text().items()
        for hit in [*MACHINE_PATH.findall(text), *(here for here in [f"{ROOT}/"] if here in text)]
    ]
    assert found == []


def test_there_is_a_lock_for_running_for_developing_for_the_examples_and_for_the_peers_of_the_benchmarks() -> None:
    assert [lock.name for lock in LOCKS] == ["dev.txt", "examples.txt", "peers.txt", "run.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_carries_names_versions_and_hashes_and_nothing_else(lock: Path) -> None:
    requirement = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.!+]+( ; [\w .<>=!'()]+)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    heading, *lines = lock.read_text(encoding="utf-8").splitlines()
    assert heading.startswith("# Made by 'make lock'")
    assert [line for line in lines if not requirement.fullmatch(line) and not digest.fullmatch(line)] == []


def test_the_locks_of_one_environment_agree_on_every_version_that_they_share() -> None:
    versions: dict[str, set[str]] = {}
    for lock in [lock for lock in LOCKS if lock.stem != "peers"]:  # those have an environment of their own
        for name, version in re.findall(r"^(\S+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_build_backend_is_locked_as_pyproject_asks_for_it() -> None:
    lines = (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == pyproject()["build-system"]["requires"]


def test_the_example_configuration_for_claude_desktop_starts_a_command_that_we_install() -> None:
    configuration = json.loads((ROOT / "claude_desktop_config.example.json").read_text(encoding="utf-8"))
    (server,) = configuration["mcpServers"].values()
    assert server["command"] in pyproject()["project"]["scripts"]
    assert all(isinstance(argument, str) for argument in server["args"])


def test_the_package_and_pyproject_name_the_same_version() -> None:
    assert pyproject()["project"]["version"] == taskqueue_mcp.__version__


def test_the_changelog_has_a_section_for_the_current_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{taskqueue_mcp.__version__}]" in changelog


def test_every_target_of_the_makefile_is_explained_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    explained = re.findall(r"^  ([a-z-]+) {2,}\S", make_help(), re.MULTILINE)
    assert explained == targets == phony.split()


def test_every_make_target_that_the_documents_name_exists() -> None:
    explained = set(re.findall(r"^  ([a-z-]+) {2,}\S", make_help(), re.MULTILINE))
    documents = "\n".join(text for name, text in committed_text().items() if name.endswith(".md"))
    named = re.findall(r"(?:`|^(?:\$ )?)make ([a-z][a-z-]*)(?=`| [A-Z]+=| +#|$)", documents, re.MULTILINE)
    assert set(named) <= explained


def test_an_import_that_points_up_fails_the_check(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "src" / "taskqueue_mcp" / "errors.py").open("a", encoding="utf-8") as errors:
        errors.write("\nimport taskqueue_mcp.lifecycle\nimport rich\n")
    check = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 1
    assert "taskqueue_mcp.errors -> taskqueue_mcp.lifecycle" in check.stdout
    assert "taskqueue_mcp.errors -> rich" in check.stdout


def test_the_wheel_carries_the_package_and_the_shipped_procedures_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", tmp_path, ROOT], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT / "src") for path in committed() if path.is_relative_to(ROOT / "src")}
    procedures = {path.relative_to(ROOT) for path in committed() if path.is_relative_to(ROOT / "sops")}
    assert procedures
    assert carried == {path.as_posix() for path in package} | {
        f"taskqueue_mcp/shipped/{path.as_posix()}" for path in procedures
    }
