"""High resolution by a Laplacian pyramid: the network sees the smallest level, the rest is rebuilt around it.

    restored, artefact = PyramidRestorer(network)(photo)     # (1, 3, H, W), RGB, [0, 1], any size

Plain rebuilding would bring the artefact's edges back, since they are in the Laplacian levels of the photo. So each
level is multiplied by a gate that says what share of the local detail belongs to the background: both decoders'
layers are known at the smallest level, their detail energy is compared there, and the share is upsampled.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks import upsample2
from training.padding import crop_to, pad_to
from training.reflection.network import MULTIPLE

LONGEST_BASE = 512  # pixels: about the scale of things in training, and it bounds the cost

_GATE_FLOOR = 0.002  # detail energy below which nothing is taken for an artefact's edge


def levels_for(height: int, width: int) -> int:
    """How often a photo of this size is halved before the network sees it."""
    levels = 0
    while max(height, width) >> levels > LONGEST_BASE:
        levels += 1
    return levels


def _smooth(x: Tensor) -> Tensor:
    """Low-pass by one 2x2 average and back."""
    return upsample2(F.avg_pool2d(x, 2))


def _gate(background: Tensor, artefact: Tensor) -> Tensor:
    """Share of the local detail that is the background's, ``(N, 1, h, w)`` in (0, 1]; 1 where there is no artefact.

    The Wiener gain of two uncorrelated signals, ``b^2 / (b^2 + a^2)`` with local mean energies. Details are
    measured in eighths so that their squares stay in float16's normal range.
    """
    own = (8.0 * (background - _smooth(background))).square().mean(dim=1, keepdim=True)
    alien = (8.0 * (artefact - _smooth(artefact))).square().mean(dim=1, keepdim=True)
    own, alien = _smooth(own) + _GATE_FLOOR, _smooth(alien)
    return own / (own + alien)


class PyramidRestorer(nn.Module):
    """Pyramid, network, gate and rebuild as one graph: RGB in, ``(restored, artefact)`` out, at the photo's size.

    Args:
        network: takes sides divisible by 32, returns background and signed artefact.
        size: ``(height, width)`` of a graph of fixed size; None reads it from each photo.
        gated: False rebuilds plainly (for the ablation).
    """

    def __init__(self, network: nn.Module, size: tuple[int, int] | None = None, gated: bool = True) -> None:
        super().__init__()
        self.network, self.size, self.gated = network, size, gated

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """``(1, 3, H, W)`` RGB [0, 1] -> restored in [0, 1] and ``0.5 + artefact / 2`` in [0, 1], same size."""
        height, width = self.size if self.size is not None else (photo.shape[-2], photo.shape[-1])
        levels = levels_for(height, width)
        padded, top, left = pad_to(photo, 2**levels, 2**levels)
        gaussian = [padded]
        for _ in range(levels):
            gaussian.append(F.avg_pool2d(gaussian[-1], 2))
        restored, artefact, gate = self._base(gaussian[-1])
        # At the smallest level, where it costs least; and clamped before the scaling, since right behind the transposed
        # convolution TFLite would fold a plain + 0.5 into a bias of the wrong length.
        artefact = artefact.clamp(-1.0, 1.0) * 0.5 + 0.5
        for fine, coarse in zip(reversed(gaussian[:-1]), reversed(gaussian[1:]), strict=True):
            detail = fine - upsample2(coarse)
            if self.gated:
                gate = upsample2(gate)
                detail = detail * gate
            restored, artefact = upsample2(restored) + detail, upsample2(artefact)
        restored = restored.clamp(0.0, 1.0)
        return crop_to(restored, top, left, height, width), crop_to(artefact, top, left, height, width)

    def _base(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Background, signed artefact and gate at the smallest level."""
        height, width = image.shape[-2:]
        padded, top, left = pad_to(image, MULTIPLE, MULTIPLE)
        background, artefact = self.network(padded)
        gate = _gate(background, artefact)
        return (
            crop_to(background, top, left, height, width),
            crop_to(artefact, top, left, height, width),
            crop_to(gate, top, left, height, width),
        )
