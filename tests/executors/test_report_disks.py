"""An output folder that is full, read only or gone: one reason, nothing half written, another attempt may succeed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from taskqueue_mcp import sample


def test_a_folder_that_is_full_or_read_only_fails_for_now_and_keeps_nothing(tmp_path: Path) -> None:
    sample.build(tmp_path / "shop.db")
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    script = Path(__file__).with_name("on_a_small_disk.py")

    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    *full, fits, read_only, gone = map(json.loads, done.stdout.splitlines())
    assert len(full) == 4
    for found in full:
        assert found == {
            "outcome": "Failed",
            "error": "the report could not be written: no space left on device",
            "permanent": False,
            "files": [],
        }
    assert (fits["outcome"], fits["files"]) == ("Completed", ["t_2026-11-20.csv", "t_2026-11-20.html"])
    assert (read_only["error"], read_only["permanent"]) == (
        "the report could not be written: read-only file system",
        False,
    )
    assert (gone["outcome"], gone["files"]) == ("Completed", ["t_2026-11-20.csv", "t_2026-11-20.html"])
