"""Proves the weights of a quantized TFLite file against those of the float32 file it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.tflite.graph import array_of, is_constant, operator_names, read_tflite

NOTHING_QUANTIZED = "holds no quantized weights"


def quantization_faults(path: Path, source: Path) -> list[str]:
    """Faults of the weights of a quantized file, one line each: every weight must be within half a step of the float one.

    Raises UserError where either file cannot be read.
    """
    model, original = read_tflite(path), read_tflite(source)
    floats = {tensor.name: tensor for tensor in original.subgraphs[0].tensors}
    faults, checked = [], 0
    readers = _readers(model)
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        wanted = floats.get(tensor.name.removesuffix(b"_quantized"))
        if wanted is None or tensor.name == wanted.name or not is_constant(model, tensor):
            continue
        stored, exact = array_of(model, tensor), array_of(original, wanted)
        checked += 1
        if stored.shape != exact.shape:
            faults.append(f"constant {wanted.name.decode()!r} is {stored.shape}, expected {exact.shape}")
            continue
        scales, zeros = np.asarray(tensor.quantization.scale), np.asarray(tensor.quantization.zeroPoint)
        along = [1] * stored.ndim
        if scales.size > 1:
            axis = int(tensor.quantization.quantizedDimension)
            if axis >= stored.ndim or stored.shape[axis] != scales.size:
                faults.append(
                    f"constant {wanted.name.decode()!r} has {scales.size} scales for {stored.shape}"
                )
                continue
            along[axis] = scales.size
        scales, zeros = scales.reshape(along), zeros.reshape(along)
        steps = stored.astype(np.float64) - zeros
        off = np.abs(steps - exact / scales) - 1e-6 * np.abs(steps)  # the scales are stored as float32
        # Nothing that is clamped goes beyond the end of its range, so a limit beyond it may lie there.
        if stored.dtype.kind == "i" and readers.get(index) in ({"MINIMUM"}, {"MAXIMUM"}):
            ends = np.iinfo(stored.dtype)
            above = readers[index] == {"MINIMUM"}
            beyond = exact / scales > steps if above else exact / scales < steps
            off = np.where(beyond & (stored == (ends.max if above else ends.min)), 0.0, off)
        if not float(off.max()) <= 0.501:
            faults.append(
                f"constant {wanted.name.decode()!r} is {float(off.max()):.3g} steps off, at most 0.5 is right"
            )
    if not checked:
        faults.append(NOTHING_QUANTIZED)
    return faults


def _readers(model: Any) -> dict[int, set[str]]:
    """The operators that read each tensor."""
    found: dict[int, set[str]] = {}
    for name, operator in zip(operator_names(model), model.subgraphs[0].operators, strict=True):
        for index in operator.inputs:
            found.setdefault(int(index), set()).add(name)
    return found
