"""MIL operators that create tensors: constant fills, ranges, one-hot vectors, diagonal bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints


def fill(shape: Array, value: Any = 0.0) -> Array:
    """A constant tensor."""
    return np.full(bounded(ints(shape) if np.size(shape) else []), value)


def fill_like(ref_tensor: Array, value: Any = 0.0) -> Array:
    """A constant tensor of another's shape."""
    return np.full(ref_tensor.shape, value)


def range_1d(end: Array, start: Array, step: Array) -> Array:
    """start, start + step, ... below end."""
    bounded([math.ceil(abs((float(end) - float(start)) / float(step)))])
    return np.arange(start, end, step).astype(np.asarray(start).dtype)


def one_hot(
    indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0
) -> Array:
    """on_value at the index, off_value elsewhere along a new axis."""
    depth = int(one_hot_vector_size)
    bounded([*indices.shape, depth])
    hit = np.expand_dims(indices, int(axis))
    spread = [1] * (indices.ndim + 1)
    spread[int(axis)] = depth
    return np.where(hit == np.arange(depth).reshape(spread), on_value, off_value)


def band_part(x: Array, lower: Any = -1, upper: Any = -1) -> Array:
    """Zero outside of `lower` diagonals below and `upper` above the main one; negative keeps all."""
    m, n = np.indices(x.shape[-2:], sparse=True)
    keep = ((int(lower) < 0) | (m - n <= int(lower))) & ((int(upper) < 0) | (n - m <= int(upper)))
    return np.where(keep, x, np.zeros((), x.dtype))


CREATE: dict[str, Operator] = {
    "band_part": band_part,
    "fill": fill,
    "fill_like": fill_like,
    "one_hot": one_hot,
    "range_1d": range_1d,
}
