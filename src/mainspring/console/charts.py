"""Line charts as SVG, drawn on the server: the first paint needs no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import msgspec
from markupsafe import Markup

from mainspring.console import words
from mainspring.console.colours import assign_colours

WIDTH, HEIGHT = 1200, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 120, 20, 24
MARKER_ROW = 16
"""Height of each row of marker glyphs above the plot."""
MAX_POINTS = 2000
_DAY = 86_400_000


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a series, with what is known of it.

    The rows it was measured on and its standard error; or, where it stands for several values, the lowest and highest.
    """

    x: float
    y: float
    n: int | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A named line."""

    name: str
    points: list[Point]


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at ``x``: a vertical line with a glyph."""

    x: float
    glyph: str
    tone: words.Tone
    label: str
    href: str = ""
    row: int = 0
    """Row of its glyph above the plot: markers that come close together go into different rows."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A horizontal line a value is compared with."""

    y: float
    label: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """What a line chart shows; ``time_axis`` says that x is milliseconds since the epoch."""

    title: str
    series: list[Series]
    markers: list[Marker] = []
    thresholds: list[Threshold] = []
    time_axis: bool = True
    y_label: str = ""
    height: int = HEIGHT


def downsample(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Keep at most ``limit`` points: the lowest and the highest of each bucket, in order."""
    if len(points) <= limit:
        return list(points)
    buckets = limit // 2
    kept: list[Point] = []
    for index in range(buckets):
        bucket = points[index * len(points) // buckets : (index + 1) * len(points) // buckets]
        ends = {id(point): point for point in (min(bucket, key=_y), max(bucket, key=_y))}
        kept.extend(sorted(ends.values(), key=lambda point: point.x))
    return kept


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between ``low`` and ``high``, about ``count`` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.99)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


class _Frame(msgspec.Struct, frozen=True):
    """Turns values into pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: int
    top: int

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - BOTTOM - share * (self.height - self.top - BOTTOM), 1)


def draw_chart(chart: Chart) -> Markup:
    """Draw a chart as SVG; an empty string if it has no points."""
    lines = [msgspec.structs.replace(line, points=_finite(line.points)) for line in chart.series]
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    frame = _frame(lines, chart)
    colours = assign_colours(line.name for line in lines)
    body = [
        *_y_axis(frame),
        *_x_axis(frame, chart.time_axis),
        *(_threshold(frame, threshold) for threshold in chart.thresholds),
        *(_marker(frame, marker) for marker in chart.markers if frame.x_low <= marker.x <= frame.x_high),
        *(_band(frame, line, colours[line.name]) for line in lines),
        *(_line(frame, line, colours[line.name], chart.time_axis) for line in lines),
        *_names(frame, lines, colours),
    ]
    about = f"{chart.title}: " + ", ".join(f"{line.name} last {words.number(line.points[-1].y)}" for line in lines)
    return Markup(  # noqa: S704 - every text below went through escape
        f'<svg class="chart" viewBox="0 0 {WIDTH} {chart.height}" role="img" aria-label="{escape(about)}">'
        f'<text class="unit" x="4" y="12">{escape(chart.y_label or chart.title)}</text>{"".join(body)}</svg>'
    )


def _y(point: Point) -> float:
    return point.y


def _finite(points: Sequence[Point]) -> list[Point]:
    return downsample([point for point in points if math.isfinite(point.y) and math.isfinite(point.x)])


def _frame(lines: Sequence[Series], chart: Chart) -> _Frame:
    xs = [point.x for line in lines for point in line.points]
    ys = [y for line in lines for point in line.points for y in (point.y, point.low, point.high) if y is not None]
    ys += [threshold.y for threshold in chart.thresholds]
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    if chart.time_axis:
        x_high = max([x_high, *(marker.x for marker in chart.markers)])
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    padding = (y_high - y_low) * 0.08 or max(abs(y_high) * 0.1, 1e-6)
    top = TOP + MARKER_ROW * max((marker.row + 1 for marker in chart.markers), default=0)
    return _Frame(x_low, x_high, y_low - padding, y_high + padding, chart.height, top)


def _y_axis(frame: _Frame) -> list[str]:
    marks = ticks(frame.y_low, frame.y_high)
    return [
        f'<path class="grid" d="M{LEFT} {frame.y(mark)}H{WIDTH - RIGHT}"/>'
        f'<text class="tick end" x="{LEFT - 6}" y="{frame.y(mark) + 4:.1f}">{text}</text>'
        for mark, text in zip(marks, _write(marks), strict=True)
    ]


def _write(marks: Sequence[float]) -> list[str]:
    """Write the numbers of an axis, all with as many decimals as any of them needs."""
    plain = [f"{mark:.6g}" for mark in marks]
    if any("e" in text for text in plain):
        return plain
    places = max(len(text.partition(".")[2]) for text in plain)
    return [f"{mark:,.{places}f}" for mark in marks]


