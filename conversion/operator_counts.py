"""What a converted file is made of, counted in the saved file itself: operators, ranks, bytes of weights by type.

    counts = operator_counts(Path("reflection_256x256_float16.tflite"))
    counts.operators          # {"CONV_2D": 70, "ADD": 33, ...}

Read straight from the flatbuffer and the protobuf, so that neither TensorFlow nor coremltools is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afterlens.conversion.mil.package import read_package
from afterlens.training.media.errors import UserError

MAX_TFLITE_BYTES = 1 << 31  # the format's own limit


@dataclass(frozen=True)
class OperatorCounts:
    """Operators by their names in TFLite's or MIL's specification, constants not among them."""

    operators: dict[str, int]
    highest_rank: int  # of any tensor; GPU delegates stop at 4
    weight_bytes: dict[str, int]  # bytes of floating-point constants, by "float32" and "float16"

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.operators.items())


def operator_counts(path: Path) -> OperatorCounts:
    """OperatorCounts of a `.tflite` file or an `.mlpackage` folder; UserError where it is missing or damaged."""
    return _coreml_counts(path) if path.suffix == ".mlpackage" else _tflite_counts(path)


def read_tflite(path: Path) -> Any:
    """The flatbuffer of a TFLite file as a tree of objects (`ModelT`); UserError where it is missing or damaged."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        if path.stat().st_size > MAX_TFLITE_BYTES:
            raise UserError(f"{path}: larger than {MAX_TFLITE_BYTES} bytes, this is no TFLite file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data[4:8] != b"TFL3":
        raise UserError(f"{path}: not a TFLite file (got {data[4:8]!r} where TFL3 belongs); convert again")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        if len(model.subgraphs) != 1:
            raise UserError(f"{path}: holds {len(model.subgraphs)} graphs, expected one")
    except UserError:
        raise
    except Exception as error:  # offsets out of range surface as struct.error, IndexError, TypeError, ...
        raise UserError(
            f"{path}: the file is damaged or cut ({type(error).__name__}); convert again"
        ) from error
    return model


def _tflite_counts(path: Path) -> OperatorCounts:
    from ai_edge_litert import schema_py_generated as schema

    model = read_tflite(path)
    graph = model.subgraphs[0]
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    operators: Counter[str] = Counter()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Files keep the number in two fields: the older one is a byte and stops at 127.
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        operators[f"CUSTOM {code.customCode.decode()}" if name == "CUSTOM" else name] += 1
    floats = {schema.TensorType.FLOAT32: ("float32", 4), schema.TensorType.FLOAT16: ("float16", 2)}
    weights = {"float32": 0, "float16": 0}
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and tensor.type in floats:
            weights[floats[tensor.type][0]] += len(data)
    rank = max((len(tensor.shape) for tensor in graph.tensors if tensor.shape is not None), default=0)
    return OperatorCounts(dict(operators.most_common()), rank, weights)


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
