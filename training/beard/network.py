"""The network that takes a beard off a face or puts one on: one encoder-decoder for both.

network = BeardNetwork((64, 96, 128), (3, 5, 6), (4, 5))
result, mask = network(image, wanted, laid)  # wanted: how much hair above the lip, on the chin, on the cheeks

``laid`` is the image with the wanted beard laid on (`afterlens.training.faces.laid_beards`), or the image itself where none
is wanted. So strands are there already; what is left is their light, their edges, and what has to go.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from afterlens.training.blocks import GroupedBlock, photo_stem, scaled_init
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.mark import FaceMark
from afterlens.training.unet import AddSkip, Decoder, Encoder

AMOUNTS = 3
"""Numbers of ``wanted``: above the lip, on the chin, on the cheeks, each 0 (none) to 1."""

MULTIPLE = 16
"""Sides of the image must be divisible by this."""


class BeardNetwork(nn.Module):
    """Changes the picture under a mask of its own: ``result = image + mask x (laid - image + change)``.

    The wanted amounts are projected to each level's channels and added to what its blocks see, so that the encoder can
    already look for what has to go.

    Args:
        widths: channels at 1/4, 1/8 and 1/16 of the image.
        depths: blocks of the encoder there.
        decoder_depths: blocks of the decoder at 1/4 and 1/8.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], decoder_depths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Encoder(photo_stem(widths[0]), widths, depths, GroupedBlock)
        self.decoder = Decoder(widths, widths[:-1], decoder_depths, AddSkip, GroupedBlock)
        # Sees only what was laid: nothing, where no beard is to be put on.
        self.hair = nn.Conv2d(3, widths[0], 4, stride=4, bias=False)
        nn.init.zeros_(self.hair.weight)
        self.conditions = nn.ModuleList(nn.Conv2d(AMOUNTS, width, 1) for width in widths)
        for condition in self.conditions:
            assert isinstance(condition, nn.Conv2d)
            scaled_init(condition, 1.0)
        head = nn.Conv2d(widths[0], 4 * 16, 1)
        nn.init.zeros_(head.weight)
        assert head.bias is not None
        nn.init.zeros_(head.bias)
        # The mask starts at 0.12: most of a face stays as it is.
        nn.init.constant_(head.bias[3 * 16 :], -2.0)
        self.head = nn.Sequential(head, nn.PixelShuffle(4))

    def forward(self, image: Tensor, wanted: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        """See what is wanted, and change the image.

        Args:
            image, laid: ``(N, 3, H, W)`` RGB [0, 1].
            wanted: ``(N, 3)``, [0, 1].

        Returns: the result, not clipped; the mask ``(N, 1, H, W)``, [0, 1].
        """
        amounts = wanted.reshape(-1, AMOUNTS, 1, 1)
        strands = laid - image
        features = self.encoder.stem(image) + self.hair(strands)
        skips: list[Tensor] = []
        for number, (level, condition) in enumerate(zip(self.encoder.levels, self.conditions, strict=True)):
            if number > 0:
                features = self.encoder.down[number - 1](features)
            features = level(features + condition(amounts))
            skips.append(features)
        change, logit = self.head(self.decoder(skips)).split([3, 1], dim=1)
        mask = torch.sigmoid(logit)
        return image + mask * (strands + change), mask


class BeardGraph(nn.Module):
    """What is converted: the marked result clipped to [0, 1], and the mask as a grey picture, ``(N, 3, H, W)`` each.

    Args:
        network: a `BeardNetwork`.
        height, width: of the aligned faces in pixels.
    """

    def __init__(self, network: nn.Module, height: int = SIDE, width: int = SIDE) -> None:
        super().__init__()
        self.network, self.mark = network, FaceMark(height, width)

    def forward(self, image: Tensor, wanted: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        """As `BeardNetwork.forward`, ready to be shown."""
        result, mask = self.network(image, wanted, laid)
        return self.mark(result, mask).clamp(0.0, 1.0), torch.cat([mask, mask, mask], dim=1)
