"""Copies of the checkout to break, each with an interpreter that can import nothing else as `taskqueue_mcp`.

The interpreter is a virtual environment of the copy's own that sees the installed packages but not the path
that an editable install adds. So whatever a test starts by `sys.executable` runs the copy too, even with an
environment of its own making, and the product in the checkout cannot be tested by mistake.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

TREES = ("src", "tests", "sops", "examples", "pyproject.toml")
COMMAND = "taskqueue-mcp"


@dataclass(frozen=True, slots=True)
class Copy:
    """A tree with what the tests need, and the interpreter for it."""

    root: Path
    python: Path


def copy_of(root: Path, target: Path) -> Copy:
    """Copy the checkout at `root`, with what is compiled already, to the new folder `target`."""
    tree = target / "tree"
    tree.mkdir(parents=True)
    for name in TREES:
        if (root / name).is_dir():
            shutil.copytree(root / name, tree / name, symlinks=True)
        elif (root / name).exists():
            shutil.copy2(root / name, tree / name)
    return Copy(tree, _interpreter(tree, target / "venv"))


def _interpreter(tree: Path, folder: Path) -> Path:
    venv.EnvBuilder(symlinks=True).create(folder)
    python = folder / "bin" / "python"
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    installed = sysconfig.get_path("purelib")
    # A folder that is named here is searched, but the paths that its own .pth files add are not followed.
    (packages / "copy.pth").write_text(f"{tree / 'src'}\n{installed}\n", encoding="utf-8")
    script = Path(sys.executable).with_name(COMMAND)
    if script.exists():
        _, _, program = script.read_text(encoding="utf-8").partition("\n")
        made = python.with_name(COMMAND)
        made.write_text(f"#!{python}\n{program}", encoding="utf-8")
        made.chmod(0o755)
    return python
