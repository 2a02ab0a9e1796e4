"""Weights that float16 files hold exactly: rounded once, before they are measured, they are the same in every file.

A task that needs it names `round_convolutions`, or a function of its own, as what `train` does with the weights it writes
(``Task.finish``). Where many large features cancel, rounding the weights in the file alone costs levels of 255.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


def round_convolutions(network: nn.Module) -> None:
    """Rounds the weights and biases of all convolutions to half floats, in place; those with weight normalisation as well."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                set_weight(module, half(module.weight))
                if module.bias is not None:
                    module.bias.copy_(half(module.bias))


def half(values: Tensor) -> Tensor:
    """The nearest half floats, as float32."""
    return values.half().float()


def set_weight(conv: nn.Conv2d, weight: Tensor) -> None:
    """Gives a convolution a weight, also one with weight normalisation; call it without gradients."""
    if not is_parametrized(conv, "weight"):
        conv.weight.copy_(weight)
        return
    # Weight normalisation is length * direction / |direction|; with the length set to the norm, the factor is one.
    conv.get_parameter("parametrizations.weight.original1").copy_(weight)
    length = weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    conv.get_parameter("parametrizations.weight.original0").copy_(length)
