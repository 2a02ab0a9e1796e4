"""MIL's pooling. Arrays are (N, C, *spatial).

Sums run in PyTorch for speed, in float32; paddings, output sizes and divisors are computed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F

from afterlens.conversion.mil.ops.arrays import Array, Operator, ints, padded, tensor
from afterlens.conversion.mil.ops.windows import pads_of, per_axis


def _pool_geometry(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any
) -> tuple[list[int], list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """(kernel, strides, declared pads, pads with the part of the last window that ceil_mode hangs over)."""
    kernel = ints(kernel_sizes)
    strides = per_axis(strides, x.ndim - 2)
    pads = pads_of(pad_type.lower(), pad, x.shape[2:], kernel, strides)
    reach = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        span = n + before + after - k
        outputs = (-(-span // s) if ceil_mode else span // s) + 1
        if ceil_mode and before + after > 0 and (outputs - 1) * s >= n + before:
            outputs -= 1  # a window that would start in the padding after the image is dropped
        reach.append((before, max(after, (outputs - 1) * s + k - n - before)))
    return kernel, strides, pads, reach


def _window_sums(x: Array, kernel: list[int], strides: list[int]) -> Array:
    """Sums over windows of the spatial dimensions."""
    if x.ndim == 3:
        return F.avg_pool2d(tensor(x)[..., None], [*kernel, 1], [*strides, 1], divisor_override=1).numpy()[
            ..., 0
        ]
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    return pool(tensor(x), kernel, strides, divisor_override=1).numpy()


def avg_pool(
    x: Array,
    kernel_sizes: Any,
    pad_type: str,
    strides: Any = None,
    pad: Any = None,
    ceil_mode: Any = False,
    exclude_padding_from_average: Any = False,
) -> Array:
    """Mean over windows; padded zeros count in the divisor unless they are excluded, the overhang never does."""
    kernel, steps, pads, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    sums = _window_sums(padded(x, reach), kernel, steps)
    divisor = np.ones([1] * x.ndim, np.float32)
    for axis, (n, k, s, (before, after)) in enumerate(zip(x.shape[2:], kernel, steps, pads, strict=True), 2):
        start = np.arange(sums.shape[axis]) * s - before
        low, high = (0, n) if exclude_padding_from_average else (-before, n + after)
        counts = np.minimum(start + k, high) - np.maximum(start, low)
        divisor = divisor * np.maximum(counts, 1).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return sums / divisor.astype(np.float32)


def l2_pool(
    x: Array, kernel_sizes: Any, pad_type: str, strides: Any = None, pad: Any = None, ceil_mode: Any = False
) -> Array:
    """Square root of the sum of squares over windows."""
    kernel, steps, _, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(_window_sums(padded(x * x, reach), kernel, steps))


def max_pool(
    x: Array, kernel_sizes: Any, pad_type: str, strides: Any = None, pad: Any = None, ceil_mode: Any = False
) -> Array:
    """Maximum over windows; padding never wins."""
    kernel, steps, _, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.ndim]
    return pool(tensor(padded(x, reach, -np.inf)), kernel, steps).numpy()


POOLING: dict[str, Operator] = {
    "avg_pool": avg_pool,
    "l2_pool": l2_pool,
    "max_pool": max_pool,
}
