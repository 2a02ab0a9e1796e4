"""Rewrites a Core ML package operator by operator, with a new weight file.

    rewrite(source, {"weight": Form("constexpr_affine_dequantize", {...})}, Path("out.mlpackage"))

A weight's `const` becomes the `constexpr_*` operator that expands it, under the same name; all else stays as it is.
Reading packages: `conversion/mil/package.py`, which also describes the weight file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.mil.ops.compressed import constexpr_affine_dequantize, constexpr_lut_to_dense
from afterlens.conversion.mil.package import DATA_TYPES, Package
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

Array = NDArray[Any]

_WEIGHT_FILE = "@model_path/weights/weight.bin"
_TYPE_NUMBERS = {entry.name: number for number, entry in DATA_TYPES.items()}


@dataclass(frozen=True)
class Form:
    """A compressed weight: the `constexpr_*` operator that expands it, and its parameters."""

    operator: str
    parameters: dict[str, Array]  # in the types of the file: int8, uint8, uint32, int32, float16

    def expanded(self) -> NDArray[np.float32]:
        """The weight that the operator computes, rounded to float16, as float32."""
        given = {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in self.parameters.items()
        }
        expand = constexpr_lut_to_dense if "lut" in given else constexpr_affine_dequantize
        return np.asarray(expand(**given)).astype(np.float16).astype(np.float32)

    def size(self) -> int:
        """Bytes in the weight file, records included."""
        return sum(
            64 + -(-p.nbytes // 64) * 64
            for name, p in self.parameters.items()
            if name not in ("shape", "axis")
        )


@dataclass
class WeightFile:
    """A weight file of version 2 under construction (see conversion/mil/package.py)."""

    data: bytearray = field(default_factory=lambda: bytearray(64))
    records: int = 0

    def add(self, content: bytes, type_name: str, padding_bits: int = 0) -> int:
        """Append a tensor and return the offset of its record."""
        offset = len(self.data)
        number = DATA_TYPES[_TYPE_NUMBERS[type_name]].blob
        self.data += struct.pack("<IIQQQ", 0xDEADBEEF, number, len(content), offset + 64, padding_bits)
        self.data += bytes(32) + content
        self.data += bytes(-len(self.data) % 64)
        self.records += 1
        return offset

    def content(self) -> bytes:
        """The whole file."""
        struct.pack_into("<II", self.data, 0, self.records, 2)
        return bytes(self.data)


def plain_block(package: Package) -> Any:
    """The one block of the one function of a package of `convert_coreml`; UserError where there are others."""
    functions = list(package.model.mlProgram.functions.values())
    blocks = [block for function in functions for block in function.block_specializations.values()]
    if len(blocks) != 1 or any(operation.blocks for operation in blocks[0].operations):
        raise UserError(
            f"{package.path}: got several functions or blocks, expected a plain graph; convert again"
        )
    return blocks[0]


def rewrite(source: Package, forms: Mapping[str, Form], out: Path) -> None:
    """Write a copy of a package to `out` with these weights (by name) in these forms."""
    model = type(source.model)()
    model.CopyFrom(source.model)
    file = WeightFile()
    block = plain_block(Package(source.path, model, out))
    for operation in block.operations:
        form = forms.get(operation.outputs[0].name) if operation.type == "const" else None
        if form is not None:
            _expand(operation, form, file)
            continue
        for value in values_of(operation):
            if value.WhichOneof("value") == "blobFileValue":
                declared = source.tensor_type(value.type)
                content = source.stored(value)
                padding = (
                    8 * len(content) - _count(value) * declared.dtype.bits if declared.dtype.bits < 8 else 0
                )
                value.blobFileValue.offset = file.add(content, declared.dtype.name, padding)
                value.blobFileValue.fileName = _WEIGHT_FILE
    with atomic_path(out) as folder:
        data = folder / "Data" / "com.apple.CoreML"
        (data / "weights").mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(model.SerializeToString(deterministic=True))
        (data / "weights" / "weight.bin").write_bytes(file.content())
        (folder / "Manifest.json").write_bytes((source.path / "Manifest.json").read_bytes())


def _expand(operation: Any, form: Form, file: WeightFile) -> None:
    """Turn a `const` into the operator that expands a compressed weight; name and type stay."""
    operation.type = form.operator
    del operation.attributes["val"]
    for name, array in form.parameters.items():
        value = operation.attributes[name]
        tensor = value.type.tensorType
        tensor.dataType, tensor.rank = _TYPE_NUMBERS[array.dtype.name], array.ndim
        for size in array.shape:
            tensor.dimensions.add().constant.size = size
        if name == "axis":
            value.immediateValue.tensor.ints.values.append(int(array))
        elif name == "shape":
            value.immediateValue.tensor.bytes.values = array.astype("<u4").tobytes()
        else:
            little = array.astype(array.dtype.newbyteorder("<"))
            value.blobFileValue.fileName = _WEIGHT_FILE
            value.blobFileValue.offset = file.add(little.tobytes(), array.dtype.name)


def values_of(operation: Any) -> list[Any]:
    """All values in an operation's attributes and inputs, in a fixed order."""
    values = [operation.attributes[key] for key in sorted(operation.attributes)]
    for key in sorted(operation.inputs):
        values += [b.value for b in operation.inputs[key].arguments if b.WhichOneof("binding") == "value"]
    return values


def _count(value: Any) -> int:
    return int(
        np.prod([dimension.constant.size for dimension in value.type.tensorType.dimensions], dtype=np.int64)
    )


def content_of(package: Package, operation: Any) -> tuple[bytes, list[bytes]]:
    """An operation and its stored values, wherever in the weight file they lie: equal for equal content."""
    plain = type(operation)()
    plain.CopyFrom(operation)
    for value in values_of(plain):
        if value.WhichOneof("value") == "blobFileValue":
            value.blobFileValue.Clear()
    stored = [package.stored(v) for v in values_of(operation) if v.WhichOneof("value") == "blobFileValue"]
    return bytes(plain.SerializeToString(deterministic=True)), stored
