"""Operators, ranks and bytes of weights of a converted file, counted in the saved file itself.

    counts = operator_counts(Path("reflection_256x256_float16.tflite"))
    counts.operators          # {"CONV_2D": 70, "ADD": 33, ...}

Read from the flatbuffer or the protobuf; neither TensorFlow nor coremltools is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afterlens.conversion.mil.package import read_package
from afterlens.conversion.tflite.graph import (
    FLOAT16,
    FLOAT32,
    is_constant,
    operator_names,
    read_tflite,
    shape_of,
)


@dataclass(frozen=True)
class OperatorCounts:
    """Operators by their names in TFLite's or MIL's specification; constants are not counted."""

    operators: dict[str, int]
    highest_rank: int  # of any tensor; GPU delegates stop at 4
    weight_bytes: dict[str, int]  # bytes of floating-point constants, by "float32" and "float16"

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.operators.items())


def operator_counts(path: Path) -> OperatorCounts:
    """OperatorCounts of a `.tflite` file or an `.mlpackage` folder; UserError where it is missing or damaged."""
    return _coreml_counts(path) if path.suffix == ".mlpackage" else _tflite_counts(path)


def _tflite_counts(path: Path) -> OperatorCounts:
    model = read_tflite(path)
    tensors = model.subgraphs[0].tensors
    floats = {FLOAT32: "float32", FLOAT16: "float16"}
    weights = {"float32": 0, "float16": 0}
    for tensor in tensors:
        if is_constant(model, tensor) and tensor.type in floats:
            weights[floats[tensor.type]] += len(model.buffers[tensor.buffer].data)
    rank = max((len(shape_of(tensor)) for tensor in tensors), default=0)
    return OperatorCounts(dict(Counter(operator_names(model)).most_common()), rank, weights)


def _coreml_counts(path: Path) -> OperatorCounts:
    package = read_package(path)
    operators: Counter[str] = Counter()
    weights = {"float32": 0, "float16": 0}
    rank = 0
    for function in package.model.mlProgram.functions.values():
        for operation in _operations(function.block_specializations.values()):
            types = [package.tensor_type(output.type) for output in operation.outputs]
            rank = max([rank, *(len(output.shape) for output in types)])
            if operation.type != "const":
                operators[operation.type] += 1
            elif types[0].dtype.name in weights and None not in types[0].shape:
                count = 1
                for size in types[0].shape:
                    count *= size or 1
                weights[types[0].dtype.name] += count * types[0].dtype.bits // 8
    return OperatorCounts(dict(operators.most_common()), rank, weights)


def _operations(blocks: Any) -> Iterator[Any]:
    for block in blocks:
        for operation in block.operations:
            yield operation
            yield from _operations(operation.blocks)
