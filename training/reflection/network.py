"""The dual-branch network: one shared encoder, a decoder for the background and one for the layer.

Follows the published dual-branch system (docs/claims.md): gated convolutions (Yu et al., *Free-Form Image Inpainting*,
ICCV 2019) and selective-kernel fusion (Li et al., CVPR 2019) of pyramid-pooled skips (PSPNet, Zhao et al., CVPR 2017).

    network = ReflectionNetwork(context=True, gate=True)
    background, layer, logits = network(image)        # image: (N, 3, H, W), RGB, [0, 1], H and W divisible by 32

``layer`` is signed, ``image - background``: positive where light was added (reflection), negative where it was
taken away (shadow). ``logits``, ``(N, 1, H/16, W/16)``, are those of the gate, for its loss; without a gate there are none.
"""

from __future__ import annotations

from torch import Tensor, nn

from afterlens.training.blocks import (
    GROUP_WIDTH,
    GatedConv,
    GroupedBlock,
    GroupedGatedBlock,
    SkipPyramid,
    photo_head,
    photo_stem,
)
from afterlens.training.context import AffineHead, Context, Statistics
from afterlens.training.reflection.gate import GateHead, opened
from afterlens.training.unet import ConcatenateSkip, Decoder, Encoder

MULTIPLE = 32  # the input's sides: stem /4, two halvings, and one pooled scale at the coarsest level

CONTEXT_WIDTH = 96  # channels at 1/32 and 1/64


class ReflectionNetwork(nn.Module):
    """Encoder, skip pyramids, two decoders and their heads.

    The stem is a 4x4 convolution of stride 4: exactly a pixel-unshuffle and a 1x1 convolution, without the rank-6
    transposes that an unshuffle becomes in ONNX.

    Args:
        widths: channels at 1/4, 1/8 and 1/16 of the input, multiples of 16.
        depths: encoder blocks at these levels.
        decoder_widths: channels of both decoders at 1/4 and 1/8.
        context: levels at 1/32 and 1/64 and statistics of the whole photo, which also drive a smooth gain and offset.
        gate: a head that detects layers; where it finds none, the photo stays as it is.
        gated_encoder: gated convolutions in the encoder and the context too, not in the decoders alone. Without them
            both have the shape of *udc*'s, whose weights can be their start.

    Attributes:
        threshold: logit of the gate at which half of the change passes. Higher does less harm to clean photos.
    """

    threshold = 0.0

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 128, 128),
        depths: tuple[int, int, int] = (3, 3, 3),
        decoder_widths: tuple[int, int] = (64, 96),
        context: bool = False,
        gate: bool = False,
        gated_encoder: bool = True,
    ) -> None:
        super().__init__()
        block = GroupedGatedBlock if gated_encoder else GroupedBlock
        self.encoder = Encoder(photo_stem(widths[0]), widths, depths, block)
        self.skips = nn.ModuleList(SkipPyramid(w, s) for w, s in zip(widths, (3, 3, 2), strict=True))
        self.background = Decoder(widths, decoder_widths, (1, 1), ConcatenateSkip, GroupedGatedBlock)
        self.layer = Decoder(widths, decoder_widths, (1, 1), ConcatenateSkip, GroupedGatedBlock)
        fine = decoder_widths[0]
        groups = fine // GROUP_WIDTH
        self.background_feature = GatedConv(fine, fine, 3, groups)
        self.layer_feature = GatedConv(fine, fine, 3, groups)
        # All start at zero, so a new network changes nothing. Random heads made training close the gates for good.
        self.offset_head = photo_head(fine)
        self.gain_head = photo_head(fine)
        self.layer_head = photo_head(fine)
        numbers = fine if gated_encoder else CONTEXT_WIDTH
        self.statistics = Statistics((widths[0], widths[2]), numbers) if context else None
        self.context = Context(widths[2], numbers, CONTEXT_WIDTH, block) if context else None
        self.affine_head = AffineHead(fine, numbers) if context else None
        self.gate_head = GateHead(widths[2], fine) if gate else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``(N, 3, H, W)`` RGB [0, 1] -> background (not clipped, near [0, 1]), signed layer, same shape; gate's logits."""
        skips = [pyramid(f) for pyramid, f in zip(self.skips, self.encoder(image), strict=True)]
        if self.statistics is not None and self.context is not None:
            statistics = self.statistics(skips[0], skips[-1])
            skips[-1] = self.context(skips[-1], statistics)
        background = self.background_feature(self.background(skips))
        layer = self.layer_feature(self.layer(skips))
        # The residual has a part proportional to the image: a shadow is a smooth gain, whereas its plain difference
        # would contain all of the photo's texture.
        residual = self.offset_head(background) + self.gain_head(background) * image
        if self.affine_head is not None:
            gain, offset = self.affine_head(background, statistics)
            residual = residual + gain * image + offset
        removed = self.layer_head(layer)
        if self.gate_head is None:
            return image - residual, removed
        logits = self.gate_head(skips[-1], background, layer)
        gate = opened(logits, self.threshold)
        return image - gate * residual, gate * removed, logits
