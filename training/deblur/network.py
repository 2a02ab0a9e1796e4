"""The video-deblurring network: motion between two frames modulates the weights that restore the later one.

    network = DeblurNetwork()
    restored, motions = network(current, previous)      # both (N, 3, H, W), RGB, [0, 1], H and W divisible by 16
    features = network.features(frame)                  # in a stream: encode each frame once ...
    restored, motions = network.restore(frame, features, features_before)     # ... and reuse its features

There are two networks. The first encodes both frames with shared weights and estimates motion from the coarsest scale
to the finest. The second restores the current frame. Each block of its encoder has a bank of kernels, which are mixed
with weights computed from the motion at each pixel: spatially varying filters in the manner of STFAN's filter-adaptive
convolution (Zhou et al., ICCV 2019). Where nothing moved during the exposure these weights are zero, so that every
block, and the whole network, is the identity: sharp regions stay unchanged by construction.

There is no warping and no gathering, only convolutions, products and bilinear upsampling.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from afterlens.training.blocks import (
    GROUP_WIDTH,
    GroupedBlock,
    normalised,
    photo_head,
    photo_stem,
    stacked,
    upsample2,
)
from afterlens.training.deblur.recurrence import SpatialRecurrence
from afterlens.training.unet import AddSkip, Decoder, Encoder, halvings

MULTIPLE = 16  # the input's sides: stem /4 and two halvings

MOTION = 5
"""Channels of a motion field, all in pixels: flow x, flow y, blur extent, and the two components of its direction.

The flow leads from a pixel of the current frame to the position of the same point in the previous frame, both at
mid-exposure. The other three describe the blur: see `afterlens.training.deblur.motion.blur_covariance`.
"""
STILL, MOVING = 0.1, 0.5
"""Blur extents in pixels: below the first a pixel counts as sharp, above the second as fully moving."""

FORMS = ("dynamic", "static", "recurrent", "motion")
Widths = tuple[int, int, int]


class DynamicBlock(nn.Module):
    """Residual block whose weights are computed from motion features at each pixel.

    ``x + W_mix . (a(p) * ReLU(W_bank * x))``: the bank holds one kernel per channel, and the pixel ``p`` mixes them with
    ``W_mix . diag(a(p))``. ``a = (W_a . motion) * moving``, where ``moving`` is zero if nothing moves.
    """

    def __init__(self, channels: int, motion: int) -> None:
        super().__init__()
        self.bank = normalised(_grouped(channels), 1.5)
        self.weigh = normalised(nn.Conv2d(motion, channels, 1), 1.0)
        self.mix = normalised(nn.Conv2d(channels, channels, 1, bias=False), 0.4)

    def forward(self, x: Tensor, motion: Tensor, moving: Tensor) -> Tensor:
        weights = self.weigh(motion) * moving
        return x + self.mix(F.relu(self.bank(x)) * weights)


class StaticBlock(nn.Module):
    """For the ablation: the same layers and inputs, but motion is added to the features and the weights are fixed."""

    def __init__(self, channels: int, motion: int) -> None:
        super().__init__()
        self.bank = normalised(_grouped(channels), 1.0)
        self.weigh = normalised(nn.Conv2d(motion, channels, 1), 0.5)
        self.mix = normalised(nn.Conv2d(channels, channels, 1, bias=False), 0.4)

    def forward(self, x: Tensor, motion: Tensor, moving: Tensor) -> Tensor:
        return x + self.mix(F.relu(self.bank(x) + self.weigh(motion)))


class ContrastStem(nn.Module):
    """The first convolution of the motion network, normalised by local contrast: ``W * x / sqrt(power + floor)``.

    Motion does not depend on brightness or contrast. Without the normalisation the following layers had to learn to
    divide, and learned motion much later (docs/deblur.md). Each kernel sums to zero, so that no mean needs to be
    subtracted from the pixels, which would lose too many digits in float16.
    """

    WINDOW = 5  # blocks of 4x4 pixels
    NOISE = 0.04  # of white; contrast below it is not amplified

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = normalised(nn.Conv2d(3, width, 4, stride=4, bias=False), 4.0)
        register_parametrization(self.conv, "weight", _ZeroSum())
        # The same at the convolution's output: its kernels of 48 weights start at a norm of 4.
        self.floor = _half((4.0 * self.NOISE) ** 2)

    def forward(self, frame: Tensor) -> Tensor:
        x = self.conv(frame)
        power = F.avg_pool2d(
            _mean_square(x), self.WINDOW, stride=1, padding=self.WINDOW // 2, count_include_pad=False
        )
        return x / (power + self.floor).sqrt()


class _ZeroSum(nn.Module):
    """Subtracts from a convolution's weights (outputs, inputs, h, w) the mean of each kernel."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean(dim=(2, 3), keepdim=True)


