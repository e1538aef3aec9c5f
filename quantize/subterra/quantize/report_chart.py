"""Divergence against size, as an inline SVG that follows the page's colours.

Goes in: points. Comes out: one `<svg>` element; every colour is a CSS class of the page.
Does not know what a variant is.

    >>> svg = scatter([Point("Q8_0", 138.0, 0.004, 0.97)], limit=0.2)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 86, 24, 20, 52

LOWEST = 1e-6
"""Nats; anything below is drawn here, because 0 has no place on a logarithmic axis."""

BANDS = ((0.95, "good"), (0.85, "fair"), (0.0, "poor"))
"""Success from which a point gets a class."""

LABEL_HEIGHT = 15
CHARACTER_WIDTH = 8.2


@dataclass(frozen=True, slots=True)
class Point:
    """One variant."""

    name: str
    x: float
    """MiB."""
    y: float
    """99th percentile of KLD, nats."""
    success: float | None = None
    best: bool = False


def band(success: float | None) -> str:
    """CSS class of a success rate."""
    if success is None:
        return "unknown"
    return next(name for floor, name in BANDS if success >= floor)


@dataclass(frozen=True, slots=True)
class _Axes:
    """Linear x from 0, logarithmic y between two powers of ten."""

    x_step: float
    x_end: float
    y_low: int
    y_high: int

    @classmethod
    def around(cls, points: Sequence[Point], limit: float) -> "_Axes":
        widest = max(p.x for p in points) * 1.08
        step = _round_step(widest / 6)
        logs = [math.log10(max(y, LOWEST)) for y in [limit, *(p.y for p in points)]]
        return cls(
            step,
            step * math.ceil(widest / step),
            math.floor(min(logs)),
            math.ceil(max(logs) + 0.05),
        )

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.x_end

    def y(self, value: float) -> float:
        share = (math.log10(max(value, LOWEST)) - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def scatter(points: Sequence[Point], limit: float) -> str:
    """Draw the points and a dashed line at `limit`."""
    axes = _Axes.around(points, limit)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="99th percentile of KLD against size of each variant">',
        *_grid(axes),
        f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
        f'y1="{axes.y(limit):.1f}" y2="{axes.y(limit):.1f}"/>',
        f'<text class="limit" x="{LEFT + 8}" y="{axes.y(limit) - 6:.1f}">limit {limit:g}</text>',
    ]
    spots = [(point, axes.x(point.x), axes.y(point.y)) for point in points]
    taken = [(x - 9, y - 9, x + 9, y + 9) for _, x, y in spots]
    for point, x, y in spots:
        parts += [_dot(point, x, y), _label(point, x, y, taken)]
    return "".join([*parts, "</svg>"])


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(rough))
    return float(next(f * power for f in (1, 2, 5, 10) if f * power >= rough))


def _grid(axes: _Axes) -> list[str]:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for i in range(round(axes.x_end / axes.x_step) + 1):
        x = axes.x(i * axes.x_step)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"/>')
        parts.append(_text(x, base + 20, f"{i * axes.x_step:g}", "middle"))
    for power in range(axes.y_low, axes.y_high + 1):
        y = axes.y(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, _power(power), "end"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 10, "size, MiB", "middle"))
    parts.append(
        f'<text transform="translate(16 {(TOP + base) / 2}) rotate(-90)" '
        'text-anchor="middle">KLD 99 %, nats</text>'
    )
    return parts


def _dot(point: Point, x: float, y: float) -> str:
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="11"/>' if point.best else ""
    return f'{ring}<circle class="dot {band(point.success)}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'


def _label(point: Point, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """Write the name right of the dot, or wherever nothing stands yet."""
    width = CHARACTER_WIDTH * len(point.name)
    places = [(x + 16, y + 5), (x - 16 - width, y + 5), (x - width / 2, y - 16)]
    places += [(x - width / 2, y + 27), (x + 14, y - 12), (x + 14, y + 22)]
    for left, bottom in places:
        box = (left, bottom - LABEL_HEIGHT, left + width, bottom)
        inside = box[0] > LEFT and box[2] < WIDTH and box[3] < HEIGHT - BOTTOM and box[1] > 0
        if inside and not any(_overlap(box, other) for other in taken):
            break
    taken.append(box)
    weight = ' class="best"' if point.best else ""
    return f'<text{weight} x="{left:.1f}" y="{bottom:.1f}">{escape(point.name)}</text>'


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _power(power: int) -> str:
    if -3 <= power <= 2:
        return f"{10.0**power:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
