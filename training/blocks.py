"""Building blocks that two or more networks share; both converters keep them on the accelerator.

Every tensor is ``(N, C, H, W)``. The blocks use only plain or grouped convolutions, ReLU, sigmoid, 2x2
average pooling, bilinear x2 upsampling, element-wise products and one softmax over a small 3-D tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

# 16 channels fill one AVX-512 register in float32, two NEON registers in float16; narrower groups save no time.
GROUP_WIDTH = 16

Block = Callable[[int], nn.Module]  # makes a block from its number of channels


def upsample2(x: Tensor) -> Tensor:
    """Bilinear x2 with half-pixel centres, the only mode that both converters reproduce exactly."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class GatedConv(nn.Module):
    """Gated convolution, ``ReLU(W_f * x) . sigmoid(W_g * x)`` (Yu et al., *Free-Form Image Inpainting*, ICCV 2019)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        # 1.5 compensates for the loss of scale in the ReLU and the gate.
        self.feature = normalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups), 1.5)
        self.gate = normalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.feature(x)) * torch.sigmoid(self.gate(x))


def normalised(conv: nn.Conv2d, gain: float) -> nn.Conv2d:
    """``conv`` with weight normalisation (Salimans & Kingma, NeurIPS 2016), initialised to scale the signal by ``gain``.

    Without normalisation, Adam at a useful learning rate lets the weights' norms grow until the activations of the
    deepest level are in the thousands and the decoders stop learning. This one costs nothing at inference:
    ``fold_weight_norm`` leaves plain weights.
    """
    scaled_init(conv, gain)
    weight_norm(conv)
    return conv


def fold_weight_norm(network: nn.Module) -> nn.Module:
    """Replaces direction and length of every normalised weight by the weight itself, in place; returns ``network``."""
    for module in list(network.modules()):
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")
    return network


def scaled_init(conv: nn.Conv2d, gain: float) -> None:
    """Initial weights that keep the signal's scale, times ``gain`` (fan-in); biases are zero.

    PyTorch's default shrinks the signal at every layer, so that the gates see hardly any input and the network starts
    out linear. It then left photos unchanged for thousands of steps.
    """
    nn.init.normal_(conv.weight, 0.0, gain / conv.weight[0].numel() ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def photo_stem(width: int) -> nn.Conv2d:
    """The first convolution, ``(N, 3, H, W)`` -> ``(N, width, H/4, W/4)``: a pixel-unshuffle and a 1x1 convolution."""
    stem = normalised(nn.Conv2d(3, width, 4, stride=4), 4.0)
    # Photos have a mean of about 0.45 and a deviation of 0.25: the initial stem centres and scales them.
    with torch.no_grad():
        assert stem.bias is not None
        stem.bias.copy_(-0.45 * stem.weight.sum(dim=(1, 2, 3)))
    return stem


def photo_head(width: int) -> nn.Sequential:
    """The last layer, ``(N, width, H/4, W/4)`` -> ``(N, 3, H, W)``: a 1x1 convolution, initially zero, and a pixel-shuffle.

    The same result as a transposed 4x4 convolution of stride 4, which took 13 times as long in TFLite on a CPU.
    """
    head = nn.Conv2d(width, 3 * 16, 1, bias=False)
    nn.init.zeros_(head.weight)
    return nn.Sequential(head, nn.PixelShuffle(4))


class GroupedGatedBlock(nn.Module):
    """Residual block: grouped gated 3x3 convolution, then a 1x1 convolution that mixes the groups."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gated = GatedConv(channels, channels, 3, groups=channels // GROUP_WIDTH)
        self.mix = normalised(
            nn.Conv2d(channels, channels, 1), 0.4
        )  # a residual branch starts near the identity

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.gated(x))


class GroupedBlock(nn.Module):
    """Residual block without a gate: grouped 3x3 convolution, ReLU, then a 1x1 convolution that mixes the groups."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = channels // GROUP_WIDTH
        self.spatial = normalised(nn.Conv2d(channels, channels, 3, padding=1, groups=groups), 1.0)
        self.mix = normalised(
            nn.Conv2d(channels, channels, 1), 0.4
        )  # a residual branch starts near the identity

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.relu(self.spatial(x)))


def stacked(block: Block, width: int, depth: int) -> nn.Sequential:
    """``depth`` blocks in a row, each made by ``block`` from its number of channels."""
    assert width % GROUP_WIDTH == 0, f"{width} channels do not divide into groups of {GROUP_WIDTH}"
    return nn.Sequential(*(block(width) for _ in range(depth)))


class PyramidPooling(nn.Module):
    """Features at ``scales`` halving scales and their global mean, each through its own 1x1 convolution.

    Follows PSPNet's pyramid pooling (Zhao et al., CVPR 2017) with two changes for conversion. The pools are chained 2x2
    averages, because an adaptive pool is exported with the kernel of one size. Every scale keeps its own size until
    :class:`ScaleSelection` fuses them.

    Takes ``(N, C, H, W)`` with H and W divisible by ``2 ** (scales - 1)``; returns ``scales + 1`` tensors of C
    channels: full, half, quarter, ... size, and last the global one ``(N, C, 1, 1)``.
    """

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(scales + 1))
        for project in self.project:
            assert isinstance(project, nn.Conv2d)
            scaled_init(project, 0.7)

    def forward(self, x: Tensor) -> list[Tensor]:
        pooled = [x]
        for _ in range(len(self.project) - 2):
            pooled.append(F.avg_pool2d(pooled[-1], 2))
        pooled.append(x.mean(dim=(2, 3), keepdim=True))
        return [project(p) for project, p in zip(self.project, pooled, strict=True)]


class ScaleSelection(nn.Module):
    """Weights the scales per image and channel, then fuses them (*Selective Kernel Networks*, Li et al., CVPR 2019).

    ``z = ReLU(W . sum_s mean(F_s))``, ``a = softmax_s(A_s z)``, result ``sum_s a_s F_s``. Each scale is weighted at its
    own size, and sums are upsampled x2 at a time from the coarsest scale up.
    """

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        self.channels, self.branches = channels, scales + 1
        self.squeeze = nn.Conv2d(channels, max(channels // 4, GROUP_WIDTH), 1)
        self.attend = nn.Conv2d(max(channels // 4, GROUP_WIDTH), channels * self.branches, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        descriptor = features[-1]
        for feature in features[:-1]:
            descriptor = descriptor + feature.mean(dim=(2, 3), keepdim=True)
        scores = self.attend(F.relu(self.squeeze(descriptor)))
        # 3-D with the scales last: both runtimes support this softmax directly.
        weights = scores.reshape(-1, self.channels, self.branches).softmax(dim=-1)
        weighted = [
            # s : s + 1 keeps the rank: a plain index becomes a GATHER in TFLite, which does not run on GPUs.
            feature * weights[:, :, s : s + 1].reshape(-1, self.channels, 1, 1)
            for s, feature in enumerate(features)
        ]
        fused = weighted[-2]
        for feature in reversed(weighted[:-2]):
            fused = upsample2(fused) + feature
        return fused + weighted[-1]


class SkipPyramid(nn.Module):
    """A skip connection: the encoder's features plus their pooled scales, weighted per image."""

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        self.pool = PyramidPooling(channels, scales)
        self.select = ScaleSelection(channels, scales)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.select(self.pool(x))