class Matching(nn.Module):
    """Products of the current frame's features with those of the other frame, shifted by up to 2 steps each way.

    A correlation volume (FlowNet, Dosovitskiy et al., ICCV 2015) made of shifted slices, whose channels are summed by a
    learned 1x1 convolution. With concatenated features alone, flow was learned much more slowly. Features are scaled
    to unit power, so that the products measure similarity rather than strength.
    """

    REACH = 2
    FLOOR = 0.05  # of a mean square

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.floor = _half(self.FLOOR)
        self.project = normalised(nn.Conv2d(channels, GROUP_WIDTH, 1), 1.0)
        self.sum = normalised(nn.Conv2d((2 * self.REACH + 1) ** 2 * GROUP_WIDTH, channels, 1), 0.7)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        height, width = own.shape[2:]
        own, other = self._unit(self.project(own)), F.pad(self._unit(self.project(other)), (self.REACH,) * 4)
        steps = range(2 * self.REACH + 1)
        assert self.sum.bias is not None
        summed = self.sum.bias[:, None, None]
        # Row by row, because XNNPACK concatenates at most five tensors.
        for y, weight in zip(steps, self.sum.weight.chunk(len(steps), dim=1), strict=True):
            products = [own * other[:, :, y : y + height, x : x + width] for x in steps]
            summed = summed + F.conv2d(torch.cat(products, dim=1), weight)
        return summed

    def _unit(self, x: Tensor) -> Tensor:
        return x / (_mean_square(x) + self.floor).sqrt()


class MotionDecoder(nn.Module):
    """Motion features and motion fields at 1/16, 1/8 and 1/4 of the frame's size, from both frames' features.

    The coarsest motion features come from both frames' coarsest features. Finer ones come from both frames' features
    at that scale, plus the upsampled current features and motion features of the coarser scale. Matching at the three
    scales reaches 32, 16 and 8 pixels.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.fuse = nn.ModuleList(
            normalised(nn.Conv2d(2 * width, width, 1), 0.7) for width in reversed(widths)
        )
        self.match = nn.ModuleList(Matching(width) for width in reversed(widths))
        self.up = nn.ModuleList(
            normalised(nn.Conv2d(2 * below, width, 1), 0.7)
            for below, width in ((coarse, middle), (middle, fine))
        )
        self.levels = nn.ModuleList(
            stacked(GroupedBlock, width, depth)
            for width, depth in zip(reversed(widths), (3, 2, 1), strict=True)
        )
        # Two heads, because only the extents are needed after training: converters then drop the flow.
        self.flows = nn.ModuleList(_head(width, 4) for width in reversed(widths))
        self.extents = nn.ModuleList(_head(width, 1) for width in reversed(widths))
        for head in self.extents:
            # Everything moves at first: a pixel that counts as still is not restored and yields no gradient.
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.constant_(head.bias, 0.25)

    def forward(self, current: list[Tensor], previous: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Features of both frames, fine to coarse -> motion features, flows and extents, coarse to fine.

        Flows and extents are in units of 8 pixels.
        """
        features: list[Tensor] = []
        for place, (own, before) in enumerate(zip(reversed(current), reversed(previous), strict=True)):
            x = self.fuse[place](torch.cat((own, before), dim=1))
            x = x + self.match[place](own, before)
            if place > 0:
                coarser = torch.cat((features[-1], current[-place]), dim=1)
                x = x + upsample2(self.up[place - 1](coarser))
            features.append(self.levels[place](x))
        flows = [head(x) for head, x in zip(self.flows, features, strict=True)]
        return features, flows, [head(x) for head, x in zip(self.extents, features, strict=True)]


