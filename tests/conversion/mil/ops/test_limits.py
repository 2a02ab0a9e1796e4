"""Small parameters that ask for huge results are refused before memory is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afterlens.conversion.mil.ops import OPERATORS, arrays

MANY = 1 << 20
COLUMN, ROW = np.zeros((MANY, 1), np.float32), np.zeros((1, MANY), np.float32)
PICTURE = np.zeros((1, 1, 2, 2), np.float32)
CHANNELS = np.broadcast_to(np.float32(0), (1, MANY, 2, 2))
HIGH = {"target_size_height": MANY, "target_size_width": MANY}
FACTORS = {"scale_factor_height": MANY, "scale_factor_width": MANY}
SAMPLED = {
    "padding_mode": "constant",
    "padding_value": 0.0,
    "sampling_mode": "bilinear",
    "align_corners": True,
}
BOX = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
KERNEL = np.zeros((1, 1, 2, 2), np.float32)

CASES: dict[str, dict[str, Any]] = {
    "fill": {"shape": [MANY, MANY]},
    "range_1d": {"start": 0, "end": MANY**2, "step": 1},
    "one_hot": {"indices": np.zeros(MANY, np.int32), "one_hot_vector_size": MANY},
    "tile": {"x": PICTURE, "reps": [1, 1, MANY, MANY]},
    "pad": {"x": PICTURE, "pad": [MANY] * 4},
    "resize": {"x": PICTURE, "shape": [MANY, MANY], "resized_dims": 2},
    "resize_bilinear": {"x": PICTURE, **HIGH},
    "resize_nearest_neighbor": {"x": PICTURE, **HIGH},
    "upsample_bilinear": {"x": PICTURE, **FACTORS},
    "upsample_nearest_neighbor": {"x": PICTURE, **FACTORS},
    "affine": {
        "x": PICTURE, "transform_matrix": np.zeros((1, 6), np.float32), "output_height": MANY, "output_width": MANY,
        "coordinates_mode": "normalized_zero_to_one", **SAMPLED,
    },
    "resample": {
        "x": CHANNELS, "coordinates": np.zeros((1, 64, 64, 2), np.float32), "coordinates_mode": "unnormalized",
        **SAMPLED,
    },
    "crop_resize": {
        "x": PICTURE, "boxes": BOX, "box_indices": np.array([0]), "target_height": MANY, "target_width": MANY
    },
    "conv": {"x": PICTURE, "weight": KERNEL, "pad_type": "custom", "pad": [MANY, MANY, MANY, MANY]},
    "conv_transpose": {"x": PICTURE, "weight": KERNEL, "strides": [MANY, MANY]},
    "max_pool": {
        "x": PICTURE, "kernel_sizes": [2, 2], "pad_type": "custom", "pad": [MANY, MANY, MANY, MANY]
    },
    "add": {"x": COLUMN, "y": ROW},
    "select": {"cond": COLUMN > 0, "a": ROW, "b": np.float32(0)},
    "matmul": {"x": COLUMN, "y": ROW},
    "linear": {"x": COLUMN, "weight": COLUMN},
    "scaled_dot_product_attention": {"query": COLUMN, "key": ROW.T[:1], "value": ROW},
    "gather": {"x": ROW, "indices": np.zeros(MANY, np.int32), "axis": 0},
    "gather_along_axis": {"x": COLUMN, "indices": np.zeros((1, MANY), np.int32), "axis": 1},
    "gather_nd": {"x": ROW, "indices": np.zeros((MANY, 1), np.int32)},
    "constexpr_lut_to_dense": {
        "indices": np.zeros(1, np.uint8), "lut": np.zeros(2, np.float32), "shape": [MANY, MANY]
    },
    "constexpr_sparse_to_dense": {
        "nonzero_data": np.zeros(1, np.float32), "mask": np.zeros(1, np.uint8), "shape": [MANY, MANY]
    },
}  # fmt: skip


@pytest.mark.parametrize(("operator", "parameters"), CASES.items(), ids=CASES)
def test_a_huge_result_is_refused_before_memory_is_taken(operator: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="elements are allowed"):
        OPERATORS[operator](**parameters)


def test_a_transposed_convolution_that_is_cropped_to_little_is_refused_too() -> None:
    """What is computed before that takes the memory."""
    with pytest.raises(ValueError, match="elements are allowed"):
        OPERATORS["conv_transpose"](PICTURE, KERNEL, strides=[MANY, MANY], output_shape=[1, 1, 2, 2])


# The edge, of small results: operator, parameters, and the elements of its result, or of what it computes before that.
IMAGES = np.ones((2, 3, 4, 5), np.float32)
CLIP = {"cond": np.ones((6, 1, 1), bool), "a": np.ones((1, 5, 1)), "b": np.ones((1, 1, 7))}
FLAT_BOXES = np.tile(BOX, (4, 1))
AT_THE_EDGE: list[tuple[str, dict[str, Any], int]] = [
    ("fill", {"shape": [4, 5], "value": 1.0}, 4 * 5),
    ("fill", {"shape": [4, 0, 5], "value": 1.0}, 4 * 5),  # a zero does not hide the others
    ("range_1d", {"start": 0, "end": 7, "step": 2}, 4),
    ("range_1d", {"start": 7, "end": 1, "step": -2}, 3),
    ("one_hot", {"indices": np.zeros((2, 3), np.int32), "one_hot_vector_size": 4}, 2 * 3 * 4),
    ("tile", {"x": IMAGES, "reps": [1, 2, 3, 1]}, 2 * 6 * 12 * 5),
    ("pad", {"x": IMAGES, "pad": [1, 2, 3, 0]}, 2 * 3 * 7 * 8),
    ("sliding_windows", {"x": IMAGES, "axis": 3, "size": 3, "stride": 2}, 2 * 3 * 4 * 2 * 3),
    ("resize", {"x": IMAGES, "shape": [7, 11], "resized_dims": 2}, 2 * 3 * 7 * 11),
    ("resize_bilinear", {"x": IMAGES, "target_size_height": 7, "target_size_width": 11}, 2 * 3 * 7 * 11),
    (
        "resize_nearest_neighbor",
        {"x": IMAGES, "target_size_height": 7, "target_size_width": 11},
        2 * 3 * 7 * 11,
    ),
    ("upsample_bilinear", {"x": IMAGES, "scale_factor_height": 3, "scale_factor_width": 2}, 2 * 3 * 12 * 10),
    (
        "upsample_nearest_neighbor",
        {"x": IMAGES, "scale_factor_height": 3, "scale_factor_width": 2},
        2 * 3 * 12 * 10,
    ),
    (
        "affine",
        {
            "x": IMAGES, "transform_matrix": np.zeros((1, 6), np.float32), "output_height": 7, "output_width": 11,
            "coordinates_mode": "normalized_zero_to_one", **SAMPLED,
        },
        2 * 3 * 7 * 11,
    ),
    (
        "resample",
        {
            "x": IMAGES, "coordinates": np.zeros((2, 7, 11, 2), np.float32), "coordinates_mode": "unnormalized",
            **SAMPLED,
        },
        2 * 3 * 7 * 11,
    ),
    (
        "crop_resize",
        {
            "x": IMAGES, "boxes": FLAT_BOXES, "box_indices": np.zeros(4, np.int32), "target_height": 7,
            "target_width": 11,
        },
        4 * 3 * 7 * 11,
    ),
    (
        "crop_resize",  # every box of every picture
        {"x": IMAGES, "roi": FLAT_BOXES.reshape(4, 1, 4, 1, 1), "target_height": 7, "target_width": 11},
        4 * 2 * 3 * 7 * 11,
    ),
    # With its padding.
    ("conv", {"x": IMAGES, "weight": np.ones((1, 3, 2, 2)), "pad_type": "custom", "pad": [1, 2, 0, 3]}, 2 * 3 * 7 * 8),
    (
        "max_pool",
        {"x": IMAGES, "kernel_sizes": [3, 3], "pad_type": "custom", "pad": [1, 1, 0, 1]},
        2 * 3 * 6 * 6,
    ),
    (
        "avg_pool",
        {"x": IMAGES, "kernel_sizes": [3, 3], "pad_type": "custom", "pad": [1, 1, 0, 1]},
        2 * 3 * 6 * 6,
    ),
    ("conv_transpose", {"x": IMAGES, "weight": np.ones((3, 2, 2, 2)), "strides": [2, 3]}, 2 * 2 * 8 * 14),
    (
        "conv_transpose",
        {"x": IMAGES, "weight": np.ones((3, 2, 2, 2)), "strides": [2, 3], "output_shape": [2, 2, 2, 2]},
        2 * 2 * 8 * 14,  # before it is cropped
    ),
    (
        "conv_transpose",
        {"x": IMAGES, "weight": np.ones((3, 2, 1, 1)), "strides": [1, 1], "output_shape": [2, 2, 9, 9]},
        2 * 2 * 9 * 9,
    ),
    ("conv_transpose", {"x": IMAGES, "weight": np.ones((3, 2, 2, 2)), "groups": 3}, 2 * 6 * 5 * 6),
    ("add", {"x": np.ones((4, 1)), "y": np.ones((1, 5))}, 4 * 5),
    ("select", CLIP, 6 * 5 * 7),
    ("matmul", {"x": np.ones((2, 4, 1)), "y": np.ones((1, 1, 5))}, 2 * 4 * 5),
    ("linear", {"x": np.ones((2, 4, 1)), "weight": np.ones((5, 1))}, 2 * 4 * 5),
    ("scaled_dot_product_attention", {"query": np.ones((4, 1)), "key": np.ones((5, 1)), "value": np.ones((5, 1))}, 20),
    ("gather", {"x": np.ones((4, 5)), "indices": np.zeros((2, 3), np.int32), "axis": 0}, 2 * 3 * 5),
    (
        "gather",
        {"x": np.ones((2, 4, 5)), "indices": np.zeros((2, 3), np.int32), "axis": 1, "batch_dims": 1},
        2 * 3 * 5,
    ),
    ("gather_along_axis", {"x": np.ones((1, 5)), "indices": np.zeros((4, 2), np.int32), "axis": 1}, 4 * 2),
    ("gather_nd", {"x": np.ones((4, 5)), "indices": np.zeros((3, 1), np.int32)}, 3 * 5),
    ("gather_nd", {"x": np.ones((2, 4, 5)), "indices": np.zeros((2, 3, 1), np.int32), "batch_dims": 1}, 2 * 3 * 5),
    (
        "constexpr_lut_to_dense",
        {"indices": np.zeros(1, np.uint8), "lut": np.zeros(2, np.float32), "shape": [2, 4]},
        2 * 4,
    ),
    (
        "constexpr_lut_to_dense",
        {"indices": np.zeros((2, 3), np.uint8), "lut": np.zeros((1, 1, 2, 4), np.float32), "vector_axis": 0},
        2 * 3 * 4,
    ),
    (
        "constexpr_sparse_to_dense",
        {"nonzero_data": np.zeros(0, np.float32), "mask": np.zeros(1, np.uint8), "shape": [2, 4]},
        2 * 4,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "parameters", "elements"), AT_THE_EDGE, ids=[operator for operator, *_ in AT_THE_EDGE]
)
def test_as_many_elements_as_the_limit_are_computed_and_one_more_is_refused(
    operator: str, parameters: dict[str, Any], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MAX_ELEMENTS", elements)
    OPERATORS[operator](**parameters)
    monkeypatch.setattr(arrays, "MAX_ELEMENTS", elements - 1)
    with pytest.raises(ValueError, match=f"at most {elements - 1} elements are allowed"):
        OPERATORS[operator](**parameters)


def test_every_operator_with_a_huge_case_has_one_at_the_edge() -> None:
    assert CASES.keys() <= {operator for operator, *_ in AT_THE_EDGE}
