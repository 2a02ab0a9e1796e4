"""What a deployable graph computes in PyTorch: the reference of every converted file.

outputs = compute(deployable, {"image": photo})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from afterlens.conversion.bundle.layout import Value, from_torch, to_torch
from afterlens.conversion.lower import lower
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
    """A copy that computes in float32 too, but with its constants rounded to float16, as a float16 file stores them.

    These are the weights, and the numbers in the network's code: factors, exponents and the epsilon of a normalization.
    A number that would become zero stays as it is: files keep it in float32, or use the smallest float16 number. Both
    converters divide by a constant by multiplying with its reciprocal, so that is what is rounded.
    """
    module = lower(deployable).module(check_guards=False)
    divisors = {
        str(node.args[1].target)
        for node in module.graph.nodes
        if node.target in _DIVISIONS and isinstance(node.args[1], torch.fx.Node)
    }
    with torch.no_grad():
        names = {node.target for node in module.graph.nodes if node.op == "get_attr"}
        for name in sorted(names):
            owner, _, attribute = name.rpartition(".")
            tensor = getattr(module.get_submodule(owner), attribute)
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                rounded = 1 / _rounded(1 / tensor) if name in divisors else _rounded(tensor)
                # In place of the tensor, which is the network's own.
                own = isinstance(tensor, torch.nn.Parameter)
                value = torch.nn.Parameter(rounded, requires_grad=False) if own else rounded
                setattr(module.get_submodule(owner), attribute, value)
        for node in module.graph.nodes:
            if node.op == "call_function" and any(isinstance(value, torch.fx.Node) for value in node.args):
                division = node.target in _DIVISIONS
                node.args = tuple(_rounded_number(value, division) for value in node.args)
    module.recompile()
    return replace(deployable, module=module)


_DIVISIONS = (torch.ops.aten.div.Tensor, torch.ops.aten.div_.Tensor)


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    halves = tensor.half().float()
    return torch.where((halves == 0) | halves.isinf(), tensor, halves)


def _rounded_number(value: Any, division: bool) -> Any:
    if type(value) not in ((float, int) if division else (float,)) or value == 0:
        return value
    number = torch.tensor(float(value))
    return float(1 / _rounded(1 / number) if division else _rounded(number))
