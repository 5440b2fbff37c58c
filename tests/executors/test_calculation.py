"""Calculations: a script gets its parameters, its result comes back, and each way to go wrong has one reason."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.calculation import Calculation
from taskqueue_mcp.executors.limits import NONE, Limits
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from tests.executors.conftest import MakeRun

REORDER = """
import json, sys
given = json.load(sys.stdin)
print("looking at", len(given["stock"]), "products", file=sys.stderr)
json.dump([{"sku": sku, "order": max(0, given["level"] - left)} for sku, left in given["stock"].items()], sys.stdout)
"""
STOCK = {"level": 10, "stock": {"A-1": 3, "B-2": 40}}
ORDERS = [{"sku": "A-1", "order": 7}, {"sku": "B-2", "order": 0}]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "calculations"
    (folder / "scripts").mkdir(parents=True)
    (folder / "reorder_quantities.py").write_text(REORDER, encoding="utf-8")
    (folder / "scripts" / "calculate_reorder.py").write_text(REORDER, encoding="utf-8")
    return folder


async def calculate(scripts: Path, run: Run, given: dict[str, Any] | None = None, **params: Any) -> Outcome:
    executor = Calculation(scripts, **(given or {}))
    with anyio.fail_after(30):
        return await executor.run(validate_params(executor, params), run)


async def completed(scripts: Path, run: Run, **params: Any) -> Completed:
    outcome = await calculate(scripts, run, **params)
    assert isinstance(outcome, Completed), outcome
    return outcome


async def failure(scripts: Path, run: Run, code: str, given: dict[str, Any] | None = None, **params: Any) -> Failed:
    (scripts / "wrong.py").write_text(code, encoding="utf-8")
    outcome = await calculate(scripts, run, given, script="wrong.py", **params)
    assert isinstance(outcome, Failed), outcome
    assert "\n" not in outcome.error
    return outcome


async def test_the_calculation_of_the_first_plan_is_written_and_comes_back(
    scripts: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    """S1.5: name, script, an output without a pattern, and `return_to_gemini` in it."""
    outcome = await completed(
        scripts,
        make_run(),
        calculation_name="reorder_quantities",
        script="scripts/calculate_reorder.py",
        output={"format": "json", "path": "Reports/Calculations/", "return_to_gemini": True},
        **STOCK,
    )

    assert outcome.path == "Reports/Calculations/reorder_quantities_20261120_070509.json"
    assert json.loads((tmp_path / "out" / outcome.path).read_text(encoding="utf-8")) == ORDERS
    assert outcome.data["result"] == ORDERS
    assert outcome.data["artifacts"][0]["path"] == outcome.path
    assert outcome.summary.startswith("reorder_quantities: [{")


@pytest.mark.parametrize(
    "params",
    [
        {"calculation_name": "reorder_quantities", "parameters": STOCK},
        {"calculation": "reorder_quantities", "params": STOCK},
        {"script": "reorder_quantities.py", **STOCK},
    ],
)
async def test_without_an_output_the_result_comes_back_and_no_file_is_made(
    scripts: Path, make_run: MakeRun, tmp_path: Path, params: dict[str, Any]
) -> None:
    outcome = await completed(scripts, make_run(), **params)

    assert outcome.data["result"] == ORDERS
    assert outcome.path is None
    assert not (tmp_path / "out").exists()


async def test_a_result_that_shall_not_come_back_is_in_its_file_only(scripts: Path, make_run: MakeRun) -> None:
    outcome = await completed(
        scripts, make_run(), calculation_name="reorder_quantities", return_to_gemini=False, **STOCK
    )

    assert "result" not in outcome.data
    assert outcome.path is not None


async def test_the_output_of_the_task_says_the_format_and_a_list_becomes_a_table(
    scripts: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(task={"output": {"filename_pattern": "Orders_{date}.csv"}})

    outcome = await completed(scripts, run, calculation_name="reorder_quantities", **STOCK)

    assert outcome.path == "Reports/Calculations/Orders_2026-11-20.csv"
    text = (tmp_path / "out" / outcome.path).read_text(encoding="utf-8")
    assert list(csv.reader(io.StringIO(text))) == [["sku", "order"], ["A-1", "7"], ["B-2", "0"]]


async def test_which_script_ran_is_recorded_by_its_hash_and_its_stderr_is_in_the_log(
    scripts: Path, make_run: MakeRun, log: list[str]
) -> None:
    outcome = await completed(scripts, make_run(), calculation_name="reorder_quantities", **STOCK)

    sha256 = hashlib.sha256(REORDER.encode()).hexdigest()
    assert outcome.data["script"] == "reorder_quantities.py"
    assert outcome.data["script_sha256"] == sha256
    assert f"reorder_quantities.py, sha256 {sha256}\n" in log
    assert "looking at 2 products\n" in log


async def test_a_script_that_was_changed_after_its_hash_was_taken_does_not_run(
    scripts: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashlib.sha256(b"what it was before")
    monkeypatch.setattr("taskqueue_mcp.executors.calculation.hashlib.sha256", lambda _: before)

    outcome = await calculate(scripts, make_run(), script="reorder_quantities.py", parameters=STOCK)

    assert outcome == Failed("exit 1; the script was changed in the moment in which it was started")


async def test_a_script_may_import_what_lies_beside_it_and_read_what_came_before(
    scripts: Path, make_run: MakeRun
) -> None:
    (scripts / "rates.py").write_text("VAT = 19\n", encoding="utf-8")
    (scripts / "tax.py").write_text(
        "import json, pathlib\nfrom rates import VAT\n"
        "before = json.loads(pathlib.Path('inputs.json').read_text())\n"
        "print(json.dumps({'vat': VAT, 'before': before, 'here': pathlib.Path(__file__).name}))\n",
        encoding="utf-8",
    )

    outcome = await completed(scripts, make_run(inputs=[{"task": "T-1", "result_data": "[1]"}]), script="tax.py")

    assert outcome.data["result"] == {"vat": 19, "before": [{"task": "T-1", "result_data": "[1]"}], "here": "tax.py"}
    assert not (scripts / "__pycache__").exists()


async def test_a_script_gets_a_clean_environment(
    scripts: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TASKQUEUE_TOKEN", "PYTHONPATH", "SHOP_DSN"):
        monkeypatch.setenv(name, "x")
    (scripts / "env.py").write_text("import json, os, sys\nprint(json.dumps([dict(os.environ), sys.argv[1:]]))\n")

    outcome = await calculate(scripts, make_run(), {"env_names": ["SHOP_DSN"]}, script="env.py")

    assert isinstance(outcome, Completed)
    found, arguments = outcome.data["result"]
    assert {"TASKQUEUE_TOKEN", "PYTHONPATH"}.isdisjoint(found)
    assert found["SHOP_DSN"] == "x"
    assert found["TASKQUEUE_ATTEMPT"] == "T-142:1"
    assert arguments == []


@pytest.mark.parametrize("text", ["Grüße ✓", "$(id)", "'; DROP", "\u2028", "x" * 100_000])
async def test_parameters_arrive_as_they_were_given(scripts: Path, make_run: MakeRun, text: str) -> None:
    (scripts / "echo.py").write_text("import sys\nsys.stdout.write(sys.stdin.read())\n")

    assert (await completed(scripts, make_run(), script="echo.py", text=text)).data["result"] == {"text": text}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "which script to run is not said; give script or calculation_name (there is reorder_quantities.py, "),
        ({"script": "none.py"}, "there is no script 'none.py'; there is reorder_quantities.py, scripts/calc"),
        ({"script": "../outside.py"}, "leaves the folder of scripts"),
        ({"script": "/etc/passwd"}, "is no script"),
        ({"script": "link.py"}, "leaves the folder of scripts"),
        ({"script": "scripts"}, "is no script"),
        ({"calculation_name": "../outside"}, "leaves the folder of scripts"),
        ({"script": "reorder_quantities.py", "output": {"format": "exe"}}, "written as json, csv, xlsx"),
        ({"script": "reorder_quantities.py", "output": {"path": "../.."}}, "climbs out of the output folder"),
    ],
)
async def test_only_a_script_of_the_folder_is_run(
    scripts: Path, make_run: MakeRun, params: dict[str, Any], said: str
) -> None:
    (scripts.parent / "outside.py").write_text("print(1)\n")
    (scripts / "link.py").symlink_to(scripts.parent / "outside.py")

    outcome = await calculate(scripts, make_run(), **params)

    assert isinstance(outcome, Failed)
    assert said in outcome.error
    assert outcome.permanent


@pytest.mark.parametrize(
    ("code", "said", "permanent"),
    [
        ("pass", "it printed nothing; print the result as JSON", True),
        (
            "print('done!')",
            "it printed no JSON (Expecting value: line 1 column 1 (char 0)), beginning with 'done!'",
            True,
        ),
        ("print('1\\n2')", "it printed no JSON (Extra data", True),
        ("print('NaN')", "its result holds NaN, which JSON does not have", True),
        ("print('[1, -Infinity]')", "its result holds -Infinity", True),
        ("print('[' * 60000)", "its result is nested too deeply", True),
        ("raise ValueError('no stock today')", "exit 1; ValueError: no stock today", False),
        ("import sys; sys.exit(3)", "exit 3", False),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL", False),
        ("def (", "exit 1; SyntaxError: invalid syntax", False),
        ("while True: print('x' * 1000)", "it printed more than 65,536 bytes; print the result alone", True),
        ("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe')", "it printed no JSON", True),
    ],
)
async def test_each_way_to_go_wrong_has_one_reason(
    scripts: Path, make_run: MakeRun, code: str, said: str, *, permanent: bool
) -> None:
    failed = await failure(scripts, make_run(), code, {"most_result_bytes": 65_536})

    assert failed.error.startswith(said)
    assert failed.permanent is permanent


async def test_a_script_that_hangs_is_ended_with_everything_that_it_started(
    scripts: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    code = (
        "import os, pathlib, time\n"
        "for _ in range(20):\n    if os.fork() == 0:\n        break\n"
        f"(pathlib.Path({str(tmp_path)!r}) / f'pid-{{os.getpid()}}').touch()\n"
        "time.sleep(600)\n"
    )
    begun = time.monotonic()

    failed = await failure(scripts, make_run(timeout_seconds=1), code)

    assert failed.error == "timed out after 1 s; give it longer with timeout_seconds"
    assert time.monotonic() - begun < 6
    pids = [int(each.name.removeprefix("pid-")) for each in tmp_path.glob("pid-*")]
    assert len(pids) == 21
    await eventually(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_script_that_takes_too_much_memory_fails_with_its_own_words(scripts: Path, make_run: MakeRun) -> None:
    limits = Limits(memory_bytes=256 * 1024**2)

    failed = await failure(scripts, make_run(), "print(len(bytearray(2**30)))", {"limits": limits})

    assert failed.error == "exit 1; MemoryError"


async def test_a_script_that_uses_up_its_processor_time_says_so(scripts: Path, make_run: MakeRun) -> None:
    failed = await failure(scripts, make_run(), "while True: pass", {"limits": Limits(cpu_seconds=1)})

    assert failed.error == f"killed by {signal.Signals.SIGXCPU.name}: it used up its 1 s of processor time"


async def test_a_script_that_is_told_to_stop_returns_the_task(scripts: Path, make_run: MakeRun, log: list[str]) -> None:
    (scripts / "slow.py").write_text("import sys, time\nprint('here', file=sys.stderr, flush=True)\ntime.sleep(600)\n")
    run = make_run()
    outcomes: list[Outcome] = []

    async def go() -> None:
        outcomes.append(await calculate(scripts, run, script="slow.py"))

    with anyio.fail_after(8):
        async with anyio.create_task_group() as group:
            group.start_soon(go)
            await eventually(lambda: "here\n" in log)
            run.stop.set()

    assert outcomes == [Returned(None, "stopped before the calculation was over")]


async def test_a_large_result_is_in_its_file_and_the_task_says_so(
    scripts: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    (scripts / "large.py").write_text("import json\nprint(json.dumps(['x' * 100] * 5000))\n")

    outcome = await completed(scripts, make_run(), script="large.py", return_to_gemini=True)

    assert "result" not in outcome.data
    assert "characters; the file holds it" in outcome.data["result_omitted"]
    assert len(json.loads((tmp_path / "out" / str(outcome.path)).read_text(encoding="utf-8"))) == 5_000


async def test_a_table_of_what_is_no_list_of_objects_is_refused(scripts: Path, make_run: MakeRun) -> None:
    failed = await failure(scripts, make_run(), "print(5)", output={"format": "csv"})

    assert "no list of objects" in failed.error


async def test_preflight_says_which_setting_is_missing(scripts: Path, tmp_path: Path) -> None:
    assert "set worker.calculations" in str(await Calculation().preflight())
    assert "there is no folder" in str(await Calculation(tmp_path / "gone").preflight())
    assert "no interpreter" in str(await Calculation(scripts, python=tmp_path / "python").preflight())
    assert await Calculation(scripts, limits=NONE).preflight() is None
