"""MIL operators that join, split, reshape, reorder, repeat or pad tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints


def concat(values: Sequence[Array], axis: Any, interleave: Any = False) -> Array:
    """Tensors one behind the other along an axis, or element by element in turn."""
    if values[0].ndim == 0:
        return np.stack(values)
    axis = int(axis) % values[0].ndim
    if not interleave:
        return np.concatenate(values, axis=axis)
    shape = [size * len(values) if a == axis else size for a, size in enumerate(values[0].shape)]
    return np.stack(values, axis=axis + 1).reshape(shape)


def stack(values: Sequence[Array], axis: Any) -> Array:
    """Tensors of one shape along a new axis."""
    return np.stack(values, axis=int(axis))


def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> tuple[Array, ...]:
    """Equal parts, or parts of the given sizes, along an axis."""
    axis = int(axis)
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("neither num_splits nor split_sizes is given")
        return tuple(np.split(x, int(num_splits), axis=axis))
    sizes = ints(split_sizes)
    if min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise ValueError(f"split_sizes {sizes} of an axis of {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


def reshape(x: Array, shape: Array) -> Array:
    """New shape: -1 is what is left over, 0 the size at the same place counted from the right (1 beyond the left)."""
    target = ints(shape)
    for back in range(1, len(target) + 1):
        if target[-back] == 0 and x.size > 0:
            target[-back] = x.shape[-back] if back <= x.ndim else 1
    return x.reshape(target)


def reshape_like(
    x: Array,
    ref_tensors: Sequence[Array],
    begins: Sequence[Any],
    ends: Sequence[Any],
    end_masks: Sequence[Any],
) -> Array:
    """New shape put together from ranges of other tensors' shapes."""
    shape: list[int] = []
    for reference, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[int(begin) : None if to_the_end else int(end)]
    return x.reshape(shape)


def transpose(x: Array, perm: Array) -> Array:
    """Axes in another order."""
    return np.transpose(x, ints(perm)) if x.ndim else x


def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of size 1 at these places of the result."""
    return np.expand_dims(x, tuple(ints(axes)))


def squeeze(x: Array, axes: Any = None) -> Array:
    """Without the axes of size 1, or without those of the given ones that have size 1."""
    chosen = range(x.ndim) if axes is None else [a % x.ndim for a in ints(axes)]
    return np.squeeze(x, tuple(a for a in chosen if x.shape[a] == 1))


def flatten2d(x: Array, axis: Any = 1) -> Array:
    """Two axes: everything before `axis` and everything from it on."""
    return x.reshape(math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :]))


def reverse(x: Array, axes: Any = None) -> Array:
    """Order turned round along the given axes, all by default."""
    return np.flip(x, None if axes is None else tuple(ints(axes)))


def reverse_sequence(x: Array, lengths: Array, seq_axis: Any = 0, batch_axis: Any = 0) -> Array:
    """The first lengths[i] elements along seq_axis turned round, i counting along batch_axis."""
    moved = np.moveaxis(x, (int(batch_axis), int(seq_axis)), (0, 1)).copy()
    for row, length in zip(moved, ints(lengths), strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(moved, (0, 1), (int(batch_axis), int(seq_axis)))


def tile(x: Array, reps: Array) -> Array:
    """Repeated along every axis."""
    bounded([size * count for size, count in zip(x.shape, ints(reps), strict=True)])
    return np.tile(x, ints(reps))


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """The last axes padded before and after: with a constant, by reflection without the edge, or with the edge."""
    sizes = ints(pad) if np.size(pad) else []
    pairs = [(0, 0)] * (x.ndim - len(sizes) // 2) + list(zip(sizes[::2], sizes[1::2], strict=True))
    bounded([size + before + after for size, (before, after) in zip(x.shape, pairs, strict=True)])
    if mode == "constant":
        return np.pad(x, pairs, constant_values=constant_val)
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"mode {mode!r}")
    if mode == "reflect" and any(
        max(pair) >= size for pair, size in zip(pairs, x.shape, strict=True) if max(pair)
    ):
        raise ValueError(f"reflection by {pairs} of shape {x.shape}")
    return np.pad(x, pairs, mode="reflect" if mode == "reflect" else "edge")


def sliding_windows(x: Array, axis: Any, size: Any, stride: Any = 1) -> Array:
    """All windows along an axis; the window's own axis follows it."""
    axis = int(axis) % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, int(size), axis)  # the new axis comes last
    windows = windows[
        tuple(slice(None, None, int(stride)) if a == axis else slice(None) for a in range(x.ndim))
    ]
    bounded(windows.shape)
    return np.moveaxis(windows, -1, axis + 1)


SHAPE: dict[str, Operator] = {
    "shape": lambda x: np.array(x.shape, np.int32),
    "concat": concat,
    "expand_dims": expand_dims,
    "flatten2d": flatten2d,
    "pad": pad,
    "reshape": reshape,
    "reshape_like": reshape_like,
    "reverse": reverse,
    "reverse_sequence": reverse_sequence,
    "sliding_windows": sliding_windows,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
