"""Charts as SVG: bars and lines with their axes, for light and dark backgrounds, 800 wide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH, MARGIN = 800, 24
LABELS, VALUES = 248, 84
"""Room for the names beside the bars, and for the values behind them."""
ROW, BAR = 26, 16
STYLE = """
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.heading { font-weight: 600; }
.faint { font-size: 12px; fill: #59636e; }
.back { fill: #ffffff; stroke: #d1d9e0; }
.grid { stroke: #d1d9e0; }
.axis { stroke: #818b98; }
.ours { fill: #0969da; }
.peer { fill: #a3adb8; }
.late { stroke: #59636e; stroke-width: 1.5; }
.value { paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }
.line { fill: none; stroke-width: 2; }
.s0 { stroke: #0969da; fill: #0969da; }
.s1 { stroke: #bc4c00; fill: #bc4c00; }
.s2 { stroke: #1a7f37; fill: #1a7f37; }
.s3 { stroke: #8250df; fill: #8250df; }
.s4 { stroke: #9a6700; fill: #9a6700; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .faint { fill: #9198a1; }
  .back { fill: #0d1117; stroke: #3d444d; }
  .grid { stroke: #30363d; }
  .axis { stroke: #656c76; }
  .ours { fill: #4493f8; }
  .peer { fill: #656c76; }
  .late { stroke: #9198a1; }
  .value { stroke: #0d1117; }
  .s0 { stroke: #4493f8; fill: #4493f8; }
  .s1 { stroke: #f0883e; fill: #f0883e; }
  .s2 { stroke: #3fb950; fill: #3fb950; }
  .s3 { stroke: #ab7df8; fill: #ab7df8; }
  .s4 { stroke: #d29922; fill: #d29922; }
}
"""


@dataclass(slots=True)
class Bar:
    """One row: a value, and where 95 % of what was measured ends if that is told."""

    name: str
    value: float
    late: float | None = None

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("ours")


@dataclass(slots=True)
class Chart:
    """A picture that grows downwards."""

    title: str
    height: float = 52.0
    _parts: list[str] = field(default_factory=list)

    def bars(self, heading: str, rows: Sequence[Bar], axis: str, show: Callable[[float], str], *, log: bool) -> None:
        """Add rows of bars with an axis below them."""
        left, right = MARGIN + LABELS, WIDTH - MARGIN - VALUES
        scale = _log_scale(rows) if log else _scale(max(row.value for row in rows))
        top = self._heading(heading)
        bottom = top + ROW * len(rows)

        def at(value: float) -> float:
            return left + (right - left) * scale.share(value)

        for tick in scale.ticks:
            self._line("axis" if tick == scale.ticks[0] else "grid", at(tick), top - 4, at(tick), bottom)
            self._text("faint", at(tick), bottom + 16, show(tick), "middle")
        for number, row in enumerate(rows):
            middle = top + ROW * number + ROW / 2
            weight = "heading" if row.is_ours else ""
            self._text(weight, left - 10, middle + 4.5, row.name, "end")
            kind = "ours" if row.is_ours else "peer"
            width = max(at(row.value) - left, 1)
            self._parts.append(
                f'<rect class="{kind}" x="{left}" y="{middle - BAR / 2:g}" width="{width:.1f}" height="{BAR}" rx="2"/>'
            )
            end = at(row.value)
            if row.late is not None:
                late = end = at(max(row.late, row.value))
                self._line("late", at(row.value), middle, late, middle)
                self._line("late", late, middle - 5, late, middle + 5)
            self._text(f"value {weight}".strip(), end + 7, middle + 4.5, show(row.value), "start")
        self._text("faint", (left + right) / 2, bottom + 34, f"{axis}{', logarithmic' if log else ''}", "middle")
        self.height = bottom + 58

    def lines(self, heading: str, series: Mapping[str, Mapping[str, float]], across: str, axis: str) -> None:
        """Add lines over the same steps, each named at its right end, with an axis from zero."""
        left, right, tall = MARGIN + 56, WIDTH - MARGIN - 190, 190
        top = self._heading(heading)
        bottom = top + tall
        scale = _scale(max(max(points.values()) for points in series.values()))
        steps = list(next(iter(series.values())))
        gap = (right - left - 40) / max(len(steps) - 1, 1)

        def up(value: float) -> float:
            return bottom - tall * scale.share(value)

        for tick in scale.ticks:
            self._line("axis" if tick == 0 else "grid", left, up(tick), right, up(tick))
            self._text("faint", left - 8, up(tick) + 4, f"{tick:,.0f}", "end")
        for number, step in enumerate(steps):
            self._text("faint", left + 20 + gap * number, bottom + 18, step, "middle")
        named: list[tuple[float, int, str]] = []
        for number, (name, points) in enumerate(series.items()):
            places = [(left + 20 + gap * index, up(points[step])) for index, step in enumerate(steps)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            self._parts.append(f'<polyline class="line s{number}" style="fill: none" points="{path}"/>')
            self._parts += [f'<circle class="s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
            named.append((places[-1][1], number, f"{name}, {points[steps[-1]]:,.0f} us"))
        self._names(named, right + 8)
        self._text("faint", (left + right) / 2, bottom + 38, across, "middle")
        middle = (top + bottom) / 2
        turned = f'transform="rotate(-90 {MARGIN + 6} {middle:g})"'
        self._parts.append(
            f'<text class="faint" x="{MARGIN + 6}" y="{middle:g}" text-anchor="middle" {turned}>{escape(axis)}</text>'
        )
        self.height = bottom + 62

    def svg(self) -> str:
        """Return the picture."""
        tall = round(self.height + 6)
        title = escape(self.title)
        size = f'viewBox="0 0 {WIDTH} {tall}" width="{WIDTH}" height="{tall}"'
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
            f"<style>{STYLE}</style>",
            f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{tall - 1}" rx="8"/>',
            f'<text class="title" x="{MARGIN}" y="34">{title}</text>',
            *self._parts,
            "</svg>",
            "",
        ])  # fmt: skip

    def _heading(self, text: str) -> float:
        if text:
            self._text("heading", MARGIN, self.height + 14, text, "start")
        return self.height + (30 if text else 8)

    def _names(self, named: list[tuple[float, int, str]], x: float) -> None:
        """Write the names of lines where these end, moved apart where they would lie on one another."""
        lowest = -math.inf
        for y, number, name in sorted(named):
            lowest = max(y + 4, lowest + 16)
            self._parts.append(f'<circle class="s{number}" cx="{x + 4:.1f}" cy="{lowest - 4:.1f}" r="4"/>')
            self._text("", x + 13, lowest, name, "start")

    def _text(self, kind: str, x: float, y: float, text: str, anchor: str) -> None:
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def _line(self, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
        self._parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


@dataclass(frozen=True, slots=True)
class _Scale:
    ticks: tuple[float, ...]
    share: Callable[[float], float]


def _scale(most: float) -> _Scale:
    """From zero to a round number, in at most six steps."""
    rough = most / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    count = math.ceil(most / step)
    return _Scale(tuple(step * number for number in range(count + 1)), lambda value: value / (step * count))


def _log_scale(rows: Sequence[Bar]) -> _Scale:
    """From one power of ten to another."""
    least = math.floor(math.log10(min(row.value for row in rows)))
    most = math.ceil(math.log10(max(row.late or row.value for row in rows)))
    ticks = tuple(10.0**power for power in range(least, most + 1))
    return _Scale(ticks, lambda value: (math.log10(value) - least) / (most - least))
