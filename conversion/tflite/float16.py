"""A float32 TFLite file -> the same graph with its constants stored as float16.

    data = float16_constants(read_tflite(path))

Every constant gets a DEQUANTIZE operator in front of its readers. CPU kernels widen it once, when the file loads; GPU
delegates compute in float16 and read it directly. TFLite's own converter does the same, but also stores constants such as
1e-8, which are zero as float16: ``x / (sum + 1e-8)`` would be NaN on black. Those stay in float32 here.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.tflite.graph import (
    FLOAT16,
    FLOAT32,
    array_of,
    code_index,
    is_constant,
    pack,
    require_runtime,
)

MINIMUM_RUNTIME = "1.15.0"
"""The first release of TensorFlow Lite whose DEQUANTIZE takes float16."""

_DEQUANTIZE_VERSION = 3  # the first that takes float16


def float16_constants(model: Any) -> bytes:
    """The bytes of a file with the constants of ``model`` as float16, rounded to the nearest."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    tensors, buffers, codes = list(graph.tensors), list(model.buffers), list(model.operatorCodes)
    read = {index for operator in graph.operators for index in operator.inputs}
    widened: list[Any] = []
    for index in sorted(read - {-1}):
        tensor = tensors[index]
        if tensor.type != FLOAT32 or not is_constant(model, tensor):
            continue
        halves = as_halves(array_of(model, tensor))
        if halves is None:
            continue
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(halves.tobytes(), np.uint8)
        buffers.append(buffer)
        stored, result = copy.copy(tensor), copy.copy(tensor)
        stored.type, stored.buffer, stored.name = FLOAT16, len(buffers) - 1, tensor.name + b"_float16"
        result.buffer = 0
        tensors[index] = result
        tensors.append(stored)
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [len(tensors) - 1], [index]
        widened.append(operator)
    code = code_index(codes, "DEQUANTIZE", _DEQUANTIZE_VERSION)
    for operator in widened:
        operator.opcodeIndex = code
    graph.tensors = tensors
    graph.operators = [*widened, *(_with_half_slope(operator) for operator in graph.operators)]
    model.subgraphs, model.buffers, model.operatorCodes = [graph], buffers, codes
    _forget_unread(model)
    require_runtime(model, MINIMUM_RUNTIME)
    return pack(model)


def _with_half_slope(operator: Any) -> Any:
    """A leaky ReLU keeps its slope in its options, not in a tensor: rounded alike, as Core ML's is."""
    from ai_edge_litert import schema_py_generated as schema

    options = operator.builtinOptions
    if not isinstance(options, schema.LeakyReluOptionsT):
        return operator
    changed = copy.copy(operator)
    changed.builtinOptions = copy.copy(options)
    changed.builtinOptions.alpha = float(np.float16(options.alpha))
    return changed


def as_halves(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """The nearest float16 numbers; None where one would become zero or infinite and so change what is computed."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if values.size > LARGEST_EXCEPTION:  # among many weights, one below 3e-8 is as good as zero
        return halves
    lost = (halves == 0) & (values != 0) | np.isinf(halves) & np.isfinite(values)
    return None if lost.any() else halves


LARGEST_EXCEPTION = 16
"""Constants of more values than this are weights and always stored as float16."""


def _forget_unread(model: Any) -> None:
    """Empties the buffers that no tensor and no metadata reads any more."""
    from ai_edge_litert import schema_py_generated as schema

    used = {tensor.buffer for tensor in model.subgraphs[0].tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    model.buffers = [
        buffer if index in used else schema.BufferT() for index, buffer in enumerate(model.buffers)
    ]
