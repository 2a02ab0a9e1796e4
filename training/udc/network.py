"""The under-display network: an encoder-decoder with additive skips, in a live and a still size.

A U-Net in the manner of Zhou et al., *Image Restoration for Under-Display Camera* (CVPR 2021), with few channels at
full resolution: nothing but the photo and the residual lies there.

network = UnderDisplayNetwork()
clear = network(image)        # image: (N, 3, H, W), RGB, [0, 1], H and W divisible by 16
"""

from __future__ import annotations

from torch import Tensor, nn

from afterlens.training.blocks import GroupedBlock, photo_head, photo_stem
from afterlens.training.unet import AddSkip, Decoder, Encoder

MULTIPLE = 16  # the input's sides: stem /4 and two halvings


class UnderDisplayNetwork(nn.Module):
    """Three levels at 1/4, 1/8 and 1/16 of the photo; each decoder level adds its encoder level's features.

    Args:
        widths: channels at 1/4, 1/8 and 1/16, multiples of 16.
        depths: encoder blocks at these levels.
        decoder_depths: decoder blocks at 1/4 and 1/8.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 64, 64),
        depths: tuple[int, int, int] = (2, 2, 2),
        decoder_depths: tuple[int, int] = (2, 1),
    ) -> None:
        super().__init__()
        self.encoder = Encoder(photo_stem(widths[0]), widths, depths, GroupedBlock)
        self.decoder = Decoder(widths, widths[:2], decoder_depths, AddSkip, GroupedBlock)
        self.head = photo_head(widths[0])  # starts at zero: a new network changes nothing

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB [0, 1] -> the clear photo, not clipped, near [0, 1], same shape."""
        residual: Tensor = self.head(self.decoder(self.encoder(image)))
        return image + residual
