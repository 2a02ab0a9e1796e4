"""Sampling at computed positions against PyTorch, in programs read back from disk."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.resample import RESAMPLE, crop_resize
from tests.conversion.mil.definitions import (
    bilinear_at,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy

    for sampling, (padding, torch_padding), aligned in itertools.product(
        ("bilinear", "nearest"), (("constant", "zeros"), ("border", "border")), (True, False)
    ):
        add(
            f"resample {sampling} {padding} {aligned}",
            lambda square, grid, s=sampling, p=padding, a=aligned, **v: mb.resample(
                x=square,
                coordinates=grid,
                sampling_mode=s,
                padding_mode=p,
                padding_value=0.0,
                coordinates_mode="normalized_minus_one_to_one",
                align_corners=a,
            ),
            lambda s=sampling, p=torch_padding, a=aligned: F.grid_sample(
                X["square"], X["grid"], mode=s, padding_mode=p, align_corners=a
            ),
        )
    # PyTorch's reflection is MIL's "reflection" where corners are aligned and "symmetric" where they are not.
    for sampling, (padding, aligned) in itertools.product(
        ("bilinear", "nearest"), (("reflection", True), ("symmetric", False))
    ):
        add(
            f"resample {sampling} {padding}",
            lambda square, grid, s=sampling, p=padding, a=aligned, **v: mb.resample(
                x=square,
                coordinates=mb.mul(x=grid, y=2.0),
                sampling_mode=s,
                padding_mode=p,
                padding_value=0.0,
                coordinates_mode="normalized_minus_one_to_one",
                align_corners=a,
            ),
            lambda s=sampling, a=aligned: F.grid_sample(
                X["square"], X["grid"] * 2, mode=s, padding_mode="reflection", align_corners=a
            ),
        )
    add(
        "resample pixels, padding 5",
        lambda pair, **v: mb.resample(
            x=mb.expand_dims(x=pair, axes=[0]),
            coordinates=np.array([[[[0.25, 0], [1.5, 0], [9, 0]]]], np.float32),
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=5.0,
            coordinates_mode="unnormalized",
            align_corners=False,
        ),
        lambda: [[[[0.25, 3.0, 5.0]]]],
    )
    add(
        "resample 0 to 1",
        lambda pair, **v: mb.resample(
            x=mb.expand_dims(x=pair, axes=[0]),
            coordinates=np.array([[[[0.25, 0], [1, 0]]]], np.float32),
            sampling_mode="bilinear",
            padding_mode="border",
            padding_value=0.0,
            coordinates_mode="normalized_zero_to_one",
            align_corners=True,
        ),
        lambda: [[[[0.25, 1.0]]]],
    )
    matrix = np.array([[0.8, -0.3, 0.1, 0.2, 1.1, -0.2]], np.float32)
    add(
        "affine",
        lambda square, **v: mb.affine(
            x=square,
            transform_matrix=matrix,
            output_height=5,
            output_width=6,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        lambda: F.grid_sample(
            X["square"],
            F.affine_grid(t(matrix.reshape(1, 2, 3)).expand(2, -1, -1), [2, 3, 5, 6], align_corners=True),
            align_corners=True,
        ),
    )
    boxes = np.array([[0.5, 1.0, 2.5, 3.0], [1.0, 0.0, 5.0, 2.0]], np.float32)
    add(
        "crop_resize",
        lambda square, **v: mb.crop_resize(
            x=square,
            boxes=boxes,
            box_indices=np.array([1, 0], np.int32),
            target_height=3,
            target_width=2,
            sampling_mode="ALIGN_CORNERS",
            pad_value=7.0,
        ),
        lambda: [
            [
                bilinear_at(
                    INPUTS["square"][n, c], np.linspace(b[0], b[2], 3), np.linspace(b[1], b[3], 2), 7.0
                )
                for c in range(3)
            ]
            for n, b in zip((1, 0), boxes, strict=True)
        ],
    )
    return cases


def older_cases(mb: Any) -> Cases:
    """Forms that a later operator set replaced."""
    cases = Cases()
    add = cases.add
    roi = np.array([[1.0, 0.5, 2.0, 3.0]], np.float32).reshape(1, 1, 4, 1, 1)
    indexed = np.array([[0.0, 0.0, 1 / 3, 1.0, 2 / 3]], np.float32).reshape(1, 1, 5, 1, 1)
    images = INPUTS["square"]
    add(
        "crop_resize roi",
        lambda square, **v: mb.crop_resize(
            x=square, roi=roi, target_height=2, target_width=4, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        lambda: [
            [[bilinear_at(p, np.linspace(1, 2, 2), np.linspace(0.5, 3, 4), 0.0) for p in n] for n in images]
        ],
    )
    add(
        "crop_resize indexed",
        lambda square, **v: mb.crop_resize(
            x=mb.slice_by_size(x=square, begin=[1, 0, 0, 0], size=[1, -1, -1, -1]),
            roi=indexed,
            target_height=3,
            target_width=3,
            normalized_coordinates=True,
            box_coordinate_mode="CORNERS_WIDTH_FIRST",
            sampling_mode="ALIGN_CORNERS",
        ),
        lambda: [[[bilinear_at(p, np.linspace(1, 2, 3), np.linspace(0, 3, 3), 0.0) for p in images[1]]]],
    )
    backwards = np.array([[2.0, 2.0, 1.0, 1.0]], np.float32).reshape(1, 1, 4, 1, 1)
    add(
        "crop_resize of a box that ends before it begins: the whole image",
        lambda square, **v: mb.crop_resize(
            x=square,
            roi=backwards,
            target_height=3,
            target_width=2,
            normalized_coordinates=True,
            sampling_mode="STRICT_ALIGN_CORNERS",
        ),
        lambda: [
            [
                [
                    bilinear_at(p, np.linspace(0, p.shape[0] - 1, 3), np.linspace(0, p.shape[1] - 1, 2), 0.0)
                    for p in n
                ]
                for n in images
            ]
        ],
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_its_definition(computed: Computed, name: str) -> None:
    computed.check(name)


@pytest.mark.parametrize("name", names_of(older_cases))
def test_older_form_agrees_with_its_definition(computed_by_ios16: Computed, name: str) -> None:
    computed_by_ios16.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(RESAMPLE) - computed.operators == set()


def test_unaligned_corners_of_the_whole_image_are_pytorchs() -> None:
    """Away from the border, where PyTorch repeats the edge and a box of MIL ends."""
    image = np.random.default_rng(0).random((1, 2, 5, 6), np.float32)
    whole = np.array([[0.0, 0.0, 4.0, 5.0]], np.float32)
    got = crop_resize(
        image,
        boxes=whole,
        box_indices=np.zeros(1),
        target_height=10,
        target_width=18,
        sampling_mode="UNALIGN_CORNERS",
    )
    expected = torch.nn.functional.interpolate(torch.from_numpy(image), (10, 18), mode="bilinear").numpy()
    np.testing.assert_allclose(got[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=1e-5)


@pytest.mark.parametrize(("mode", "place"), [("ALIGN_CORNERS", 2), ("STRICT_ALIGN_CORNERS", 1)])
def test_a_single_sample_is_the_middle_of_a_box_or_its_corner(mode: str, place: int) -> None:
    image = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    box = np.array([[1.0, 1.0, 3.0, 3.0]], np.float32)
    got = crop_resize(image, boxes=box, box_indices=np.zeros(1), sampling_mode=mode)
    assert got.reshape(()) == image[0, 0, place, place]


@pytest.mark.parametrize("mode", ["DEFAULT", "ALIGN_CORNERS", "OFFSET_CORNERS"])
@pytest.mark.parametrize("order", ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST"])
def test_normalized_boxes_are_shares_of_either_side_and_scaled_ones_multiples(order: str, mode: str) -> None:
    """Of a picture that is no square, along rows and columns."""
    picture = np.random.default_rng(0).random((1, 2, 9, 14)).astype(np.float32)
    shares = np.array([[0.1, 0.2, 0.8, 0.7], [0.5, 0.3, 0.4, 0.6]], np.float32)
    sides = [13.0, 8.0] * 2 if "WIDTH" in order else [8.0, 13.0] * 2
    how: dict[str, Any] = {
        "target_height": 3, "target_width": 4, "box_coordinate_mode": order, "sampling_mode": mode,
        "box_indices": np.zeros(2, np.int32),
    }  # fmt: skip
    expected = crop_resize(picture, boxes=shares * np.array(sides, np.float32), **how)
    got = crop_resize(picture, boxes=shares, normalized_coordinates=True, **how)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    scaled = crop_resize(picture, boxes=shares * np.array(sides, np.float32) / 4, spatial_scale=4.0, **how)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
