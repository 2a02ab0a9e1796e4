"""Checks one output of an artifact against the gate of its variant: how far is it from PyTorch, and where?

    gate = variants.gate("tflite", "float16")
    row = check_output(gate, port, "room.jpg", got, expected, stored=(got_in_float32, expected_with_float16_weights))
    print(row.faults or "passed")

The limits are in `afterlens.conversion.bundle.variants`. Values are laid out as in `afterlens.conversion.bundle.layout`;
errors are shares of the output's declared range, which is also the peak of the PSNR.
"""

from __future__ import annotations

import numpy as np

from afterlens.conversion.bundle.difference import difference, place
from afterlens.conversion.bundle.layout import Value
from afterlens.conversion.bundle.proof import OutputRow, finite
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.bundle.variants import Gate
from afterlens.training.deployable import Port

FLAT = ("flat", "black", "white")
"""Names of the test images of one colour."""


def check_output(
    gate: Gate,
    port: Port,
    image: str,
    got: Value,
    expected: Value,
    stored: tuple[Value, Value] | None = None,
) -> OutputRow:
    """Check one output of an artifact against the gate of its variant.

    Args:
        gate: of the artifact's variant.
        image: name of the picture that the artifact was run on; the gate is stricter for those in `FLAT`.
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
        where = place(port, int(np.argmax(outside)), got, expected)
        faults.append(f"values leave the range [{low:g}, {high:g}]; furthest at {where}")
    if gate.max_error is not None and found.max_error > gate.max_error:
        faults.append(
            f"max error {found.max_error:.3g}, at most {gate.max_error:g} is allowed; worst at {found.worst}"
        )
    if gate.min_psnr is not None and found.psnr < gate.min_psnr:
        faults.append(
            f"PSNR {found.psnr:.2f} dB, at least {gate.min_psnr:g} is required; worst at {found.worst}"
        )
    levels = _levels_apart(got, expected, port) if port.kind == "image" else None
    limit = min(gate.max_levels, gate.max_flat_levels) if image in FLAT else gate.max_levels
    if levels is not None and levels > limit:
        faults.append(f"{levels} of 255 levels off, at most {limit} is allowed; worst at {found.worst}")
    stored_error = None
    if stored is not None:
        exact = difference(port, *stored)
        stored_error = exact.max_error
        if gate.max_stored_error is not None and stored_error > gate.max_stored_error:
            faults.append(
                f"max error {stored_error:.3g} against PyTorch with float16 weights, at most "
                f"{gate.max_stored_error:g} is allowed; worst at {exact.worst}"
            )
    return OutputRow(
        image=image,
        output=port.name,
        max_error=found.max_error,
        mean_error=found.mean_error,
        psnr=found.psnr,
        stored_error=stored_error,
        levels=levels,
        lowest=finite(float(got.min())),
        highest=finite(float(got.max())),
        worst=found.worst,
        faults=tuple(faults),
    )


def _levels_apart(got: Value, expected: Value, port: Port) -> int:
    low, high = port.range
    rounded = [to_levels((np.nan_to_num(picture) - low) / (high - low)) for picture in (got, expected)]
    return int(np.abs(rounded[0].astype(np.int16) - rounded[1]).max())
