"""Building blocks that two or more networks share, chosen so that both converters keep them on the accelerator.

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

# Groups of 16 channels fill one AVX-512 register (two NEON registers), so narrower groups save no time.
GROUP_WIDTH = 16


def upsample2(x: Tensor) -> Tensor:
    """Bilinear x2 with half-pixel centres, the one mode that both converters reproduce exactly."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class GatedConv(nn.Module):
    """Gated convolution, ``ReLU(W_f * x) . sigmoid(W_g * x)`` (Yu et al., *Free-Form Image Inpainting*, ICCV 2019)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        # 1.5 makes up for what the ReLU and the gate take away.
        self.feature = normalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups), 1.5)
        self.gate = normalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.feature(x)) * torch.sigmoid(self.gate(x))


def normalised(conv: nn.Conv2d, gain: float) -> nn.Conv2d:
    """``conv`` with weight normalisation (Salimans & Kingma, NeurIPS 2016), started at ``gain`` times the scale.

    Without any normalisation Adam at a useful rate lets the weights' norms grow until the deepest level is in the
    thousands and the decoders die. This one costs nothing on a phone: ``fold_weight_norm`` leaves plain weights.
    """
    scaled_init(conv, gain)
    weight_norm(conv)
    return conv


def fold_weight_norm(network: nn.Module) -> nn.Module:
    """Replaces direction and length of every normalised weight by their product, in place; returns ``network``."""
    for module in list(network.modules()):
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")
    return network


def scaled_init(conv: nn.Conv2d, gain: float) -> None:
    """Start weights that keep the signal's scale (times ``gain``).

    PyTorch's own shrink it at every layer, so that the gates see next to nothing and the network starts
    out linear; it then stayed at "change nothing" for thousands of steps.
    """
    nn.init.normal_(conv.weight, 0.0, gain / conv.weight[0].numel() ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def photo_stem(width: int) -> nn.Conv2d:
    """The first convolution, ``(N, 3, H, W)`` -> ``(N, width, H/4, W/4)``: a pixel-unshuffle and a 1x1 convolution."""
    stem = normalised(nn.Conv2d(3, width, 4, stride=4), 4.0)
    # Photos are about 0.45 +- 0.25: start with a stem that centres and widens that.
    with torch.no_grad():
        assert stem.bias is not None
        stem.bias.copy_(-0.45 * stem.weight.sum(dim=(1, 2, 3)))
    return stem


def photo_head(width: int) -> nn.Sequential:
    """The last layer, ``(N, width, H/4, W/4)`` -> ``(N, 3, H, W)``: 1x1 convolution and pixel-shuffle, zero at first.

    The same sum as a transposed 4x4 convolution of stride 4, which took 13 times as long in TFLite on a CPU.
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
        )  # a residual branch: start near the identity

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
        )  # a residual branch: start near the identity

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.relu(self.spatial(x)))


def stacked(block: Callable[[int], nn.Module], width: int, depth: int) -> nn.Sequential:
    """``depth`` blocks in a row, each made by ``block`` from its number of channels."""
    assert width % GROUP_WIDTH == 0, f"{width} channels do not divide into groups of {GROUP_WIDTH}"
    return nn.Sequential(*(block(width) for _ in range(depth)))


class PyramidPooling(nn.Module):
    """Features at ``scales`` halving scales and their global mean, each through its own 1x1 convolution.

    Follows PSPNet's pyramid pooling (Zhao et al., CVPR 2017) with two changes that conversion wants: the pools are
    chained 2x2 averages (an adaptive pool is baked into the artifact with wrong kernels at other sizes), and every
    scale stays at its own size until :class:`ScaleSelection` fuses them.

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
    """Weighs the scales per image and channel, then fuses them (*Selective Kernel Networks*, Li et al., CVPR 2019).

    ``z = ReLU(W . sum_s mean(F_s))``, ``a = softmax_s(A_s z)``, result ``sum_s a_s F_s``. Each scale is weighed at
    its own size and the coarser sum is brought up x2 at a time, so that no upsampling is larger than x2.
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
        # 3-D with the scales last: the softmax that both runtimes take as it is.
        weights = scores.reshape(-1, self.channels, self.branches).softmax(dim=-1)
        weighed = [
            # s : s + 1 keeps the rank: a plain index becomes a GATHER in TFLite, which leaves the GPU.
            feature * weights[:, :, s : s + 1].reshape(-1, self.channels, 1, 1)
            for s, feature in enumerate(features)
        ]
        fused = weighed[-2]
        for feature in reversed(weighed[:-2]):
            fused = upsample2(fused) + feature
        return fused + weighed[-1]


class SkipPyramid(nn.Module):
    """What a skip connection carries: the encoder's feature plus its pooled scales, selected per image."""

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        self.pool = PyramidPooling(channels, scales)
        self.select = ScaleSelection(channels, scales)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.select(self.pool(x))
