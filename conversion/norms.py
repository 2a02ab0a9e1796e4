"""Normalization by a picture's own mean and deviation, with the mean taken twice.

    changed = instance_norm(module, node)      # a node of a captured GraphModule, changed in place

A sum of many pixels in float32 is off in its last digits. On a bright picture with little contrast, what is left without
the mean is as small as that, and dividing by the deviation makes it a hundred times as large. The mean of what is left is
zero but for this error; taking it off as well leaves none that shows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.graph_edit import call, constant_of, constants, named, shape_of

Node = torch.fx.Node


def layer_norm(module: nn.Module, node: Node) -> bool:
    """Over more than the last axis: onnx2tf moves the weights to other axes than the picture."""
    x, shape, weight, bias, eps = named(node, "input", "normalized_shape", "weight", "bias", "eps")
    axes = list(range(-len(shape), 0))
    return len(shape) > 1 and call(node, _over_axes, x, axes, weight, bias, eps)


def _over_axes(x: Tensor, axes: list[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    apart = x - x.mean(axes, keepdim=True)
    apart = apart - apart.mean(axes, keepdim=True)
    result = apart / torch.sqrt((apart * apart).mean(axes, keepdim=True) + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def instance_norm(module: nn.Module, node: Node) -> bool:
    """Each channel of a picture by itself; with running statistics it is a batch normalization, and stays."""
    names = ("input", "weight", "bias", "use_input_stats", "eps")
    x, weight, bias, own, eps = named(node, *names)
    return own and _written_out(module, node, x, weight, bias, eps, shape_of(x)[1])


def group_norm(module: nn.Module, node: Node) -> bool:
    """Groups of channels together, without laying them out anew, which takes a copy of the picture."""
    x, groups, weight, bias, eps = named(node, "input", "num_groups", "weight", "bias", "eps")
    return _written_out(module, node, x, weight, bias, eps, groups)


def _written_out(
    module: nn.Module, node: Node, x: Node, weight: Any, bias: Any, eps: float, groups: int
) -> bool:
    given = [value for value in (weight, bias) if value is not None]
    if len(shape_of(x)) != 4 or given == [bias] or any(constant_of(module, value) is None for value in given):
        return False
    size = shape_of(x)[1] // groups
    (shares,) = constants(module, node, torch.full((groups * size, size, 1, 1), 1 / size))
    return call(node, _over_groups, x, shares, groups, weight, bias, eps)


def _over_groups(
    x: Tensor, shares: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    def mean(values: Tensor) -> Tensor:
        """Of each group, at each of its channels; for one group once."""
        if groups == 1:
            return values.mean((1, 2, 3), keepdim=True)
        each = values.mean((2, 3), keepdim=True)
        return each if groups == x.shape[1] else F.conv2d(each, shares, groups=groups)

    apart = x - mean(x)
    apart = apart - mean(apart)
    result = apart / torch.sqrt(mean(apart * apart) + eps)
    if weight is None:
        return result
    # A convolution: onnx2tf mixes factors of channels up with those of rows where there are as many.
    return F.conv2d(result, weight.reshape(-1, 1, 1, 1), bias, groups=x.shape[1])
