"""Folds the factors and offsets that follow a convolution into its weights: what converters do, done before them.

changed = fold_affine(module)      # a captured GraphModule, changed in place

`0.2 * conv(x)` and `(conv(x) - mean) / deviation` become one convolution. coremltools does so by itself and rounds the
product to float16, so a proof that rounded weights and factors apart would refuse its correct file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from afterlens.conversion.graph_edit import constant_of

Node = torch.fx.Node
_aten = torch.ops.aten
_TRANSPOSED = _aten.conv_transpose2d.input
_CONVOLUTIONS = (_aten.conv2d.default, _aten.conv2d.padding, _TRANSPOSED)

SMALLEST = 1e-3
"""Of the largest weight after folding: float16 has fewer digits for smaller ones, so they keep their factor."""


def fold_affine(module: torch.fx.GraphModule) -> bool:
    """Fold what follows each convolution of a captured graph, until something else follows. Whether anything did."""
    # In the order of the graph: of (conv(x) - mean) / deviation, the difference is folded first.
    changed = [_fold(module, node) for node in list(module.graph.nodes)]
    return any(changed)


def _fold(module: torch.fx.GraphModule, node: Node) -> bool:
    if node.target not in _OPERATORS or len(node.args) != 2 or node.kwargs:
        return False
    flipped = not _is_convolution(node.args[0])
    convolution, other = node.args[::-1] if flipped else node.args
    if not isinstance(convolution, Node) or not _is_convolution(convolution) or len(convolution.users) != 1:
        return False
    channels = int(convolution.meta["val"].shape[1])
    value, weight = constant_of(module, other), constant_of(module, convolution.args[1])
    if value is None or weight is None or value.numel() not in (1, channels):
        return False
    shape = (1,) * (4 - value.ndim) + tuple(value.shape)
    if value.numel() > 1 and shape != (1, channels, 1, 1):
        return False
    given = convolution.args[2] if len(convolution.args) > 2 else None
    bias = torch.zeros(channels) if given is None else constant_of(module, given)
    affine = affine_of(node.target, value.reshape(-1).expand(channels), flipped)
    if bias is None or affine is None:
        return False
    factor, offset = affine
    folded = weight * _along_outputs(convolution, factor)
    if folded.abs().max() < min(SMALLEST, float(weight.abs().max())) or not folded.isfinite().all():
        return False
    parameters = []
    for kind, tensor in (("weight", folded), ("bias", bias * factor + offset)):
        module.register_buffer(name := f"{node.name}_{kind}", tensor)
        with module.graph.inserting_before(convolution):
            parameters.append(module.graph.get_attr(name))
    convolution.args = (convolution.args[0], *parameters, *convolution.args[3:])
    node.replace_all_uses_with(convolution)
    module.graph.erase_node(node)
    return True


def affine_of(operator: Any, value: Tensor, flipped: bool) -> tuple[Tensor, Tensor] | None:
    """Factor and offset of an operator with a constant for each channel; ``flipped``: the constant comes first.

    None for other operators, and for a quotient by what the network computes.
    """
    one, none = torch.ones_like(value), torch.zeros_like(value)
    if operator is _aten.add.Tensor:
        return one, value
    if operator is _aten.rsub.Scalar:
        return -one, value
    if operator is _aten.sub.Tensor:
        return (-one, value) if flipped else (one, -value)
    if operator is _aten.mul.Tensor:
        return value, none
    return (1 / value, none) if operator is _aten.div.Tensor and not flipped else None


_OPERATORS = (
    *(_aten.add.Tensor, _aten.sub.Tensor, _aten.rsub.Scalar),
    *(_aten.mul.Tensor, _aten.div.Tensor),
)


def _is_convolution(value: Any) -> bool:
    return isinstance(value, Node) and value.target in _CONVOLUTIONS


def _along_outputs(convolution: Node, factor: Tensor) -> Tensor:
    """(C_out) in the shape of the weight, (C_out, ...); of a transposed convolution it is (C_in, C_out / groups, ...)."""
    if convolution.target is not _TRANSPOSED:
        return factor.reshape(-1, 1, 1, 1)
    groups = int(convolution.args[6]) if len(convolution.args) > 6 else 1  # type: ignore[arg-type]
    inputs = int(convolution.args[0].meta["val"].shape[1])  # type: ignore[union-attr]
    return factor.reshape(groups, -1).repeat_interleave(inputs // groups, 0)[:, :, None, None]
