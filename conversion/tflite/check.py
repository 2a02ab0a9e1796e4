"""The TFLite variants that are made of a float32 file: dynamic-range, full integer, int16 values, and mixed.

quantizer = Quantizer(float32_model, examples, output="restored")
data = quantizer.variant("mixed", budget=0.1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.bundle.operator_counts import read_tflite
from afterlens.conversion.examples import Example
from afterlens.conversion.tflite.quantize import Scheme, array_of, measure_ranges, quantize
from afterlens.conversion.tflite.sensitivity import Bench, keys, mixed_plan
from afterlens.training.media.errors import UserError

SCHEMES = {
    "dynamic_range_quant": Scheme.DYNAMIC,
    "full_integer_quant": Scheme.INT8,
    "integer_quant_with_int16_act": Scheme.INT16,
    "mixed": Scheme.INT8,
}
"""By variant."""

BENCHED = 8
"""Examples that `mixed` is decided on: each is run some hundred times."""


class Quantizer:
    """One float32 file, what its tensors held on real pictures, and (for `mixed`) which operators stay in float."""

    def __init__(
        self, path: Path, examples: Sequence[Example], output: str, smaller: Quantizer | None = None
    ) -> None:
        """``output``: what the pictures are judged by. ``smaller``: the same network at a smaller size.

        What the smaller one saw and decided counts here too: it saw more pictures in the same time, and the layers are
        the same.
        """
        self.model = read_tflite(path)
        self.examples, self.output = examples, output
        self.keys = keys(self.model)
        self.ranges = measure_ranges(self.model, [example.inputs for example in examples])
        self.kept: dict[str, set[str]] = {}  # keys of the operators in float, by variant
        if smaller is not None:
            self.kept = smaller.kept
            self._widen(smaller)

    def variant(self, variant: str, budget: float) -> bytes:
        """The quantized file; ``budget``: dB that a picture may lose, for `mixed`."""
        keep: list[int] = []
        if variant == "mixed":
            if variant not in self.kept:
                step = max(1, len(self.examples) // BENCHED)
                bench = Bench(self.model, self.examples[::step][:BENCHED], self.output)
                plan = mixed_plan(self.model, self.ranges, bench, budget)
                self.kept[variant] = {self.keys[index] for index in plan}
            keep = [index for index, key in enumerate(self.keys) if key in self.kept[variant]]
        return quantize(self.model, self.ranges, SCHEMES[variant], keep)

    def _widen(self, smaller: Quantizer) -> None:
        places = {
            key: operator.outputs
            for key, operator in zip(smaller.keys, _operators(smaller.model), strict=True)
        }
        for key, operator in zip(self.keys, _operators(self.model), strict=True):
            for own, other in zip(operator.outputs, places.get(key, ()), strict=False):
                if own in self.ranges and other in smaller.ranges:
                    (low, high), (lower, higher) = self.ranges[own], smaller.ranges[other]
                    self.ranges[own] = (min(low, lower), max(high, higher))


def _operators(model: Any) -> list[Any]:
    return list(model.subgraphs[0].operators)


def quantization_faults(path: Path, source: Path) -> list[str]:
    """What is wrong with the weights of a quantized file, read again: each must be within half a step of the float one.

    Raises UserError where either file cannot be read.
    """
    model, original = read_tflite(path), read_tflite(source)
    floats = {tensor.name: tensor for tensor in original.subgraphs[0].tensors}
    faults, checked = [], 0
    for tensor in model.subgraphs[0].tensors:
        wanted = floats.get(tensor.name.removesuffix(b"_quantized"))
        if wanted is None or tensor.name == wanted.name or model.buffers[tensor.buffer].data is None:
            continue
        stored, truth = array_of(model, tensor), array_of(original, wanted)
        scales = np.asarray(tensor.quantization.scale).reshape(-1, *[1] * (stored.ndim - 1))
        zeros = np.asarray(tensor.quantization.zeroPoint).reshape(scales.shape)
        checked += 1
        if stored.shape != truth.shape:
            faults.append(f"constant {wanted.name.decode()!r} is {stored.shape}, expected {truth.shape}")
            continue
        steps = stored.astype(np.float64) - zeros
        off = np.abs(steps - truth / scales) - 1e-6 * np.abs(steps)  # the scales are stored as float32
        if not float(off.max()) <= 0.501:
            faults.append(
                f"constant {wanted.name.decode()!r} is {float(off.max()):.3g} steps off, at most 0.5 is right"
            )
    if not checked:
        faults.append("holds no quantized weights")
    return faults


def refuse_unknown_budget(budgets: Mapping[str, float], known: Sequence[str]) -> None:
    """Raises UserError for a budget of a variant that does not exist, or that is no number of dB."""
    for variant, budget in budgets.items():
        if variant not in known or not 0.0 <= budget < np.inf:
            raise UserError(
                f"budget {variant}={budget}: expected a number of dB, zero or more, for one of {', '.join(known)}"
            )
