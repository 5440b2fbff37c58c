"""Charts as SVG that stands in a page by itself: bars, columns and lines, the same on screen and on paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from taskqueue_mcp.outputs.documents.document import Chart, Series

WIDTH: Final = 720
LETTER: Final = 7.0
"""How wide a letter of 12 px is on the average; text cannot be measured here."""
LONGEST_NAME: Final = 34
ROW, GAP = 24, 10
TALL: Final = 220
MOST_DOTS: Final = 40
"""Up to this many steps every point of a line is marked."""
EDGE: Final = 4.0
NEARLY: Final = 1e-6
COLOURS: Final = ("#2f6fb7", "#e08a2e", "#4c9a6a", "#8b5fbf", "#c2503f", "#6b7785")
INK, FAINT, GRID, AXIS = "#26303b", "#66717d", "#e3e7ec", "#9aa5b1"
FONT: Final = "Inter, 'Segoe UI', 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"


def svg(chart: Chart) -> str:
    """Return the picture of a chart."""
    canvas = _Canvas(chart.title)
    if not chart.steps or not any(value is not None for each in chart.series for value in each.values):
        canvas.text(WIDTH / 2, 40, "no data", anchor="middle", colour=FAINT)
        return canvas.svg(64)
    top = _legend(canvas, chart.series)
    draw = {"bar": _bars, "column": _columns, "line": _lines}[chart.kind]
    height = draw(canvas, chart, top)
    if chart.left_out:
        canvas.text(WIDTH - 4, height + 12, f"{chart.left_out:,} more are not shown", anchor="end", colour=FAINT)
        height += 20
    return canvas.svg(height)


@dataclass(slots=True)
class _Canvas:
    """What has been drawn; everything is text or a number of ours, and text is escaped."""

    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
        self.parts.append(f"<text {place}>{escape(_shortened(text))}</text>")

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = GRID) -> None:
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1"/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, colour: str, hint: str = "") -> None:
        told = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" '
            f'rx="1.5" fill="{colour}">{told}</rect>'
        )

    def dot(self, x: float, y: float, colour: str, hint: str) -> None:
        told = f"<title>{escape(hint)}</title>"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}">{told}</circle>')

    def svg(self, height: float) -> str:
        size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.title)}" '
            f'font-family="{FONT}" font-size="12">{"".join(self.parts)}</svg>'
        )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Round steps from `low` to `high`, both of them among the ticks, zero always within."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def scale(values: Iterable[float], *, least: float = 1e-9, from_zero: bool = True) -> _Scale:
    """Return at most seven round steps, multiples of `least`, that hold all values, and zero unless told otherwise."""
    found = list(values)
    low, high = min(found), max(found)
    if from_zero or low <= 0.35 * high:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < least:
        low, high = (low, low + max(least, 1)) if low >= 0 else (high - max(least, 1), high)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    steps = (power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    step = next((step for step in steps if _is_multiple(step, least)), least * math.ceil(rough / least))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * number for number in range(first, last + 1))
    return _Scale(ticks[0], ticks[-1], ticks)


def _is_multiple(step: float, least: float) -> bool:
    return step >= least * 0.999 and abs(step / least - round(step / least)) < NEARLY


def _scale_of(chart: Chart, *, from_zero: bool = True) -> _Scale:
    return scale(_values(chart.series), least=10.0**-chart.number.decimals, from_zero=from_zero)


def _values(series: Sequence[Series]) -> list[float]:
    return [value for each in series for value in each.values if value is not None]


def _legend(canvas: _Canvas, series: Sequence[Series]) -> float:
    """Name the series above the chart where there is more than one; return where the chart begins."""
    if len(series) == 1:
        return 10.0
    x, y = EDGE, 14.0
    for number, each in enumerate(series):
        width = 22 + len(_shortened(each.name)) * LETTER + 14
        if x + width > WIDTH and x > EDGE:
            x, y = EDGE, y + 20
        canvas.rect(x, y - 9, 11, 11, _colour(number))
        canvas.text(x + 17, y, each.name)
        x += width
    return y + 16


def _bars(canvas: _Canvas, chart: Chart, top: float) -> float:
    """Bars that grow to the right, a row a step; the value stands at the end of each."""
    widest = max(len(_shortened(step)) for step in chart.steps)
    left = min(max(widest * LETTER + 14, 60), 250.0)
    found = _scale_of(chart)
    longest = max(len(chart.number.shown(value)) for value in _values(chart.series))
    right = WIDTH - longest * LETTER - 16
    names = left - 8
    if found.low < 0:
        left += longest * LETTER + 8
    thick = ROW - 8 if len(chart.series) == 1 else 12
    tall = thick * len(chart.series) + GAP
    bottom = top + tall * len(chart.steps)

    def at(value: float) -> float:
        return left + (right - left) * found.share(value)

    ticks = found.ticks if len(found.ticks) <= _fitting(right - left, chart) else (found.ticks[0], found.ticks[-1])
    for tick in ticks:
        canvas.line(at(tick), top, at(tick), bottom)
        canvas.text(at(tick), bottom + 16, _tick(chart, tick), anchor="middle", colour=FAINT)
    for number, step in enumerate(chart.steps):
        middle = top + tall * number + tall / 2
        canvas.text(names, middle + 4, step, anchor="end")
        for place, each in enumerate(chart.series):
            value = each.values[number]
            if value is None:
                continue
            y = top + tall * number + GAP / 2 + thick * place
            start, end = sorted((at(0), at(value)))
            canvas.rect(start, y, end - start, thick - 2, _colour(place), f"{step}: {chart.number.shown(value)}")
            if value < 0:
                canvas.text(start - 5, y + thick / 2 + 3, chart.number.shown(value), anchor="end")
            else:
                canvas.text(end + 5, y + thick / 2 + 3, chart.number.shown(value))
    canvas.line(at(0), top, at(0), bottom, AXIS)
    return bottom + 26


def _columns(canvas: _Canvas, chart: Chart, top: float) -> float:
    """Columns that grow upwards, side by side for each step."""
    up, left, right, bottom = _upright(canvas, chart, top, _scale_of(chart))
    share = (right - left) / len(chart.steps)
    width = min(share * 0.72, 56 * len(chart.series)) / len(chart.series)
    roomy = width >= max(len(chart.number.shown(value)) for value in _values(chart.series)) * LETTER * 0.9
    for number, step in enumerate(chart.steps):
        start = left + share * (number + 0.5) - width * len(chart.series) / 2
        for place, each in enumerate(chart.series):
            value = each.values[number]
            if value is None:
                continue
            above, below = sorted((up(value), up(0)))
            canvas.rect(
                start + width * place, above, width - 1, below - above, _colour(place),
                f"{step}: {chart.number.shown(value)}",
            )  # fmt: skip
            if roomy:
                y = above - 4 if value >= 0 else below + 12
                canvas.text(start + width * (place + 0.5), y, chart.number.shown(value), anchor="middle")
    canvas.line(left, up(0), right, up(0), AXIS)
    _names(canvas, chart.steps, lambda number: left + share * (number + 0.5), share, bottom)
    return bottom + 26


def _lines(canvas: _Canvas, chart: Chart, top: float) -> float:
    """Lines over the steps; one that has a gap is broken there."""
    up, left, right, bottom = _upright(canvas, chart, top, _scale_of(chart, from_zero=False))
    share = (right - left - 16) / max(len(chart.steps) - 1, 1)

    def at(number: int) -> float:
        return left + 8 + share * number

    for place, each in enumerate(chart.series):
        for piece in _pieces(each.values):
            points = " ".join(f"{at(number):.1f},{up(value):.1f}" for number, value in piece)
            canvas.parts.append(
                f'<polyline points="{points}" fill="none" stroke="{_colour(place)}" stroke-width="2" '
                'stroke-linejoin="round" stroke-linecap="round"/>'
            )
            if len(chart.steps) <= MOST_DOTS or len(piece) == 1:
                for number, value in piece:
                    hint = f"{chart.steps[number]}: {chart.number.shown(value)}"
                    canvas.dot(at(number), up(value), _colour(place), hint)
    canvas.line(left, bottom, right, bottom, AXIS)
    _names(canvas, chart.steps, at, share, bottom)
    return bottom + 26


def _upright(
    canvas: _Canvas, chart: Chart, top: float, found: _Scale
) -> tuple[Callable[[float], float], float, float, float]:
    """Draw the scale at the left; return where a value stands, and the edges of the chart."""
    top += 12
    left = 12 + max(len(_tick(chart, tick)) for tick in found.ticks) * LETTER
    right, bottom = WIDTH - 6.0, top + TALL

    def up(value: float) -> float:
        return bottom - TALL * found.share(value)

    for tick in found.ticks:
        canvas.line(left, up(tick), right, up(tick))
        canvas.text(left - 8, up(tick) + 4, _tick(chart, tick), anchor="end", colour=FAINT)
    return up, left, right, bottom


def _names(canvas: _Canvas, steps: Sequence[str], at: Callable[[int], float], share: float, bottom: float) -> None:
    """Write as many names below a chart as have room, the first one always."""
    widest = max(len(_shortened(step)) for step in steps) * LETTER + 12
    every = max(1, math.ceil(widest / max(share, 0.1)))
    for number in range(0, len(steps), every):
        half = len(_shortened(steps[number])) * LETTER / 2
        middle = min(max(at(number), half), WIDTH - half)
        canvas.text(middle, bottom + 17, steps[number], anchor="middle", colour=FAINT)


def _pieces(values: Sequence[float | None]) -> Iterable[list[tuple[int, float]]]:
    piece: list[tuple[int, float]] = []
    for number, value in enumerate(values):
        if value is None:
            if piece:
                yield piece
            piece = []
        else:
            piece.append((number, value))
    if piece:
        yield piece


def _fitting(width: float, chart: Chart) -> int:
    longest = max(len(chart.number.shown(value)) for value in _values(chart.series))
    return int(width / (longest * LETTER + 12))


def _tick(chart: Chart, tick: float) -> str:
    """A whole tick is written without a point."""
    is_whole = abs(tick - round(tick)) < NEARLY
    return (replace(chart.number, decimals=0) if is_whole else chart.number).shown(round(tick, 9))


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