class DeblurNetwork(nn.Module):
    """Motion network and restoration network together.

    Args:
        motion_widths: channels of the motion network at 1/4, 1/8 and 1/16 of the frame, multiples of 16.
        widths: channels of the restoration network at these scales, multiples of 16.
        depths: blocks of its encoder at these scales.
        decoder_depths: blocks of its decoder at 1/4 and 1/8.
        form: "dynamic"; "static" and "recurrent" for the ablation; "motion" for the motion network alone, which is
            trained first (docs/deblur.md).
    """

    def __init__(
        self,
        motion_widths: Widths = (32, 48, 64),
        widths: Widths = (64, 96, 128),
        depths: Widths = (5, 6, 5),
        decoder_depths: tuple[int, int] = (6, 4),
        form: str = "dynamic",
    ) -> None:
        super().__init__()
        self.form = form
        self.slope, self.offset = 8.0 / (MOVING - STILL), -STILL / (MOVING - STILL)
        self.frame = Encoder(ContrastStem(motion_widths[0]), motion_widths, (1, 1, 2), GroupedBlock)
        self.motion = MotionDecoder(motion_widths)
        if form == "motion":
            return
        self.stem = photo_stem(widths[0])
        self.down = halvings(widths)
        block = DynamicBlock if form == "dynamic" else StaticBlock
        self.encoder = nn.ModuleList(
            nn.ModuleList(block(width, motion) for _ in range(depth))
            for width, motion, depth in zip(widths, motion_widths, depths, strict=True)
        )
        self.recurrence = SpatialRecurrence(widths[1], motion_widths[1]) if form == "recurrent" else None
        self.decoder = Decoder(widths, widths[:2], decoder_depths, AddSkip, GroupedBlock)
        self.head = photo_head(widths[0])  # starts at zero: a new network changes nothing

    def features(self, frame: Tensor) -> list[Tensor]:
        """Features of a frame ``(N, 3, H, W)`` for motion estimation, at 1/4, 1/8 and 1/16 of its size."""
        found: list[Tensor] = self.frame(frame)
        return found

    def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Two frames ``(N, 3, H, W)`` RGB [0, 1] -> the restored current frame and the motion fields, as ``restore``."""
        return self.restore(current, self.features(current), self.features(previous))

    def restore(
        self, current: Tensor, own: list[Tensor], before: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The current frame, its features and those of the previous frame -> (restored, motion fields).

        The restored frame is near [0, 1] and not clipped. Motion fields are ``(N, 5, h, w)`` in pixels of the frame, at
        1/16, 1/8 and 1/4 of its size.
        """
        motion, flows, extents = self.motion(own, before)
        fields = [
            8.0 * torch.cat((flow[:, :2], extent, flow[:, 2:]), dim=1)
            for flow, extent in zip(flows, extents, strict=True)
        ]
        if self.form == "motion":
            return current, fields
        motion.reverse()  # fine to coarse, in the encoder's order
        # A factor, so that without motion nothing changes.
        moving = [self._ramp(extent).clamp(0.0, 1.0) for extent in reversed(extents)]
        x = self.stem(current)
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.encoder):
            if level > 0:
                x = self.down[level - 1](x)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x, motion[level], moving[level])
            if level == 1 and self.recurrence is not None:
                x = self.recurrence(x, motion[level])
            skips.append(x)
        x = self.decoder(skips)
        if self.form == "dynamic":
            x = x * moving[0]
        residual: Tensor = self.head(x)
        return current + residual, fields

    def _ramp(self, extent: Tensor) -> Tensor:
        return extent if self.slope == 1.0 else self.slope * extent + self.offset


def for_deployment(network: DeblurNetwork) -> DeblurNetwork:
    """A copy for graphs without motion outputs: the ramp from still to moving is folded into the extent heads.

    Converters would fold it anyway, and only then round the weights to float16, so that the rounded weights would differ
    from ours.
    """
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for head in copied.motion.extents:
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            head.weight.mul_(network.slope)
            head.bias.mul_(network.slope).add_(network.offset)
    copied.slope, copied.offset = 1.0, 0.0  # `_ramp` is the identity then
    return copied


def _half(value: float) -> float:
    """The nearest half float, so that float16 files compute with the same number."""
    return float(
        torch.tensor(value, dtype=torch.float16, device="cpu")
    )  # also where the network has no memory


def _mean_square(x: Tensor) -> Tensor:
    """Mean of the squares over the channels, (N, 1, H, W); a convolution, since accelerators refuse the mean."""
    count = x.shape[1]
    return F.conv2d(x.square(), x.new_full((1, count, 1, 1), 1.0 / count))


def _head(width: int, channels: int) -> nn.Conv2d:
    head = nn.Conv2d(width, channels, 1)
    nn.init.normal_(head.weight, 0.0, 0.01)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head


def _grouped(channels: int) -> nn.Conv2d:
    assert channels % GROUP_WIDTH == 0
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels // GROUP_WIDTH)
