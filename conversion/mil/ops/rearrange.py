"""MIL operators that move pixels between space and channels or batch."""

from __future__ import annotations

from typing import Any

from afterlens.conversion.mil.ops.arrays import Array, Operator, ints, padded
from afterlens.conversion.mil.ops.resize import crop


def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """(N, C f^2, H, W) -> (N, C, H f, W f); channels count (C, row, column), as in torch."""
    f = int(upscale_factor)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c // (f * f), f, f, h, w)
        .transpose(0, 1, 4, 2, 5, 3)
        .reshape(n, c // (f * f), h * f, w * f)
    )


def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """(N, C, H, W) -> (N, C f^2, H / f, W / f); channels count (C, row, column), as in torch."""
    f = int(downscale_factor)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // f, f, w // f, f)
        .transpose(0, 1, 3, 5, 2, 4)
        .reshape(n, c * f * f, h // f, w // f)
    )


def depth_to_space(x: Array, block_size: Any) -> Array:
    """(N, C b^2, H, W) -> (N, C, H b, W b); channels count (row, column, C), as in TensorFlow."""
    b = int(block_size)
    n, c, h, w = x.shape
    return (
        x.reshape(n, b, b, c // (b * b), h, w)
        .transpose(0, 3, 4, 1, 5, 2)
        .reshape(n, c // (b * b), h * b, w * b)
    )


def space_to_depth(x: Array, block_size: Any) -> Array:
    """(N, C, H, W) -> (N, C b^2, H / b, W / b); channels count (row, column, C), as in TensorFlow."""
    b = int(block_size)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // b, b, w // b, b)
        .transpose(0, 3, 5, 1, 2, 4)
        .reshape(n, c * b * b, h // b, w // b)
    )


def space_to_batch(x: Array, block_shape: Any, paddings: Any) -> Array:
    """Pads, then moves each block's pixels into the batch, block position first (TensorFlow)."""
    rows, columns = ints(block_shape)
    x = padded(x, [(int(a), int(b)) for a, b in paddings])
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns).transpose(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * rows * columns, c, h // rows, w // columns)


def batch_to_space(x: Array, block_shape: Any, crops: Any) -> Array:
    """Undoes space_to_batch."""
    rows, columns = ints(block_shape)
    n, c, h, w = x.shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    image = blocks.reshape(n // (rows * columns), c, h * rows, w * columns)
    return crop(image, crops[0], crops[1])


REARRANGE: dict[str, Operator] = {
    "batch_to_space": batch_to_space,
    "depth_to_space": depth_to_space,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "space_to_batch": space_to_batch,
    "space_to_depth": space_to_depth,
}
