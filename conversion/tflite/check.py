"""Proves the weights of a quantized TFLite file against those of the float32 file it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from afterlens.conversion.tflite.graph import array_of, is_constant, read_tflite


def quantization_faults(path: Path, source: Path) -> list[str]:
    """Faults of the weights of a quantized file, one line each: every weight must be within half a step of the float one.

    Raises UserError where either file cannot be read.
    """
    model, original = read_tflite(path), read_tflite(source)
    floats = {tensor.name: tensor for tensor in original.subgraphs[0].tensors}
    faults, checked = [], 0
    for tensor in model.subgraphs[0].tensors:
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
        if not float(off.max()) <= 0.501:
            faults.append(
                f"constant {wanted.name.decode()!r} is {float(off.max()):.3g} steps off, at most 0.5 is right"
            )
    if not checked:
        faults.append("holds no quantized weights")
    return faults
