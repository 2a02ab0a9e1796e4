"""What an input takes: sizes on both sides of each limit, and how that is told."""

from __future__ import annotations

import numpy as np
import pytest

from afterlens.conversion.mil.features import FeatureSpec, accepted, from_image, to_image

OPEN = (1, 3, None, None)
BOTH = (((1, 1), (3, 3), (16, 32), (24, None)), ((1, 1), (3, 3), (8, 8), (8, 8)))
"""From 16 to 32 rows of 24 columns or more; or 8x8."""


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((1, 3, 16, 24), True),
        ((1, 3, 32, 24), True),
        ((1, 3, 20, 100_000), True),
        ((1, 3, 8, 8), True),
        ((1, 3, 15, 24), False),
        ((1, 3, 33, 24), False),
        ((1, 3, 16, 23), False),
        ((1, 3, 8, 9), False),
        ((1, 3, 9, 8), False),
        ((2, 3, 16, 24), False),
        ((1, 1, 16, 24), False),
        ((3, 16, 24), False),
        ((1, 3, 16, 24, 1), False),
    ],
)
def test_a_flexible_shape_is_taken_within_one_of_its_choices(shape: tuple[int, ...], taken: bool) -> None:
    assert FeatureSpec("x", OPEN, "float32", False, None, BOTH).accepts(shape) == taken


def test_without_choices_the_program_alone_decides() -> None:
    assert FeatureSpec("x", OPEN, "float32", False, None).accepts((7,))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (FeatureSpec("x", (1, 4), "float32", False, None), "float32(1, 4)"),
        (FeatureSpec("x", (1, None), "int32", False, None), "int32(1, 1..)"),
        (FeatureSpec("x", OPEN, "float32", False, None, BOTH), "float32(1, 3, 16..32, 24..) or (1, 3, 8, 8)"),
        (
            FeatureSpec("x", (1, 3, 4, 5), "uint8", True, "RGB"),
            "an image of 4x5 (height x width), 3 channels",
        ),
        (FeatureSpec("x", (1, 1, 4, 5), "uint8", True, "GRAYSCALE"), "an image of 4x5 (height x width)"),
        (
            FeatureSpec("x", OPEN, "uint8", True, "RGB", BOTH),
            "an image of 16..32x24.. or 8x8 (height x width), 3 channels",
        ),
    ],
)
def test_what_is_taken_is_told_in_words(spec: FeatureSpec, told: str) -> None:
    assert accepted(spec) == told


@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAYSCALE"])
def test_pictures_go_in_and_come_out_as_they_were(colour: str) -> None:
    grey = colour == "GRAYSCALE"
    picture = np.random.default_rng(0).integers(0, 256, (4, 5) if grey else (4, 5, 3), np.uint8)
    spec = FeatureSpec("x", (1, 1 if grey else 3, 4, 5), "uint8", True, colour)
    planes = from_image(spec, picture)
    assert planes.shape == spec.shape
    if not grey:
        np.testing.assert_array_equal(planes[0, 2 if colour == "BGR" else 0], picture[..., 0])
    np.testing.assert_array_equal(to_image(spec, planes, eight_bit=True), picture)
    np.testing.assert_array_equal(to_image(spec, planes.astype(np.float32), eight_bit=False), picture)


def test_eight_bits_are_the_nearest_and_what_is_no_number_is_black() -> None:
    spec = FeatureSpec("x", (1, 1, 1, 7), "uint8", True, "GRAYSCALE")
    values = np.array([-3.0, 0.4, 0.6, 254.6, 300.0, np.inf, np.nan], np.float32).reshape(1, 1, 1, 7)
    assert to_image(spec, values, eight_bit=True).tolist() == [[0, 0, 1, 255, 255, 255, 0]]
