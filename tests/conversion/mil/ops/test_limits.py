"""Small parameters that ask for huge results are refused before memory is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afterlens.conversion.mil.ops import OPERATORS

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
