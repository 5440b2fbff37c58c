from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from benchmarks import bare, page, service
from benchmarks.__main__ import KNOWN, main
from benchmarks.drawing import Bar, Chart
from benchmarks.measuring import Figure, at_least
from benchmarks.peers import environment
from benchmarks.peers.asking import Asked
from benchmarks.peers.threads import share, timed
from benchmarks.recording import RESULTS, load, save

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", KNOWN)
def test_every_subject_says_in_one_line_what_it_measures(name: str) -> None:
    subject = importlib.import_module(f"benchmarks.{name}")
    assert (subject.__doc__ or "").strip().endswith((".", ")"))
    assert "\n" not in (subject.__doc__ or "").strip() or name == "stdio"
    assert callable(subject.run)


def test_the_page_and_its_charts_are_those_of_the_record() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text) == text, "run: python -m benchmarks.page"
    drawn = {path.name: path.read_text(encoding="utf-8") for path in page.DOCS.glob("performance-*.svg")}
    assert drawn == page.charts(), "run: python -m benchmarks.page"
    assert set(re.findall(r"performance-\w+\.svg", text)) == set(drawn)


def test_every_record_is_of_a_subject_that_the_page_tells() -> None:
    records = sorted(path.stem for path in RESULTS.glob("*.json"))
    assert set(records) <= set(page.SUBJECTS)
    assert [load(subject)["subject"] for subject in records] == records


def test_a_quick_run_is_not_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--save", "start"])
    with pytest.raises(SystemExit):
        main()
    assert "it is not kept" in capsys.readouterr().err


def test_a_saved_run_is_the_table_that_it_was(tmp_path: Path) -> None:
    figures = [
        Figure("so many tasks", "ours 20, theirs 10 tasks/s", points={"ours": 20.0, "theirs": 10.0}),
        at_least("- to theirs", 2.0, 3.0),
    ]
    save(tmp_path, "service", "A title", figures, begun=0.0, load=0.123)
    record = json.loads((tmp_path / "service.json").read_text(encoding="utf-8"))
    assert record["figures"][0]["points"] == {"ours": 20.0, "theirs": 10.0}
    rows = page.table(record).splitlines()
    assert rows[2:4] == [
        "| so many tasks | ours 20, theirs 10 tasks/s |  |  |",
        "| — to theirs | 2.00x | ≥ 3x | missed |",
    ]
    assert rows[-1].startswith("1 January 1970, 00:00 UTC, ")


def test_a_page_that_has_no_place_for_a_record_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "millions", "A title", [Figure("claim", "1 us")], begun=0.0, load=0.0)
    with pytest.raises(ValueError, match="0 places for millions"):
        page.page("nothing here", tmp_path)


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg())  # noqa: S314 - our own picture


def texts_of(chart: Chart) -> list[tuple[float, str]]:
    return [(float(each.attrib["y"]), each.text or "") for each in parsed(chart).iter(f"{SVG}text")]


def test_bars_are_as_long_as_what_they_show() -> None:
    chart = Chart("Two")
    chart.bars("", [Bar("ours", 200.0), Bar("<theirs>", 50.0)], "axis", lambda value: f"{value:g}", log=False)
    root = parsed(chart)
    widths = {each.attrib["class"]: float(each.attrib["width"]) for each in root.iter(f"{SVG}rect")}
    assert widths["ours"] == pytest.approx(4 * widths["peer"], rel=0.01)
    assert "<theirs>" in [text for _, text in texts_of(chart)]


def test_the_names_of_lines_that_lie_on_one_another_do_not() -> None:
    chart = Chart("Five")
    series = {f"call {number}": {"1": 10.0, "2": 10.0 + number / 100} for number in range(5)}
    chart.lines("", series, "tasks", "us")
    places = sorted(y for y, text in texts_of(chart) if text.startswith("call"))
    assert len(places) == 5
    assert all(below - above >= 15 for above, below in itertools.pairwise(places))
    assert float(parsed(chart).attrib["height"]) > places[-1]


def test_callers_share_the_work_and_a_failed_one_is_told() -> None:
    done = [0, 0, 0]

    def work(number: int) -> None:
        done[number] = share(100, 3, number)

    assert timed(3, work) > 0
    assert sum(done) == 100

    def fail(number: int) -> None:
        if number == 1:
            raise KeyError(number)

    with pytest.raises(RuntimeError, match="1 of 3 callers failed"):
        timed(3, fail)


def test_our_side_of_a_contest_creates_and_completes_as_many_as_it_is_asked_for(tmp_path: Path) -> None:
    ours = Asked(sys.executable, "ours")
    for name in ("first", "second"):
        ours.ask("open", url=f"sqlite:///{tmp_path / name}.db")
        assert ours.ask("fill", count=21, callers=4) > 0
        assert ours.ask("drain", count=21, callers=4) > 0
        ours.ask("close")
    ours.close()


def test_a_peer_that_ends_is_told_with_its_exit_status(tmp_path: Path) -> None:
    ours = Asked(sys.executable, "ours")
    with pytest.raises(RuntimeError, match="ours ended with 1"):
        ours.ask("open", url=f"nothing://{tmp_path}")
    ours.close()


def test_a_program_that_is_not_there_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environment.MissingProgram, match="node was not found: install nodejs"):
        environment.node_modules()


@pytest.mark.parametrize("yardstick", [bare.Same, bare.Fewest])
def test_a_yardstick_leaves_the_rows_that_the_service_leaves(
    tmp_path: Path, yardstick: type[bare.Same | bare.Fewest]
) -> None:
    ours = service.Service(tmp_path / "ours.db")
    theirs = yardstick(tmp_path / "theirs.db")
    for loop in (ours, theirs):
        loop.cycles(4, 2)
    service._compare(tmp_path / "ours.db", tmp_path / "theirs.db")
    ours.close()
    theirs.close()
