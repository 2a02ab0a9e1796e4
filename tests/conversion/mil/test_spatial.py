"""Operators on images and feature maps (`spatial.py`) on programs read back from disk.

The executor computes convolution and pooling with PyTorch, so loops over the definition are the reference here; for
resizing and resampling, which it computes with NumPy, PyTorch is.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.spatial import SPATIAL
from tests.conversion.mil.definitions import (
    bilinear_at,
    blocks_loops,
    conv_loops,
    conv_transpose_loops,
    counted_mean,
    inside_mean,
    largest,
    pads_of,
    pool_loops,
    root_of_squares,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, Save, X, names_of, normal


def block_position_first(c: int, i: int, j: int) -> int:
    """TensorFlow's channel order of a 2x2 block of one channel."""
    return i * 2 + j + c


def cases_ios18(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy
    given: dict[str, Any]

    # Convolution
    kernels = normal(6, 2, 3, 2), normal(6)
    for kind in ("valid", "same", "same_lower", "custom"):
        pads = {
            "valid": [[0, 0], [0, 0]],
            "custom": [[2, 0], [1, 3]],
        }.get(kind) or pads_of(kind, (6, 5), (3, 3), (2, 1))
        given = {"pad": [2, 0, 1, 3]} if kind == "custom" else {}
        add(
            f"conv {kind}",
            lambda x, kind=kind, given=given, **v: mb.conv(
                x=x,
                weight=kernels[0],
                bias=kernels[1],
                strides=[2, 1],
                dilations=[1, 2],
                groups=2,
                pad_type=kind,
                **given,
            ),
            lambda pads=pads: conv_loops(INPUTS["x"], *kernels, pads, (2, 1), (1, 2), 2),
        )
    flat_kernels, deep_kernels = normal(3, 4, 4), normal(2, 4, 2, 2, 3)
    nothing = np.zeros(8, np.float32)
    add(
        "conv 1-D",
        lambda line, **v: mb.conv(x=line, weight=flat_kernels, strides=[3], pad_type="same"),
        lambda: conv_loops(
            INPUTS["line"], flat_kernels, nothing, pads_of("same", (11,), (4,), (3,)), (3,), (1,), 1
        ),
    )
    add(
        "conv 3-D",
        lambda volume, **v: mb.conv(x=volume, weight=deep_kernels),
        lambda: conv_loops(INPUTS["volume"], deep_kernels, nothing, [[0, 0]] * 3, (1, 1, 1), (1, 1, 1), 1),
    )
    dynamic = normal(2, 4, 6, 5)
    add(
        "conv computed weight",
        lambda x, **v: mb.conv(x=x, weight=mb.mul(x=x, y=dynamic)),
        lambda: conv_loops(INPUTS["x"], INPUTS["x"] * dynamic, nothing, [[0, 0]] * 2, (1, 1), (1, 1), 1),
    )
    up, up_bias = normal(4, 3, 3, 2), normal(6)
    forms: list[tuple[str, dict[str, Any], tuple[int, int], tuple[int, int]]] = [
        ("valid", {}, (0, 0), (13, 10)),
        ("custom", {"pad_type": "custom", "pad": [1, 2, 0, 1]}, (1, 0), (10, 9)),
        ("same", {"pad_type": "same"}, (0, 0), (12, 10)),
        ("output_shape", {"pad_type": "custom", "pad": [1, 0, 0, 0], "output_shape": [1, 6, 13, 11]}, (1, 0), (13, 11)),
    ]  # fmt: skip
    for name, given, before, sizes in forms:
        add(
            f"conv_transpose {name}",
            lambda x, given=given, **v: mb.conv_transpose(
                x=x, weight=up, bias=up_bias, strides=[2, 2], groups=2, **given
            ),
            lambda before=before, sizes=sizes: conv_transpose_loops(
                INPUTS["x"], up, up_bias, before, sizes, (2, 2), 2
            ),
        )

    # Pooling
    for kind in ("valid", "same", "same_lower", "custom"):
        pads = {"valid": [[0, 0], [0, 0]], "custom": [[1, 0], [2, 1]]}.get(kind) or pads_of(
            kind, (6, 5), (3, 4), (2, 2)
        )
        given = {"pad": [1, 0, 2, 1]} if kind == "custom" else {}
        for op, how, reduce, extra in [
            ("avg_pool", "counted", counted_mean, {}),
            ("avg_pool", "excluded", inside_mean, {"exclude_padding_from_average": True}),
            ("max_pool", "", largest, {}),
            ("l2_pool", "", root_of_squares, {}),
        ]:
            add(
                f"{op} {kind} {how}",
                lambda x, op=op, kind=kind, given=given, extra=extra, **v: getattr(mb, op)(
                    x=x, kernel_sizes=[3, 4], strides=[2, 2], pad_type=kind, **given, **extra
                ),
                lambda pads=pads, reduce=reduce: pool_loops(INPUTS["x"], (3, 4), (2, 2), pads, reduce),
            )
    for border in (0, 1):
        add(
            f"avg_pool ceil {border}",
            lambda x, border=border, **v: mb.avg_pool(
                x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[border] * 4, ceil_mode=True
            ),
            lambda border=border: F.avg_pool2d(X["x"], 3, 2, border, ceil_mode=True),
        )
        add(
            f"max_pool ceil {border}",
            lambda x, border=border, **v: mb.max_pool(
                x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[border] * 4, ceil_mode=True
            ),
            lambda border=border: pool_loops(
                INPUTS["x"], (3, 3), (2, 2), [[border] * 2] * 2, largest, ceil=True
            ),
        )
    add(
        "avg_pool 3-D",
        lambda volume, **v: mb.avg_pool(
            x=volume, kernel_sizes=[2, 3, 2], strides=[1, 2, 2], pad_type="valid"
        ),
        lambda: pool_loops(INPUTS["volume"], (2, 3, 2), (1, 2, 2), [[0, 0]] * 3, counted_mean),
    )
    add(
        "max_pool 1-D",
        lambda line, **v: mb.max_pool(x=line, kernel_sizes=[4], strides=[3], pad_type="same_lower"),
        lambda: pool_loops(INPUTS["line"], (4,), (3,), pads_of("same_lower", (11,), (4,), (3,)), largest),
    )

    # Resizing: positions from the tables in coremltools' documentation of resize_bilinear, and PyTorch
    for mode, five, six in [
        ("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1], [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9], [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1], [0, 0, 1 / 3, 2 / 3, 1, 1]),
    ]:
        for positions in (five, six):
            add(
                f"resize_bilinear {mode} {len(positions)}",
                lambda pair, mode=mode, positions=positions, **v: mb.resize_bilinear(
                    x=pair, target_size_height=1, target_size_width=len(positions), sampling_mode=mode
                ),
                lambda positions=positions: [[positions]],
            )
        add(
            f"resize LINEAR {mode}",
            lambda pair, mode=mode, **v: mb.resize(
                x=pair, shape=[1, 5], resized_dims=np.uint32(2), sampling_mode=mode
            ),
            lambda five=five: [[five]],
        )
    for mode, position in (("STRICT_ALIGN_CORNERS", 0.0), ("ALIGN_CORNERS", 0.5)):
        add(
            f"resize_bilinear {mode} to one",
            lambda pair, mode=mode, **v: mb.resize_bilinear(
                x=pair, target_size_height=1, target_size_width=1, sampling_mode=mode
            ),
            lambda position=position: [[[position]]],
        )
    for name, given, aligned in [
        ("aligned", {"align_corners": True}, True),
        ("half pixels", {"align_corners": False}, False),
    ]:
        add(
            f"upsample_bilinear {name}",
            lambda x, given=given, **v: mb.upsample_bilinear(
                x=x, scale_factor_height=2.5, scale_factor_width=2.0, **given
            ),
            lambda aligned=aligned: F.interpolate(
                X["x"], size=(15, 10), mode="bilinear", align_corners=aligned
            ),
        )
    add(
        "upsample_bilinear neither",
        lambda pair, **v: mb.upsample_bilinear(
            x=pair,
            scale_factor_height=1.0,
            scale_factor_width=2.5,
            align_corners=False,
            half_pixel_centers=False,
        ),
        lambda: [[[0, 0.4, 0.8, 1, 1]]],
    )
    add(
        "upsample_nearest_neighbor",
        lambda x, **v: mb.upsample_nearest_neighbor(x=x, scale_factor_height=3.0, scale_factor_width=1.5),
        lambda: F.interpolate(X["x"], size=(18, 7), mode="nearest"),
    )
    add(
        "resize_nearest_neighbor",
        lambda x, **v: mb.resize_nearest_neighbor(x=x, target_size_height=18, target_size_width=15),
        lambda: F.interpolate(X["x"], size=(18, 15), mode="nearest"),
    )
    add(
        "resize NEAREST_NEIGHBOR",
        lambda x, **v: mb.resize(
            x=x,
            shape=[0, 15, 7],
            resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="UNALIGN_CORNERS",
        ),
        lambda: F.interpolate(X["x"], size=(15, 7), mode="nearest-exact"),
    )
    add(
        "crop",
        lambda x, **v: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]),
        lambda: X["x"][:, :, 1:4, :2],
    )

    # Resampling
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

    # Pixel rearrangement
    add(
        "pixel_shuffle",
        lambda x, **v: mb.pixel_shuffle(x=x, upscale_factor=2),
        lambda: F.pixel_shuffle(X["x"], 2),
    )
    add(
        "pixel_unshuffle",
        lambda square, **v: mb.pixel_unshuffle(x=square, downscale_factor=np.uint32(2)),
        lambda: F.pixel_unshuffle(X["square"], 2),
    )
    add(
        "depth_to_space",
        lambda x, **v: mb.depth_to_space(x=x, block_size=2),
        lambda: blocks_loops(INPUTS["x"], 2, block_position_first),
    )
    add(
        "space_to_depth",
        lambda square, **v: mb.space_to_depth(x=square, block_size=2),
        lambda: np.concatenate([INPUTS["square"][:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    )
    add(
        "space_to_batch",
        lambda square, **v: mb.space_to_batch(x=square, block_shape=[2, 3], paddings=[[0, 2], [1, 1]]),
        lambda: np.concatenate(
            [
                np.pad(INPUTS["square"], [(0, 0), (0, 0), (0, 2), (1, 1)])[:, :, i::2, j::3]
                for i in (0, 1)
                for j in (0, 1, 2)
            ]
        ),
    )
    add(
        "batch_to_space",
        lambda square, **v: mb.batch_to_space(
            x=mb.space_to_batch(x=square, block_shape=[2, 2], paddings=[[1, 1], [0, 2]]),
            block_shape=[2, 2],
            crops=[[1, 1], [0, 2]],
        ),
        lambda: X["square"],
    )
    return cases


def cases_ios16(mb: Any) -> Cases:
    """The form of crop_resize that iOS 17 replaced."""
    roi = np.array([[1.0, 0.5, 2.0, 3.0]], np.float32).reshape(1, 1, 4, 1, 1)
    indexed = np.array([[0.0, 0.0, 1 / 3, 1.0, 2 / 3]], np.float32).reshape(1, 1, 5, 1, 1)
    images = INPUTS["square"]
    cases = Cases()
    cases.add(
        "crop_resize roi",
        lambda square, **v: mb.crop_resize(
            x=square, roi=roi, target_height=2, target_width=4, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        lambda: [
            [[bilinear_at(p, np.linspace(1, 2, 2), np.linspace(0.5, 3, 4), 0.0) for p in n] for n in images]
        ],
    )
    cases.add(
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
    return cases


@pytest.fixture(scope="module")
def ios18(save_program: Save) -> Computed:
    return Computed(save_program, cases_ios18, "iOS18")


@pytest.fixture(scope="module")
def ios16(save_program: Save) -> Computed:
    return Computed(save_program, cases_ios16, "iOS16")


@pytest.mark.parametrize("name", names_of(cases_ios18))
def test_operator_agrees_with_its_definition(ios18: Computed, name: str) -> None:
    ios18.check(name)


@pytest.mark.parametrize("name", names_of(cases_ios16))
def test_older_form_agrees_with_its_definition(ios16: Computed, name: str) -> None:
    ios16.check(name)


def test_no_spatial_operator_is_left_untested(ios18: Computed) -> None:
    assert {function.__name__ for function in SPATIAL} - ios18.operators == set()
