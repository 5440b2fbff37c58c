"""The private directories of attempts."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.executors.trees import Marks, Owner
from taskqueue_mcp.worker import scratch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_directories_of_dead_workers_go_and_no_others_do(temporary: Path) -> None:
    own = Marks().owner
    dead = scratch.make(Owner(own.namespace, own.pid, own.started - 1), "T-7.1")
    (dead / "deep").mkdir()
    (dead / "deep/file").write_text("left")
    kept = [
        scratch.make(own, "T-7.2"),
        scratch.make(Owner(own.namespace + 1, 1, 1), "T-8.1"),
        temporary / "taskqueue-1.2.3-T-1.1-abc.txt",
        temporary / "taskqueue-notes",
    ]
    kept[2].write_text("a file")
    kept[3].mkdir()
    (temporary / f"taskqueue-{own.namespace}.1.1-T-9.1-link").symlink_to(kept[3])

    assert scratch.sweep(own) == 1

    assert not dead.exists()
    assert all(each.exists() for each in kept)
    assert scratch.sweep(Owner(own.namespace, own.pid, 0)) == 0


def test_a_directory_is_private_and_goes_with_what_lies_in_it() -> None:
    made = scratch.make(Marks().owner, "T-7.1")
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "file").write_text("")
    assert not scratch.is_gone(made)
    scratch.remove(made)
    assert not made.exists()
    empty = scratch.make(Marks().owner, "T-7.1")
    assert scratch.is_gone(empty)
    assert not os.path.lexists(empty)


def test_workers_that_start_at_once_sweep_side_by_side() -> None:
    own = Marks().owner
    dead = [scratch.make(Owner(own.namespace, own.pid, own.started - 1), f"T-{number}.1") for number in range(300)]
    with ThreadPoolExecutor(4) as threads:
        swept = list(threads.map(scratch.sweep, [own] * 4))
    assert sum(swept) >= len(dead)
    assert not any(directory.exists() for directory in dead)
