"""What a variant costs and what it is worth: a plot of both, as SVG inside the page, in its light or dark colours.

    plot("Size", [Point("float16", 1.98, 22.41, "TFLite"), ...], x_title="MB", y_title="PSNR dB")

Every point carries its name. The line joins those that nothing beats: no other is both cheaper and better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from afterlens.conversion.report.page import Html, join, tag

WIDTH, HEIGHT = 540, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 46  # around the axes
MIN_SPAN = 0.2  # dB; rounding must not look like a difference
LETTER, LINE = 6.8, 15.0  # size of a letter of a label, about

_SHAPES = ("circle", "square", "diamond")

Box = tuple[float, float, float, float]  # left, top, right, bottom
Scale = Callable[[float], float]  # a value to pixels


@dataclass(frozen=True)
class Point:
    """One variant: what it costs (less is better), what it is worth (more is better), and whose it is."""

    name: str
    x: float
    y: float
    series: str


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in one direction and equals in the other, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def plot(
    title: str,
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    level: tuple[str, float] | None = None,
) -> Html:
    """The figure. `level`: a horizontal line with its name, for what all are compared with. Costs are positive."""
    x_axis, x_ticks = _cost_axis([point.x for point in points])
    heights = [point.y for point in points] + ([level[1]] if level else [])
    y_axis, y_ticks = _worth_axis(heights)

    def place(point: Point) -> tuple[float, float]:
        return x_axis(point.x), y_axis(point.y)

    series = list(dict.fromkeys(point.series for point in points))
    steps = [place(point) for point in front(points)]
    path = "M" + " L".join(
        f"{x:.1f},{y:.1f}"
        for before, after in zip(steps[:1] + steps, steps, strict=False)
        for x, y in ((after[0], before[1]), after)
    )
    dots = [(*place(point), point) for point in points]
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in dots]
    # Lines are thin boxes: a label crosses one where it must, not where it need not.
    for (x, y), (right, top) in itertools.pairwise(steps):
        taken += [(x, y - 2, right, y + 2), (right - 2, top, right + 2, y)]
    if level:
        y = y_axis(level[1])
        taken += [(LEFT, y - 2, WIDTH - RIGHT, y + 2), _box(LEFT + 6, y - 9, level[0], "start")]
    # The densest places first would be best; from the right is good enough, as most have room on one side.
    labels = [_label(x, y, point, taken, series) for x, y, point in sorted(dots, key=lambda dot: -dot[0])]
    return tag(
        "figure",
        tag(
            "svg",
            tag("title", f"{title}: {', '.join(point.name for point in points)}"),
            _grid(x_axis, x_ticks, y_axis, y_ticks),
            tag("text", title, x=LEFT, y=18, class_="heading"),
            _legend(series),
            tag(
                "text",
                x_title,
                x=(LEFT + WIDTH - RIGHT) / 2,
                y=HEIGHT - 8,
                class_="axis",
                text_anchor="middle",
            ),
            tag(
                "text",
                y_title,
                x=-(TOP + HEIGHT - BOTTOM) / 2,
                y=14,
                class_="axis",
                text_anchor="middle",
                transform="rotate(-90)",
            ),
            _level(level, y_axis(level[1])) if level else "",
            tag("path", d=path, class_="front") if len(steps) > 1 else "",
            join(_marker(x, y, series.index(point.series)) for x, y, point in dots),
            join(labels),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
        ),
        class_="plot",
    )


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _cost_axis(values: Sequence[float]) -> tuple[Scale, dict[float, str]]:
    """From zero, or logarithmic where the largest is more than ten times the smallest; and the ticks."""
    low, high = min(values), max(values)
    if high <= 10 * low:
        ticks = _ticks(0.0, high * 1.12)
        return _scale(0.0, high * 1.12, LEFT, WIDTH - RIGHT), ticks
    low, high = low / 1.5, high * 1.8
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    logarithmic = _scale(math.log(low), math.log(high), LEFT, WIDTH - RIGHT)
    return lambda value: logarithmic(math.log(value)), {
        mark: f"{mark:g}" for mark in marks if low <= mark <= high
    }


def _worth_axis(values: Sequence[float]) -> tuple[Scale, dict[float, str]]:
    span = max(max(values) - min(values), MIN_SPAN)
    middle = (min(values) + max(values)) / 2
    low, high = middle - 0.65 * span, middle + 0.65 * span
    return _scale(low, high, HEIGHT - BOTTOM, TOP), _ticks(low, high)


def _ticks(low: float, high: float) -> dict[float, str]:
    """Round numbers from `low` to `high`, four to eight of them, with as many decimals as tell them apart."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 8)
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return {number * step: f"{number * step:.{decimals}f}" for number in numbers}