def _x_axis(frame: _Frame, time_axis: bool) -> list[str]:
    base = frame.height - BOTTOM
    marks = _days(frame) if time_axis else ticks(frame.x_low, frame.x_high, 8)
    texts = [words.day(int(mark)) for mark in marks] if time_axis else _write(marks)
    return [f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>'] + [
        f'<text class="tick mid" x="{frame.x(mark)}" y="{base + 16}">{text}</text>'
        for mark, text in zip(marks, texts, strict=True)
    ]


def _days(frame: _Frame) -> list[float]:
    span = max(1, math.ceil((frame.x_high - frame.x_low) / _DAY))
    step = max(1, math.ceil(span / 9)) * _DAY
    first = math.ceil(frame.x_low / _DAY) * _DAY
    return [float(mark) for mark in range(first, int(frame.x_high) + 1, step)] or [frame.x_low]


def _threshold(frame: _Frame, threshold: Threshold) -> str:
    y = frame.y(threshold.y)
    return (
        f'<path class="threshold" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        f'<text class="tick" x="{WIDTH - RIGHT + 6}" y="{y + 4}">{escape(threshold.label)}</text>'
    )


def _marker(frame: _Frame, marker: Marker) -> str:
    x = frame.x(marker.x)
    glyph_y = TOP + MARKER_ROW * marker.row + 9
    shape = (
        f'<g class="marker {marker.tone}"><title>{escape(marker.label)}</title>'
        f'<path d="M{x} {glyph_y + 4}V{frame.height - BOTTOM}"/>'
        f'<text class="mid" x="{x}" y="{glyph_y}">{escape(marker.glyph)}</text></g>'
    )
    return f'<a href="{escape(marker.href)}" aria-label="{escape(marker.label)}">{shape}</a>' if marker.href else shape


def _band(frame: _Frame, line: Series, colour: int) -> str:
    known = [(point.x, reach) for point in line.points if (reach := _reach(point)) is not None]
    if len(known) < 2:
        return ""
    upper = [f"{frame.x(x)} {frame.y(high)}" for x, (_, high) in known]
    lower = [f"{frame.x(x)} {frame.y(low)}" for x, (low, _) in reversed(known)]
    return f'<path class="band s{colour}" d="M{"L".join(upper + lower)}Z"/>'


def _reach(point: Point) -> tuple[float, float] | None:
    """Return from where to where a point's band goes: its lowest and highest value, or two standard errors."""
    if point.low is not None and point.high is not None:
        return point.low, point.high
    return None if point.error is None else (point.y - 2 * point.error, point.y + 2 * point.error)


def _line(frame: _Frame, line: Series, colour: int, time_axis: bool) -> str:
    path = "L".join(f"{frame.x(point.x)} {frame.y(point.y)}" for point in line.points)
    dots = ""
    if len(line.points) <= 120:
        dots = "".join(
            f'<circle cx="{frame.x(point.x)}" cy="{frame.y(point.y)}" r="2.5">'
            f"<title>{escape(_describe(line.name, point, time_axis))}</title></circle>"
            for point in line.points
        )
    return f'<g class="line s{colour}"><path d="M{path}"/>{dots}</g>'


def _describe(name: str, point: Point, time_axis: bool) -> str:
    where = words.day(int(point.x)) if time_axis else words.number(point.x)
    rows = f", n={point.n:,}" if point.n is not None else ""
    return f"{name} {where}: {words.estimate(point.y, point.error)}{rows}"


def _names(frame: _Frame, lines: Sequence[Series], colours: dict[str, int]) -> list[str]:
    """Label each line at its end: on the line if that is inside the plot, beside it (moved apart) if not."""
    inside = [line for line in lines if frame.x(line.points[-1].x) < WIDTH - RIGHT - 40]
    beside = [line for line in lines if line not in inside]
    texts, last = [], -math.inf
    for line in inside:
        end = line.points[-1]
        texts.append(_name(line.name, colours, frame.x(end.x), frame.y(end.y) - 8, "name mid"))
    for y, line in sorted(((frame.y(line.points[-1].y), line) for line in beside), key=lambda end: end[0]):
        last = max(y, last + 15)
        texts.append(_name(line.name, colours, WIDTH - RIGHT + 8, round(last + 4, 1), "name"))
    return texts


def _name(name: str, colours: dict[str, int], x: float, y: float, classes: str) -> str:
    shown = name if len(name) <= 16 else f"{name[:15]}…"
    return f'<text class="{classes} s{colours[name]}" x="{x}" y="{y}">{escape(shown)}</text>'
