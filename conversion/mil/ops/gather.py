"""MIL operators that read or write parts of a tensor: slices, gather, scatter, indices of what is not zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints


def _slices(
    x: Array, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any
) -> tuple[slice | int, ...]:
    rank = x.ndim
    strides = [1] * rank if stride is None else ints(stride)
    no = [False] * rank
    masks = [no if mask is None else np.atleast_1d(mask) for mask in (begin_mask, end_mask, squeeze_mask)]
    index: list[slice | int] = []
    for b, e, s, first, last, single in zip(ints(begin), ints(end), strides, *masks, strict=True):
        if single:
            index.append(0 if first else b)
        else:
            index.append(slice(None if first else b, None if last else e, s))
    return tuple(index)


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """x[begin:end:stride] per axis; masks leave an end open or take a single element and its axis away."""
    return x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """A copy of x with that slice replaced."""
    result = x.copy()
    target = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result[target] = update.reshape(result[target].shape)
    return result


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """`size` elements from `begin` on per axis; -1 is all that follow."""
    index = []
    for b, count, whole in zip(ints(begin), ints(size), x.shape, strict=True):
        start = b + whole if b < 0 else b
        index.append(slice(start, whole if count == -1 else start + count))
    return x[tuple(index)]


def _places(indices: Array, validate_indices: Any) -> Array:
    """Indices to read or write at. ValueError for negative ones from iOS 17 on, whose operators have `validate_indices`.

    Before, they counted from the end; since, Core ML takes them for out of range, and what it computes is undefined.
    """
    if validate_indices is not None and (indices < 0).any():
        raise ValueError("a negative index, which is out of range from iOS 17 on")
    return indices.astype(np.intp)


def gather(
    x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0, validate_indices: Any = None
) -> Array:
    """Elements of x at `indices` along an axis, the first batch_dims axes taken pairwise."""
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    indices = _places(indices, validate_indices)
    bounded([*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :]])
    if batch == 0:
        return np.take(x, indices, axis)
    lead = x.shape[:batch]
    pairs = zip(x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True)
    rows = np.stack([np.take(row, chosen, axis - batch) for row, chosen in pairs])
    return rows.reshape(*lead, *rows.shape[1:])


def gather_along_axis(x: Array, indices: Array, axis: Any = 0, validate_indices: Any = None) -> Array:
    """Elements of x at `indices` (of x's rank) along an axis."""
    others = [1 if place == int(axis) % x.ndim else size for place, size in enumerate(x.shape)]
    bounded(np.broadcast_shapes(others, indices.shape))
    return np.take_along_axis(x, _places(indices, validate_indices), int(axis))


def gather_nd(x: Array, indices: Array, batch_dims: Any = 0, validate_indices: Any = None) -> Array:
    """Slices of x; the last axis of `indices` counts axes of x after the first batch_dims."""
    batch = int(batch_dims)
    bounded([*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :]])
    lead = np.indices(indices.shape[:batch], sparse=True) if batch else ()
    extra = indices.ndim - 1 - batch
    grid = [i.reshape(i.shape + (1,) * extra) for i in lead]
    return x[(*grid, *np.moveaxis(_places(indices, validate_indices), -1, 0))]


_SCATTER: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _scattered(data: Array, index: tuple[Any, ...], updates: Array, mode: str) -> Array:
    # The product of all updates of one element may pass beyond the type's range and come back.
    result = data.astype(np.float64 if data.dtype.kind == "f" else data.dtype)
    if mode == "update":
        result[index] = updates
    else:
        _SCATTER[mode].at(result, index, updates)
    return result.astype(data.dtype, copy=False)


def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = None,
) -> Array:
    """`updates` combined into data at `indices` along an axis."""
    axis = int(axis) % data.ndim
    return _scattered(data, (*[slice(None)] * axis, _places(indices, validate_indices)), updates, mode)


def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = None,
) -> Array:
    """`updates` combined into data at `indices` (of data's rank) along an axis."""
    axis = int(axis) % data.ndim
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = _places(indices, validate_indices)
    return _scattered(data, tuple(index), updates, mode)


def scatter_nd(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: Any = None
) -> Array:
    """`updates` combined into slices of data; the last axis of `indices` counts data's first axes."""
    return _scattered(data, tuple(np.moveaxis(_places(indices, validate_indices), -1, 0)), updates, mode)


def non_zero(x: Array) -> Array:
    """Indices of what is not 0, one row each."""
    return np.argwhere(x).astype(np.int32)


GATHER: dict[str, Operator] = {
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
    "non_zero": non_zero,
    "scatter": scatter,
    "scatter_along_axis": scatter_along_axis,
    "scatter_nd": scatter_nd,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
}
