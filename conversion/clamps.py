"""Clamps whose range leaves zero out, without one: TFLite's CPU kernels cannot run them behind a convolution.

    changed = past_zero(module, node)      # a node of a captured GraphModule, changed in place

XNNPACK makes one operator of a convolution (or a pooling by maximum) and the clamp behind it. Where zero is no value of the
range, that operator fails to start, or gives a picture of another size. `log(clamp(x, 1e-6))` is such a clamp.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.graph_edit import call, constant_of, named

Node = torch.fx.Node
_aten = torch.ops.aten


def past_zero(module: nn.Module, node: Node) -> bool:
    """Rewrite a clamp to numbers of which the lowest is above zero, or the highest is not. Whether it was one."""
    if not node.meta["val"].is_floating_point():
        return False  # places, which no convolution computes
    x, low, high = _bounds(module, node)
    if low is not None and low > 0:
        return call(node, _above, x, low, high)
    return high is not None and high <= 0 and call(node, _below, x, low, high)


def _bounds(module: nn.Module, node: Node) -> tuple[Any, float | None, float | None]:
    """What is clamped, and the ends of the range; (…, None, None) where they are no numbers."""
    if node.target in (_aten.maximum.default, _aten.minimum.default):
        first, second = node.args
        x, bound = (second, first) if constant_of(module, first) is not None else (first, second)
        value = constant_of(module, bound)
        number = None if value is None or value.numel() != 1 else float(value)
        return (x, number, None) if node.target is _aten.maximum.default else (x, None, number)
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given = dict(zip(names, named(node, *names), strict=True))
    return given["self"], *(given.get(end, given.get(f"{end}_val")) for end in ("min", "max"))


def _above(x: Tensor, low: float, high: float | None) -> Tensor:
    raised = F.relu(x - low) + low
    return raised if high is None else raised.clamp(max=high)


def _below(x: Tensor, low: float | None, high: float) -> Tensor:
    lowered = high - F.relu(high - x)
    return lowered if low is None else lowered.clamp(min=low)


CLAMPS = (
    *(_aten.clamp.default, _aten.clamp_min.default, _aten.clamp_max.default, _aten.hardtanh.default),
    *(_aten.maximum.default, _aten.minimum.default),
)
"""The operators that may be such a clamp."""
