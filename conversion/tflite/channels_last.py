"""Pictures that a TFLite file gives in PyTorch's order of axes, put into TFLite's.

onnx2tf leaves a result as it is where the last operators only lay it out anew: attention over all pixels that becomes a
picture again, a linear layer over the channels, `rot90`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afterlens.conversion.tflite.graph import code_index, shape_of

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
    made, codes = len(graph.tensors), list(model.operatorCodes)
    operator = schema.OperatorT()
    operator.opcodeIndex = code_index(codes, "TRANSPOSE", 1)
    operator.inputs, operator.outputs = [index, made + 1], [made]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    graph.operators = [*graph.operators, operator]
    graph.outputs = [made if output == index else output for output in graph.outputs]
    model.buffers, model.operatorCodes, graph.tensors = buffers, codes, tensors
    return made
