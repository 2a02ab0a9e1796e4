"""Reads and writes TFLite files: the one place that knows how the flatbuffer stores a graph.

    model = read_tflite(Path("reflection_256x256_float16.tflite"))      # `ModelT` of the schema, every index checked
    operator_names(model)                                               # ["CONV_2D", "ADD", ...]
    data = pack(model)                                                  # bytes of a file

Neither TensorFlow nor the runtime is imported. A file is untrusted: one that is cut, or whose numbers point outside of
its tables, is refused with one line before anything else reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError

MAX_BYTES = 1 << 31
"""The format's own limit."""

FLOAT32, FLOAT16, INT32, INT64, INT16, INT8 = 0, 1, 2, 4, 7, 9
"""TensorType of the schema."""

DTYPES = {
    **{FLOAT32: "<f4", FLOAT16: "<f2", INT32: "<i4", INT64: "<i8", INT16: "<i2", INT8: "i1"},
    **{
        3: "u1",
        6: "?",
        10: "<f8",
        12: "<u8",
        15: "<u4",
        16: "<u2",
    },  # uint8, bool, float64, uint64, uint32, uint16
}
"""How the elements of a constant are stored, by TensorType; strings and types narrower than a byte are left out."""


def read_tflite(path: Path) -> Any:
    """A TFLite file as a tree of objects (`ModelT`); UserError where it is missing, damaged or has several graphs.

    Checked: every index of an operator, tensor, buffer or operator code lies in its table, and every constant has as
    many bytes as its shape and type need.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES} bytes, this is no TFLite file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data[4:8] != b"TFL3":
        raise UserError(f"{path}: not a TFLite file (got {data[4:8]!r} where TFL3 belongs); convert again")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graphs = len(_entries(model.subgraphs))
        if graphs == 1:
            _check(model)
    except Exception as error:  # offsets out of range surface as struct.error, IndexError, TypeError, ...
        reason = str(error) if isinstance(error, _DamageError) else type(error).__name__
        raise UserError(f"{path}: the file is damaged or cut ({reason}); convert again") from error
    if graphs != 1:
        raise UserError(f"{path}: holds {graphs} graphs, expected one")
    return model


class _DamageError(ValueError):
    """What is wrong with a graph."""


def _check(model: Any) -> None:
    """Raises `_DamageError` for a number that points outside of its table, and fills in empty tables for absent ones."""
    graph = model.subgraphs[0]
    for owner, tables in (
        (model, ("operatorCodes", "buffers")),
        (graph, ("tensors", "operators", "inputs", "outputs")),
    ):
        for table in tables:
            if getattr(owner, table) is None:
                setattr(owner, table, [])
    tensors, buffers = len(graph.tensors), len(model.buffers)
    for index, tensor in enumerate(graph.tensors):
        _require("buffer", [tensor.buffer], buffers)
        if min(shape_of(tensor), default=0) < 0:
            raise _DamageError(f"tensor {index} has the shape {shape_of(tensor)}")
        if is_constant(model, tensor) and tensor.type in DTYPES and tensor.sparsity is None:
            got = len(model.buffers[tensor.buffer].data)
            expected = math.prod(shape_of(tensor)) * np.dtype(DTYPES[tensor.type]).itemsize
            if got != expected:
                raise _DamageError(f"tensor {index} has {got} bytes, its shape needs {expected}")
    _require("tensor", [*graph.inputs, *graph.outputs], tensors)
    for operator in graph.operators:
        operator.inputs, operator.outputs = _entries(operator.inputs), _entries(operator.outputs)
        _require("operator code", [operator.opcodeIndex], len(model.operatorCodes))
        _require("tensor", [index for index in operator.inputs if index != -1], tensors)  # -1: not given
        _require("tensor", operator.outputs, tensors)
    _require("buffer", [entry.buffer for entry in _entries(model.metadata)], buffers)
    for signature in _entries(model.signatureDefs):
        ports = [*_entries(signature.inputs), *_entries(signature.outputs)]
        _require("tensor", [port.tensorIndex for port in ports], tensors)


def _require(what: str, indices: Iterable[int], count: int) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise _DamageError(f"{what} {index} of {count}")


def _entries(vector: Any) -> Any:
    """A vector of the flatbuffer, which is None where it is absent."""
    return [] if vector is None else vector


def pack(model: Any) -> bytes:
    """The bytes of a TFLite file from its tree of objects."""
    import flatbuffers

    class AlignedBuilder(flatbuffers.Builder):
        """Weights start at multiples of 16 bytes, as the schema demands and Python's own builder ignores."""

        def StartVector(self, itemsize: int, count: int, alignment: int) -> Any:  # noqa: N802 - its name
            return super().StartVector(itemsize, count, 16 if itemsize == 1 else alignment)

    builder = AlignedBuilder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def require_runtime(model: Any, minimum: str) -> None:
    """Raise the version of TensorFlow Lite that a file asks for to ``minimum``, if it names an older one."""
    from ai_edge_litert import schema_py_generated as schema

    model.buffers = list(model.buffers)
    for entry in model.metadata or []:
        if entry.name != b"min_runtime_version":
            continue
        own = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
        if [int(part) for part in own.split(".")] < [int(part) for part in minimum.split(".")]:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(minimum.encode().ljust(16, b"\0"), np.uint8)
            model.buffers[entry.buffer] = buffer


