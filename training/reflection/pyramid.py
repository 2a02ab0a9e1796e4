"""High resolution by a Laplacian pyramid (Burt & Adelson, 1983): the network runs on the smallest level only.

    restored, layer = PyramidRestorer(network)(photo)     # (1, 3, H, W), RGB, [0, 1], any size

Plain reconstruction would bring the layer's edges back, since the photo's Laplacian levels contain them. They are
therefore multiplied by a gate: the share of the local detail that belongs to the background. The network's background
and layer are known at the smallest level, so their detail energies are compared there and the share is upsampled.

With one gate for all levels the sum telescopes: ``up(b) + g (photo - up(p))`` is ``g photo + up(b - g p)`` where the
gate ``g`` changes slowly (``p`` is the photo and ``b`` the background at the smallest level, ``up`` is bilinear x2
once per level). The levels between are never computed. The pixels of each block lie in channels of the smallest level,
where ``up`` is a convolution with fixed weights and every operator has many channels. Computed level by level on three
channels, the reconstruction took half of a 1280x720 run on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.training.blocks import upsample2
from afterlens.training.padding import crop_to, margins, pad_to, repeat_edges
from afterlens.training.reflection.network import MULTIPLE

LONGEST_BASE = 512  # pixels: about the scale of training crops, and it bounds the cost

_WEIGHTS = ("picture_weights", "gate_weights", "mean_weights")  # buffers of a graph of fixed size
_GATE_FLOOR = 0.002  # detail energy; weaker detail does not count as a layer's edge


def levels_for(height: int, width: int) -> int:
    """How often a photo of this size is halved for the network."""
    levels = 0
    while max(height, width) >> levels > LONGEST_BASE:
        levels += 1
    return levels


def _detail(x: Tensor) -> Tensor:
    """Mean energy of the detail in each 2x2 block, ``(N, 3, h, w)`` -> ``(N, 1, h / 2, w / 2)``.

    Detail is scaled by 8, so that its square stays in float16's normal range.
    """
    detail = 8.0 * (x - upsample2(F.avg_pool2d(x, 2)))
    return F.avg_pool2d(detail.square(), 2).mean(dim=1, keepdim=True)


def _gate(background: Tensor, layer: Tensor) -> Tensor:
    """Share of the local detail that belongs to the background, ``(N, 1, h, w)`` in (0, 1]; 1 where there is no layer.

    The Wiener gain of two uncorrelated signals, ``b^2 / (b^2 + a^2)``, with local mean energies.
    """
    own, other = upsample2(_detail(background)) + _GATE_FLOOR, upsample2(_detail(layer))
    return own / (own + other)


def _upsampling_weights(levels: int) -> Tensor:
    """Bilinear x2, ``levels`` times, as weights of a 3x3 neighbourhood: ``(4 ** levels, 9)``, one row per pixel."""
    block = 2**levels
    impulses = torch.eye(3).reshape(3, 1, 1, 3)
    impulses = F.pad(impulses, (2, 2))  # keeps the repeated edges out of reach
    line = impulses.expand(3, 1, 7, 7)
    for _ in range(levels):
        line = upsample2(line)
    taps = line[:, 0, 0, 3 * block : 4 * block]  # (3 neighbours, block places)
    return torch.einsum("ai,bj->ijba", taps, taps).reshape(block**2, 9)


def _fixed_weights(levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of three 1x1 convolutions; pixels of a block lie in channels, colour by colour as in ``pixel_unshuffle``.

    Upsampling of a picture's 3x3 neighbourhoods ``(3 * places, 27, 1, 1)``, of the gate's for all colours
    ``(3 * places, 9, 1, 1)``, and the mean of a block ``(3, 3 * places, 1, 1)``.
    """
    kernels = _upsampling_weights(levels)  # (places, 9)
    places = len(kernels)
    picture = torch.einsum("pn,cd->cpnd", kernels, torch.eye(3)).reshape(3 * places, 27)
    mean = torch.eye(3).repeat_interleave(places, dim=1) / places
    return tuple(weights[:, :, None, None] for weights in (picture, kernels.repeat(3, 1), mean))  # type: ignore[return-value]


def _upsample(x: Tensor, weights: Tensor) -> Tensor:
    """Gathers 3x3 neighbourhoods into channels, then a 1x1 convolution: five times as fast as 3x3 on three channels."""
    height, width = x.shape[-2:]
    x = repeat_edges(x, (1, 1), (1, 1))
    x = torch.cat([x[:, :, row : row + height] for row in range(3)], dim=1)
    x = torch.cat([x[..., column : column + width] for column in range(3)], dim=1)
    # Channels are now ordered (column, row, colour), as in the weights.
    return F.conv2d(x, weights)


class PyramidRestorer(nn.Module):
    """Pyramid, network, gate and reconstruction as one graph: RGB in, ``(restored, layer)`` out, at the photo's size.

    Args:
        network: takes sides divisible by 32, returns background and signed layer.
        size: ``(height, width)`` of a graph of fixed size; None reads it from each photo.
        gated: False reconstructs without the gate (for the ablation).
    """

    def __init__(self, network: nn.Module, size: tuple[int, int] | None = None, gated: bool = True) -> None:
        super().__init__()
        self.network, self.size, self.gated = network, size, gated
        if size is not None:  # computed here, or an export would contain the steps that compute them
            for name, weights in zip(_WEIGHTS, _fixed_weights(levels_for(*size)), strict=True):
                self.register_buffer(name, weights, persistent=False)

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """``(1, 3, H, W)`` RGB [0, 1] -> restored in [0, 1], same size; ``0.5 + layer / 2`` at the smallest level."""
        height, width = self.size if self.size is not None else (photo.shape[-2], photo.shape[-1])
        levels = levels_for(height, width)
        if levels == 0:
            restored, layer, _ = self._base(photo)
            return restored.clamp(0.0, 1.0), _as_picture(layer)
        padded, top, left = pad_to(photo, 2**levels, 2**levels)
        pixels = F.pixel_unshuffle(padded, 2**levels)
        picture, single, mean = self._weights(levels, padded)
        small = F.conv2d(pixels, mean)
        background, layer, gate = self._base(small)
        if self.gated:
            pixels = pixels * _upsample(gate, single)
            small = small * gate
        restored = F.relu(pixels + _upsample(background - small, picture)).clamp(max=1.0)
        restored = F.pixel_shuffle(restored, 2**levels)
        return crop_to(restored, top, left, height, width), _as_picture(layer)

    def _weights(self, levels: int, like: Tensor) -> tuple[Tensor, ...]:
        made = _fixed_weights(levels) if self.size is None else (getattr(self, name) for name in _WEIGHTS)
        return tuple(weights.to(like) for weights in made)

    def _base(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Background, signed layer and gate at the smallest level."""
        height, width = image.shape[-2:]
        rows, columns = margins(height, MULTIPLE), margins(width, MULTIPLE)
        (top, _), (left, _) = rows, columns
        padded = repeat_edges(image, rows, columns)
        background, layer = self.network(padded)[:2]
        gate = _gate(background, layer)
        return (
            crop_to(background, top, left, height, width),
            crop_to(layer, top, left, height, width),
            crop_to(gate, top, left, height, width),
        )


def _as_picture(layer: Tensor) -> Tensor:
    """Signed [-1, 1] -> [0, 1], where 0.5 is "no layer".

    Clamped before the scaling, because TFLite's converter folds a plain + 0.5 into the preceding convolution.
    """
    return layer.clamp(-1.0, 1.0) * 0.5 + 0.5
