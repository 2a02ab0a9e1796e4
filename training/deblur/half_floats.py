"""Rounds trained weights to what float16 files hold exactly: the last step in making the bundled checkpoint.

    python -m afterlens.training.deblur.half_floats TRAINED ROUNDED

Where the motion is uncertain, rounding the weights changes the blur extents by several per cent, and single pixels by
several levels of 255. Rounded once before evaluation, the weights are the same in PyTorch and in every float16 file.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.deblur.network import ContrastStem, DeblurNetwork
from afterlens.training.deblur.task import TASK
from afterlens.training.media.errors import UserError
from afterlens.training.trained import load_trainable

STEP = 2.0**-10  # of the stem's weights: multiples of it below 2 are half floats


def round_weights(network: DeblurNetwork) -> None:
    """Rounds all weights and biases in place, so that those of the copy by `for_deployment` are half floats.

    Raises UserError for a stem weight of 2 or more.
    """
    stem = network.frame.stem
    assert isinstance(stem, ContrastStem)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                in_stem = module is stem.conv
                _set_weight(module, _zero_sum(module.weight) if in_stem else _half(module.weight))
                if module.bias is not None:
                    module.bias.copy_(_half(module.bias))
        for head in network.motion.extents:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            head.weight.copy_(_half(head.weight * network.slope) / network.slope)
            head.bias.copy_(
                (_half(head.bias * network.slope + network.offset) - network.offset) / network.slope
            )


def _set_weight(conv: nn.Conv2d, weight: Tensor) -> None:
    if not is_parametrized(conv, "weight"):
        conv.weight.copy_(weight)
        return
    # Weight normalisation is length * direction / |direction|; with the length set to the norm, the factor is one.
    conv.get_parameter("parametrizations.weight.original1").copy_(weight)
    length = weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    conv.get_parameter("parametrizations.weight.original0").copy_(length)


def _half(values: Tensor) -> Tensor:
    return values.half().float()


def _zero_sum(weight: Tensor) -> Tensor:
    """Rounded to multiples of STEP with each kernel's sum zero: the weights that rounding moved furthest step back."""
    if not float(weight.abs().max()) < 2.0:
        raise UserError(
            f"the largest weight of the motion stem is {float(weight.abs().max()):.2f}, expected all below 2"
        )
    kernels = weight.flatten(2) / STEP
    steps = kernels.round()
    for kernel, rounded in zip(kernels.flatten(0, 1), steps.flatten(0, 1), strict=True):
        excess = int(rounded.sum())
        sign = 1 if excess > 0 else -1
        furthest = ((rounded - kernel) * sign).argsort(descending=True)[: abs(excess)]
        rounded[furthest] -= sign
    return (steps * STEP).view_as(weight)


def main(trained: Path, rounded: Path) -> None:
    """Reads a checkpoint of the deblurring task and writes it with rounded weights.

    Raises UserError where the file is no checkpoint, belongs to another task, does not fit its recipe, or has a stem
    weight of 2 or more.
    """
    network, metadata = load_trainable(TASK, trained)
    assert isinstance(network, DeblurNetwork)
    round_weights(network)
    save_checkpoint(rounded, network.state_dict(), metadata)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python -m afterlens.training.deblur.half_floats TRAINED ROUNDED", file=sys.stderr)
        sys.exit(2)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
