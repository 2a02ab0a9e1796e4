"""What a deployable graph computes in PyTorch: the reference of every converted file.

outputs = compute(deployable, {"image": photo})
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from afterlens.conversion.bundle.layout import Value, from_torch, to_torch
from afterlens.training.deployable import Deployable


def compute(deployable: Deployable, inputs: Mapping[str, Value]) -> dict[str, Value]:
    """What PyTorch computes in float32: values by input name -> values by output name (see `layout`)."""
    tensors = [to_torch(port, inputs[port.name]) for port in deployable.inputs]
    with torch.inference_mode():
        results = deployable.module(*tensors)
    return {
        port.name: from_torch(port, result) for port, result in zip(deployable.outputs, results, strict=True)
    }


def with_float16_weights(deployable: Deployable) -> Deployable:
    """A copy that computes in float32 too, but with the weights rounded to float16, as a float16 file stores them."""
    module = copy.deepcopy(deployable.module)
    with torch.no_grad():
        for weight in (*module.parameters(), *module.buffers()):
            if weight.is_floating_point():
                weight.copy_(weight.half())
    return replace(deployable, module=module)
