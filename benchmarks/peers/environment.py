"""Where the peers live: an environment and a folder of their own, made from pinned versions when they are asked for."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-peers"
LOCK = ROOT / "requirements" / "peers.txt"
NODE = ROOT / ".node-peers"
PACKAGES = ROOT / "benchmarks" / "peers" / "package.json"


class MissingProgram(Exception):
    """A program that a peer needs is not on this machine; says in one line what to install."""


def python() -> str:
    """Return the interpreter of the peers' environment, made from the lock unless it stands as the lock says."""
    interpreter, stamp = VENV / "bin" / "python", VENV / ".lock"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="ascii") != digest:
        _say(f"installing {LOCK.relative_to(ROOT)} into {VENV.name}")
        venv.create(VENV, with_pip=True, clear=True)
        (VENV / ".gitignore").write_text("*\n", encoding="ascii")
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "install"]
        subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK)], check=True, cwd=ROOT)
        stamp.write_text(digest, encoding="ascii")
    return str(interpreter)


def node_modules() -> Path:
    """Return the folder of the peers that come from npm, in the versions of `package.json`.

    Raises:
        MissingProgram: there is no Node on this machine.
    """
    program("node", "nodejs 20 or newer")
    npm = program("npm", "npm")
    stamp = NODE / "package.json"
    if not stamp.exists() or stamp.read_bytes() != PACKAGES.read_bytes():
        _say(f"installing {PACKAGES.relative_to(ROOT)} into {NODE.name} (some 1.5 GB)")
        shutil.rmtree(NODE, ignore_errors=True)
        NODE.mkdir()
        (NODE / ".gitignore").write_text("*\n", encoding="ascii")
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        try:
            stamp.write_bytes(PACKAGES.read_bytes())
            subprocess.run([npm, "install", "--prefix", str(NODE), *options], check=True, stdout=subprocess.DEVNULL)
        except BaseException:
            stamp.unlink()  # half of it is not what the stamp says
            raise
    return NODE / "node_modules"


def program(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        MissingProgram: it is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingProgram(f"{name} was not found: install {package}")
    return found


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
