"""What a 1/16 feature map can't see: the wider surroundings and the photo as a whole.

    statistics = Statistics((64, 128), 64)(fine, coarse)        # (N, 64, 1, 1)
    coarse = Context(128, 64, 96, GroupedGatedBlock)(coarse, statistics)      # same shape
    gain, offset = AffineHead(64, 64)(features, statistics)     # both (N, 3, H, W)

Most of the error of a network without these lies below 1/32 cycle per pixel: a veil or a wide reflection changes the
whole photo smoothly, by about the same gain and offset.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.training.blocks import Block, normalised, stacked, upsample2
from afterlens.training.padding import crop_to, margins, repeat_edges


class Statistics(nn.Module):
    """Mean and mean absolute deviation of each channel of some feature maps, mixed by a 1x1 convolution and a ReLU.

    No standard deviation: its sum of squares overflows half floats sooner.

    Args:
        channels: of each feature map.
        width: of the result, ``(N, width, 1, 1)``.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.mix = normalised(nn.Conv2d(2 * sum(channels), width, 1), 1.0)

    def forward(self, *features: Tensor) -> Tensor:
        found = []
        for feature in features:
            mean = feature.mean(dim=(2, 3), keepdim=True)
            found += [mean, (feature - mean).abs().mean(dim=(2, 3), keepdim=True)]
        return F.relu(self.mix(torch.cat(found, dim=1)))


class Context(nn.Module):
    """Adds to the coarsest features, at 1/16 of the photo, what blocks at 1/32 and 1/64 and its statistics say.

    Args:
        channels: of the features.
        statistics: their number.
        width: channels at 1/32 and 1/64.
        block: makes a block from its number of channels.
    """

    def __init__(self, channels: int, statistics: int, width: int, block: Block) -> None:
        super().__init__()
        self.enter = normalised(nn.Conv2d(channels, width, 1), 1.0)
        self.whole = normalised(nn.Conv2d(statistics, width, 1), 0.7)
        self.at_32 = stacked(block, width, 2)
        self.at_64 = stacked(block, width, 1)
        self.back = normalised(nn.Conv2d(width, channels, 1), 0.4)

    def forward(self, x: Tensor, statistics: Tensor) -> Tensor:
        """``x``: ``(N, C, H, W)``; statistics ``(N, S, 1, 1)`` -> like ``x``."""
        whole_rows, whole_columns = margins(x.shape[-2], 2), margins(x.shape[-1], 2)
        even = repeat_edges(x, whole_rows, whole_columns)
        half = self.at_32(self.enter(F.avg_pool2d(even, 2)) + self.whole(statistics))
        height, width = half.shape[-2:]
        rows, columns = margins(height, 2), margins(width, 2)
        quarter = self.at_64(F.avg_pool2d(repeat_edges(half, rows, columns), 2))
        half = half + crop_to(upsample2(quarter), rows[0], columns[0], height, width)
        wide = crop_to(upsample2(half), whole_rows[0], whole_columns[0], x.shape[-2], x.shape[-1])
        out: Tensor = x + self.back(wide)
        return out


class AffineHead(nn.Module):
    """A gain and an offset for each channel: smooth fields from features at 1/8, upsampled bilinearly, plus constants.

    After the affine coefficients of HDRNet (Gharbi et al., SIGGRAPH 2017). Smooth fields carry what is wide, so that the
    fine heads, whose 4x4 blocks of pixels may show as tiles, have little left to say. All start at zero.
    """

    def __init__(self, channels: int, statistics: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, 6, 1)
        self.whole = nn.Conv2d(statistics, 6, 1, bias=False)
        for conv in (self.local, self.whole):
            nn.init.zeros_(conv.weight)
        assert self.local.bias is not None
        nn.init.zeros_(self.local.bias)

    def forward(self, features: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, C, H/4, W/4)`` -> gain and offset, ``(N, 3, H, W)``."""
        fields = self.local(F.avg_pool2d(features, 2)) + self.whole(statistics)
        for _ in range(3):
            fields = upsample2(fields)
        return fields[:, :3], fields[:, 3:]
