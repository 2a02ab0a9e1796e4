"""Convolution, pooling, resizing and rearrangement as loops over their definitions, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np


def pads_of(
    kind: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[list[int]]:
    """TensorFlow's SAME padding, the odd element after (`same`) or before (`same_lower`)."""
    result = []
    for n, k, s in zip(sizes, kernel, strides, strict=True):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        small, large = total // 2, total - total // 2
        result.append([small, large] if kind == "same" else [large, small])
    return result


def conv_loops(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    pads: Sequence[Sequence[int]],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> np.ndarray:
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(p[0], p[1]) for p in pads]])
    rank, per_group = x.ndim - 2, w.shape[0] // groups
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    for n, o in itertools.product(range(x.shape[0]), range(w.shape[0])):
        for position in itertools.product(*map(range, sizes)):
            total = float(b[o])
            for c in range(w.shape[1]):
                for tap in itertools.product(*map(range, w.shape[2:])):
                    at = tuple(position[a] * strides[a] + tap[a] * dilations[a] for a in range(rank))
                    total += x[(n, o // per_group * w.shape[1] + c, *at)] * w[(o, c, *tap)]
            out[(n, o, *position)] = total
    return out


def conv_transpose_loops(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    before: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    groups: int,
) -> np.ndarray:
    """Every input pixel stamps its weighted kernel; what falls outside of the output is lost."""
    out = np.zeros((x.shape[0], w.shape[1] * groups, *sizes))
    per_group = x.shape[1] // groups
    for n, c, o in itertools.product(range(x.shape[0]), range(x.shape[1]), range(w.shape[1])):
        for position in itertools.product(*map(range, x.shape[2:])):
            for tap in itertools.product(*map(range, w.shape[2:])):
                at = [p * s + t - cut for p, s, t, cut in zip(position, strides, tap, before, strict=True)]
                if all(0 <= a < size for a, size in zip(at, sizes, strict=True)):
                    channel = c // per_group * w.shape[1] + o
                    out[(n, channel, *at)] += x[(n, c, *position)] * w[(c, o, *tap)]
    return out + b.reshape(-1, *[1] * len(sizes))


def pool_loops(
    x: np.ndarray,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[Sequence[int]],
    reduce: Callable[[list[float], int], float],
    ceil: bool = False,
) -> np.ndarray:
    """`reduce(values in the image, number of cells in image and padding)` over every window."""
    spans = [n + sum(p) - k for n, p, k in zip(x.shape[2:], pads, kernel, strict=True)]
    sizes = [(math.ceil(span / s) if ceil else span // s) + 1 for span, s in zip(spans, strides, strict=True)]
    if ceil:  # PyTorch drops a window that would start behind the image and its first padding
        sizes = [
            size - 1 if (size - 1) * s >= n + p[0] else size
            for size, s, n, p in zip(sizes, strides, x.shape[2:], pads, strict=True)
        ]
    out = np.zeros((*x.shape[:2], *sizes))
    for n, c in itertools.product(*map(range, x.shape[:2])):
        for position in itertools.product(*map(range, sizes)):
            values, cells = [], 0
            for tap in itertools.product(*map(range, kernel)):
                at = [p * s + t - pad[0] for p, s, t, pad in zip(position, strides, tap, pads, strict=True)]
                if all(a < size + pad[1] for a, size, pad in zip(at, x.shape[2:], pads, strict=True)):
                    cells += 1
                if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
                    values.append(float(x[(n, c, *at)]))
            out[(n, c, *position)] = reduce(values, cells)
    return out


def counted_mean(values: list[float], cells: int) -> float:
    return sum(values) / cells


def inside_mean(values: list[float], cells: int) -> float:
    return sum(values) / len(values)


def largest(values: list[float], cells: int) -> float:
    return max(values)


def root_of_squares(values: list[float], cells: int) -> float:
    return math.sqrt(sum(v * v for v in values))


def blocks_loops(x: np.ndarray, b: int, channel: Callable[[int, int, int], int]) -> np.ndarray:
    """Pixel (c, h b + i, w b + j) from channel `channel(c, i, j)` at (h, w)."""
    n, depth, height, width = x.shape
    out = np.zeros((n, depth // b**2, height * b, width * b), np.float32)
    for c, i, j in itertools.product(range(out.shape[1]), range(b), range(b)):
        out[:, c, i::b, j::b] = x[:, channel(c, i, j)]
    return out


def bilinear_at(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, outside: float) -> np.ndarray:
    """x (H, W) at the outer product of rows and columns, `outside` beyond the outermost pixel centres."""
    out = np.full((len(rows), len(columns)), outside)
    for (a, r), (b, c) in itertools.product(enumerate(rows), enumerate(columns)):
        if not (0 <= r <= x.shape[0] - 1 and 0 <= c <= x.shape[1] - 1):
            continue
        top, left = min(int(r), x.shape[0] - 2), min(int(c), x.shape[1] - 2)
        dr, dc = r - top, c - left
        above = x[top, left] * (1 - dc) + x[top, left + 1] * dc
        below = x[top + 1, left] * (1 - dc) + x[top + 1, left + 1] * dc
        out[a, b] = above * (1 - dr) + below * dr
    return out
