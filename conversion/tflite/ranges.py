"""Calibration: the range of every tensor of a float32 TFLite file on real pictures and on the ends of its inputs' range.

ranges = measure_ranges(model, [*pictures, *extremes(pictures, inputs)])       # tensor index -> (smallest, largest)
ranges = covering(model, ranges, [*inputs, *outputs])

Integers saturate where their range ends. Calibration pictures need not reach white: hazy ones never do. An app may feed
whatever the contract allows, so the declared ranges of the ports are always covered.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.tflite.graph import activations, pack
from afterlens.training.deployable import Port

Picture = NDArray[np.float32]  # (H, W, 3)
Ranges = Mapping[int, tuple[float, float]]


def measure_ranges(model: Any, pictures: Sequence[Mapping[str, Picture]]) -> dict[int, tuple[float, float]]:
    """The smallest and largest value of each activation tensor, by index.

    Args:
        model: float32 (`read_tflite`).
        pictures: (H, W, 3), RGB, in the inputs' range, by input name.

    Every tensor becomes an output of a copy of the graph. An interpreter that is told to keep all tensors would do
    without its fast kernels.
    """
    from ai_edge_litert.interpreter import Interpreter

    probe, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    names = {index: graph.tensors[index].name.decode() for index in graph.inputs}
    watched = activations(model)
    # Inputs are no outputs: LiteRT gives their memory to later tensors.
    graph.outputs = [index for index in watched if index not in names]
    probe.subgraphs, probe.signatureDefs = [graph], []
    interpreter = Interpreter(model_content=pack(probe), num_threads=1)
    interpreter.allocate_tensors()
    ranges: dict[int, tuple[float, float]] = {}
    for picture in pictures:
        for index, name in names.items():
            interpreter.set_tensor(index, np.ascontiguousarray(picture[name][None], np.float32))
        interpreter.invoke()
        for index in watched:
            value = picture[names[index]] if index in names else interpreter.get_tensor(index)
            low, high = ranges.get(index, (np.inf, -np.inf))
            ranges[index] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def extremes(pictures: Sequence[Mapping[str, Picture]], inputs: Sequence[Port]) -> list[dict[str, Picture]]:
    """Inputs that reach both ends of their declared range: flat ones, and the first picture with its contrast stretched.

    Class inputs stay as in the first picture: no app sets all classes at once.
    """
    if not pictures:
        return []
    made: list[dict[str, Picture]] = [{}, {}, {}]
    for port in inputs:
        value = pictures[0][port.name]
        flat = (np.full_like(value, end) for end in port.range)
        ways = [value] * 3 if port.kind == "class" else [*flat, _stretched(value, *port.range)]
        for extreme, own in zip(made, ways, strict=True):
            extreme[port.name] = own
    return made


def _stretched(value: Picture, low: float, high: float) -> Picture:
    darkest, brightest = float(value.min()), float(value.max())
    share = (value - darkest) / max(brightest - darkest, 1e-6)
    return np.asarray(low + (high - low) * share, np.float32)


def covering(model: Any, ranges: Ranges, ports: Sequence[Port]) -> dict[int, tuple[float, float]]:
    """The ranges, with those of inputs and outputs widened to what is declared."""
    graph = model.subgraphs[0]
    declared = {port.name: port.range for port in ports}
    widened = dict(ranges)
    for index in (*graph.inputs, *graph.outputs):
        promised = declared.get(graph.tensors[index].name.decode())
        if promised is not None and index in widened:
            low, high = widened[index]
            widened[index] = (min(low, promised[0]), max(high, promised[1]))
    return widened
