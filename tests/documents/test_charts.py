"""Charts: what is drawn is what the numbers say, whatever the numbers are."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_mcp.number_formats import NumberFormat
from taskqueue_mcp.outputs.documents.charts import WIDTH, scale, svg
from taskqueue_mcp.outputs.documents.document import Chart, Series

NS = "{http://www.w3.org/2000/svg}"
numbers = st.one_of(st.none(), st.floats(-1e12, 1e12), st.integers(-(10**12), 10**12).map(float))


def drawn(kind: str, values: list[float | None], *more: list[float | None], decimals: int = 2) -> ElementTree.Element:
    steps = [f"step {number}" for number in range(len(values))]
    series = [Series(f"series {number}", each) for number, each in enumerate([values, *more])]
    return ElementTree.fromstring(svg(Chart("Title", kind, steps, series, NumberFormat(decimals))))  # noqa: S314 - ours


def words(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{NS}text")]


def test_a_bar_is_as_long_as_its_value() -> None:
    widths = [float(rect.get("width", "")) for rect in drawn("bar", [10, 20, 40]).iter(f"{NS}rect")]

    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert widths[2] == pytest.approx(4 * widths[0], rel=0.01)
    assert {"10.00", "20.00", "40.00", "step 0"} <= set(words(drawn("bar", [10, 20, 40])))


def test_a_column_grows_from_zero_and_hangs_below_it() -> None:
    up, down = drawn("column", [10, -10]).iter(f"{NS}rect")

    assert float(up.get("height", "")) == pytest.approx(float(down.get("height", "")))
    assert float(up.get("y", "")) + float(up.get("height", "")) == pytest.approx(float(down.get("y", "")), abs=0.2)


def test_a_line_is_broken_where_there_is_no_value() -> None:
    lines = [
        line.get("points", "").split() for line in drawn("line", [1, 2, None, 4, 5, None, 7]).iter(f"{NS}polyline")
    ]

    assert [len(line) for line in lines] == [2, 2, 1]
    heights = [float(point.split(",")[1]) for line in lines for point in line]
    assert heights == sorted(heights, reverse=True)


def test_every_series_is_named_where_there_are_several() -> None:
    assert {"series 0", "series 1"} <= set(words(drawn("line", [1, 2], [3, 4])))
    assert "series 0" not in words(drawn("line", [1, 2]))


@pytest.mark.parametrize("kind", ["bar", "column", "line"])
def test_nothing_to_draw_is_said(kind: str) -> None:
    assert words(drawn(kind, [])) == ["no data"]
    assert words(drawn(kind, [None, None])) == ["no data"]


def test_what_does_not_fit_is_counted() -> None:
    chart = Chart("T", "bar", ["a"], [Series("s", [1.0])], NumberFormat(), left_out=1_234)

    assert "1,234 more are not shown" in svg(chart)


def test_names_below_a_chart_do_not_lie_on_one_another() -> None:
    days = [f"2026-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)]
    chart = Chart("T", "line", days, [Series("s", [float(number) for number in range(len(days))])], NumberFormat())
    picture = ElementTree.fromstring(svg(chart))  # noqa: S314 - ours
    at = sorted(float(text.get("x", "")) for text in picture.iter(f"{NS}text") if (text.text or "").startswith("2026"))

    assert len(at) >= 5
    assert min(right - left for left, right in itertools.pairwise(at)) > 60


def test_whole_numbers_have_whole_steps() -> None:
    assert [word for word in words(drawn("column", [1, 2, 1], decimals=0)) if "." in word] == []
    assert len(set(words(drawn("column", [1, 2, 1], decimals=0))) & {"0", "1", "2"}) == 3


@given(st.lists(numbers.filter(lambda number: number is not None), min_size=1, max_size=30))
def test_a_scale_holds_every_value_in_a_few_steps(values: list[float]) -> None:
    found = scale(values)

    assert found.low <= min(*values, 0.0) + 1e-6 * abs(found.high - found.low)
    assert found.high >= max(*values, 0.0) - 1e-6 * abs(found.high - found.low)
    assert 2 <= len(found.ticks) <= 8


@given(
    kind=st.sampled_from(["bar", "column", "line"]), values=st.lists(numbers, max_size=40), name=st.text(max_size=60)
)
def test_every_chart_is_xml_and_stays_in_its_frame(kind: str, values: list[float | None], name: str) -> None:
    clean = "".join(letter for letter in name if letter.isprintable())
    chart = Chart(clean, kind, [clean] * len(values), [Series(clean, values)], NumberFormat(1))
    text = svg(chart)
    picture = ElementTree.fromstring(text)  # noqa: S314 - ours

    tall = float(picture.get("height", ""))
    assert not re.search(r"nan|inf\b", re.sub(r">[^<]*<", "><", text).replace(f'aria-label="{clean}"', ""))
    for rect in picture.iter(f"{NS}rect"):
        assert -1 <= float(rect.get("x", "")) <= WIDTH + 1
        assert float(rect.get("y", "")) + float(rect.get("height", "")) <= tall + 1
