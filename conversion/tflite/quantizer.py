"""The TFLite variants made from a float32 file: dynamic-range, full integer, int16 activations and mixed.

quantizer = Quantizer(float32_path, deployable, examples)
data = quantizer.variant("mixed", budget=0.1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afterlens.conversion.examples import Example
from afterlens.conversion.tflite.graph import read_tflite
from afterlens.conversion.tflite.quantize import quantize
from afterlens.conversion.tflite.ranges import covering, extremes, measure_ranges
from afterlens.conversion.tflite.scales import Scheme
from afterlens.conversion.tflite.sensitivity import Bench, keys, mixed_plan
from afterlens.training.deployable import Deployable

SCHEMES = {
    "dynamic_range_quant": Scheme.DYNAMIC,
    "full_integer_quant": Scheme.INT8,
    "integer_quant_with_int16_act": Scheme.INT16,
    "mixed": Scheme.INT8,
}
"""The scheme of each variant."""

BENCHED = 8
"""Examples that decide what `mixed` keeps in float; each is run some hundred times."""


class Quantizer:
    """A float32 file with the ranges of its tensors on real pictures and, for `mixed`, the operators that stay in float."""

    def __init__(
        self,
        path: Path,
        deployable: Deployable,
        examples: Sequence[Example],
        smaller: Quantizer | None = None,
    ) -> None:
        """Calibrate a file.

        Args:
            deployable: the network. The declared ranges of its ports are covered whatever the examples are, and its
                first image output is evaluated.
            smaller: a quantizer of the same network at a smaller size. Its ranges and decisions count here too: the
                layers are the same, and it saw more pictures in the same time.
        """
        self.model = read_tflite(path)
        self.examples = examples
        self.deployable = deployable
        self.keys = keys(self.model)
        pictures = [example.inputs for example in examples]
        measured = measure_ranges(self.model, [*pictures, *extremes(pictures, deployable.inputs)])
        self.ranges = covering(self.model, measured, (*deployable.inputs, *deployable.outputs))
        self.kept: dict[str, set[str]] = {}  # keys of the operators in float, by variant
        if smaller is not None:
            self.kept = smaller.kept
            self._widen(smaller)

    def variant(self, variant: str, budget: float) -> bytes:
        """The bytes of the quantized file. ``budget``: dB that a picture may lose, for `mixed`."""
        keep: list[int] = []
        if variant == "mixed":
            if variant not in self.kept:
                step = max(1, len(self.examples) // BENCHED)
                bench = Bench(self.model, self.examples[::step][:BENCHED], self.deployable)
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
