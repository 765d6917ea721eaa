"""Charts as small accessible SVG, drawn by hand: about 3 kB each where a plotting library needs 15, and no import of one.

Every chart is a `<figure>`: its title and legend are text, and the drawing carries a description with its end points, which is
what a screen reader says. Colours are classes (`s0` ... `s5`) that `style.css` fills, so that light and dark pages share one chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

MAX_POINTS = 300
"""Points drawn of one line; longer ones are averaged in neighbouring groups."""
NUM_COLOURS = 6

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """One labelled dot; `low` and `high` are the ends of its interval on the y axis."""

    x: float
    y: float
    label: str
    low: float | None = None
    high: float | None = None
    group: int = 0
    """Number of the colour."""
    is_cross: bool = False
    """A known reference, not something measured here."""


@dataclass(frozen=True)
class Axes:
    """Pixel frame of a drawing and its two scales."""

    x: Point
    y: Point
    width: float = 460.0
    height: float = 220.0
    left: float = 46.0
    right: float = 12.0
    top: float = 8.0
    bottom: float = 34.0

    def px(self, value: float) -> float:
        """Pixels of a value on the x axis."""
        return self.left + (self.width - self.left - self.right) * (value - self.x[0]) / (self.x[1] - self.x[0])

    def py(self, value: float) -> float:
        """Pixels of a value on the y axis."""
        return self.height - self.bottom - (self.height - self.top - self.bottom) * (value - self.y[0]) / (self.y[1] - self.y[0])

    def grid(self, xlabel: str, ylabel: str, xnames: Sequence[str] = ()) -> str:
        """Lines, numbers and names of both axes; `xnames` replaces the numbers of the x axis by words at 0, 1, 2, ..."""
        parts = []
        for value in ticks(*self.y):
            y = self.py(value)
            parts.append(f'<path class="gr" d="M{self.left:g} {y:.1f}H{self.width - self.right:g}"/>')
            parts.append(f'<text x="{self.left - 5:g}" y="{y + 3:.1f}" text-anchor="end">{value:g}</text>')
        base = self.height - self.bottom
        at = list(enumerate(xnames)) if xnames else [(value, f"{value:g}") for value in ticks(*self.x)]
        parts += [
            f'<text x="{self.px(x):.1f}" y="{base + 14:g}" text-anchor="middle">{escape(str(word))}</text>' for x, word in at
        ]
        middle = (self.left + self.width - self.right) / 2
        parts.append(f'<text x="{middle:g}" y="{self.height - 4:g}" text-anchor="middle" class="ax">{escape(xlabel)}</text>')
        if ylabel:
            parts.append(
                f'<text transform="translate(10 {base / 2:g}) rotate(-90)" text-anchor="middle" class="ax">{escape(ylabel)}</text>'
            )
        return "".join(parts)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two ends, about `wanted` of them: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [
        round(step * (first + number), 10)
        for number in range(int((high - low) / step + 1e-9) + 2)
        if step * (first + number) <= high + step * 1e-6
    ]


def spread(values: Sequence[float], *, margin: float = 0.05) -> Point:
    """The range of some values with a margin; never empty."""
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        half = max(abs(high) * 0.1, 0.5)
        return low - half, high + half
    return low - margin * (high - low), high + margin * (high - low)


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: means of neighbouring groups of equal number."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def lines(
    series: Mapping[str, Sequence[Point]],
    title: str,
    *,
    xlabel: str = "",
    smooth: Callable[[Sequence[float]], list[float]] | None = None,
) -> str:
    """Lines over a shared x axis. With `smooth` the values are pale and their smoothed line strong."""
    drawn = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return ""
    every = [point for points in drawn.values() for point in points]
    axes = Axes(spread([x for x, _ in every], margin=0.0), spread([y for _, y in every]))
    body = [axes.grid(xlabel, "")]
    for number, points in enumerate(drawn.values()):
        if smooth is not None:
            body.append(f'<path class="ln pale s{number % NUM_COLOURS}" d="{_path(axes, thinned(points))}"/>')
            points = list(zip([x for x, _ in points], smooth([y for _, y in points]), strict=True))
        body.append(f'<path class="ln s{number % NUM_COLOURS}" d="{_path(axes, thinned(points))}"/>')
        if len(points) == 1:
            body.append(
                f'<circle class="dot s{number % NUM_COLOURS}" cx="{axes.px(points[0][0]):.1f}" cy="{axes.py(points[0][1]):.1f}" r="3"/>'
            )
    told = "; ".join(f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in drawn.items())
    return figure(title, list(drawn) if len(drawn) > 1 else [], axes, "".join(body), told)


def areas(series: Mapping[str, Sequence[Point]], title: str, *, xlabel: str = "") -> str:
    """Shares stacked to at most 1 over a shared x axis; all series have the same x values."""
    drawn = {name: thinned(points, 100) for name, points in series.items() if points}
    if not drawn:
        return ""
    xs = [x for x, _ in next(iter(drawn.values()))]
    axes = Axes(spread(xs, margin=0.0), (0.0, 1.0))
    floor, body = [0.0] * len(xs), [axes.grid(xlabel, "")]
    for number, (name, points) in enumerate(drawn.items()):
        roof = [min(1.0, below + y) for below, (_, y) in zip(floor, points, strict=True)]
        there = list(zip(xs, roof, strict=True))
        back = list(zip(reversed(xs), reversed(floor), strict=True))
        outline = _path(axes, there) + "L" + _path(axes, back)[1:] + "Z"
        body.append(
            f'<path class="ar s{number % NUM_COLOURS} t{number // NUM_COLOURS}" d="{outline}"><title>{escape(name)}</title></path>'
        )
        floor = roof
    told = "; ".join(f"{name} from {points[0][1]:.0%} to {points[-1][1]:.0%}" for name, points in drawn.items())
    return figure(title, list(drawn), axes, "".join(body), told)


def dots(
    marks: Sequence[Mark], title: str, *, xlabel: str, ylabel: str, groups: Sequence[str] = (), joined: bool = False,
    xnames: Sequence[str] = (), x: Point | None = None, y: Point | None = None, has_labels: bool = True,
) -> str:  # fmt: skip
    """Labelled dots, with intervals where they have them; `joined` draws a thin line through the dots of each group in order.
    Without labels (or with words on the x axis) a dot says its name in its tooltip alone."""
    marks = [mark for mark in marks if math.isfinite(mark.x) and math.isfinite(mark.y)]
    if not marks:
        return ""
    heights = [value for mark in marks for value in (mark.y, mark.low, mark.high) if value is not None]
    across = x or ((-0.5, len(xnames) - 0.5) if xnames else spread([mark.x for mark in marks], margin=0.12))
    axes = Axes(across, y or spread(heights), height=250.0)
    body = [axes.grid(xlabel, ylabel, xnames)]
    for group in sorted({mark.group for mark in marks}) if joined else ():
        path = _path(axes, [(mark.x, mark.y) for mark in marks if mark.group == group and not mark.is_cross])
        body.append(f'<path class="ln pale s{group % NUM_COLOURS}" d="{path}"/>' if path else "")
    taken: list[Point] = []
    body += [_mark(axes, mark, taken, has_label=has_labels and not xnames) for mark in marks]
    told = "; ".join(
        f"{mark.label} at {mark.x:.3g}, {mark.y:.3g}" if not xnames else f"{mark.label} {mark.y:.3g}" for mark in marks
    )
    return figure(title, groups, axes, "".join(body), told)


def _mark(axes: Axes, mark: Mark, taken: list[Point], *, has_label: bool) -> str:
    cx, cy, colour = axes.px(mark.x), axes.py(mark.y), f"s{mark.group % NUM_COLOURS}"
    tip = f"<title>{escape(mark.label)}: {mark.x:.4g}, {mark.y:.4g}</title>"
    parts = []
    if mark.low is not None and mark.high is not None:
        parts.append(f'<path class="ln {colour}" d="M{cx:.1f} {axes.py(mark.low):.1f}V{axes.py(mark.high):.1f}"/>')
    if mark.is_cross:
        parts.append(f'<path class="ln mu" d="M{cx - 4:.1f} {cy - 4:.1f}l8 8m0 -8l-8 8">{tip}</path>')
    else:
        parts.append(f'<circle class="dot {colour}" cx="{cx:.1f}" cy="{cy:.1f}" r="4">{tip}</circle>')
    if has_label and mark.label:
        anchor, shift = ("end", -7) if cx > axes.width * 0.7 else ("start", 7)
        x, y = _free(cx + shift, cy + (12 if cy < axes.top + 14 else -6), taken)
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(mark.label)}</text>')
    return "".join(parts)


def _free(x: float, y: float, taken: list[Point], *, line: float = 11.0, wide: float = 50.0) -> Point:
    """The nearest place at or above (x, y) where no label stands yet; it is taken then."""
    while any(abs(x - other) < wide and abs(y - there) < line for other, there in taken):
        y -= line
    taken.append((x, y))
    return x, y


def _path(axes: Axes, points: Sequence[Point]) -> str:
    return "".join(f"{'L' if number else 'M'}{axes.px(x):.1f} {axes.py(y):.1f}" for number, (x, y) in enumerate(points))


def figure(title: str, names: Sequence[str], axes: Axes, body: str, told: str) -> str:
    """Title, legend and drawing. `told` is what the drawing says in words."""
    keys = "".join(
        f'<span class="key"><i class="k s{number % NUM_COLOURS} t{number // NUM_COLOURS}"></i>{escape(str(name))}</span>'
        for number, name in enumerate(names)
        if name
    )
    return (
        f'<figure class="chart"><figcaption class="ct">{escape(title, quote=False)}{keys}</figcaption>'
        f'<svg viewBox="0 0 {axes.width:g} {axes.height:g}" role="img" aria-label="{escape(f"{title}: {told}")}">{body}</svg></figure>'
    )