def _grid(x_axis: Scale, x_ticks: Mapping[float, str], y_axis: Scale, y_ticks: Mapping[float, str]) -> Html:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    lines = []
    for tick, text in y_ticks.items():
        y = y_axis(tick)
        lines.append(tag("line", x1=LEFT, x2=right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        lines.append(tag("text", text, x=LEFT - 8, y=f"{y + 4:.1f}", class_="tick", text_anchor="end"))
    for tick, text in x_ticks.items():
        x = f"{x_axis(tick):.1f}"
        lines.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="base"))
        lines.append(tag("text", text, x=x, y=bottom + 19, class_="tick", text_anchor="middle"))
    lines.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="base"))
    return join(lines)


def _level(level: tuple[str, float], y: float) -> Html:
    line = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="level")
    return join([line, tag("text", level[0], x=LEFT + 6, y=f"{y - 5:.1f}", class_="tick")])


def _legend(series: Sequence[str]) -> Html:
    if len(series) < 2:
        return Html("")
    parts, x = [], float(WIDTH - RIGHT)
    for index, name in reversed(list(enumerate(series))):
        parts.append(tag("text", name, x=f"{x:.1f}", y=18, class_=f"label s{index}", text_anchor="end"))
        x -= LETTER * len(name) + 10
        parts.append(_marker(x, 14, index))
        x -= 18
    return join(parts)


def _marker(x: float, y: float, index: int) -> Html:
    shape = _SHAPES[index % len(_SHAPES)]
    kind = f"dot s{index % len(_SHAPES)}"
    if shape == "circle":
        return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=5, class_=kind)
    turn = {"transform": f"rotate(45 {x:.1f} {y:.1f})"} if shape == "diamond" else {}
    return tag("rect", x=f"{x - 4.5:.1f}", y=f"{y - 4.5:.1f}", width=9, height=9, class_=kind, **turn)


def _box(x: float, y: float, text: str, anchor: str) -> Box:
    """The room of a label whose middle line is at `y`."""
    width = LETTER * len(text)
    left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    return left, y - LINE / 2, left + width, y + LINE / 2


def _label(x: float, y: float, point: Point, taken: list[Box], series: Sequence[str]) -> Html:
    """The name beside its point, where it hides nothing; further off, with a line to it, where that is full."""
    places = [(x + 10, y, "start"), (x - 10, y, "end"), (x, y - 15, "middle"), (x, y + 15, "middle")]
    for away in range(1, 8):
        for sign in (-1, 1):
            places += [(x + 14, y + sign * away * LINE, "start"), (x - 14, y + sign * away * LINE, "end")]
    boxes = [(_box(*place[:2], point.name, place[2]), place) for place in places]
    box, (at, middle, anchor) = min(boxes, key=lambda found: _crowding(found[0], taken))
    taken.append(box)
    kind = f"label s{series.index(point.series) % len(_SHAPES)}"
    text = tag("text", point.name, x=f"{at:.1f}", y=f"{middle + 4:.1f}", class_=kind, text_anchor=anchor)
    if abs(middle - y) <= LINE:
        return text
    end = at - 2 if anchor == "start" else at + 2
    line = tag("line", x1=f"{x:.1f}", y1=f"{y:.1f}", x2=f"{end:.1f}", y2=f"{middle:.1f}", class_="leader")
    return join([line, text])


def _crowding(box: Box, taken: Sequence[Box]) -> float:
    """How much of a box is covered or outside the axes, in square pixels."""
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)

    def common(other: Box) -> float:
        width = min(right, other[2]) - max(left, other[0])
        height = min(bottom, other[3]) - max(top, other[1])
        return max(0.0, width) * max(0.0, height)

    return sum(common(other) for other in taken) + 2 * (area - common((LEFT, TOP, WIDTH, HEIGHT - BOTTOM)))
