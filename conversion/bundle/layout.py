"""How the value of a port is laid out: in PyTorch, between our own parts, in a TFLite file and in a Core ML package.

    value = from_torch(port, tensor)       # (1, 3, H, W) -> (H, W, 3); (1, 128) -> (128,)
    spec = tensor_spec(port, "coreml")     # as model.json promises it

Between our parts a value is a float32 array: an image (H, W, 3) RGB in [0, 1], anything else the port's shape without the
batch dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afterlens.conversion.bundle.contract import Format, TensorSpec
from afterlens.training.deployable import Port

Value = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A real photo and what PyTorch computes from it in float32: arrays of the ports' shapes, by port name."""

    inputs: dict[str, NDArray[np.float32]]
    outputs: dict[str, NDArray[np.float32]]


def array_shape(port: Port) -> tuple[int, ...]:
    """Of a value between our parts: no batch dimension, images with their channels last."""
    _, *rest = port.shape
    return (*rest[1:], rest[0]) if port.kind == "image" else tuple(rest)


def from_torch(port: Port, tensor: Tensor) -> Value:
    """A port's tensor, batch 1, as a value."""
    value = tensor[0].permute(1, 2, 0) if port.kind == "image" else tensor[0]
    return np.ascontiguousarray(value.numpy(), np.float32)


def to_torch(port: Port, value: Value) -> Tensor:
    """A value as the port's tensor, batch 1."""
    tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return (tensor.permute(2, 0, 1) if port.kind == "image" else tensor)[None].contiguous()


def file_shape(port: Port) -> tuple[int, ...]:
    """Of the port's tensor in a TFLite file: images are (1, H, W, 3), the rest is as in PyTorch."""
    return (1, *array_shape(port))


def tensor_spec(port: Port, format_: Format) -> TensorSpec:
    """What model.json says of a port in a file of this format."""
    if port.kind != "image":
        return TensorSpec(
            port.name, tuple(port.shape), "array", "float32", port.range, "none", port.meaning, port.kind
        )
    shape, words = file_shape(port), (port.colour_space, port.meaning, port.kind)
    if format_ == "tflite":
        return TensorSpec(port.name, shape, "NHWC", "float32", port.range, *words)
    return TensorSpec(port.name, shape[1:], "image", "uint8", (0.0, 255.0), *words)


def first_image(ports: Sequence[Port]) -> Port | None:
    """The port that pictures are evaluated by; None where no port is an image."""
    return next((port for port in ports if port.kind == "image"), None)


def made_up(port: Port, index: int) -> Value:
    """A value of an input that is not an image: different for each index, the same in every run.

    A class input gets one class at its highest and the others at their lowest value; any other one numbers from all of
    its range. All of them are float16 numbers, so that no file has to round them.
    """
    low, high = port.range
    shape = array_shape(port)
    if port.kind == "class":
        value = np.full(shape, low, np.float32)
        value.reshape(-1)[index % value.size] = high
        return value
    uniform = np.random.default_rng(index).random(shape)
    value = (low + (high - low) * uniform).astype(np.float16).astype(np.float32)
    return np.clip(value, low, high)
