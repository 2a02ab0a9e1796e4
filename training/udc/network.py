"""The under-display network: an encoder-decoder with additive skips, in a live and a still size.

A U-Net in the manner of Zhou et al., *Image Restoration for Under-Display Camera* (CVPR 2021), with few channels at
full resolution: nothing but the photo and the residual lies there.

network = UnderDisplayNetwork()
clear = network(image)        # image: (N, 3, H, W), RGB, [0, 1], H and W divisible by 16
"""

from __future__ import annotations

from torch import Tensor, nn

from afterlens.training.blocks import GroupedBlock, photo_head, photo_stem
from afterlens.training.context import AffineHead, Context, Statistics
from afterlens.training.unet import AddSkip, Decoder, Encoder

MULTIPLE = 16  # the input's sides: stem /4 and two halvings


class UnderDisplayNetwork(nn.Module):
    """Three levels at 1/4, 1/8 and 1/16 of the photo; each decoder level adds its encoder level's features.

    Args:
        widths: channels at 1/4, 1/8 and 1/16, multiples of 16.
        depths: encoder blocks at these levels.
        decoder_depths: decoder blocks at 1/4 and 1/8.
        context: levels at 1/32 and 1/64 and statistics of the whole photo, which also drive a smooth gain and offset,
            and a gain beside the residual: a veil is a smooth offset, and what it leaves of the photo a gain.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 64, 64),
        depths: tuple[int, int, int] = (2, 2, 2),
        decoder_depths: tuple[int, int] = (2, 1),
        context: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(photo_stem(widths[0]), widths, depths, GroupedBlock)
        self.decoder = Decoder(widths, widths[:2], decoder_depths, AddSkip, GroupedBlock)
        fine = widths[0]
        self.head = photo_head(fine)  # starts at zero, as all heads: a new network changes nothing
        self.gain_head = photo_head(fine) if context else None
        self.statistics = Statistics((widths[0], widths[2]), fine) if context else None
        self.context = Context(widths[2], fine, fine, GroupedBlock) if context else None
        self.affine_head = AffineHead(fine, fine) if context else None

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB [0, 1] -> the clear photo, not clipped, near [0, 1], same shape."""
        skips = self.encoder(image)
        if self.statistics is not None and self.context is not None:
            statistics = self.statistics(skips[0], skips[-1])
            skips[-1] = self.context(skips[-1], statistics)
        features = self.decoder(skips)
        residual: Tensor = self.head(features)
        if self.gain_head is not None and self.affine_head is not None:
            gain, offset = self.affine_head(features, statistics)
            residual = residual + (self.gain_head(features) + gain) * image + offset
        return image + residual
