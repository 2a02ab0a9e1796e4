"""How far two values of a port are apart, and where. Errors are shares of its declared range, the peak of the PSNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afterlens.conversion.bundle.layout import Value
from afterlens.conversion.bundle.proof import Place, finite
from afterlens.training.deployable import Port
from afterlens.training.metrics import PSNR_CAP


@dataclass(frozen=True)
class Difference:
    """How far two values of a port are apart; errors are shares of its range."""

    max_error: float
    mean_error: float
    psnr: float
    not_finite: int  # this many numbers, each counted as an error of the whole range
    worst: Place


def difference(port: Port, got: Value, expected: Value) -> Difference:
    """Compare two values of a port, of the same shape."""
    low, high = port.range
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - expected) / (high - low)
    error[~np.isfinite(error)] = np.inf
    worst = place(port, int(np.argmax(error)), got, expected)
    error[np.isinf(error)] = 1.0
    mean_square = float(np.square(error).mean())
    psnr = PSNR_CAP if mean_square == 0.0 else min(PSNR_CAP, -10.0 * float(np.log10(mean_square)))
    return Difference(
        float(error.max()), float(error.mean()), psnr, int(np.count_nonzero(~np.isfinite(got))), worst
    )


def place(port: Port, index: int, got: Value, expected: Value) -> Place:
    """The element at a flat index: where it is, for people, and both values."""
    at = tuple(int(i) for i in np.unravel_index(index, got.shape))
    if port.kind == "image":
        y, x, channel = at
        where = f"x {x}, y {y}, {'RGB'[channel]}"
    else:
        where = f"index {', '.join(str(i) for i in at)}"
    return Place(where, finite(float(got[at])), finite(float(expected[at])))
