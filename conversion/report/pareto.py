"""What a variant costs and what it is worth, as an SVG plot in which every point carries its name.

    figure = draw("Size", [Point("float16", 1.98, 22.41, "TFLite"), ...], x_title="MB", y_title="PSNR dB")
    svg(figure)

The line joins the points that nothing beats: no other point is both cheaper and better.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 300  # CSS pixels
DPI = 100
MIN_SPAN = 0.2  # dB; rounding must not look like a difference
MARKER = 7  # points
NEAR = 8  # places for a name that need no line to the point
COLOURS = {"TFLite": "#0f6b6b", "Core ML": "#b0481a"}
MARKERS = {"TFLite": "o", "Core ML": "s"}
_OTHER = ("#555555", "D")
_SOFT, _LINE = "#6b675f", "#e4e0d8"
# Text is drawn as outlines, so that labels have the width that they were placed with, whatever fonts a browser has.
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "afterlens",
}

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


@dataclass(frozen=True)
class Point:
    """One variant: what it costs (less is better, positive), what it is worth (more is better), and its format."""

    name: str
    x: float
    y: float
    format: str


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in one direction and equals in the other, by rising cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def draw(
    title: str,
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    level: tuple[str, float] | None = None,
) -> Figure:
    """The figure. `level`: a horizontal line with its name, for what all points are compared with."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)  # measures the labels
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10, parse_math=False)
        axes.set_xlabel(x_title, color=_SOFT, parse_math=False)
        axes.set_ylabel(y_title, color=_SOFT, parse_math=False)
        _limits(axes, points, [] if level is None else [level[1]])
        _decorate(axes)
        steps = front(points)
        if len(steps) > 1:
            xs, ys = [point.x for point in steps], [point.y for point in steps]
            axes.step(xs, ys, where="post", color="#b9d5d2", linewidth=1.8, zorder=1)
        for format_ in dict.fromkeys(point.format for point in points):
            own = [point for point in points if point.format == format_]
            axes.plot(
                [point.x for point in own],
                [point.y for point in own],
                linestyle="None",
                marker=_look(format_)[1],
                color=_look(format_)[0],
                markersize=MARKER,
                markeredgecolor="white",
                label=format_,
                zorder=3,
            )
        if len(axes.lines) > 1 and len({point.format for point in points}) > 1:
            handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
            axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
        kept_free = []
        if level is not None:
            axes.axhline(level[1], color=_SOFT, linewidth=0.9, linestyle=(0, (5, 4)), zorder=2)
            text = axes.annotate(
                level[0], (0.01, level[1]), (0, 3), axes.get_yaxis_transform(),
                textcoords="offset points", color=_SOFT, fontsize=8, parse_math=False,
            )  # fmt: skip
            kept_free.append(text)
        names = [(point.name, point.x, point.y, _look(point.format)[0]) for point in points]
        label_points(axes, names, kept_free)
        return figure


