"""A small network with all kinds of weights, and helpers that read and change packages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion.mil.package import read_package
from afterlens.training.deployable import Deployable, Port

Array = NDArray[Any]
SIDE = 64


class Small(nn.Module):
    """All kinds of layers with weights, and channels whose weights differ by a factor of a million."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)  # 432 values: stays float16
        self.body = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.twin = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.other = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.head = nn.Conv2d(16, 3, 1)
        with torch.no_grad():
            self.body.weight *= torch.logspace(-6, 0, 32).reshape(-1, 1, 1, 1)
            self.body.weight[3] = 0.0

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = torch.relu(self.body(torch.relu(self.stem(image))))
        x = torch.relu(self.twin(x)) + torch.sigmoid(self.other(x))
        return ((image + 0.3 * self.head(torch.relu(self.up(x)))).clamp(0.0, 1.0),)


def deployable(module: nn.Module, height: int = 32, width: int = 32) -> Deployable:
    shape = (1, 3, height, width)
    ports = [(Port(name, shape, (0.0, 1.0)),) for name in ("image", "restored")]
    return Deployable(module.eval(), "small", "Small", "1", *ports)


def operations(path: Path) -> list[Any]:
    (function,) = read_package(path).model.mlProgram.functions.values()
    return list(function.block_specializations[function.opset].operations)


def saved(path: Path) -> dict[str, str]:
    """Which representation each weight of a package has, read off the file."""
    kinds = {}
    for operation in operations(path):
        if operation.type == "constexpr_affine_dequantize":
            kinds[operation.outputs[0].name] = "int8"
        elif operation.type == "constexpr_lut_to_dense":
            entries = operation.attributes["lut"].type.tensorType.dimensions[0].constant.size
            kinds[operation.outputs[0].name] = f"palettized{entries.bit_length() - 1}"
    return kinds


def overwrite(path: Path, name: str, parameter: str, change: Callable[[Array], Array]) -> None:
    """Change what the weight file holds of one parameter of a compressed weight."""
    package = read_package(path)
    (operation,) = (o for o in operations(path) if o.outputs[0].name == name)
    value = operation.attributes[parameter]
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(file.read_bytes())
    size, start = struct.unpack_from("<QQ", data, value.blobFileValue.offset + 8)
    dtype = np.dtype(package.tensor_type(value.type).dtype.name)
    old = np.frombuffer(data[start : start + size], dtype)
    shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
    new = np.ascontiguousarray(change(old.reshape(shape).copy())).astype(dtype)
    assert new.size == old.size and new.tobytes() != old.tobytes(), "the mutation changes nothing"
    data[start : start + size] = new.tobytes()
    file.write_bytes(data)
