"""The page's charts as inline SVG: they read without JavaScript, in print, and follow the page's colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from dagn_pre.benchmarks.downstream.report.numbers import number

WIDTH, HEIGHT = 420, 290  # small, so that type stays legible when a phone shrinks it
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
DODGE = 3.5  # between the series of a chart, so that their intervals stand side by side
TICKS = MaxNLocator(6, steps=[1, 2, 5, 10])
MARKERS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "s": "M-4 -4H4V4H-4Z",
    "^": "M0 -5L5 4H-5Z",
    "D": "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "v": "M0 5L5 -4H-5Z",
    "P": "M-1.7 -5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
}


@dataclass(frozen=True)
class Point:
    """A point, its interval along y, what its tooltip says, and a short text to stand beside it."""

    x: float
    y: float
    ends: tuple[float, float] | None = None
    tip: str = ""
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one input: ``css`` and ``mark`` of the palette; ``flat``: one level over the whole width."""

    name: str
    css: str
    mark: str
    points: list[Point] = field(default_factory=list)
    flat: bool = False
    hollow: bool = False
    line: bool = True


class Scale:
    """From values to the chart's coordinates."""

    def __init__(self, low: float, high: float, start: float, stop: float):
        self.low, self.span = low, (high - low) or 1
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / self.span * (self.stop - self.start), 1)


def chart(
    series: list[Series],
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Iterable[float] | None = None,
    levels: tuple[float, ...] = (),
    limits: tuple[float, float] | None = None,
) -> Markup:
    """An SVG of lines with intervals, or of points.

    Args:
        x_ticks: where x has ticks, the ends of the axis; None: round numbers from 0 on.
        levels: y values with a dotted line, that the chart always shows.
        limits: y beyond them is cut off.
    """
    points = [point for one in series for point in one.points]
    ys = [y for point in points for y in (point.y, *(point.ends or ()))] + list(levels)
    low, high = min(ys, default=0), max(ys, default=1)
    if limits:
        low, high = max(low, limits[0]), min(high, limits[1])
    y_ticks = list(TICKS.tick_values(low, high))
    while len(y_ticks) > 2 and y_ticks[1] <= low:
        y_ticks = y_ticks[1:]
    while len(y_ticks) > 2 and y_ticks[-2] >= high:
        y_ticks = y_ticks[:-1]
    xs = [point.x for one in series if not one.flat for point in one.points]
    ticks = list(x_ticks) if x_ticks is not None else list(TICKS.tick_values(0, max(xs, default=1)))
    margin = (0.04 * (ticks[-1] - ticks[0]) or 1) if x_ticks is not None else 0
    x = Scale(ticks[0] - margin, ticks[-1] + margin, LEFT, WIDTH - RIGHT)
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [*axes(ticks, y_ticks, x, y, x_label, y_label)]
    parts += [f'<path class="level" d="M{LEFT} {y(level)}H{WIDTH - RIGHT}"/>' for level in levels]
    # A nested svg cuts off what lies beyond the frame without an id, which charts would have to share out.
    x0, y0, x1, y1 = LEFT - 6, TOP - 6, WIDTH - RIGHT + 6, HEIGHT - BOTTOM + 6
    parts.append(f'<svg x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}" viewBox="{x0} {y0} {x1 - x0} {y1 - y0}">')
    dodged = [one for one in series if one.line and not one.flat]
    for one in series:
        parts += drawn(one, x, y, DODGE * (dodged.index(one) - (len(dodged) - 1) / 2) if one in dodged else 0)
    parts.append("</svg>")
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def axes(x_ticks: list[float], y_ticks: list[float], x: Scale, y: Scale, x_label: str, y_label: str) -> Iterator[str]:
    """Grid, numbers and names of both axes."""
    for tick in y_ticks:
        yield f'<path class="grid" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>'
    for tick in x_ticks:
        yield f'<path class="grid" d="M{x(tick)} {HEIGHT - BOTTOM}v4"/>'
        yield f'<text class="tick" x="{x(tick)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
    yield f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text class="axis" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'


def drawn(one: Series, x: Scale, y: Scale, shift: float) -> Iterator[str]:
    """Intervals, line and marks, ``shift`` to the right; a large unseen disc lets fingers find a mark."""
    style = f"{one.css}{' hollow' if one.hollow else ''}"
    if one.flat:
        point = one.points[0]
        yield f'<g class="point" data-tip="{escape(point.tip)}"><path class="line flat {style}" d="M{LEFT} {y(point.y)}'
        yield f'H{WIDTH - RIGHT}"/><path class="hit wide" d="M{LEFT} {y(point.y)}H{WIDTH - RIGHT}"/>'
        yield f"<title>{escape(point.tip)}</title></g>"
        return
    places = [round(x(point.x) + shift, 1) for point in one.points]
    for at, point in zip(places, one.points):
        if point.ends:
            low, high = map(y, point.ends)
            yield f'<path class="bar {one.css}" d="M{at} {low}V{high}M{at - 2.5:.1f} {low}h5M{at - 2.5:.1f} {high}h5"/>'
    if one.line:
        corners = " ".join(f"{at},{y(point.y)}" for at, point in zip(places, one.points))
        yield f'<polyline class="line {style}" points="{corners}"/>'
    written: list[float] = []
    for at, point in zip(places, one.points):
        height, tip = y(point.y), escape(point.tip)
        yield f'<g class="point" data-tip="{tip}" transform="translate({at} {height})"><title>{tip}</title>'
        yield f'<circle class="hit" r="11"/><path class="mark {style}" d="{MARKERS[one.mark]}"/>'
        if point.label and all(abs(height - other) >= 11 for other in written):
            written.append(height)
            place = 'x="-8" y="4" text-anchor="end"' if at > WIDTH - 70 else 'x="8" y="4"'
            yield f'<text class="label" {place}>{escape(point.label)}</text>'
        yield "</g>"


def swatch(css: str, mark: str, flat: bool = False, hollow: bool = False, line: bool = True) -> Markup:
    """A line and its mark, or one of them, for a legend."""
    style = f"{css}{' hollow' if hollow else ''}"
    shape = "" if flat else f'<path class="mark {style}" transform="translate(13 7)" d="{MARKERS[mark]}"/>'
    stroke = f'<path class="line {"flat " if flat else ""}{style}" d="M0 7H26"/>' if line or flat else ""
    return Markup(f'<svg class="swatch" width="26" height="14" viewBox="0 0 26 14" aria-hidden="true">{stroke}{shape}</svg>')


def change(before: float | None, after: float | None, css: str) -> Markup:
    """A bar from 0 to 100 percent with JPEG's score as a ring, the restored one as a disc, and the way between."""
    if before is None or after is None:
        return Markup("")
    start, stop = 6 + 1.28 * before, 6 + 1.28 * after
    return Markup(
        f'<svg class="change" width="140" height="14" viewBox="0 0 140 14" role="img" aria-label="from {number(before, 1)} to '
        f'{number(after, 1)}"><path class="grid" d="M6 7H134"/><path class="way {css}" d="M{start:.1f} 7H{stop:.1f}"/>'
        f'<circle class="mark s-jpeg hollow" cx="{start:.1f}" cy="7" r="4"/>'
        f'<circle class="mark {css}" cx="{stop:.1f}" cy="7" r="4"/></svg>'
    )
