"""Reads a saved Core ML package (`.mlpackage`, ML Program): manifest, model protobuf, weight file.

    package = read_package(Path("reflection.mlpackage"))
    package.model.mlProgram            # the protobuf message
    package.value(proto_value)         # a constant of it, as a NumPy array, string or list

A package is untrusted input. Paths in it may not leave it, sizes and offsets are checked against the bytes that are
really there before anything is allocated, and every fault is one :class:`UserError` line.

The weight file (blob storage version 2) is a 64-byte header, then per tensor a 64-byte record (sentinel 0xDEADBEEF,
type, size in bytes, offset of the data, padding bits) that the model refers to by the record's offset. Types
narrower than a byte are packed with the least significant bit first.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError

MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 29
MAX_WEIGHT_BYTES = 1 << 33
MAX_ELEMENTS = 1 << 30  # of one tensor: 4 GiB as float32, 100 times a 1280x720 feature map of 32 channels
MAX_RANK = 16

_SENTINEL = 0xDEADBEEF
_PROTO_PACKAGE = "_afterlens_coremltools_proto"


@dataclass(frozen=True)
class DataType:
    """A MIL element type: its width in the file and how it is held in memory (`float16` too is kept as `float32`)."""

    name: str
    bits: int
    memory: np.dtype[Any]
    blob: int | None  # its number in the weight file, None where it cannot be stored there

    @property
    def signed(self) -> bool:
        """Whether a packed value of this type has a sign bit."""
        return self.name.startswith("int")


_F32, _I8, _U8 = np.dtype("float32"), np.dtype("int8"), np.dtype("uint8")
# MIL.proto's DataType -> our description.
DATA_TYPES = {
    1: DataType("bool", 8, np.dtype("bool"), None),
    2: DataType("string", 0, np.dtype("object"), None),
    10: DataType("float16", 16, _F32, 1),
    11: DataType("float32", 32, _F32, 2),
    21: DataType("int8", 8, _I8, 4),
    22: DataType("int16", 16, np.dtype("int16"), 6),
    23: DataType("int32", 32, np.dtype("int32"), 14),
    24: DataType("int64", 64, np.dtype("int64"), None),
    25: DataType("int4", 4, _I8, 8),
    31: DataType("uint8", 8, _U8, 3),
    32: DataType("uint16", 16, np.dtype("uint16"), 7),
    33: DataType("uint32", 32, np.dtype("uint32"), 15),
    35: DataType("uint4", 4, _U8, 11),
    36: DataType("uint2", 2, _U8, 10),
    37: DataType("uint1", 1, _U8, 9),
    38: DataType("uint6", 6, _U8, 13),
    39: DataType("uint3", 3, _U8, 12),
}


@dataclass(frozen=True)
class TensorType:
    """A declared type: element type and shape, None where a dimension is not known before the program runs."""

    dtype: DataType
    shape: tuple[int | None, ...]
    any_rank: bool = False

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype.name}({'...' if self.any_rank else sizes})"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a value of this shape fits the declaration."""
        if self.any_rank:
            return True
        return len(shape) == len(self.shape) and all(
            declared in (None, actual) for declared, actual in zip(self.shape, shape, strict=True)
        )


