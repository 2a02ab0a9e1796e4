"""The under-display network: an encoder-decoder whose bottleneck is 1/16 of the photo, in a live and a still size.

network = UnderDisplayNetwork()
clear = network(image)        # image: (N, 3, H, W), RGB, [0, 1], H and W divisible by 16
"""

from __future__ import annotations

from torch import Tensor, nn

from afterlens.training.blocks import grouped_blocks, halvings, photo_head, photo_stem, risings, upsample2

MULTIPLE = 16  # the input's sides: stem /4 and two halvings


class UnderDisplayNetwork(nn.Module):
    """Three levels at 1/4, 1/8 and 1/16 of the photo; each decoder level adds its encoder level's features.

    The stem is a 4x4 convolution of stride 4: exactly a pixel-unshuffle and a 1x1 convolution, without the rank-6
    transposes that the unshuffle becomes in ONNX. Nothing but the photo itself and the residual is ever at
    full resolution.

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
        self.stem = photo_stem(widths[0])
        self.levels = nn.ModuleList(
            grouped_blocks(width, depth) for width, depth in zip(widths, depths, strict=True)
        )
        self.down = halvings(widths)
        self.up = risings(widths)
        self.decoder = nn.ModuleList(
            grouped_blocks(width, depth)
            for width, depth in zip(reversed(widths[:2]), reversed(decoder_depths), strict=True)
        )
        self.head = photo_head(widths[0])  # starts at zero: a new network changes nothing

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB [0, 1] -> the clear photo, not clipped, near [0, 1], same shape."""
        x = self.levels[0](self.stem(image))
        skips = [x]
        for down, level in zip(self.down, list(self.levels)[1:], strict=True):
            x = level(down(x))
            skips.append(x)
        for up, blocks, skip in zip(self.up, self.decoder, reversed(skips[:-1]), strict=True):
            x = blocks(upsample2(up(x)) + skip)
        residual: Tensor = self.head(x)
        return image + residual
