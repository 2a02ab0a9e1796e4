"""The encoder and the decoder that the three restoration networks share, with the block as a parameter.

After U-Net (Ronneberger et al., MICCAI 2015): the decoder gets the encoder's features of each level (skips) beside the
result of the coarser level.

    encoder = Encoder(photo_stem(48), (48, 64, 64), (2, 2, 2), GroupedBlock)
    decoder = Decoder((48, 64, 64), (48, 64), (2, 1), AddSkip, GroupedBlock)
    features = decoder(encoder(image))        # (N, 48, H/4, W/4)

Widths and depths are listed from fine to coarse: 1/4, 1/8 and 1/16 of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from afterlens.training.blocks import GROUP_WIDTH, Block, GatedConv, normalised, stacked, upsample2
from afterlens.training.recipe import expect

Width = Annotated[int, expect(lambda n: n > 0 and n % GROUP_WIDTH == 0, f"multiples of {GROUP_WIDTH}")]
"""For recipes: channels of a level, which divide into groups."""

Join = Callable[[int, int, int], nn.Module]  # channels of the coarser level, of the skip, and of the result


class Encoder(nn.Module):
    """A stem to 1/4 of the image, then blocks at each level, and 2x2 convolutions of stride 2 between the levels.

    Args:
        stem: ``(N, 3, H, W)`` -> ``(N, widths[0], H/4, W/4)``.
        widths: channels of each level.
        depths: blocks of each level.
        block: makes a block from its number of channels.
    """

    def __init__(self, stem: nn.Module, widths: Sequence[int], depths: Sequence[int], block: Block) -> None:
        super().__init__()
        self.stem = stem
        self.levels = nn.ModuleList(
            stacked(block, width, depth) for width, depth in zip(widths, depths, strict=True)
        )
        self.down = halvings(widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)``, sides divisible by ``4 * 2 ** (levels - 1)`` -> the features of each level, fine to coarse."""
        features = [self.levels[0](self.stem(image))]
        for down, level in zip(self.down, list(self.levels)[1:], strict=True):
            features.append(level(down(features[-1])))
        return features


class Decoder(nn.Module):
    """From the coarsest features to the finest: each level joins the coarser result with its skip, then refines it.

    Args:
        skips: channels of the encoder's levels.
        widths: channels of the decoder's levels, one fewer.
        depths: blocks of these levels.
        join: makes what brings the coarser result to the skip's size and joins the two.
        block: makes a block from its number of channels.
    """

    def __init__(
        self,
        skips: Sequence[int],
        widths: Sequence[int],
        depths: Sequence[int],
        join: Join,
        block: Block,
    ) -> None:
        super().__init__()
        coarser = (*widths[1:], skips[-1])
        coarse_to_fine = list(zip(coarser, skips[:-1], widths, depths, strict=True))[::-1]
        self.joins = nn.ModuleList(join(below, skip, width) for below, skip, width, _ in coarse_to_fine)
        self.levels = nn.ModuleList(stacked(block, width, depth) for _, _, width, depth in coarse_to_fine)

    def forward(self, skips: list[Tensor]) -> Tensor:
        """The encoder's features, fine to coarse -> ``(N, widths[0], H/4, W/4)``."""
        x = skips[-1]
        for join, level, skip in zip(self.joins, self.levels, reversed(skips[:-1]), strict=True):
            x = level(join(x, skip))
        return x


class AddSkip(nn.Module):
    """``up(W * coarser) + skip``. The 1x1 convolution comes before the upsampling, where it is four times cheaper."""

    def __init__(self, coarser: int, skip: int, width: int) -> None:
        super().__init__()
        assert skip == width, f"a skip of {skip} channels cannot be added to {width}"
        self.conv = normalised(nn.Conv2d(coarser, width, 1), 0.7)

    def forward(self, coarser: Tensor, skip: Tensor) -> Tensor:
        return upsample2(self.conv(coarser)) + skip


class ConcatenateSkip(nn.Module):
    """A gated 1x1 convolution of the upsampled coarser features and the skip, concatenated on the channel axis."""

    def __init__(self, coarser: int, skip: int, width: int) -> None:
        super().__init__()
        self.fuse = GatedConv(coarser + skip, width, 1)

    def forward(self, coarser: Tensor, skip: Tensor) -> Tensor:
        fused: Tensor = self.fuse(torch.cat([upsample2(coarser), skip], dim=1))
        return fused


def halvings(widths: Sequence[int]) -> nn.ModuleList:
    """What leads from each level of an encoder to the next: 2x2 convolutions of stride 2."""
    return nn.ModuleList(
        normalised(nn.Conv2d(fine, coarse, 2, stride=2), 1.0)
        for fine, coarse in zip(widths, widths[1:], strict=False)
    )
