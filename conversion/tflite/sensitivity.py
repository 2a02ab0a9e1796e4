"""Which layers of a TFLite graph must stay in float: each is quantized alone, and the pictures are looked at.

    keep_float = mixed_plan(model, ranges, Bench(model, examples, "restored"), budget=0.1)

Operators are known by what they compute with (their weights, and those of the convolutions before them) rather than by
their place, so that what was measured at one size of a network holds for its other sizes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from afterlens.conversion.bundle.runtimes import TfliteSession
from afterlens.conversion.examples import Example, Picture
from afterlens.conversion.tflite.onnx2tf import pack
from afterlens.conversion.tflite.quantize import CONVOLUTIONS, Scheme, operator_names, quantizable, quantize

UNKNOWN_TRUTH = 1e-3
"""Mean squared error that PyTorch is taken to make where the truth is not known: 30 dB."""

Ranges = Mapping[int, tuple[float, float]]


class Bench:
    """Examples with what the float model makes of them: measures how much a changed file loses."""

    def __init__(self, model: Any, examples: Sequence[Example], output: str, threads: int = 1) -> None:
        self.examples, self.output, self.threads = examples, output, threads
        session = TfliteSession(pack(model), threads)
        self.references = [session.run(example.inputs)[output] for example in examples]
        self.errors = [
            UNKNOWN_TRUTH
            if example.truth is None
            else max(float(np.square(reference - example.truth).mean()), 1e-6)
            for example, reference in zip(examples, self.references, strict=True)
        ]

    def losses(self, data: bytes) -> list[float]:
        """dB that a file loses on each picture, if its errors have nothing to do with the float model's own.

        ``10 log10(1 + d / e)`` with d the mean squared difference from the float model, e its error against the truth.
        The difference of two PSNRs would count errors that happen to lead towards the truth as a gain.
        """
        session = TfliteSession(data, self.threads)
        return [
            10.0
            * float(np.log10(1.0 + _difference(session.run(example.inputs)[self.output], reference) / error))
            for example, reference, error in zip(self.examples, self.references, self.errors, strict=True)
        ]


def _difference(got: Picture, reference: Picture) -> float:
    return float(np.square(np.nan_to_num(got.astype(np.float64), nan=1.0) - reference).mean())


def layers(model: Any) -> list[list[int]]:
    """The operators that int8 can hold, by layer: a convolution and what follows it, up to the next one."""
    found: list[list[int]] = [[]]
    types = operator_names(model)
    for index in quantizable(model, Scheme.INT8):
        if types[index] in CONVOLUTIONS:
            found.append([])
        found[-1].append(index)
    return [layer for layer in found if layer]


def mixed_plan(
    model: Any,
    ranges: Ranges,
    bench: Bench,
    budget: float,
    groups: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """Numbers of the operators that stay in float32: the most sensitive layers, until no picture loses over ``budget``.

    Args:
        budget: dB that each picture may lose, as `Bench.losses` counts.
        groups: the layers that may stay in float; default: all (`layers`).

    A layer's sensitivity is the mean loss when it alone is quantized. The number of layers in float is doubled until
    the budget holds, then halved back; where not even the last power of two holds, all stay in float.
    """
    everything = quantizable(model, Scheme.INT8)
    groups = groups or layers(model)

    def losses(quantized: Collection[int]) -> list[float]:
        return bench.losses(quantize(model, ranges, Scheme.INT8, set(everything) - set(quantized)))

    if max(losses(everything)) <= budget:
        return []
    alone = [float(np.mean(losses(layer))) for layer in groups]
    order = [groups[place] for place in sorted(range(len(groups)), key=lambda place: -alone[place])]

    def floats(count: int) -> list[int]:
        return [index for layer in order[:count] for index in layer]

    def holds(count: int) -> bool:
        return max(losses(set(everything) - set(floats(count)))) <= budget

    low, high = 0, 1  # too few, enough
    while high < len(order) and not holds(high):
        low, high = high, 2 * high
    high = min(high, len(order))
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return sorted(floats(high))


def keys(model: Any) -> list[str]:
    """A name for each operator that is the same in the graphs of all sizes of a network.

    A convolution is known by its weights, any other operator by its type and by what made its inputs.
    """
    graph, types = model.subgraphs[0], operator_names(model)
    made: dict[int, str] = {}
    seen: Counter[str] = Counter()
    found: list[str] = []
    for operator, name in zip(graph.operators, types, strict=True):
        digest = hashlib.sha256(name.encode())
        for tensor in operator.inputs:
            data = model.buffers[graph.tensors[tensor].buffer].data if tensor >= 0 else None
            if tensor in made:
                # What a convolution reads does not name it: at larger sizes that is a level of a pyramid.
                digest.update(b"" if name == "CONV_2D" else made[tensor].encode())
            elif data is not None and len(data) and graph.tensors[tensor].type == 0:
                digest.update(bytes(data))
            # Shapes and axes differ between the sizes and are left out.
        key = digest.hexdigest()
        # Twice the same on the same inputs: told apart by the order.
        found.append(f"{key}-{seen[key]}")
        seen[key] += 1
        made |= dict.fromkeys(operator.outputs, key)
    return found