def operator_names(model: Any) -> list[str]:
    """The type of each operator of the graph as the schema names it: "CONV_2D", "CUSTOM name", "unknown"."""
    codes = [_code_name(code) for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def _code_name(code: Any) -> str:
    name = _builtin_names().get(builtin_number(code), "unknown")
    return f"CUSTOM {(code.customCode or b'').decode('utf-8', 'replace')}" if name == "CUSTOM" else name


def builtin_number(code: Any) -> int:
    """BuiltinOperator of an operator code. Files keep it in two fields: the older one is a byte and stops at 127."""
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def code_index(codes: list[Any], kind: str, version: int) -> int:
    """The place of an operator's code of at least this version, which is added to ``codes`` where there is none."""
    from ai_edge_litert import schema_py_generated as schema

    number = getattr(schema.BuiltinOperator, kind)
    for index, code in enumerate(codes):
        if builtin_number(code) == number and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = version
    codes.append(code)
    return len(codes) - 1


@cache
def _builtin_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


@cache
def type_names() -> dict[int, str]:
    """TensorType -> its name in the schema, "FLOAT32"."""
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The shape of a tensor; () for a scalar."""
    return tuple(int(side) for side in _entries(tensor.shape))


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether the file holds the tensor's values."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def array_of(model: Any, tensor: Any) -> NDArray[Any]:
    """The values of a constant, as they are stored; ValueError for a type that is not in `DTYPES`."""
    if tensor.type not in DTYPES:
        raise ValueError(f"a constant of type {type_names().get(tensor.type, tensor.type)}")
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), DTYPES[tensor.type]).reshape(
        shape_of(tensor)
    )


def dequantized(model: Any, tensor: Any) -> NDArray[Any]:
    """A constant: floats as float32, quantized integers as the float32 they stand for, other integers as they are."""
    stored = array_of(model, tensor)
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    quantization = tensor.quantization
    scale = np.asarray(_entries(quantization.scale if quantization else None), np.float32)
    if not scale.size:
        return stored
    zero = np.asarray(_entries(quantization.zeroPoint), np.float32)
    along = [1] * stored.ndim
    if scale.size > 1:
        along[quantization.quantizedDimension] = scale.size
    zero = zero if zero.size == scale.size else np.zeros_like(scale)
    return np.asarray((stored.astype(np.float32) - zero.reshape(along)) * scale.reshape(along), np.float32)


def activations(model: Any) -> list[int]:
    """Indices of the float32 tensors that are not constants: inputs and operators' results."""
    graph = model.subgraphs[0]
    made = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    return sorted(index for index in made if graph.tensors[index].type == FLOAT32)
