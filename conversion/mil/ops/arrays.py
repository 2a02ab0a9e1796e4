"""What the operators share: the type of an array, and checked sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.mil.package import MAX_ELEMENTS

Array = NDArray[Any]
Operator = Callable[..., Any]


def ints(values: Any) -> list[int]:
    """A MIL integer vector (or scalar) as Python integers."""
    return [int(v) for v in np.atleast_1d(values)]


def bounded(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape`, refused where a parameter asks for a tensor that no real model holds."""
    if math.prod(max(int(size), 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(
            f"a result of shape {tuple(shape)} is asked for, at most {MAX_ELEMENTS} elements are allowed"
        )
    return tuple(int(size) for size in shape)


def tensor(x: Array) -> torch.Tensor:
    """An array as a float32 tensor of PyTorch."""
    # A copy where the array is read-only (a view of the weight file), which torch warns about.
    x = np.ascontiguousarray(x, np.float32)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def per_channel(vector: Array, x: Array) -> Array:
    """(C,) shaped to broadcast along axis 1 of x."""
    return vector.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])


def padded(x: Array, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """`x` with `value` before and after its last len(pads) axes."""
    widths = [(0, 0)] * (x.ndim - len(pads)) + list(pads)
    if not any(before or after for before, after in widths):
        return x
    bounded([size + sum(width) for size, width in zip(x.shape, widths, strict=True)])
    return np.pad(x, widths, constant_values=value)


def to_integer(x: Array, dtype: np.dtype[Any]) -> Array:
    """Truncated towards 0 and limited to the type's range; NaN becomes 0 (NumPy leaves both undefined)."""
    if x.dtype.kind != "f":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    whole = np.clip(
        np.nan_to_num(np.trunc(x.astype(np.float64)), posinf=np.inf, neginf=-np.inf), limits.min, limits.max
    )
    return whole.astype(dtype)
