"""k-means palettes of weights, without chance, in milliseconds a weight.

palette, indices = palettize(weights, bits=6)      # 64 float16 values, and for each weight the nearest one's number
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def palettize(values: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """k-means of the values -> (2^bits entries in float16, ascending; for each value the index of the nearest, flat).

    Lloyd's iteration on sorted values, where a cluster is a range and its mean a difference of running sums. Then, as
    long as that helps, two neighbouring clusters are merged and another is split. Dynamic programming, which finds the
    optimum, takes far longer.
    """
    flat = values.reshape(-1).astype(np.float64)
    levels, counts = np.unique(flat, return_counts=True)
    entries = 1 << bits
    if len(levels) <= entries:
        best = np.concatenate([levels, np.repeat(levels[-1:], entries - len(levels))])
    else:
        best, error = _lloyd(levels, counts, _by_density(levels, counts, entries))
        for _ in range(2 * entries):
            moved, less = _lloyd(levels, counts, _with_one_moved(levels, counts, best))
            if not less < error * (1 - 1e-4):
                break
            best, error = moved, less
    palette = best.astype(np.float16)
    return palette, nearest(palette, flat).astype(np.uint8)


def _clusters(levels: Array, counts: Array, edges: Array) -> tuple[Array, Array, Array]:
    """Count, mean and squared error of the ranges between edges; the mean of an empty range is NaN."""
    sums = [np.diff(np.concatenate([[0.0], np.cumsum(counts * levels**power)])[edges]) for power in (0, 1, 2)]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[1] / sums[0]
        return sums[0], mean, np.where(sums[0] > 0, np.maximum(sums[2] - sums[1] * mean, 0.0), 0.0)


def _edges(levels: Array, palette: Array) -> Array:
    return np.concatenate([[0], np.searchsorted(levels, (palette[1:] + palette[:-1]) / 2), [len(levels)]])


def _lloyd(levels: Array, counts: Array, palette: Array, limit: int = 500) -> tuple[Array, float]:
    """Moves each entry to the mean of the values nearest to it until nothing changes -> (palette, squared error)."""
    number = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * levels)])
    before = None
    for _ in range(limit):
        edges = _edges(levels, palette)
        if before is not None and np.array_equal(edges, before):
            break
        before = edges
        members = np.diff(number[edges])
        palette = np.where(members > 0, np.diff(total[edges]) / np.maximum(members, 1), palette)
    return palette, float(_clusters(levels, counts, _edges(levels, palette))[2].sum())


def _with_one_moved(levels: Array, counts: Array, palette: Array) -> Array:
    """The palette with the most profitable cluster split at its mean and the two cheapest neighbours merged."""
    edges = _edges(levels, palette)
    members, mean, error = _clusters(levels, counts, edges)
    middle = np.searchsorted(levels, np.nan_to_num(mean)).clip(edges[:-1], edges[1:])
    halves = np.insert(edges, np.arange(1, len(edges)), middle)
    _, half_means, half_errors = _clusters(levels, counts, halves)
    gain = error - half_errors.reshape(-1, 2).sum(1)
    split = int(np.argmax(gain))
    with np.errstate(invalid="ignore"):
        loss = members[1:] * members[:-1] / (members[1:] + members[:-1]) * np.diff(mean) ** 2
    loss = np.nan_to_num(loss)  # an empty cluster is free
    loss[max(split - 1, 0) : split + 1] = np.inf
    merged = int(np.argmin(loss))
    parts = half_means.reshape(-1, 2)[split]
    if not gain[split] > loss[merged] or not np.isfinite(parts).all():
        return palette
    both = members[merged : merged + 2]
    joined = (
        np.average(np.nan_to_num(mean[merged : merged + 2]), weights=both) if both.any() else palette[merged]
    )
    kept = np.delete(palette, [split, merged, merged + 1])
    return np.sort(np.concatenate([kept, parts, [joined]]))


def _by_density(levels: Array, counts: Array, entries: int) -> Array:
    """Entries as dense as the cube root of the values' density, the optimum for many entries (Panter and Dite 1951)."""
    number = np.concatenate([[0], np.cumsum(counts)])
    # Pieces of equally many values, so that a long tail does not blur the middle.
    ends = np.searchsorted(number, np.linspace(0, number[-1], 32 * entries + 1))
    ends = np.unique(ends.clip(0, len(levels) - 1))
    share = np.cbrt(np.diff(number[ends]) * np.diff(levels[ends]) ** 2)  # density^(1/3) times width
    running = np.concatenate([[0], np.cumsum(share)])
    return np.interp((np.arange(entries) + 0.5) / entries * running[-1], running, levels[ends])


def nearest(palette: Array, flat: Array) -> NDArray[np.intp]:
    """For each value the index of the nearest entry of an ascending palette."""
    entries = palette.astype(np.float64)
    return np.searchsorted((entries[1:] + entries[:-1]) / 2, flat)


def pack_bits(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Packs values of `bits` bits each, least significant bit first, without gaps (the inverse of `unpack_bits`)."""
    planes = np.right_shift(values.reshape(-1, 1), np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(-1).astype(np.uint8), bitorder="little")
