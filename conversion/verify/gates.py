"""Checks one output of an artifact against the gate of its variant: how far is it from PyTorch, and where?

    gate = variants.gate("tflite", "float16")
    row = check_output(gate, port, "room.jpg", got, expected, stored=(got_in_float32, expected_with_float16_weights))
    print(row.faults or "passed")

The limits are in `afterlens.conversion.bundle.variants`.

Pictures are (H, W, 3) float32. Errors are shares of the output's declared range, which is the peak of the PSNR too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from afterlens.conversion.bundle.runtimes import Picture, to_levels
from afterlens.conversion.bundle.variants import Gate
from afterlens.training.deployable import Port
from afterlens.training.metrics import PSNR_CAP


@dataclass(frozen=True)
class Place:
    """The one value of a picture that is furthest off, in the output's own units."""

    x: int
    y: int
    channel: str
    got: float | None  # None: not a finite number
    expected: float | None

    def __str__(self) -> str:
        got, expected = ("not finite" if v is None else f"{v:.6g}" for v in (self.got, self.expected))
        return f"x {self.x}, y {self.y}, {self.channel}: got {got}, expected {expected}"


@dataclass(frozen=True)
class Row:
    """One output of one artifact on one picture, against PyTorch. Errors are shares of the output's range."""

    image: str
    output: str
    max_error: float
    mean_error: float
    psnr: float  # dB, at most 100
    stored_error: float | None  # like max_error, of the comparison of MAX_STORED_ERROR; None: not made
    levels: int  # largest difference after both are rounded to 8 bits
    lowest: float | None  # of what the artifact computed; None: not a finite number
    highest: float | None
    worst: Place
    faults: list[str]  # one line for each gate that failed, with the place


@dataclass(frozen=True)
class Difference:
    """How far two pictures are apart; errors are shares of the range."""

    max_error: float
    mean_error: float
    psnr: float
    not_finite: int  # so many values, each counted as an error of the whole range
    worst: Place


def difference(port: Port, got: Picture, expected: Picture) -> Difference:
    """Compares two (H, W, 3) pictures of a port."""
    low, high = port.range
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - expected) / (high - low)
    error[~np.isfinite(error)] = np.inf
    worst = _place(int(np.argmax(error)), got, expected)
    error[np.isinf(error)] = 1.0
    mean_square = float(np.square(error).mean())
    psnr = PSNR_CAP if mean_square == 0.0 else min(PSNR_CAP, -10.0 * float(np.log10(mean_square)))
    return Difference(
        float(error.max()), float(error.mean()), psnr, int(np.count_nonzero(~np.isfinite(got))), worst
    )


def check_output(
    gate: Gate,
    port: Port,
    image: str,
    got: Picture,
    expected: Picture,
    stored: tuple[Picture, Picture] | None = None,
) -> Row:
    """Check one output (H, W, 3) of an artifact against the gate of its variant.

    Args:
        gate: of the artifact's variant.
        got: what the artifact computed, before any rounding to 8 bits.
        expected: what PyTorch computed.
        stored: both again, in float32 arithmetic and with the weights as stored.
    """
    low, high = port.range
    found = difference(port, got, expected)
    faults = []
    if found.not_finite:
        faults.append(f"{found.not_finite} of {got.size} values are not finite; first at {found.worst}")
    outside = np.where(np.isfinite(got), np.maximum(low - got, got - high), 0.0)
    if outside.max() > gate.range_slack * (high - low):
        where = _place(int(np.argmax(outside)), got, expected)
        faults.append(f"values leave the range [{low:g}, {high:g}]; furthest at {where}")
    if gate.max_error is not None and found.max_error > gate.max_error:
        faults.append(
            f"max error {found.max_error:.3g}, at most {gate.max_error:g} is allowed; worst at {found.worst}"
        )
    if gate.min_psnr is not None and found.psnr < gate.min_psnr:
        faults.append(
            f"PSNR {found.psnr:.2f} dB, at least {gate.min_psnr:g} is required; worst at {found.worst}"
        )
    levels = _levels_apart(got, expected, port)
    if levels > gate.max_levels:
        faults.append(
            f"{levels} of 255 levels off, at most {gate.max_levels} is allowed; worst at {found.worst}"
        )
    stored_error = None
    if stored is not None:
        exact = difference(port, *stored)
        stored_error = exact.max_error
        if gate.max_stored_error is not None and stored_error > gate.max_stored_error:
            faults.append(
                f"max error {stored_error:.3g} against PyTorch with float16 weights, at most "
                f"{gate.max_stored_error:g} is allowed; worst at {exact.worst}"
            )
    return Row(
        image,
        port.name,
        found.max_error,
        found.mean_error,
        found.psnr,
        stored_error,
        levels,
        _number(got.min()),
        _number(got.max()),
        found.worst,
        faults,
    )


def _place(index: int, got: Picture, expected: Picture) -> Place:
    y, x, channel = (int(i) for i in np.unravel_index(index, got.shape))
    return Place(x, y, "RGB"[channel], _number(got[y, x, channel]), _number(expected[y, x, channel]))


def _levels_apart(got: Picture, expected: Picture, port: Port) -> int:
    low, high = port.range
    rounded = [to_levels((np.nan_to_num(picture) - low) / (high - low)) for picture in (got, expected)]
    return int(np.abs(rounded[0].astype(np.int16) - rounded[1]).max())


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
