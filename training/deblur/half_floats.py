"""Rounds weights to what float16 files hold exactly; `afterlens train deblur` does it with all weights that it writes.

Where the motion is uncertain, rounding the weights changes the blur extents by several per cent, and single pixels by
several levels of 255. Rounded once before evaluation, the weights are the same in PyTorch and in every float16 file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from afterlens.training.deblur.network import ContrastStem, DeblurNetwork
from afterlens.training.half_floats import half, round_convolutions, set_weight

STEP = 2.0**-10  # of the stem's weights: multiples of it below 2 are half floats


def round_weights(network: nn.Module) -> None:
    """Rounds a `DeblurNetwork` in place, so that all weights and biases of its copy by `for_deployment` are half floats."""
    assert isinstance(network, DeblurNetwork)
    stem = network.frame.stem
    assert isinstance(stem, ContrastStem)
    with torch.no_grad():
        zero_sum = _zero_sum(stem.conv.weight)
        round_convolutions(network)
        set_weight(stem.conv, zero_sum)
        for head in network.motion.extents:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            head.weight.copy_(half(head.weight * network.slope) / network.slope)
            head.bias.copy_(
                (half(head.bias * network.slope + network.offset) - network.offset) / network.slope
            )


def _zero_sum(weight: Tensor) -> Tensor:
    """Rounded to multiples of STEP with each kernel's sum zero: the weights that rounding moved furthest step back.

    Where a weight is 2 or more the steps are larger: half floats have eleven digits.
    """
    step = STEP * 2.0 ** max(0, math.floor(math.log2(max(float(weight.abs().max()), 1.0))))
    kernels = weight.flatten(2) / step
    steps = kernels.round()
    for kernel, rounded in zip(kernels.flatten(0, 1), steps.flatten(0, 1), strict=True):
        excess = int(rounded.sum())
        sign = 1 if excess > 0 else -1
        furthest = ((rounded - kernel) * sign).argsort(descending=True)[: abs(excess)]
        rounded[furthest] -= sign
    return (steps * step).view_as(weight)
