"""Charts as inline SVG: curves with bands, horizontal intervals.  Colours come from the page's CSS classes c0 ... c7."""

import html
import math
from dataclasses import dataclass, field

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40


@dataclass
class Curve:
    """One line: points (x, y) and, where there are intervals, (x, low, high)."""

    name: str
    points: list[tuple[float, float]]
    band: list[tuple[float, float, float]] = field(default_factory=list)
    bars: list[tuple[float, float, float]] = field(default_factory=list)
    """Intervals (x, low, high) as upright strokes, where a band would hide the other curves."""
    style: int | None = None
    """Number of its colour (8 of them; then they come again, dashed); None: its place among the curves."""
    standing: bool = False
    """A level to compare with, not a course: thin, dotted, without marks."""

    def classes(self, place: int) -> str:
        """CSS classes of its colour and dashes."""
        number = place if self.style is None else self.style
        return f"c{number % 8}" + (" standing" if self.standing else " dashed" if number >= 8 else "")


def curves(lines: list[Curve], *, x: str, y: str, log_x: bool = False, ticks: dict[float, str] | None = None) -> str:
    """A line chart with its legend; empty text where there is nothing to draw."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    position = (lambda v: math.log(max(v, 1e-12))) if log_x else float
    xs = [position(p[0]) for line in lines for p in line.points]
    ys = [v for line in lines for p in (*line.points, *line.band, *line.bars) for v in p[1:]]
    to_x, to_y = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT), _scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [_axes(min(ys), max(ys), to_y, x, y)]
    marks = ticks or {
        v: _number(v)
        for v in _ticks(
            min(p[0] for line in lines for p in line.points), max(p[0] for line in lines for p in line.points)
        )
    }
    for value, text in marks.items():
        parts.append(
            f'<text class="tick" x="{to_x(position(value)):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{html.escape(text)}</text>'
        )
    for number, line in enumerate(lines):
        look = line.classes(number)
        if line.band:
            up = [f"{to_x(position(b[0])):.1f},{to_y(b[2]):.1f}" for b in line.band]
            down = [f"{to_x(position(b[0])):.1f},{to_y(b[1]):.1f}" for b in reversed(line.band)]
            parts.append(f'<polygon class="band {look}" points="{" ".join(up + down)}"/>')
        for a, low, high in line.bars:
            at = f'x1="{to_x(position(a)):.1f}" x2="{to_x(position(a)):.1f}" y1="{to_y(low):.1f}" y2="{to_y(high):.1f}"'
            parts.append(f'<line class="bar {look}" {at}/>')
        path = " ".join(f"{to_x(position(a)):.1f},{to_y(b):.1f}" for a, b in line.points)
        parts.append(f'<polyline class="line {look}" points="{path}"/>')
        if len(line.points) <= 12 and not line.standing:
            for a, b in line.points:
                dot = f'<circle class="dot {look}" cx="{to_x(position(a)):.1f}" cy="{to_y(b):.1f}" r="3.5">'
                parts.append(f"{dot}<title>{html.escape(line.name)}: {b:.3f} at {a:g}</title></circle>")
    legend = "".join(
        f'<span class="key {line.classes(n)}">{html.escape(line.name)}</span>' for n, line in enumerate(lines)
    )
    return f'<figure><div class="scroll"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(y)} against {html.escape(x)}">{"".join(parts)}</svg></div><figcaption>{legend}</figcaption></figure>'


def intervals(
    rows: list[tuple[str, float, float, float]], *, zero: bool = False, styles: dict[str, int] | None = None
) -> str:
    """Horizontal intervals (name, mean, low, high), one a line; `zero` draws the line of no difference; `styles`: a name's colour."""
    if not rows:
        return ""
    low, high = min(r[2] for r in rows), max(r[3] for r in rows)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    step, left = 26, min(330, 24 + 6.2 * max(len(r[0]) for r in rows))  # names are set at 11 px
    height = TOP + step * len(rows) + 24
    to_x = _scale(low, high, left, WIDTH - 60)
    parts = []
    if zero:
        parts.append(f'<line class="zero" x1="{to_x(0):.1f}" x2="{to_x(0):.1f}" y1="{TOP}" y2="{height - 22}"/>')
    for number, (name, mean, a, b) in enumerate(rows):
        y = TOP + step * number + step / 2
        colour = (styles or {}).get(name, number) % 8
        parts.append(f'<text class="name" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(
            f'<line class="whisker c{colour}" x1="{to_x(a):.1f}" x2="{to_x(b):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<circle class="dot c{colour}" cx="{to_x(mean):.1f}" cy="{y:.1f}" r="4.5"><title>{mean:.3f} [{a:.3f}, {b:.3f}]</title></circle>'
        )
        parts.append(
            f'<text class="tick" x="{WIDTH - 52}" y="{y + 4:.1f}">{mean:+.3f}</text>'
            if zero
            else f'<text class="tick" x="{WIDTH - 52}" y="{y + 4:.1f}">{mean:.3f}</text>'
        )
    for value in _ticks(low, high):
        parts.append(
            f'<text class="tick" x="{to_x(value):.1f}" y="{height - 6}" text-anchor="middle">{_number(value)}</text>'
        )
    return f'<figure><div class="scroll"><svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg></div></figure>'


def _scale(low: float, high: float, start: float, end: float):
    span = high - low or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high]."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / wanted))
    step *= next((m for m in (1, 2, 5, 10) if span / (step * m) <= wanted), 10)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _axes(low: float, high: float, to_y, x: str, y: str) -> str:
    parts = []
    for value in _ticks(low, high):
        at = to_y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x)}</text>'
    )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{html.escape(y)}</text>'
    )
    return "".join(parts)
