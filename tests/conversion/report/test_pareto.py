"""The plot of cost and quality: which points nothing beats, where they are drawn, and that their names can be read."""

import itertools
import math
import random
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from afterlens.conversion.report.pareto import (
    COLOURS,
    MARKER,
    NEAR,
    Point,
    _leader,
    _offsets,
    draw,
    front,
    svg,
)

POINTS = [
    Point("float32", 3.95, 22.412, "TFLite"),
    Point("float16", 2.02, 22.411, "TFLite"),
    Point("int8 weights", 1.15, 22.395, "TFLite"),
    Point("int8", 1.25, 22.051, "TFLite"),
    Point("int8 × int16", 1.28, 22.402, "TFLite"),
    Point("int8, mixed", 1.30, 22.297, "TFLite"),
    Point("float16", 2.26, 22.409, "Core ML"),
    Point("int8 weights", 1.27, 22.401, "Core ML"),
    Point("6-bit palette", 0.98, 22.310, "Core ML"),
    Point("4-bit palette", 0.69, 21.870, "Core ML"),
    Point("mixed weights", 1.01, 22.385, "Core ML"),
]


def test_the_front_holds_what_nothing_beats_and_nothing_else() -> None:
    generator = random.Random(0)
    for _ in range(50):
        points = [Point(str(i), generator.randint(1, 9), generator.randint(1, 9), "") for i in range(12)]
        kept = {(point.x, point.y) for point in front(points)}
        for point in points:
            beaten = any(
                other.x <= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y)
                for other in points
            )
            assert ((point.x, point.y) in kept) == (not beaten)


def markers(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Points in pixels by colour, y upwards."""
    (axes,) = figure.axes
    return {
        to_hex(line.get_color()): [tuple(xy) for xy in axes.transData.transform(line.get_xydata())]
        for line in axes.lines
        if line.get_marker() not in ("None", "", None)
    }


def test_cheaper_is_further_left_and_better_is_higher() -> None:
    points = [
        Point("a", 1.0, 30.0, "TFLite"),
        Point("b", 2.0, 31.0, "TFLite"),
        Point("c", 4.0, 31.5, "TFLite"),
    ]
    for factor in (1, 100):  # the last one logarithmic
        spread = [*points[:2], Point("c", 4.0 * factor, 31.5, "TFLite")]
        figure = draw("t", spread, x_title="MB", y_title="dB")
        (ax, ay), (bx, by), (cx, cy) = markers(figure)[COLOURS["TFLite"]]
        box = figure.axes[0].get_window_extent()
        assert box.x0 < ax < bx < cx < box.x1 and box.y0 < ay < by < cy < box.y1
        straight = (cx - bx) / (bx - ax)
        assert abs(straight - 2) < 0.05 if factor == 1 else straight > 5


def test_names_cover_neither_each_other_nor_points() -> None:
    figure = draw("Size", POINTS, x_title="MB", y_title="dB", level=("PyTorch float32", 22.412))
    texts = [text for text in figure.axes[0].texts if text.get_text() != "PyTorch float32"]
    assert sorted(text.get_text() for text in texts) == sorted(point.name for point in POINTS)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    placed = [
        (text.get_text(), Text.get_window_extent(text, renderer))  # without the line to the point
        for text in figure.axes[0].texts
    ]
    for (one, box), (other, second) in itertools.combinations(placed, 2):
        assert not box.overlaps(second), (one, other)
    for x, y in itertools.chain(*markers(figure).values()):
        assert not any(box.contains(x, y) for _, box in placed)
    inside = figure.bbox
    assert all(inside.contains(*corner) for _, box in placed for corner in (box.min, box.max))


def test_points_and_names_have_the_colour_of_their_own_format() -> None:
    for points in (POINTS, POINTS[::-1], [p for p in POINTS if p.format == "Core ML"]):
        figure = draw("Size", points, x_title="MB", y_title="dB")
        for format_ in {point.format for point in points}:
            own = sorted(point.name for point in points if point.format == format_)
            assert len(markers(figure)[COLOURS[format_]]) == len(own)
            named = [t.get_text() for t in figure.axes[0].texts if to_hex(t.get_color()) == COLOURS[format_]]
            assert sorted(named) == own


def test_equal_points_and_a_single_one_can_be_drawn() -> None:
    for points in ([POINTS[0]], [POINTS[0], POINTS[0]], [Point("x", 1e-9, 100.0, "TFLite")] * 3):
        figure = draw("Size", points, x_title="MB", y_title="dB")
        assert len(markers(figure)[COLOURS["TFLite"]]) == len(points) and "nan" not in svg(figure)


def test_the_same_numbers_give_the_same_drawing_and_names_stay_text() -> None:
    points = [*POINTS[:3], Point('$\\frac{<script>-->"&', 2.0, 22.0, "<b>")]
    first, second = (svg(draw("<i>$", points, x_title="MB", y_title="dB")) for _ in range(2))
    assert first == second
    tags = {
        element.tag.rpartition("}")[2]
        for element in ElementTree.fromstring(first).iter()
        if isinstance(element.tag, str)
    }
    assert not tags & {"script", "b", "i", "image", "foreignObject", "text"}


@pytest.mark.parametrize(("width", "height"), [(20.0, 8.0), (120.0, 8.0)])
def test_labels_are_beside_their_points_and_not_on_them(width: float, height: float) -> None:
    offsets = _offsets(width, height)
    away = [
        math.hypot(max(left, -left - width, 0.0), max(bottom, -bottom - height, 0.0))
        for left, bottom in offsets
    ]
    print(np.round(away, 1))
    assert min(away) > MARKER / 2 + 1
    assert max(away[:NEAR]) < MARKER * 2 < min(away[NEAR:]) + height
    assert len(set(offsets)) == len(offsets)


@pytest.mark.parametrize("point", [(300.0, 40.0), (10.0, 250.0), (130.0, 200.0)])
def test_a_leader_goes_straight_from_the_middle_of_its_label_and_ends_before_the_point(
    point: tuple[float, float],
) -> None:
    box = (100.0, 60.0, 180.0, 72.0)
    middle, end = np.array([140.0, 66.0]), np.array(point)
    pieces = np.array(_leader(box, end))
    assert pieces[:, 2:] - pieces[:, :2] == pytest.approx(np.full((len(pieces), 2), 4.0))
    places = (pieces[:, :2] + pieces[:, 2:]) / 2
    along = (places - middle) @ (end - middle) / ((end - middle) ** 2).sum()
    assert places == pytest.approx(middle + along[:, None] * (end - middle))
    inside = ((places > box[:2]) & (places < box[2:])).all(axis=1)
    from_end = np.linalg.norm(places - end, axis=1)
    print(np.round(along, 2), np.round(from_end, 1))
    assert not inside.any() and 8.0 < from_end.min() < 12.1
    assert np.diff(along) * np.linalg.norm(end - middle) == pytest.approx(np.full(len(along) - 1, 4.0))