def svg(figure: Figure) -> str:
    """The figure as SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def label_points(
    axes: Axes, points: Sequence[tuple[str, float, float, str]], kept_free: Sequence[Annotation] = ()
) -> list[Annotation]:
    """Write the name (name, x, y, colour) beside each point, where it covers no other name, point or line.

    Limits must be set before, and the figure's size must not change afterwards. A name that does not fit beside its
    point goes further away, with a line to the point. `kept_free`: other texts that must not be covered.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout is final from here on
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = figure.dpi / 72
    places = axes.transData.transform([(x, y) for _, x, y, _ in points])
    half = (MARKER / 2 + 1) * scale
    taken = [(x - half, y - half, x + half, y + half) for x, y in places]
    taken += [text.get_window_extent(renderer).extents for text in kept_free]
    taken += [box for line in axes.lines for box in _segments(line)]
    inside = axes.get_window_extent(renderer).extents
    labels = []
    # From the right: most points have room on one side, and crowds are on the left.
    for index in sorted(range(len(points)), key=lambda index: -places[index][0]):
        name, x, y, colour = points[index]
        label = axes.annotate(
            name, (x, y), (0, 0), textcoords="offset points", color=colour, fontsize=8, parse_math=False
        )
        size = label.get_window_extent(renderer)
        offsets = _offsets(size.width / scale, size.height / scale)
        costs, covers = [], []
        for rank, offset in enumerate(offsets):
            left, bottom = places[index] + np.multiply(offset, scale)
            box = (left - 1, bottom - 1, left + size.width + 1, bottom + size.height + 1)
            cover = [box, *(_leader(box, places[index]) if rank >= NEAR else ())]
            outside = _area(box) - _common([box], [inside])
            costs.append(_common(cover, taken) + 4 * outside + rank / 2)
            covers.append(cover)
        best = int(np.argmin(costs))
        label.remove()
        arrow = {"arrowstyle": "-", "color": _SOFT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        label = axes.annotate(
            name, (x, y), offsets[best], textcoords="offset points", color=colour, fontsize=8, parse_math=False,
            arrowprops=arrow if best >= NEAR else None,
        )  # fmt: skip
        taken += covers[best]
        labels.append(label)
    return labels


def _offsets(width: float, height: float) -> list[tuple[float, float]]:
    """Lower left corners of a label about its point, in points: the nearest first."""
    gap, middle = MARKER / 2 + 2.5, -height / 2
    near = [  # NEAR of them
        *((gap, middle), (-gap - width, middle), (-width / 2, gap), (-width / 2, -gap - height)),
        *(
            (gap, gap / 2),
            (-gap - width, gap / 2),
            (gap, -gap / 2 - height),
            (-gap - width, -gap / 2 - height),
        ),
    ]
    far = [
        (dx, middle + sign * away * height)
        for away in np.arange(1.5, 9.0, 0.75)
        for sign in (1, -1)
        for dx in (gap + 6, -gap - 6 - width, 3 * gap + 20, -3 * gap - 20 - width)
    ]
    return near + far


def _leader(box: Box, point: NDArray[np.float64]) -> list[Box]:
    """The line from a label to its point as small boxes, without its end at the point."""
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    length = float(np.hypot(*(point - centre)))
    at = [centre + (point - centre) * share for share in np.arange(0.0, 1.0, 4 / length)]
    return [
        (x - 2, y - 2, x + 2, y + 2)
        for x, y in at
        if not (box[0] < x < box[2] and box[1] < y < box[3]) and np.hypot(*(point - (x, y))) > 8
    ]


def _segments(line: Line2D) -> list[Box]:
    """The horizontal and vertical pieces of a drawn line as thin boxes; a label crosses one only if it must."""
    if line.get_linestyle() == "None":
        return []
    corners = line.get_transform().transform(np.asarray(line.get_xydata()))
    boxes: list[Box] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        boxes.append((min(x0, x1), y0 - 2, max(x0, x1), y0 + 2))
        boxes.append((x1 - 2, min(y0, y1), x1 + 2, max(y0, y1)))
    return boxes


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(ones: Sequence[Box], others: Sequence[Box]) -> float:
    """The area that boxes share with others, in square pixels, added up over all pairs."""
    one, other = np.asarray(ones)[:, None], np.asarray(others)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return float(np.maximum(sides, 0.0).prod(axis=2).sum())


def _look(format_: str) -> tuple[str, str]:
    """Colour and marker of a format."""
    return COLOURS.get(format_, _OTHER[0]), MARKERS.get(format_, _OTHER[1])


def _limits(axes: Axes, points: Sequence[Point], levels: Sequence[float]) -> None:
    """Costs from zero, or logarithmic where the largest is more than ten times the smallest; worths as they span."""
    low, high = min(point.x for point in points), max(point.x for point in points)
    if high <= 10 * low:
        axes.set_xlim(0.0, high * 1.15)
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(low / 1.5, high * 1.8)
    heights = [point.y for point in points] + list(levels)
    span = max(max(heights) - min(heights), MIN_SPAN)
    middle = (min(heights) + max(heights)) / 2
    axes.set_ylim(middle - 0.65 * span, middle + 0.8 * span)  # names need room above the best


def _decorate(axes: Axes) -> None:
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, length=3)
    axes.ticklabel_format(axis="y", useOffset=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