@dataclass
class Package:
    """An opened package; weight files are read when the first constant needs them."""

    path: Path
    model: Any
    _folder: Path
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def fault(self, message: str) -> UserError:
        """The error that says what is wrong with this package."""
        return UserError(f"{self.path}: {message}; convert the model again")

    def tensor_type(self, value_type: Any) -> TensorType:
        """A declared type of the program; refuses types and sizes that cannot be executed."""
        kind = value_type.WhichOneof("type")
        if kind != "tensorType":
            raise self.fault(f"a value of type {kind}, expected a tensor")
        tensor = value_type.tensorType
        dtype = DATA_TYPES.get(tensor.dataType)
        if dtype is None:
            raise self.fault(f"element type number {tensor.dataType}, which this executor does not know")
        shape: list[int | None] = []
        for dimension in tensor.dimensions:
            if dimension.WhichOneof("dimension") == "constant":
                shape.append(dimension.constant.size)
            elif dimension.unknown.variadic:
                return TensorType(dtype, (), any_rank=True)
            else:
                shape.append(None)
        if tensor.rank != len(shape):
            raise self.fault(f"a tensor of rank {tensor.rank} declares {len(shape)} dimensions")
        # A zero must not hide the other sizes: NumPy's own limits hold for their product.
        if len(shape) > MAX_RANK or math.prod(max(size or 1, 1) for size in shape) > MAX_ELEMENTS:
            raise self.fault(f"a tensor of shape {tuple(shape)}, at most {MAX_ELEMENTS} elements are allowed")
        return TensorType(dtype, tuple(shape))

    def value(self, value: Any) -> Any:
        """A constant: array (float16 as float32), string, or list of these."""
        if value.type.WhichOneof("type") == "listType":
            return [self.value(item) for item in value.immediateValue.list.values]
        declared = self.tensor_type(value.type)
        if declared.any_rank or None in declared.shape:
            raise self.fault("a constant whose shape is not known")
        shape = tuple(size for size in declared.shape if size is not None)
        if value.WhichOneof("value") == "blobFileValue":
            raw = self._blob(value.blobFileValue.fileName, value.blobFileValue.offset, declared.dtype, shape)
            return self._decode(raw, declared.dtype, shape)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind is None:
            raise self.fault("a constant without a value")
        values = getattr(tensor, kind).values
        if kind == "bytes":
            return self._decode(values, declared.dtype, shape)
        if len(values) != math.prod(shape):
            raise self.fault(f"a constant of shape {shape} holds {len(values)} values")
        if declared.dtype.name == "string":
            return values[0] if shape == () else list(values)
        try:
            return np.array(values, declared.dtype.memory).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.fault(f"a constant of type {declared} cannot be read ({error})") from None

    def stored(self, value: Any) -> bytes:
        """The bytes of a constant that lies in the weight file."""
        declared = self.tensor_type(value.type)
        if declared.any_rank or None in declared.shape:
            raise self.fault("a constant whose shape is not known")
        shape = tuple(size for size in declared.shape if size is not None)
        return self._blob(value.blobFileValue.fileName, value.blobFileValue.offset, declared.dtype, shape)

    def _decode(self, raw: bytes, dtype: DataType, shape: tuple[int, ...]) -> NDArray[Any]:
        count = math.prod(shape)
        if dtype.bits == 0 or len(raw) != -(-count * dtype.bits // 8):
            raise self.fault(f"a constant {dtype.name}{shape} holds {len(raw)} bytes")
        if dtype.bits < 8:
            data = unpack_bits(np.frombuffer(raw, np.uint8), dtype.bits, count, dtype.signed)
        else:
            data = np.frombuffer(raw, np.dtype(dtype.name).newbyteorder("<"), count)
        return data.astype(dtype.memory, copy=False).reshape(shape)

    def _blob(self, name: str, offset: int, dtype: DataType, shape: tuple[int, ...]) -> bytes:
        """The bytes of one tensor in a weight file, after every claim of its record has been checked."""
        if name not in self._blobs:
            relative = name.removeprefix("@model_path/")
            if relative == name:
                raise self.fault(f"weight file {name!r} is not below @model_path")
            data = _read(_inside(self.path, self._folder, relative), MAX_WEIGHT_BYTES)
            if len(data) < 64 or struct.unpack_from("<I", data, 4)[0] != 2:
                raise self.fault(f"{relative!r} is not a weight file of version 2")
            self._blobs[name] = data
        data = self._blobs[name]
        if offset % 64 or offset + 64 > len(data):
            raise self.fault(f"a tensor record at byte {offset} of a weight file of {len(data)} bytes")
        sentinel, kind, size, start, padding = struct.unpack_from("<IIQQQ", data, offset)
        if sentinel != _SENTINEL:
            raise self.fault(f"byte {offset} of the weight file does not begin a tensor record")
        if kind != dtype.blob:
            raise self.fault(
                f"the record at byte {offset} has type number {kind}, the model says {dtype.name}"
            )
        bits = math.prod(shape) * dtype.bits
        if size * 8 - bits != (padding if dtype.bits < 8 else 0) or size != -(-bits // 8):
            raise self.fault(
                f"the record at byte {offset} has {size} bytes, the model says {dtype.name}{shape}"
            )
        if start + size > len(data):
            raise self.fault(
                f"the weight file is truncated: a tensor ends at byte {start + size}, the file at {len(data)}"
            )
        return data[start : start + size]


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int, signed: bool = False) -> NDArray[Any]:
    """`count` values of `bits` bits each, least significant bit first, as (count,) int8 or uint8."""
    if len(packed) != -(-count * bits // 8):
        raise ValueError(f"{len(packed)} bytes hold packed values, expected {count} of {bits} bits")
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    values = np.zeros(count, np.uint8)
    for bit in range(bits):
        values += planes[:, bit] * np.uint8(1 << bit)
    if not signed:
        return values
    return (values.astype(np.int16) - ((values >> (bits - 1)).astype(np.int16) << bits)).astype(np.int8)


def read_package(path: Path) -> Package:
    """Opens `path`; raises UserError for anything that is not a sound ML Program package."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: got no folder, expected a Core ML package (.mlpackage)")
    try:
        manifest = json.loads(_read(path / "Manifest.json", MAX_MANIFEST_BYTES))
        location = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        if not isinstance(location, str):
            raise TypeError("its path is not a string")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: Manifest.json does not name a model ({error!r}); convert it again"
        ) from None
    model_path = _inside(path, path / "Data", location)
    protobuf = load_protobuf()
    model = protobuf.Model()
    try:
        model.ParseFromString(_read(model_path, MAX_MODEL_BYTES))
    except Exception as error:  # protobuf's DecodeError has another class in each of its implementations
        if type(error).__name__ != "DecodeError":
            raise
        raise UserError(f"{path}: {location!r} is damaged ({error}); convert the model again") from None
    if model.WhichOneof("Type") != "mlProgram":
        raise UserError(f"{path}: got a model of type {model.WhichOneof('Type')}, expected an ML Program")
    return Package(path, model, model_path.parent)


def load_protobuf() -> ModuleType:
    """coremltools' generated Model_pb2, without importing coremltools.

    `import coremltools.proto.Model_pb2` runs coremltools' own `__init__` first, which takes 12 s for converters
    that reading a file does not need. The generated modules only import each other (relatively), so they also work
    as a package of another name whose search path is coremltools' folder; that takes under 0.1 s. If coremltools
    is imported later, protobuf hands it the same message classes.
    """
    loaded = sys.modules.get("coremltools.proto.Model_pb2")
    if loaded is not None:
        return loaded
    if _PROTO_PACKAGE not in sys.modules:
        spec = importlib.util.find_spec("coremltools")  # locates the package, does not run it
        if spec is None or not spec.submodule_search_locations:
            raise UserError("reading a Core ML package needs coremltools: pip install coremltools==9.0")
        package = ModuleType(_PROTO_PACKAGE)
        package.__path__ = [str(Path(spec.submodule_search_locations[0]) / "proto")]
        sys.modules[_PROTO_PACKAGE] = package
    return importlib.import_module(f"{_PROTO_PACKAGE}.Model_pb2")


def _inside(package: Path, folder: Path, relative: str) -> Path:
    """A regular file below `folder`; refuses names and links that lead out of the package."""
    parts = PurePosixPath(relative).parts
    if (
        not parts
        or ".." in parts
        or "\\" in relative
        or "\0" in relative
        or PurePosixPath(relative).is_absolute()
    ):
        raise UserError(f"{package}: the path {relative!r} leads out of the package; do not use this model")
    target = folder.joinpath(*parts)
    try:
        leads_out = not target.resolve().is_relative_to(package.resolve())
        is_there = target.is_file()
    except OSError as error:
        raise UserError(f"{package}: a path of its manifest cannot be read ({error.strerror})") from None
    if leads_out:
        raise UserError(f"{package}: the path {relative!r} leads out of the package; do not use this model")
    if not is_there:
        raise UserError(
            f"{package}: {relative!r} is missing; copy the whole folder or convert the model again"
        )
    return target


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise UserError(f"{path}: {path.stat().st_size} bytes, at most {limit} are expected")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
