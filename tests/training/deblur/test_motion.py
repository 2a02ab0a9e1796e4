"""Known motion: homographies, flow and blur covariance against values derived by hand."""

import math

import numpy as np
import pytest

from afterlens.training.deblur.motion import (
    Trajectory,
    blur_covariance,
    exposure_times,
    flow,
    longest_distance,
    moved,
    random_trajectory,
    still,
)

SIZE = (97, 129)
CENTRE = np.array([64.0, 48.0])
POINTS = np.array([[0.0, 0.0], [64.0, 48.0], [128.0, 96.0], [10.0, 80.0]])


def trajectory(
    x: float = 0.0, y: float = 0.0, roll: float = 0.0, zoom: float = 0.0, tilt: float = 0.0
) -> Trajectory:
    return Trajectory(
        SIZE, np.array([x, y, roll, zoom, tilt, 0.0]), np.zeros((0, 6)), np.zeros(0), np.zeros(0)
    )


def test_every_path_is_the_identity_at_mid_exposure() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert np.allclose(random_trajectory(rng, SIZE, 12.0, 0.5).at(0.0), np.eye(3), atol=1e-12)


def test_translation_moves_every_point_alike_and_the_flow_leads_back() -> None:
    assert np.allclose(moved(trajectory(x=6.0, y=-2.0).at(0.5), POINTS), POINTS + np.array([3.0, -1.0]))
    assert np.allclose(flow(trajectory(x=6.0, y=-2.0), POINTS), [[-6.0, 2.0]] * 4)


def test_roll_turns_about_the_centre_and_zoom_scales_about_it() -> None:
    turned = moved(trajectory(roll=math.pi / 2).at(1.0), CENTRE + np.array([[10.0, 0.0]]))
    assert np.allclose(turned, CENTRE + np.array([[0.0, 10.0]]))
    assert np.allclose(
        moved(trajectory(zoom=math.log(2.0)).at(1.0), POINTS), CENTRE + 2.0 * (POINTS - CENTRE)
    )


def test_tilt_brings_one_side_nearer() -> None:
    left, right = moved(trajectory(tilt=0.1).at(1.0), np.array([[14.0, 48.0], [114.0, 48.0]]))
    assert 64.0 - left[0] > 50.0 > right[0] - 64.0


@pytest.mark.parametrize(
    ("angle", "direction"), [(0.0, (1, 0)), (45.0, (0, 1)), (90.0, (-1, 0)), (225.0, (0, 1))]
)
def test_straight_blur_has_the_moments_of_a_line_and_no_sign(
    angle: float, direction: tuple[int, int]
) -> None:
    length, exposure = 12.0, 0.4
    speed = length / exposure
    straight = trajectory(x=speed * math.cos(math.radians(angle)), y=speed * math.sin(math.radians(angle)))
    extent, along, diagonal = blur_covariance(straight, CENTRE[None], exposure)[0]
    assert extent == pytest.approx(length / math.sqrt(12.0), rel=1e-9)
    assert (along / extent, diagonal / extent) == pytest.approx(direction, abs=1e-9)


def test_circular_blur_has_no_direction() -> None:
    # Two waves a quarter of a turn apart, one turn within the exposure: a circle of radius 5.
    waves = np.zeros((2, 6))
    waves[0, 0] = waves[1, 1] = 5.0
    circle = Trajectory(SIZE, np.zeros(6), waves, np.ones(2), np.array([math.pi / 2, 0.0]))
    extent, along, diagonal = blur_covariance(circle, CENTRE[None], 1.0)[0]
    assert extent == pytest.approx(5.0, rel=0.01)
    assert abs(along) < 0.05 * extent and abs(diagonal) < 0.05 * extent
    assert np.abs(flow(circle, POINTS)).max() < 1e-9, (
        "after a whole turn it is where it was: blur without flow"
    )


def test_a_still_layer_has_neither_flow_nor_blur() -> None:
    assert not still(SIZE).moves and trajectory(x=1.0).moves
    assert not flow(still(SIZE), POINTS).any() and not blur_covariance(still(SIZE), POINTS, 1.0).any()


def test_exposure_times_are_the_middles_of_equal_parts() -> None:
    assert exposure_times(-1.0, 0.5, 4) == pytest.approx([-1.1875, -1.0625, -0.9375, -0.8125])


def test_random_paths_are_about_as_long_as_asked_for() -> None:
    rng = np.random.default_rng(1)
    extents = [
        blur_covariance(random_trajectory(rng, SIZE, 12.0, 0.5), CENTRE[None], 0.5)[0, 0] for _ in range(200)
    ]
    assert 0.5 * 12.0 / math.sqrt(12.0) < np.median(extents) < 1.2 * 12.0 / math.sqrt(12.0)


def test_the_longest_distance_of_a_pan_is_speed_times_exposure() -> None:
    assert longest_distance(trajectory(x=6.0, y=-8.0), 0.5, -1.0) == pytest.approx(5.0, rel=1e-9)


@pytest.mark.parametrize("side", [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_the_longest_distance_is_that_of_the_corner_where_pan_and_zoom_add_up(side: tuple[int, int]) -> None:
    speed, zoom, exposure, middle = np.array(side) * (9.0, 5.0), 0.2, 0.5, -1.0
    # The picture's edge moves by the derivative of exp(zoom * time) times its distance from the centre.
    velocity = speed + zoom * math.exp(zoom * middle) * np.array(side) * (128 / 2, 96 / 2)
    found = longest_distance(trajectory(x=speed[0], y=speed[1], zoom=zoom), exposure, middle)
    assert found == pytest.approx(exposure * float(np.linalg.norm(velocity)), rel=1e-3)


def test_the_longest_distance_follows_a_curve() -> None:
    # Half a turn about the centre: the corners, 80 pixels away, go along half a circle.
    found = longest_distance(trajectory(roll=math.pi), 1.0, 0.0)
    assert found == pytest.approx(math.pi * 80.0, rel=0.01)
