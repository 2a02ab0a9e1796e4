"""Builds small TFLite files by hand, without a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from afterlens.conversion.tflite.graph import pack

Array = NDArray[Any]
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


class File:
    """A TFLite file under construction: tensors are added first, then operators in order."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.model.subgraphs = [self.graph]
        self.graph.tensors, self.graph.operators = [], []
        self.graph.name = b"main"

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: Any = np.float32,
        data: Array | None = None,
        scale: float | None = None,
    ) -> int:
        entry = schema.TensorT()
        entry.shape, entry.type = list(shape), TYPES[np.dtype(dtype)]
        entry.name, entry.buffer = f"t{len(self.graph.tensors)}".encode(), 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            entry.buffer = len(self.model.buffers) - 1
        if scale is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale, entry.quantization.zeroPoint = [scale], [0]
        self.graph.tensors.append(entry)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: list[int],
        outputs: list[int],
        options: Any = None,
        custom: bytes | None = None,
    ) -> None:
        """``custom``: the name of one of kind "CUSTOM"."""
        code = schema.OperatorCodeT()
        code.builtinCode, code.customCode = getattr(schema.BuiltinOperator, kind), custom
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = {"CONV_2D": 3, "DEQUANTIZE": 3, "RESIZE_BILINEAR": 3, "QUANTIZE": 2}.get(kind, 1)
        self.model.operatorCodes.append(code)
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        if options is not None:
            one.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            one.builtinOptions = options
        self.graph.operators.append(one)

    def finish(self, inputs: list[int], outputs: list[int]) -> Any:
        """The `ModelT`."""
        self.graph.inputs, self.graph.outputs = inputs, outputs
        return self.model

    def write(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        self.finish(inputs, outputs)
        path.write_bytes(pack(self.model))
        return path


def conv_options(stride: int = 1) -> Any:
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    return options
