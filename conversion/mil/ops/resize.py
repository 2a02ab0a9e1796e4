"""MIL operators that resize the last dimensions, and `crop`. Images are (N, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints


def _grid(mode: str, size: int, count: int) -> Array:
    """Where in [0, size - 1] the `count` samples of a MIL sampling mode lie."""
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            positions = np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        else:
            positions = i * ((size - 1) / (count - 1))
    elif mode == "DEFAULT":
        positions = i * (size / count)
    elif mode == "OFFSET_CORNERS":
        positions = (i + 0.5) * (max(1, size - 1) / count)
    elif mode == "UNALIGN_CORNERS":
        positions = (i + 0.5) * (size / count) - 0.5
    else:
        raise ValueError(f"sampling_mode {mode!r}")
    return np.clip(positions, 0.0, size - 1)


def _linear(x: Array, axis: int, positions: Array) -> Array:
    """`x` interpolated linearly at `positions` along `axis`."""
    if len(positions) == x.shape[axis] and np.array_equal(positions, np.arange(len(positions))):
        return x
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (
        (positions - low).astype(np.float32).reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    )
    below, above = np.take(x, low, axis), np.take(x, high, axis)
    # An infinite neighbour of weight 0 must not turn the sample into NaN.
    return np.where(share == 0, below, below * (1 - share) + above * share)


def _resized(x: Array, sizes: Sequence[int], mode: str, nearest: str | None = None) -> Array:
    """The last len(sizes) dimensions resized; `nearest` is "floor" or "round", None for linear."""
    bounded([*x.shape[: x.ndim - len(sizes)], *sizes])
    if min(sizes) < 1:
        raise ValueError(f"target size {tuple(sizes)}")
    for axis, count in zip(range(-len(sizes), 0), sizes, strict=True):
        size = x.shape[axis]
        if nearest == "floor":
            x = np.take(x, np.arange(count) * size // count, axis)
        elif nearest == "round":
            x = np.take(x, np.floor(_grid(mode, size, count) + 0.5).astype(np.intp), axis)
        else:
            x = _linear(x, axis, _grid(mode, size, count))
    return x


def _scaled_sizes(x: Array, height: Any, width: Any) -> tuple[int, int]:
    return math.floor(x.shape[-2] * float(height)), math.floor(x.shape[-1] * float(width))


def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """Nearest neighbour by a factor; sample i comes from floor(i * size / new size)."""
    return _resized(x, _scaled_sizes(x, scale_factor_height, scale_factor_width), "DEFAULT", "floor")


def resize_nearest_neighbor(x: Array, target_size_height: Any, target_size_width: Any) -> Array:
    """Nearest neighbour to a size; sample i comes from floor(i * size / new size)."""
    return _resized(x, [int(target_size_height), int(target_size_width)], "DEFAULT", "floor")


def upsample_bilinear(
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:
    """Bilinear by a factor; the grid follows from the two sizes, not from the factor."""
    half_pixel = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half_pixel:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    return _resized(x, _scaled_sizes(x, scale_factor_height, scale_factor_width), mode)


def resize_bilinear(
    x: Array, target_size_height: Any = 1, target_size_width: Any = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    """Bilinear to a size."""
    return _resized(x, [int(target_size_height), int(target_size_width)], sampling_mode)


def resize(
    x: Array,
    shape: Any,
    resized_dims: Any,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """iOS 17: the last `resized_dims` dimensions take the last sizes of `shape` (0 keeps a size)."""
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise ValueError(f"interpolation_mode {interpolation_mode!r}")
    count = int(resized_dims)
    if not 0 <= count <= min(len(ints(shape)), x.ndim):
        raise ValueError(f"resized_dims {count} of shape {ints(shape)} for {x.ndim} dimensions")
    if count == 0:
        return x
    sizes = [size or old for size, old in zip(ints(shape)[-count:], x.shape[-count:], strict=True)]
    return _resized(x, sizes, sampling_mode, "round" if interpolation_mode == "NEAREST_NEIGHBOR" else None)


def crop(x: Array, crop_height: Any, crop_width: Any) -> Array:
    """Cuts rows (top, bottom) and columns (left, right) off the last two dimensions."""
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


RESIZE: dict[str, Operator] = {
    "crop": crop,
    "resize": resize,
    "resize_bilinear": resize_bilinear,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
