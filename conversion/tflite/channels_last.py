"""Pictures that a TFLite file gives in PyTorch's order of axes, put into TFLite's.

onnx2tf leaves a result as it is where the last operators only lay it out anew: attention over all pixels that becomes a
picture again, a linear layer over the channels, `rot90`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afterlens.conversion.tflite.graph import operator_names, shape_of

_ORDER = (0, 2, 3, 1)


def with_channels_last(model: Any, index: int) -> int:
    """Append the transposition (1, C, H, W) -> (1, H, W, C) of an output of the file; the index of the new output."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    shape, order = shape_of(graph.tensors[index]), np.array(_ORDER, np.int32)
    buffer = schema.BufferT()
    buffer.data = order.view(np.uint8)
    buffers, tensors = [*model.buffers, schema.BufferT(), buffer], list(graph.tensors)
    for place, (kind, size) in enumerate(
        (
            (graph.tensors[index].type, [shape[axis] for axis in _ORDER]),
            (schema.TensorType.INT32, [len(_ORDER)]),
        )
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape = f"channels_last_{index}_{place}".encode(), kind, size
        tensor.buffer = len(model.buffers) + place
        tensors.append(tensor)
    made = len(graph.tensors)
    operator = schema.OperatorT()
    operator.opcodeIndex = _transpose(model)
    operator.inputs, operator.outputs = [index, made + 1], [made]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    graph.operators = [*graph.operators, operator]
    graph.outputs = [made if output == index else output for output in graph.outputs]
    model.buffers, graph.tensors = buffers, tensors
    return made


def _transpose(model: Any) -> int:
    """The place of the operator's code, added where the file has none."""
    from ai_edge_litert import schema_py_generated as schema

    names = operator_names(model)
    for name, operator in zip(names, model.subgraphs[0].operators, strict=True):
        if name == "TRANSPOSE":
            return int(operator.opcodeIndex)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE
    code.version = 1
    model.operatorCodes = [*model.operatorCodes, code]
    return len(model.operatorCodes) - 1
