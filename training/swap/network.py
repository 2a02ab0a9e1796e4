"""The generator of the identity swap: makes a face of a source that was laid on the frame's face.

    network = SwapNetwork((48, 64, 96), (2, 3, 4), (2, 3))
    result, mask = network(frame, laid, identity)

``laid`` is the frame with the source's face on it (`afterlens.training.faces.mesh.lay`): who is shown is there already.
What is left is to bring light, edges, mouth and eyes in accord, and to say where (``mask``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from afterlens.training.blocks import GroupedBlock, normalised, scaled_init
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.mark import FaceMark
from afterlens.training.swap.enrolled import SHAPES
from afterlens.training.swap.identity import NUMBERS
from afterlens.training.unet import AddSkip, Decoder, Encoder

MULTIPLE = 16
"""Sides of the pictures must be divisible by this."""


class SwapNetwork(nn.Module):
    """``frame + mask x (laid - frame + change)``, with an encoder whose levels are modulated by the identity.

    Where nothing was laid the mask is zero, so that a frame without a face comes back as it was.

    Its buffers hold whom it shows (`afterlens.training.swap.enrolled`); training leaves them zero, nobody.

    A level sees ``(1 + scale) x features + shift``, where scale and shift are linear in the identity's vector. For one
    identity both go into the convolution before (`baked`), so that an app pays nothing for them.

    Args:
        widths: channels at 1/4, 1/8 and 1/16 of the picture.
        depths: blocks of the encoder there.
        decoder_depths: blocks of the decoder at 1/4 and 1/8.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], decoder_depths: Sequence[int]) -> None:
        super().__init__()
        stem = normalised(nn.Conv2d(6, widths[0], 4, stride=4), 4.0)
        with torch.no_grad():  # photos have a mean of about 0.45
            assert stem.bias is not None
            stem.bias.copy_(-0.45 * stem.weight.sum(dim=(1, 2, 3)))
        self.encoder = Encoder(stem, widths, depths, GroupedBlock)
        self.decoder = Decoder(widths, widths[:-1], decoder_depths, AddSkip, GroupedBlock)
        self.modulations = nn.ModuleList(nn.Linear(NUMBERS, 2 * width) for width in widths)
        for modulation in self.modulations:
            assert isinstance(modulation, nn.Linear)
            nn.init.normal_(modulation.weight, 0.0, 0.1)
            nn.init.zeros_(modulation.bias)
        head = nn.Conv2d(widths[0], 4 * 16, 1)
        scaled_init(head, 0.0)
        for name, shape in SHAPES.items():
            kind = torch.uint8 if name == "picture" else torch.float32
            self.register_buffer(f"identity_{name}", torch.zeros(shape, dtype=kind))
        self.head = nn.Sequential(head, nn.PixelShuffle(4))

    def forward(self, frame: Tensor, laid: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures ``(N, 3, H, W)`` RGB [0, 1], identity ``(N, 128)`` -> unclipped result, mask ``(N, 1, H, W)`` [0, 1]."""
        features = torch.cat([frame, laid], dim=1)
        skips: list[Tensor] = []
        before = [self.encoder.stem, *self.encoder.down]
        for conv, level, modulation in zip(before, self.encoder.levels, self.modulations, strict=True):
            scale, shift = modulation(identity)[:, :, None, None].chunk(2, dim=1)
            features = level((1.0 + scale) * conv(features) + shift)
            skips.append(features)
        return self.finished(frame, laid, skips)

    def finished(self, frame: Tensor, laid: Tensor, skips: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The encoder's features, fine to coarse -> result and mask."""
        change, logit = self.head(self.decoder(skips)).split([3, 1], dim=1)
        mask = torch.sigmoid(logit) * was_laid(frame, laid)
        return frame + mask * (laid - frame + change), mask


def was_laid(frame: Tensor, laid: Tensor) -> Tensor:
    """Whether anything was laid on the frame, ``(N, 1, 1, 1)``: 0 where both are the same, 1 from four levels of 255 on.

    By the largest difference anywhere. A smooth map of where it was laid would be levels off in half floats, wherever both
    pictures are nearly white.
    """
    difference = (laid - frame).abs().mean(dim=1, keepdim=True)
    return (64.0 * difference.amax(dim=(2, 3), keepdim=True)).clamp(0.0, 1.0)


class BakedSwap(nn.Module):
    """A `SwapNetwork` for one identity, whose scales and shifts are part of its convolutions.

    Args:
        network: whose weights are not normalised any more (`afterlens.training.blocks.fold_weight_norm`); it is left as
            it is.
        identity: ``(128,)``.
    """

    def __init__(self, network: SwapNetwork, identity: Tensor) -> None:
        super().__init__()
        self.network = network
        self.before = nn.ModuleList()
        with torch.no_grad():
            convs = [network.encoder.stem, *network.encoder.down]
            for conv, modulation in zip(convs, network.modulations, strict=True):
                assert isinstance(conv, nn.Conv2d) and conv.bias is not None
                scale, shift = modulation(identity).chunk(2)
                baked = copy.deepcopy(conv)
                assert baked.bias is not None
                baked.weight.copy_((1.0 + scale)[:, None, None, None] * conv.weight)
                baked.bias.copy_((1.0 + scale) * conv.bias + shift)
                self.before.append(baked)

    def forward(self, frame: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        """As `SwapNetwork.forward`."""
        features = torch.cat([frame, laid], dim=1)
        skips: list[Tensor] = []
        for conv, level in zip(self.before, self.network.encoder.levels, strict=True):
            features = level(conv(features))
            skips.append(features)
        return self.network.finished(frame, laid, skips)


class SwapGraph(nn.Module):
    """What is converted: the marked result clipped to [0, 1], and the mask as a grey picture, ``(N, 3, H, W)`` each.

    Args:
        network: a `SwapNetwork`.
        identity: ``(128,)``, whom to show.
        height, width: of the aligned faces in pixels.
    """

    def __init__(self, network: SwapNetwork, identity: Tensor, height: int = SIDE, width: int = SIDE) -> None:
        super().__init__()
        self.baked, self.mark = BakedSwap(network, identity), FaceMark(height, width)

    def forward(self, frame: Tensor, laid: Tensor) -> tuple[Tensor, Tensor]:
        """As `SwapNetwork.forward`, ready to be shown."""
        result, mask = self.baked(frame, laid)
        return self.mark(result, mask).clamp(0.0, 1.0), torch.cat([mask, mask, mask], dim=1)
