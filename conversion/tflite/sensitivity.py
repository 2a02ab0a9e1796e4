"""Which layers of a TFLite graph must stay in float: each is quantized alone, and the loss in PSNR is measured.

    keep_float = mixed_plan(model, ranges, Bench(model, examples, deployable), budget=0.1)

Pictures of one colour are looked at as well: `verify` asks more of these, and of every output.

Operators are identified by what they compute with (their weights, and those of the convolutions before them) rather
than by their position, so that what was measured at one size of a network holds for its other sizes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from afterlens.conversion.bundle.layout import first_image, made_up
from afterlens.conversion.bundle.runtimes import TfliteSession
from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.examples import Example, Picture, flat_inputs
from afterlens.conversion.tflite.graph import FLOAT32, is_constant, operator_names, pack
from afterlens.conversion.tflite.quantize import CONVOLUTIONS, quantizable, quantize
from afterlens.conversion.tflite.ranges import Ranges
from afterlens.conversion.tflite.scales import Scheme
from afterlens.training.deployable import Deployable

MOST_LEVELS = gate("tflite", "mixed").max_flat_levels * 2 / 3
"""Levels of 255 that a picture of one colour may be off: two thirds of what `verify` allows, whose float file is PyTorch."""

OTHER_INPUTS = 4
"""Values of the inputs that are no pictures, with each of which a picture of one colour is looked at."""

UNKNOWN_ERROR = 1e-3
"""Mean squared error against the ground truth that is assumed where there is none: 30 dB."""


class Bench:
    """Examples, and pictures of one colour, with the float model's outputs: measures how much a changed file loses."""

    def __init__(
        self, model: Any, examples: Sequence[Example], deployable: Deployable, threads: int = 1
    ) -> None:
        self.examples, self.threads = examples, threads
        self.output = (first_image(deployable.outputs) or deployable.outputs[0]).name
        session = TfliteSession(pack(model), threads)
        self.references = [session.run(example.inputs)[self.output] for example in examples]
        self.pictures = [port for port in deployable.outputs if port.kind == "image"]
        others = [port for port in deployable.inputs if port.kind != "image"]
        self.flat = flat_inputs(
            [
                {**examples[0].inputs, **{port.name: made_up(port, index) for port in others}}
                for index in range(OTHER_INPUTS)
            ],
            {port.name: port.range for port in deployable.inputs if port.kind == "image"},
        )
        self.flat_references = [session.run(inputs) for inputs in self.flat]
        self.errors = [
            UNKNOWN_ERROR
            if example.ground_truth is None
            else max(float(np.square(reference - example.ground_truth).mean()), 1e-6)
            for example, reference in zip(examples, self.references, strict=True)
        ]

    def losses(self, data: bytes) -> list[float]:
        """dB that a file loses on each picture, if its errors are independent of the float model's own.

        ``10 log10(1 + d / e)`` with d the mean squared difference from the float model and e the float model's error
        against the ground truth. A difference of two PSNRs would count errors that happen to cancel as a gain.
        """
        session = TfliteSession(data, self.threads)
        return [
            10.0
            * float(np.log10(1.0 + _difference(session.run(example.inputs)[self.output], reference) / error))
            for example, reference, error in zip(self.examples, self.references, self.errors, strict=True)
        ]

    def levels(self, data: bytes) -> float:
        """The largest difference of any output picture from the float model's on pictures of one colour, of 255."""
        session = TfliteSession(data, self.threads)
        furthest = 0.0
        for inputs, reference in zip(self.flat, self.flat_references, strict=True):
            outputs = session.run(inputs)
            for port in self.pictures:
                off = np.abs(outputs[port.name] - reference[port.name]).max() / (
                    port.range[1] - port.range[0]
                )
                furthest = max(furthest, 255.0 * float(np.nan_to_num(off, nan=1.0)))
        return furthest


def _difference(got: Picture, reference: Picture) -> float:
    return float(np.square(np.nan_to_num(got.astype(np.float64), nan=1.0) - reference).mean())


def layers(model: Any) -> list[list[int]]:
    """Indices of the operators that int8 can represent, by layer: a convolution and what follows, up to the next one."""
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
    """Indices of the operators that stay in float32: the most sensitive layers, until no picture loses over ``budget``.

    Nor may a picture of one colour be off by more than `MOST_LEVELS`.

    Args:
        budget: dB that each picture may lose (`Bench.losses`).
        groups: the layers that may stay in float; all (`layers`) by default.

    A layer's sensitivity is the mean loss when it alone is quantized, and where all of them together are off on pictures of
    one colour, what it is off there. The number of layers in float is doubled until the budget holds, then halved back;
    where not even the last power of two holds, all stay in float.
    """
    everything = quantizable(model, Scheme.INT8)
    groups = groups or layers(model)

    def data(quantized: Collection[int]) -> bytes:
        return quantize(model, ranges, Scheme.INT8, set(everything) - set(quantized))

    def within(quantized: Collection[int]) -> bool:
        made = data(quantized)
        return max(bench.losses(made)) <= budget and bench.levels(made) <= MOST_LEVELS

    if within(everything):
        return []
    is_off = bench.levels(data(everything)) > MOST_LEVELS

    def harm(layer: Sequence[int]) -> float:
        made = data(layer)
        loss = float(np.mean(bench.losses(made))) / max(budget, 1e-9)
        return loss + bench.levels(made) / MOST_LEVELS if is_off else loss

    alone = [harm(layer) for layer in groups]
    order = [groups[place] for place in sorted(range(len(groups)), key=lambda place: -alone[place])]

    def floats(count: int) -> list[int]:
        return [index for layer in order[:count] for index in layer]

    def holds(count: int) -> bool:
        return within(set(everything) - set(floats(count)))

    low, high = 0, 1  # too few, enough
    while high < len(order) and not holds(high):
        low, high = high, 2 * high
    high = min(high, len(order))
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return sorted(floats(high))


def keys(model: Any) -> list[str]:
    """A name for each operator that is the same at all sizes of a network.

    A convolution is identified by its weights, any other operator by its type and the operators before it.
    """
    graph, types = model.subgraphs[0], operator_names(model)
    made: dict[int, str] = {}
    seen: Counter[str] = Counter()
    found: list[str] = []
    for operator, name in zip(graph.operators, types, strict=True):
        digest = hashlib.sha256(name.encode())
        for tensor in operator.inputs:
            if tensor in made:
                # A convolution's inputs do not identify it: at larger sizes they are levels of a pyramid.
                digest.update(b"" if name == "CONV_2D" else made[tensor].encode())
            elif (
                tensor >= 0
                and graph.tensors[tensor].type == FLOAT32
                and is_constant(model, graph.tensors[tensor])
            ):
                digest.update(bytes(model.buffers[graph.tensors[tensor].buffer].data))
            # Shapes and axes differ between the sizes and are left out.
        key = digest.hexdigest()
        # Equal operators on equal inputs are told apart by their order.
        found.append(f"{key}-{seen[key]}")
        seen[key] += 1
        made |= dict.fromkeys(operator.outputs, key)
    return found
