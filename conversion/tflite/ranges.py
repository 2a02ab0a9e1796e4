"""Calibration: the range of every tensor of a float32 TFLite file on real pictures.

ranges = measure_ranges(read_tflite(path), pictures)         # tensor index -> (smallest, largest)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.tflite.graph import activations, pack

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
