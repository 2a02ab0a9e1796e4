"""MIL operators that reduce axes, sum along them or order them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, ints


def _log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis=axis)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **how: np.sum(np.abs(x), **how),
    "reduce_l2_norm": lambda x, **how: np.sqrt(np.sum(np.square(x), **how)),
    "reduce_log_sum": lambda x, **how: np.log(np.sum(x, **how)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **how: np.sum(np.square(x), **how),
}


def _reduction(function: Callable[..., Any]) -> Operator:
    def operator(x: Array, axes: Any = None, keep_dims: Any = False) -> Any:
        axis = None if axes is None else tuple(ints(axes))
        return function(x, axis=axis, keepdims=bool(keep_dims))

    return operator


def reduce_argmax(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
    """Index of the first maximum along an axis."""
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def reduce_argmin(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
    """Index of the first minimum along an axis."""
    return np.argmin(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Array:
    """Running sum along an axis, without the element itself if exclusive, from the end if reverse."""
    axis = int(axis)
    turned = np.flip(x, axis) if reverse else x
    total = np.cumsum(turned, axis=axis, dtype=x.dtype)
    if exclusive:  # shifted by one, not `total - turned`, which would lose small sums beside large elements
        total = np.roll(total, 1, axis)
        total[(slice(None),) * (axis % x.ndim) + (0,)] = 0
    return np.flip(total, axis) if reverse else total


def argsort(x: Array, axis: Any = -1, ascending: Any = False) -> Array:
    """Indices that sort along an axis, equal elements in their order."""
    return _order(x, int(axis), bool(ascending))


def _order(x: Array, axis: int, ascending: bool) -> Array:
    if not ascending:
        x = -x.astype(np.int64) if x.dtype.kind in "iub" else -x
    return np.argsort(x, axis=axis, kind="stable").astype(np.int32)


def topk(
    x: Array,
    k: Any = 1,
    axis: Any = -1,
    ascending: Any = False,
    sort: Any = True,
    return_indices: Any = True,
    output_indices_dtype: str = "int32",
) -> Any:
    """The k largest (smallest if ascending) elements along an axis, and their indices; k = -1 takes all."""
    axis = int(axis)
    count = x.shape[axis] if int(k) == -1 else int(k)
    indices = np.take(_order(x, axis, bool(ascending)), np.arange(count), axis)
    values = np.take_along_axis(x, indices, axis)
    return (values, indices.astype(output_indices_dtype)) if return_indices else values


REDUCE: dict[str, Operator] = {
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "argsort": argsort,
    "cumsum": cumsum,
    "reduce_argmax": reduce_argmax,
    "reduce_argmin": reduce_argmin,
    "topk": topk,
}
