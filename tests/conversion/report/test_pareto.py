"""The plot of cost and quality: which points nothing beats, where they are drawn, and that their names can be read."""

import itertools
import random
import re

from afterlens.conversion.report import pareto
from afterlens.conversion.report.pareto import Point, front, plot

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


def drawn(svg: str) -> list[tuple[float, float]]:
    circles = re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)"', svg)
    return [(float(x), float(y)) for x, y in circles]


def test_cheaper_is_further_left_and_better_is_higher() -> None:
    points = [
        Point("a", 1.0, 30.0, "TFLite"),
        Point("b", 2.0, 31.0, "TFLite"),
        Point("c", 4.0, 31.5, "TFLite"),
    ]
    for factor in (1, 100):  # the last one logarithmic
        spread = [*points[:2], Point("c", 4.0 * factor, 31.5, "TFLite")]
        (ax, ay), (bx, by), (cx, cy) = drawn(plot("t", spread, x_title="MB", y_title="dB"))
        assert pareto.LEFT < ax < bx < cx < pareto.WIDTH and pareto.TOP < cy < by < ay < pareto.HEIGHT
        straight = (cx - bx) / (bx - ax)
        assert abs(straight - 2) < 0.05 if factor == 1 else straight > 5


def test_names_cover_neither_each_other_nor_points() -> None:
    svg = plot("Size", POINTS, x_title="MB", y_title="dB", level=("PyTorch float32", 22.412))
    texts = re.findall(
        r'<text x="([0-9.]+)" y="([0-9.]+)" class="label s[01]" text-anchor="(\w+)">([^<]+)', svg
    )
    names = [
        (float(x), float(y), anchor, name)
        for x, y, anchor, name in texts
        if name not in ("TFLite", "Core ML")
    ]
    assert sorted(name for *_, name in names) == sorted(point.name for point in POINTS)
    placed = [pareto._box(x, y - 4, name, anchor) for x, y, anchor, name in names]
    for one, other in itertools.combinations(placed, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    for x, y in drawn(svg)[1:]:  # the first is the legend's
        assert not any(left < x < right and top < y < bottom for left, top, right, bottom in placed)


def test_equal_points_and_a_single_one_can_be_drawn() -> None:
    for points in ([POINTS[0]], [POINTS[0], POINTS[0]], [Point("x", 1e-9, 100.0, "TFLite")] * 3):
        svg = plot("Size", points, x_title="MB", y_title="dB")
        assert len(drawn(svg)) == len(points) and "nan" not in svg
