"""A network with its weights as the converters store them: batch normalization and parametrizations folded.

    folded = fold(deployable)

Every converter folds a batch normalization into the convolution before it and rounds the product to float16. `verify`
compares such a file with PyTorch's weights, rounded alike, so it must start from the product too. Weights rounded before
folding would differ, and a correct file would fail.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from afterlens.conversion.capture import capture
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.conv_transpose2d.input)
_NORMALISATION = torch.ops.aten.batch_norm.default


class _Affine(nn.Module):
    """A batch normalization that cannot be folded into a convolution: a factor and an offset for each channel."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        factor = torch.rsqrt(norm.running_var + norm.eps) * (1.0 if norm.weight is None else norm.weight)
        offset = (0.0 if norm.bias is None else norm.bias) - norm.running_mean * factor
        self.factor = nn.Parameter(factor.detach().reshape(1, -1, 1, 1))
        self.offset = nn.Parameter(offset.detach().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same shape."""
        return x * self.factor + self.offset


def fold(deployable: Deployable) -> Deployable:
    """The same graph with a copy of its module in which parametrizations and batch normalizations are folded.

    Raises UserError where the module cannot be copied or its Python cannot be captured.
    """
    try:
        module = copy.deepcopy(deployable.module)
    except Exception as error:  # weights that a hook computes, open files, locks: whatever a module may hold
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{deployable.task}: the module cannot be copied ({reason})") from error
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            _settle(part)
    # Read from the captured graph: the order of modules is decided in `forward`, not by their registration.
    for before, norm in _pairs(module, deployable):
        convolution, normalisation = module.get_submodule(before), module.get_submodule(norm)
        assert isinstance(normalisation, nn.BatchNorm2d)
        if isinstance(convolution, nn.ConvTranspose2d):
            _fold_transposed(convolution, normalisation)
            _put(module, norm, nn.Identity())
        elif isinstance(convolution, nn.Conv2d):
            _put(module, before, fuse_conv_bn_eval(convolution, normalisation))
            _put(module, norm, nn.Identity())
        else:
            _put(module, norm, _Affine(normalisation))
    return replace(deployable, module=module.eval())


def _fold_transposed(convolution: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    """Folds into a transposed convolution in place; PyTorch's own function does not know groups there."""
    affine = _Affine(norm)
    weight, groups = convolution.weight.detach(), convolution.groups  # (C_in, C_out / groups, KH, KW)
    factor = affine.factor.detach().reshape(groups, 1, -1, 1, 1)
    grouped = weight.reshape(groups, -1, *weight.shape[1:]) * factor
    bias = 0.0 if convolution.bias is None else convolution.bias.detach() * affine.factor.detach().reshape(-1)
    convolution.weight = nn.Parameter(grouped.reshape(weight.shape))
    convolution.bias = nn.Parameter(bias + affine.offset.detach().reshape(-1))


def _pairs(module: nn.Module, deployable: Deployable) -> Iterator[tuple[str, str]]:
    """(convolution, batch normalization) by name; the convolution feeds nothing else, "" if there is none."""
    program = capture(module, deployable)
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}

    def owner(node: object) -> str:
        weight = names.get(node.name) if isinstance(node, torch.fx.Node) else None
        return weight.rpartition(".")[0] if weight is not None else ""

    calls = [
        (node.args[0], owner(node.args[3])) for node in program.graph.nodes if node.target is _NORMALISATION
    ]
    convolutions = [owner(node.args[1]) for node in program.graph.nodes if node.target in _CONVOLUTIONS]
    used = Counter([*convolutions, *(norm for _, norm in calls)])
    for source, norm in dict.fromkeys(calls):
        if not norm or not isinstance(module.get_submodule(norm), nn.BatchNorm2d):
            continue
        before = ""
        if isinstance(source, torch.fx.Node) and source.target in _CONVOLUTIONS and len(source.users) == 1:
            before = owner(source.args[1])
        yield (before if before and used[before] == used[norm] == 1 else ""), norm


def _settle(part: nn.Module) -> None:
    """Like `parametrize.remove_parametrizations`, which would take the weight from the original module."""
    assert isinstance(part.parametrizations, nn.ModuleDict)
    weights = {name: getattr(part, name).detach() for name in part.parametrizations}
    plain = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    part.__class__ = plain
    for name, weight in weights.items():
        part.register_parameter(name, nn.Parameter(weight))


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, part)
