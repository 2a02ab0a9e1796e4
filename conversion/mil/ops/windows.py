"""Paddings, strides and dilations of windows, as convolution and pooling count them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afterlens.conversion.mil.ops.arrays import ints


def pads_of(
    pad_type: str, pad: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Elements before and after each spatial dimension; `kernel` with its dilation.

    `same` keeps ceil(size / stride) outputs and puts an odd element after, `same_lower` before the image.
    """
    if pad_type == "custom":
        flat = ints(pad) if pad is not None else [0] * 2 * len(sizes)
        if len(flat) != 2 * len(sizes) or min(flat) < 0:
            raise ValueError(f"pad {flat}, expected {2 * len(sizes)} sizes of at least 0")
        return list(zip(flat[::2], flat[1::2], strict=True))
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r}")
    totals = [max(0, -(-n // s) * s - n + k - s) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if pad_type == "same" else [(after, before) for before, after in halves]


def per_axis(values: Any, rank: int) -> list[int]:
    """A stride or dilation per spatial dimension, 1 where it is not given."""
    found = [1] * rank if values is None else ints(values)
    if len(found) != rank or min(found) < 1:
        raise ValueError(f"{found}, expected {rank} sizes of at least 1")
    return found
